"""A new run, its knobs and its data looked at before anything is trained."""

from dataclasses import replace
from pathlib import Path

import torch

from reid_core.data import open_dataset
from reid_core.errors import BadInput
from reid_core.experiment import Experiment
from reid_core.feed import facts_of, prepared
from reid_core.models import MODELS
from reid_core.optimize import fabric_for
from reid_core.runs import Run, build, open_run


def create(experiment: Experiment, name: str | None = None) -> Run:
    """A new run for an experiment, its data looked at first. Raises BadInput."""
    dataset = prepared(experiment, open_dataset(experiment.dataset, experiment.data))
    facts, training = facts_of(dataset.train), experiment.training
    if facts.classes < training.identities_per_batch:
        raise BadInput(
            f"identities_per_batch: {training.identities_per_batch} asked for, the training images "
            f"in {dataset.root} show {facts.classes}; give fewer"
        )
    fabric_for(training)  # or the device is not to be had
    if getattr(experiment.options, "encoder", ""):
        encoder = open_run(experiment.options.encoder)
        experiment = over(experiment, encoder)
        facts = replace(facts, cameras=encoder.facts.cameras, views=encoder.facts.views)
    file = experiment.options.pretrained
    if file not in ("none", "timm") and not Path(file).is_file():
        raise BadInput(f"pretrained: expected none, timm or the path of a file, got {file!r}")
    with torch.device("meta"):  # no memory, no weights: only whether the knobs fit together
        build(experiment, facts)
    return Run.create(experiment, facts, name)


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
