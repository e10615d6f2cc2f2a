"""Checkpoints of the papers' official repositories, read into runs of ours.

A reader looks at the names and shapes of an official state dict and says what they tell of the model
(`readers`); a table of names says where each tensor goes (`names`). What shapes don't tell takes the
official value, and can be set.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from reid_core.errors import BadInput
from reid_core.experiment import Experiment, knobs
from reid_core.knobs import Knob, unknown
from reid_core.models import MODELS, Facts
from reid_core.models.nformer import own_encoder
from reid_core.models.weights import read_weights
from reid_core.official.names import MARKS, NAMES, Weights, kind_of, renamed
from reid_core.official.readers import READERS, Reading
from reid_core.official.words import few, shape_of, tensors, text
from reid_core.runs import Run, build, checked, runs_folder

# For importing alone; all other keys are knobs.
VIEWS = Knob("views", "int", None, "", "", least=1)
# What only training needs may be missing, and stays so.
UNUSED = ("classifier", "centers", "num_batches_tracked")


@dataclass(frozen=True)
class Fitted:
    """The tensors of a file by our names; what of it was ignored, by reason; what it lacks."""

    weights: Weights
    ignored: dict[str, list[str]]
    missed: list[str]


def import_checkpoint(
    file: Path, *, model: str, name: str, settings: dict[str, Any], dataset: str = "pedestrians"
) -> tuple[Run, list[str]]:
    """Make a run of an official checkpoint; returns it and a report, line by line.

    settings are knobs, as text or in their types, and "views": how many of them the side information
    distinguishes. Raises BadInput where the file is no such checkpoint or leaves something open;
    then nothing is written.
    """
    if model not in READERS:
        raise BadInput(unknown("model", model, READERS))
    if (runs_folder() / checked(name)).exists():
        raise BadInput(f"run {name!r} exists already; give another name")
    asked = _parsed(model, settings)
    weights = read_weights(file)
    if (found := kind_of(weights)) != model:
        expected = f"expected {' and '.join(sorted(MARKS[model]))} in it"
        remedy = (
            f"it looks like one of {found}'s" if found else f"{expected}, got {few([*weights])}"
        )
        raise BadInput(f"{file} is no checkpoint of the official {MODELS[model].title}: {remedy}")
    reading = READERS[model](weights, asked)
    values = {"pretrained": "none"} | reading.settings | asked
    values.pop("views", None)
    experiment = Experiment.create(model=model, recipe="paper", dataset=dataset, settings=values)
    if reading.encoder not in (None, reading.facts):
        experiment = with_encoder(experiment, reading.encoder)
    fitted = fit(file, weights, experiment, reading)
    source = dict(file=file.name, sha256=_digest(file))
    run = Run.create(experiment, reading.facts, name, weights=fitted.weights, imported=source)
    return run, list(_report(experiment, reading, asked, fitted))


def with_encoder(experiment: Experiment, facts: Facts) -> Experiment:
    """NFormer whose first stage was trained on other identities: the encoder is a model of its own."""
    same = {key: getattr(experiment.training, key) for key in ("size", "normalisation")}
    encoder = Experiment.create(
        model="resnet-bot",
        recipe="paper",
        dataset=experiment.dataset,
        settings=asdict(own_encoder(experiment.options)) | same,
    )
    return replace(experiment, encoder=encoder.as_dict() | {"facts": asdict(facts)})


def fit(file: Path, weights: Weights, experiment: Experiment, reading: Reading) -> Fitted:
    """Rename a file's tensors and hold them against the model. Raises BadInput where they differ."""
    names, ignored = renamed(weights, NAMES[experiment.model], reading.dead)
    kept, missed = {}, []
    for key, own in build(experiment, reading.facts).state_dict().items():
        official = names.pop(key, None)
        if official is None:
            missed.append(key)
            continue
        given = weights[official].T if official.endswith(".w") else weights[official]
        if given.shape == own.shape:
            if not given.isfinite().all():
                raise BadInput(
                    f"{file}: {official} holds NaN or infinity: its training had failed, or it was "
                    "damaged on its way; fetch it again or take another one"
                )
            kept[key] = given.to(own.dtype).contiguous()
        elif "classifier" in key:
            ignored.setdefault("of another number of identities", []).append(official)
        else:
            raise BadInput(
                f"{file}: {official} is {shape_of(given)}, and {shape_of(own)} with these settings; set "
                "the knobs that it was trained with"
            )
    if needed := [key for key in missed if not any(word in key for word in UNUSED)]:
        raise BadInput(
            f"{file} lacks {tensors(needed)} of the model, such as {needed[0]}; set the knobs that "
            "it was trained with, or fetch it again"
        )
    if names:
        ignored["unknown to the model"] = [
            *ignored.get("unknown to the model", []),
            *names.values(),
        ]
    return Fitted(kept, ignored, [key for key in missed if "num_batches" not in key])


def _report(
    experiment: Experiment, reading: Reading, asked: dict[str, Any], fitted: Fitted
) -> Iterator[str]:
    """What was found, supposed, asked for, used, ignored and missed."""
    facts, values = reading.facts, experiment.values | asked
    classes = f"{facts.classes} identities" if facts.classes > 1 else "no classifier"
    counts = f"{classes}, {len(facts.cameras)} cameras, {len(facts.views)} views"

    def listed(names: Iterable[str]) -> str:
        return ", ".join(f"{name}={text(values[name])}" for name in names)

    told = [name for name in reading.settings if name not in asked and name not in reading.untold]
    yield f"found {counts}; {listed(told)}"
    if supposed := [name for name in reading.untold if name not in asked]:
        yield f"took the official {listed(supposed)}: shapes don't tell, --set decides otherwise"
    if asked:
        yield f"was asked for {listed(asked)}"
    yield f"used {tensors(fitted.weights)}"
    for reason, names in fitted.ignored.items():
        yield f"ignored {tensors(names)} {reason}: {few(names)}"
    missed = f"{tensors(fitted.missed)}, for training: {few(fitted.missed)}"
    yield f"missed {missed if fitted.missed else 'nothing'}"


def _parsed(model: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings in their types. Raises BadInput."""
    known = {each.name: each for each in knobs(model)}
    if "sie" in known:
        known["views"] = VIEWS
    for key in ("encoder", "holdout"):
        if key in settings:
            raise BadInput(f"{key}: a checkpoint brings its own weights, all of them; leave it out")
    for key in settings:
        if key not in known:
            raise BadInput(unknown("key", key, known))
    return {key: known[key].parse(value) for key, value in settings.items()}


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
