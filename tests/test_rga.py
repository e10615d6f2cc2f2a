"""RGA's attention against double loops over nodes and against the official code's numbers, and what
it is compared with against loops."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from formula import filled, images
from torch import nn

from reid_core.errors import BadInput
from reid_core.losses import objective
from reid_core.models import Batch, Facts
from reid_core.models.attentions import CBAM, NonLocal, SimplifiedNonLocal
from reid_core.models.rga import RGA, RelationAware, RGAModule, RGAOptions
from reid_core.probe import observe, probes

GOLDEN = Path(__file__).parent / "golden" / "rga.npz"
SMALL = dict(trunk="resnet10t", pretrained="none", width=8)
# Of the official names; a pattern and what it becomes.
NAMES = {
    r"backbone\.(conv1|bn1|layer\d)\.": r"trunk.\1.",
    r"backbone\.rga_att(\d)\.(theta|phi)_(spatial|channel)\.": r"attentions.layer\1.\3.\2.",
    r"backbone\.rga_att(\d)\.gx_(spatial|channel)\.": r"attentions.layer\1.\2.own.",
    r"backbone\.rga_att(\d)\.gg_(spatial|channel)\.": r"attentions.layer\1.\2.related.",
    r"backbone\.rga_att(\d)\.W_(spatial|channel)\.": r"attentions.layer\1.\2.weigh.",
    r"feat_bn\.": "head.norm.",
    r"cls\.": "head.classifier.",
}


def build(size=(64, 32), classes=5, **options) -> RGA:
    torch.manual_seed(0)
    return RGA(RGAOptions(**SMALL | options), size, Facts(classes))


def batch(image: torch.Tensor) -> Batch:
    nothing = torch.zeros(len(image), dtype=torch.long)
    return Batch(image, nothing, nothing)


def ours(key: str) -> str:
    """The name here of a tensor of the official model."""
    found = [re.sub(pattern, name, key) for pattern, name in NAMES.items() if re.match(pattern, key)]
    return found[0]


def official(kind: str, size: tuple[int, int]) -> tuple[RGA, np.lib.npyio.NpzFile]:
    """A model with weights by formula from the official names, in double precision."""
    golden = np.load(GOLDEN)
    shapes = json.loads(str(golden["shapes"]))[kind]
    more = dict(spatial="s" in kind[3:], channel="c" in kind[3:], trunk="resnet50", width=0)
    model = build(size, shapes["cls.weight"][0], **more)
    for key, tensor in model.state_dict().items():  # of this size, which need not be the file's
        assert key in [ours(name) for name in shapes], key
        assert tensor.ndim == len(shapes[next(n for n in shapes if ours(n) == key)])
    own = model.state_dict()
    model.load_state_dict({ours(k): filled(k, tuple(own[ours(k)].shape)) for k in shapes})
    return model.double(), golden
