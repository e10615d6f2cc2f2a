"""Checkpoints of the papers' official repositories, read into runs of ours.

A reader looks at the names and shapes of an official state dict and says what they tell of the model;
a table of names says where each tensor goes. What shapes don't tell takes the official value, and can
be set.
"""

import hashlib
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from reid_core.errors import BadInput
from reid_core.experiment import Experiment, knobs
from reid_core.knobs import Knob, unknown
from reid_core.models import MODELS, Facts, cnn, vit
from reid_core.models.nformer import own_encoder
from reid_core.models.weights import read_weights
from reid_core.runs import Run, build, checked, runs_folder

Weights = dict[str, Tensor]

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
# For importing alone; all other keys are knobs.
VIEWS = Knob("views", "int", None, "", "", least=1)
# What only training needs may be missing, and stays so.
UNUSED = ("classifier", "centers", "num_batches_tracked")

# Names that only this model's files have.
MARKS = {
    "pha": {"base.cls_token", "b1_norm.weight"},
    "transreid": {"base.cls_token"},
    "rga": {"backbone.conv1.weight", "feat_bn.weight"},
    "nformer": {"backbone.base.conv1.weight", "nformer.bottleneck.weight"},
}
BNNECKS = {
    r"classifier\.": "necks.0.classifier.",
    r"classifier_(\d+)\.": r"necks.\1.classifier.",
    r"bottleneck\.": "necks.0.norm.",
    r"bottleneck_(\d+)\.": r"necks.\1.norm.",
}
TRUNK = {r"base\.sie_embed$": "side", r"base\.": "trunk."}
NAMES: dict[str, dict[str, str]] = {
    "transreid": TRUNK | BNNECKS | {r"b1\.": "global_layer.", r"b2\.": "local_layer."},
    "pha": TRUNK
    | BNNECKS
    | {
        r"b1_block\.": "global_layer.0.",
        r"b1_norm\.": "global_layer.1.",
        r"b2_block\.": "local_layer.0.",
        r"b2_norm\.": "local_layer.1.",
        r"classifier_mask\.": "high_neck.classifier.",
        r"bottleneck_mask\.": "high_neck.norm.",
        r"bottleneck_mask_adv\.": "enhanced_norm.",
    },
    "rga": {
        r"backbone\.rga_att(\d)\.gx_(spatial|channel)\.": r"attentions.layer\1.\2.own.",
        r"backbone\.rga_att(\d)\.gg_(spatial|channel)\.": r"attentions.layer\1.\2.related.",
        r"backbone\.rga_att(\d)\.W_(spatial|channel)\.": r"attentions.layer\1.\2.weigh.",
        r"backbone\.rga_att(\d)\.(theta|phi)_(spatial|channel)\.": r"attentions.layer\1.\3.\2.",
        r"backbone\.": "trunk.",
        r"feat_bn\.": "head.norm.",
        r"cls\.": "head.classifier.",
    },
    "nformer": {
        r"backbone\.base\.": "encoder.trunk.",
        r"backbone\.projection\.": "encoder.projection.",
        r"backbone\.bottleneck\.": "encoder.head.norm.",
        r"backbone\.classifier\.": "encoder.head.classifier.",
        r"nformer\.bottleneck\.": "transformer.neck.norm.",
        r"nformer\.classifier\.": "transformer.neck.classifier.",
        r"nformer\.h\.(\d+)\.attn\.c_attn\.w$": r"transformer.layers.\1.attention.qkv.weight",
        r"nformer\.h\.(\d+)\.attn\.c_attn\.b$": r"transformer.layers.\1.attention.qkv.bias",
        r"nformer\.h\.(\d+)\.attn\.c_proj\.w$": r"transformer.layers.\1.attention.out.weight",
        r"nformer\.h\.(\d+)\.attn\.c_proj\.b$": r"transformer.layers.\1.attention.out.bias",
        r"nformer\.h\.(\d+)\.ln_(\d)\.g$": r"transformer.layers.\1.norm\2.weight",
        r"nformer\.h\.(\d+)\.ln_(\d)\.b$": r"transformer.layers.\1.norm\2.bias",
        r"nformer\.h\.(\d+)\.mlp\.c_fc\.w$": r"transformer.layers.\1.feed_forward.0.weight",
        r"nformer\.h\.(\d+)\.mlp\.c_fc\.b$": r"transformer.layers.\1.feed_forward.0.bias",
        r"nformer\.h\.(\d+)\.mlp\.c_proj\.w$": r"transformer.layers.\1.feed_forward.2.weight",
        r"nformer\.h\.(\d+)\.mlp\.c_proj\.b$": r"transformer.layers.\1.feed_forward.2.bias",
    },
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
        raise BadInput(f"run {name!r} exists already; give another --run name")
    asked = _parsed(model, settings)
    weights = read_weights(file)
    if (found := kind_of(weights)) != model:
        expected = f"expected {' and '.join(sorted(MARKS[model]))} in it"
        remedy = (
            f"it looks like one of {found}'s" if found else f"{expected}, got {_few([*weights])}"
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


def kind_of(names: Iterable[str]) -> str | None:
    """Which official model's these names of tensors are, or None."""
    names = set(names)
    return next((kind for kind, marks in MARKS.items() if marks <= names), None)


# The readers: state dict and settings in, Reading out.


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
        listed = ", ".join(f"{_text(size)} ({count})" for size, count in counts.items())
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


READERS: dict[str, Callable[[Weights, dict[str, Any]], Reading]] = {
    "transreid": read_vit,
    "pha": read_pha,
    "rga": read_rga,
    "nformer": read_nformer,
}


def fit(file: Path, weights: Weights, experiment: Experiment, reading: Reading) -> Fitted:
    """Rename a file's tensors and hold them against the model. Raises BadInput where they differ."""
    names, ignored = _renamed(weights, NAMES[experiment.model], reading.dead)
    kept, missed = {}, []
    for key, own in build(experiment, reading.facts).state_dict().items():
        official = names.pop(key, None)
        if official is None:
            missed.append(key)
            continue
        given = weights[official].T if official.endswith(".w") else weights[official]
        if given.shape == own.shape:
            kept[key] = given.to(own.dtype).contiguous()
        elif "classifier" in key:
            ignored.setdefault("of another number of identities", []).append(official)
        else:
            raise BadInput(
                f"{file}: {official} is {_words(given)}, and {_words(own)} with these settings; set "
                "the knobs that it was trained with"
            )
    if needed := [key for key in missed if not any(word in key for word in UNUSED)]:
        raise BadInput(
            f"{file} lacks {_tensors(needed)} of the model, such as {needed[0]}; set the knobs that "
            "it was trained with, or fetch it again"
        )
    if names:
        ignored["unknown to the model"] = [
            *ignored.get("unknown to the model", []),
            *names.values(),
        ]
    return Fitted(kept, ignored, [key for key in missed if "num_batches" not in key])


def _renamed(
    weights: Weights, table: dict[str, str], dead: dict[str, str]
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Our name -> the official one; and the official names left aside, by reason."""
    names, ignored = {}, {}
    for official in weights:
        for pattern, reason in dead.items():
            if re.match(pattern, official):
                ignored.setdefault(reason, []).append(official)
                break
        else:
            for pattern, ours in table.items():
                if re.match(pattern, official):
                    names[re.sub(pattern, ours, official, count=1)] = official
                    break
            else:
                ignored.setdefault("unknown to the model", []).append(official)
    return names, ignored


def _report(
    experiment: Experiment, reading: Reading, asked: dict[str, Any], fitted: Fitted
) -> Iterator[str]:
    """What was found, supposed, asked for, used, ignored and missed."""
    facts, values = reading.facts, experiment.values | asked
    classes = f"{facts.classes} identities" if facts.classes > 1 else "no classifier"
    counts = f"{classes}, {len(facts.cameras)} cameras, {len(facts.views)} views"

    def listed(names: Iterable[str]) -> str:
        return ", ".join(f"{name}={_text(values[name])}" for name in names)

    told = [name for name in reading.settings if name not in asked and name not in reading.untold]
    yield f"found {counts}; {listed(told)}"
    if supposed := [name for name in reading.untold if name not in asked]:
        yield f"took the official {listed(supposed)}: shapes don't tell, --set decides otherwise"
    if asked:
        yield f"was asked for {listed(asked)}"
    yield f"used {_tensors(fitted.weights)}"
    for reason, names in fitted.ignored.items():
        yield f"ignored {_tensors(names)} {reason}: {_few(names)}"
    missed = f"{_tensors(fitted.missed)}, for training: {_few(fitted.missed)}"
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
            f"{name} is {_words(weights[name])}, of {dimensions} dimensions in every file"
        )
    return tuple(weights[name].shape)


def _classes(weights: Weights, name: str) -> int:
    """Identities that it was trained on; 1, since none can't be built, without a classifier."""
    return _shape(weights, name, 2)[0] if name in weights else 1


def _words(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"


def _text(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()


def _tensors(names: Collection[str]) -> str:
    return f"{len(names)} tensor{'s' * (len(names) != 1)}"


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
