"""The models: one paper, one file, one row here."""

from reid_core.models.base import Batch, Branch, Facts, Output, ReIDModel
from reid_core.models.transreid import TransReID

MODELS: dict[str, type[ReIDModel]] = {
    "transreid": TransReID,
}

__all__ = ["MODELS", "Batch", "Branch", "Facts", "Output", "ReIDModel"]
