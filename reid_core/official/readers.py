"""What the names and shapes of an official state dict tell of the model: state dict and settings in,
`Reading` out. What they don't tell takes the official value, and can be set."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from reid_core.errors import BadInput
from reid_core.models import Facts, cnn, vit
from reid_core.official.names import Weights
from reid_core.official.words import shape_of, text

# Of the official configurations, for persons and vehicles.
SIZES = ((256, 128), (384, 128), (256, 256))
STRIDES = (16, 12, 11)
# (width, layers, hidden width of an MLP, bias of q, k and v) -> the knobs of an official ViT.
VITS: dict[tuple[int, int, int, bool], dict[str, Any]] = {
    (768, 12, 3072, True): {},  # ViT-B and DeiT-B: the recipe's own
    (768, 8, 2304, False): {"trunk": vit.OFFICIAL_SMALL},
    (384, 12, 1536, True): {"trunk": "deit_small_patch16_224"},
}
# (blocks of each stage, whether they are bottlenecks) -> the timm name of a ResNet.
RESNETS = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50.tv_in1k",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}


@dataclass(frozen=True)
class Reading:
    """What names and shapes told: knobs and facts; what they did not, by the names of the knobs; by
    pattern which tensors are of no use, and why. encoder is the facts of NFormer's first stage."""

    settings: dict[str, Any]
    facts: Facts
    untold: tuple[str, ...]
    dead: dict[str, str] = field(default_factory=dict)
    encoder: Facts | None = None


def read_vit(weights: Weights, asked: dict[str, Any]) -> Reading:
    """TransReID and PHA: a ViT, perhaps side information, perhaps a jigsaw branch."""
    jpm = any(name.startswith(("b1.", "b1_block.")) for name in weights)
    depth = _count(weights, r"base\.blocks\.(\d+)\.")
    if jpm and "base.norm.weight" not in weights:  # somebody left out what never runs
        depth += 1
    patch = _shape(weights, "base.patch_embed.proj.weight", 4)[2]
    patches = _shape(weights, "base.pos_embed", 3)[1] - 1
    size, stride = size_and_stride(patches, patch, asked)
    rows = _shape(weights, "base.sie_embed", 3)[0] if "base.sie_embed" in weights else 0
    only_views = rows if asked.get("sie") == "view" else None
    sie, cameras, views = side_information(rows, asked.get("views", only_views))
    settings = dict(size=size, stride=stride, sie=sie, jpm=jpm, neck="before")
    settings |= {} if "trunk" in asked else vit_knobs(weights, depth, patch, asked)
    untold = ("normalisation", *(["sie_coefficient"] if rows else []))
    dead = {r"base\.fc\.": "of ImageNet's classifier"}
    if jpm:
        settings["parts"] = max(1, _count(weights, r"bottleneck_(\d+)\.") - 1)
        settings["shift"] = 8 if size == (256, 256) else 5  # the vehicles' configurations
        untold += ("rearrange", "shift", "groups")
        dead |= {rf"base\.(blocks\.{depth - 1}|norm)\.": "that never run beside the jigsaw branch"}
    facts = Facts(_classes(weights, "classifier.weight"), cameras, views)
    return Reading(settings, facts, untold, dead)


def vit_knobs(weights: Weights, depth: int, patch: int, asked: dict[str, Any]) -> dict[str, Any]:
    """The knobs of an official ViT, or of another one whose heads are given. Raises BadInput."""
    width = _shape(weights, "base.cls_token", 3)[2]
    hidden = _shape(weights, "base.blocks.0.mlp.fc1.weight", 2)[0]
    known = VITS.get((width, depth, hidden, "base.blocks.0.attn.qkv.bias" in weights))
    if known is None and "heads" not in asked:
        raise BadInput(
            f"heads: {depth} layers of width {width} are no official ViT, and shapes don't tell their "
            "heads; give --set heads=N"
        )
    own = dict(width=width, depth=depth, mlp_ratio=hidden / width, patch=patch)
    return own if known is None else known


def read_pha(weights: Weights, asked: dict[str, Any]) -> Reading:
    """PHA: TransReID, and what only training needs."""
    reading = read_vit(weights, asked)
    dead = {r"(b1_block|b1_norm)_mask\.": "that never run", r"\w+_mask_branch\.": "that never run"}
    settings = reading.settings | {"variant": "official"}
    return replace(reading, settings=settings, dead=reading.dead | dead)


def size_and_stride(patches: int, patch: int, asked: dict[str, Any]) -> tuple[tuple[int, int], int]:
    """The official image size and stride that give so many patches. Raises BadInput for none or
    several: asked may hold either or both."""
    sizes = [asked["size"]] if "size" in asked else SIZES
    strides = [asked["stride"]] if "stride" in asked else STRIDES
    counts = {}
    for size in sizes:
        for stride in strides:
            rows, columns = vit.grid_of(size, patch, stride)
            counts[size, stride] = rows * columns
    fitting = [pair for pair, count in counts.items() if count == patches]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(
        f"{height}x{width} with stride {stride}" + ("" if fitting else f" ({count})")
        for ((height, width), stride), count in counts.items()
        if not fitting or count == patches
    )
    word = "would be given by" if fitting else "are given by none of"
    raise BadInput(
        f"size: the file's {patches} positions {word} {listed}; decide with "
        "--set size=HEIGHTxWIDTH stride=N"
    )


def side_information(rows: int, views: int | None) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """What so many rows distinguish: the knob sie, the cameras from 1 and the views from 0.

    Row = camera x views + view. Raises BadInput where the rows can't be divided.
    """
    if not rows:
        if views:
            raise BadInput(
                f"views: {views} given, and the file has no side information; leave it out"
            )
        return "none", (), ()
    only_views = views == rows
    views = views or 1
    if rows % views:
        raise BadInput(
            f"views: the file's {rows} rows of side information can't be divided into {views} views; "
            "give a divisor"
        )
    cameras = rows // views
    sie = "view" if only_views else "camera" if views == 1 else "both"
    return (
        sie,
        tuple(range(1, cameras + 1)) if sie != "view" else (),
        tuple(range(views)) if sie != "camera" else (),
    )


def read_rga(weights: Weights, asked: dict[str, Any]) -> Reading:
    """RGA: a ResNet with spatial attention, channel attention or both after each stage."""
    first = "backbone.rga_att1"
    spatial, channel = (
        any(f"_{kind}." in name for name in weights) for kind in ("spatial", "channel")
    )
    if spatial:
        nodes = _shape(weights, f"{first}.gg_spatial.0.weight", 4)[1] // 2
    else:
        nodes = _shape(weights, f"{first}.theta_channel.0.weight", 4)[1]
    sizes = [asked["size"]] if "size" in asked else SIZES
    counts = {size: math.prod(cnn.grids_of(size, 1)[0]) for size in sizes}
    fitting = [size for size, count in counts.items() if count == nodes]
    if not fitting:
        listed = ", ".join(f"{text(size)} ({count})" for size, count in counts.items())
        raise BadInput(
            f"size: the file's {nodes} positions after the first stage are given by none of {listed}; "
            "decide with --set size=HEIGHTxWIDTH"
        )
    settings = _resnet(weights, "backbone.", "width") | dict(
        size=fitting[0], spatial=spatial, channel=channel, neck="before"
    )
    return Reading(settings, Facts(_classes(weights, "cls.weight")), ("normalisation",))


def read_nformer(weights: Weights, asked: dict[str, Any]) -> Reading:
    """NFormer: a ResNet with a projection, and the neighbour transformer."""
    width, outputs = _shape(weights, "nformer.h.0.attn.c_attn.w", 2)
    if outputs != 3 * width:
        raise BadInput(
            f"nformer.h.0.attn.c_attn.w is {width} x {outputs}, not 1 : 3; fetch it again"
        )
    settings = _resnet(weights, "backbone.base.", "trunk_width")
    settings |= dict(width=width, layers=_count(weights, r"nformer\.h\.(\d+)\."), neck="after")
    facts = Facts(_classes(weights, "nformer.classifier.weight"))
    encoder = Facts(_classes(weights, "backbone.classifier.weight"))
    untold = ("size", "normalisation", "heads", "landmarks", "neighbours")
    return Reading(settings, facts, untold, encoder=encoder if encoder.classes > 1 else None)


READERS: dict[str, Callable[[Weights, dict[str, Any]], Reading]] = {
    "transreid": read_vit,
    "pha": read_pha,
    "rga": read_rga,
    "nformer": read_nformer,
}


def _resnet(weights: Weights, prefix: str, width: str) -> dict[str, Any]:
    """The knobs of a ResNet whose names begin with the prefix; `width` is its knob's name."""
    blocks = tuple(
        _count(weights, rf"{re.escape(prefix)}layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4)
    )
    trunk = RESNETS.get((blocks, f"{prefix}layer1.0.conv3.weight" in weights))
    if trunk is None:
        raise BadInput(
            f"stages of {', '.join(map(str, blocks))} blocks are none of {', '.join(RESNETS.values())}: "
            "other trunks can't be imported"
        )
    channels = _shape(weights, f"{prefix}layer1.0.conv1.weight", 4)[0]
    return {"trunk": trunk} | ({} if channels == 64 else {width: channels})


def _count(weights: Weights, pattern: str) -> int:
    """One more than the highest number that stands in names like this; 0 without any."""
    return max((int(m[1]) + 1 for name in weights if (m := re.match(pattern, name))), default=0)


def _shape(weights: Weights, name: str, dimensions: int) -> tuple[int, ...]:
    """The shape of a tensor that every such file has. Raises BadInput."""
    if name not in weights:
        raise BadInput(f"the file is incomplete: it has no {name}; fetch it again")
    if weights[name].ndim != dimensions:
        raise BadInput(
            f"{name} is {shape_of(weights[name])}, of {dimensions} dimensions in every file"
        )
    return tuple(weights[name].shape)


def _classes(weights: Weights, name: str) -> int:
    """Identities that it was trained on; 1, since none can't be built, without a classifier."""
    return _shape(weights, name, 2)[0] if name in weights else 1
