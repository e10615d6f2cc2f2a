"""A new run, its knobs and its data looked at before anything is trained."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from reid_core.data import open_dataset
from reid_core.data.matches import refuse_unmatched
from reid_core.data.sampler import check_division
from reid_core.errors import BadInput
from reid_core.experiment import Experiment
from reid_core.feed import facts_of, prepared
from reid_core.models import MODELS
from reid_core.optimize import device_for
from reid_core.runs import Run, build, open_run
from reid_core.train.equip import check_compiler
from reid_core.train.parts import check_parts


def create(
    experiment: Experiment,
    name: str | None = None,
    notes: dict[str, Any] | None = None,
    *,
    here: bool = True,
) -> Run:
    """A new run for an experiment, its data looked at first. Raises BadInput.

    notes are kept in its record: what it is a clone of, which sweep it belongs to. here: this machine
    will train it, so it must have the device.
    """
    dataset = prepared(experiment, open_dataset(experiment.dataset, experiment.data))
    facts, training = facts_of(dataset.train), experiment.training
    if len(dataset.query) and len(dataset.gallery):
        refuse_unmatched(dataset.query, dataset.gallery)
    if facts.classes < training.identities_per_batch:
        raise BadInput(
            f"identities_per_batch: {training.identities_per_batch} asked for, the training images "
            f"in {dataset.root} show {facts.classes}; give fewer"
        )
    check_division(
        training.identities_per_batch, training.devices * training.nodes, training.mining
    )
    check_parts(training)
    if here:
        device = device_for(training, training.devices)
        if training.compile:
            check_compiler(device)
    if getattr(experiment.options, "encoder", ""):
        encoder = open_run(experiment.options.encoder)
        experiment = over(experiment, encoder)
        facts = replace(facts, cameras=encoder.facts.cameras, views=encoder.facts.views)
    file = experiment.options.pretrained
    own = file not in ("none", "timm")
    if own and not Path(file).is_file():
        raise BadInput(f"pretrained: expected none, timm or the path of a file, got {file!r}")
    # Without a model in memory: only whether the knobs fit together, and the file's weights to them.
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*copying from a non-meta parameter")
        build(experiment, facts, pretrained=own)
    return Run.create(experiment, facts, name, notes=notes)


def redistribute(run: Run, settings: dict[str, str]) -> None:
    """Let a run go on in another number of processes: settings of devices and nodes. Raises
    BadInput."""
    if others := sorted(set(settings) - {"devices", "nodes"}):
        raise BadInput(
            f"--resume takes a run as it is, but for devices and nodes: leave {others[0]} out"
        )
    record = run.record
    experiment = Experiment.from_dict(record | dict(knobs=record["knobs"] | settings))
    training = experiment.training
    check_division(
        training.identities_per_batch, training.devices * training.nodes, training.mining
    )
    check_parts(training)
    run.write(
        "experiment.json", (json.dumps(record | experiment.as_dict(), indent=2) + "\n").encode()
    )


def over(experiment: Experiment, encoder: Run) -> Experiment:
    """A second-stage experiment over a run's embeddings; images are read as that run reads them.

    Raises BadInput for a run that has no weights yet or is itself of a second stage.
    """
    its = encoder.experiment
    if MODELS[its.model].refines:
        raise BadInput(
            f"encoder: run {encoder.name!r} already refines embeddings ({its.model}); give a run "
            "that embeds single images"
        )
    encoder.model()
    share = experiment.training.holdout
    if share != its.training.holdout and (share or its.training.holdout):
        raise BadInput(
            f"holdout: run {encoder.name!r} was trained with holdout={its.training.holdout}, so what "
            f"holdout={share} keeps out is not what its encoder never saw; give the same"
        )
    record = {key: encoder.record[key] for key in ("model", "recipe", "dataset", "knobs", "facts")}
    same = dict(size=its.training.size, normalisation=its.training.normalisation)
    training = replace(experiment.training, **same)
    return replace(experiment, training=training, encoder=record | dict(data=None))
