"""The models: one paper, one file, one row here."""

from reid_core.models.base import Batch, Branch, Facts, Output, ReIDModel
from reid_core.models.nformer import NFormer
from reid_core.models.ohformer import OHFormer
from reid_core.models.pha import PHA
from reid_core.models.resnet_bot import ResNetBoT
from reid_core.models.rga import RGA
from reid_core.models.transreid import TransReID
from reid_core.models.vit_bot import ViTBoT

MODELS: dict[str, type[ReIDModel]] = {
    "transreid": TransReID,
    "rga": RGA,
    "nformer": NFormer,
    "pha": PHA,
    "ohformer": OHFormer,
    "vit-bot": ViTBoT,
    "resnet-bot": ResNetBoT,
}

__all__ = ["MODELS", "Batch", "Branch", "Facts", "Output", "ReIDModel"]
