"""The two states that a training goes on from, its newest and the one before: should the disk damage
one, the other is there."""

import logging
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reid_core.run_folder import RunFolder, move

STATES = ("state/last.pt", "state/before.pt")  # newest first
log = logging.getLogger("reid_core")


def save(run: RunFolder, state: dict[str, Any]) -> None:
    """Keep a state as the newest."""
    last, before = (run.folder / name for name in STATES)
    with run.writing(STATES[0]) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # torch's words hide what the system said before
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        if last.is_file():
            move(last, before)


def found(run: RunFolder) -> list[str]:
    """Those that there are, newest first."""
    return [name for name in STATES if (run.folder / name).is_file()]


def load(run: RunFolder, model: nn.Module) -> dict[str, Any] | None:
    """The newest that is whole and of such a model, None without one. No pickled code is executed."""
    own = _shapes(model.state_dict())
    for number, name in enumerate(found(run)):
        try:
            state = _read(run.folder / name)
            if _shapes(state["model"]) != own:
                raise ValueError("of another model")
        except Exception:
            log.warning("%s is damaged or of another model", name)
            continue
        if number:
            log.warning("going on from %s, the one before", name)
        return state
    return None


def _read(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as parts:  # torch compares no checksums
        if wrong := parts.testzip():
            raise ValueError(wrong)
    state = torch.load(path, map_location="cpu", weights_only=True)
    state["optimizers"], state["epoch"], state["step"]
    return state


def _shapes(weights: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in weights.items()}
