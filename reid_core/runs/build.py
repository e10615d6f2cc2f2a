"""The model that an experiment asks for."""

from dataclasses import replace

from reid_core.experiment import Experiment
from reid_core.models import MODELS, Facts, ReIDModel
from reid_core.runs import kept


def build(experiment: Experiment, facts: Facts, pretrained: bool = False) -> ReIDModel:
    """The model that an experiment asks for; with its pretrained weights where a training starts.

    Raises BadInput where the knobs don't fit together.
    """
    options = experiment.options
    if not pretrained:
        options = replace(options, pretrained="none")
    more = {}
    if experiment.encoder:
        record = experiment.encoder
        more["encoder"] = build(Experiment.from_dict(record), kept.facts(record))
    model = MODELS[experiment.model](options, experiment.training.size, facts, **more)
    model.neck = experiment.training.neck
    return model
