"""What a training does one after the other: images; then, for a model that refines, stored features."""

from dataclasses import dataclass, replace

from torch import nn

from reid_core.experiment import Experiment, Training
from reid_core.feed import Feed, Sequences
from reid_core.models import ReIDModel


@dataclass(frozen=True)
class Stage:
    """Epochs after `before` that train the same module in the same way."""

    before: int
    module: nn.Module
    training: Training
    feed: Feed | Sequences


def stages_of(
    experiment: Experiment, model: ReIDModel, wrapped: nn.Module, feed: Feed
) -> list[Stage]:
    """The stages of a training: images; then, for a model that refines, stored features."""
    training, options = experiment.training, experiment.options
    if not model.refines:
        return [Stage(0, model, training, feed)]
    features = Sequences(feed, options, wrapped)
    second = replace(
        training,
        optimizer="adam",
        learning_rate=options.pass_learning_rate,
        weight_decay=0.0,
        bias_learning_rate=1.0,
        warmup_epochs=0,
        schedule="multistep",
        steps="",
    )
    first = experiment.first_epochs
    stages = [Stage(0, model.encoder, training, feed)] if first else []
    return [*stages, Stage(first, model.transformer, second, features)]
