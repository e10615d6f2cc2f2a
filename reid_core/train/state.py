"""What a training keeps of itself, so that it can go on as if nothing had happened."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from reid_core.distributed import world
from reid_core.errors import BadInput
from reid_core.models import ReIDModel
from reid_core.runs import Run, open_run


@dataclass
class Standing:
    """The next step of an epoch (from 1), and the sums of its terms and seconds so far."""

    epoch: int = 1
    step: int = 0
    sums: dict[str, Tensor | float] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def of(cls, state: dict[str, Any] | None) -> "Standing":
        """Where a state that was kept stands; the beginning without one."""
        return cls(**{key: state[key] for key in cls.__dataclass_fields__}) if state else cls()

    def entry(self, rate: float, taken: list[np.ndarray]) -> dict[str, float]:
        """The finished epoch's line of history. rate is of learning; taken are its batches, as rows."""
        found = dict(epoch=self.epoch, learning_rate=rate)
        found |= {
            "loss" if name == "total" else f"loss_{name}": float(total) / len(taken)
            for name, total in self.sums.items()
        }
        images = sum(rows.size for rows in taken)
        return found | dict(images_per_second=images / self.seconds, seconds=self.seconds)


def save(
    run: Run,
    model: ReIDModel,
    optimizers: list,
    stage: int,
    standing: Standing,
    trained_on: dict[str, int | str],
) -> None:
    """Keep weights, optimisers, where the training stands and which images it saw."""
    states = [each.optimizer.state_dict() for each in optimizers]
    run.save_state(
        dict(
            model=model.state_dict(),
            optimizers=states,
            stage=stage,
            processes=world(),
            trained_on=trained_on,
            **asdict(standing),
        )
    )


def restore_model(run: Run, model: ReIDModel, state: dict[str, Any]) -> None:
    """The weights as they were kept. Raises BadInput."""
    try:
        model.load_state_dict(state.pop("model"))
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(run) from None


def restore_optimizers(run: Run, optimizers: list, state: dict[str, Any], stage: int) -> None:
    """The optimisers as they were kept, unless that was in another stage. Raises BadInput."""
    states, kept_in = state.pop("optimizers", None), state.pop("stage", None)
    if states is None or kept_in != stage:
        return
    try:
        for optimizer, kept in zip(optimizers, states, strict=True):
            optimizer.optimizer.load_state_dict(kept)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(run) from None


def take_encoder(model: ReIDModel, encoder: str) -> None:
    """Fill a second-stage model's encoder from its run. Raises BadInput."""
    try:
        run = open_run(encoder)
    except BadInput:
        raise BadInput(
            f"encoder: run {encoder!r}, whose features this one shall refine, is gone or damaged; put it "
            "back, or start a new run"
        ) from None
    try:
        model.encoder.load_state_dict(run.model().state_dict())
    except RuntimeError:
        raise BadInput(
            f"encoder: run {run.name!r} is no longer what it was when this run was created; "
            "start a new run"
        ) from None


def _damaged(run: Run) -> BadInput:
    return BadInput(f"run {run.name!r} has a damaged state/last.pt: start a new run")
