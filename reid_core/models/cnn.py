"""timm's residual networks as trunks: any width, last stride 1, a stem with or without its ReLU.

Shapes: B images, D channels, h x w grid of a stage.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from reid_core.errors import BadInput
from reid_core.knobs import knob, unknown
from reid_core.models.base import Tokens
from reid_core.models.weights import fill, read_weights

# timm's ResNets, in their forms: stem, layer1 to layer4. Left out are pruned ones, which have no
# regular widths, and those that blur by averaging ("aa"), which fail on odd sizes.
TRUNKS = tuple(
    name
    for name in timm.list_models(module="resnet")
    if not any(part in name for part in ("_pruned", "netaa", "nextaa", "test_"))
)
STAGES = ("layer1", "layer2", "layer3", "layer4")


@dataclass(frozen=True)
class TrunkOptions:
    """The knobs of a residual trunk."""

    trunk: str = knob(
        "resnet50.tv_in1k",
        "The timm name of a ResNet; the part after the dot names its ImageNet weights.",
        "Trunk",
    )
    pretrained: str = knob(
        "timm", "Weights of the trunk: none, timm (ImageNet, downloaded), or a file.", "Trunk"
    )
    width: int = knob(
        0,
        "Channels of the first stage, a multiple of 8, doubled by each further one; 0 is the trunk's "
        "own.",
        "Trunk",
        least=0,
        most=1024,
    )
    last_stride: int = knob(
        1,
        "Stride of the last stage: 1 gives it twice the rows and columns of 2.",
        "Trunk",
        least=1,
        most=2,
    )


def trunk(
    name: str, pretrained: str, width: int = 0, last_stride: int = 1, stem_relu: bool = True
) -> nn.Module:
    """A timm ResNet without its classifier.

    pretrained is "none", "timm" (downloads the weights of that name) or the path of a safetensors
    or torch file, read without executing anything in it. width is the first stage's number of
    channels, which each stage doubles; 0 is the trunk's own. last_stride 1 keeps the last stage at
    the grid of the one before. Raises BadInput.
    """
    if name.split(".")[0] not in TRUNKS:
        raise BadInput(f"trunk: {unknown('trunk', name, TRUNKS, 'residual networks')}")
    if width % 8:
        raise BadInput(f"width: expected a multiple of 8 channels, or 0, got {width}")
    own = {}
    if width:  # of the stems only those of three convolutions narrow along; the others keep 64
        own = dict(channels=tuple(width * 2**i for i in range(4)), stem_width=width // 2)
    try:
        resnet = timm.create_model(
            name,
            pretrained=pretrained == "timm",
            num_classes=0,
            output_stride=16 if last_stride == 1 else 32,
            **own,
        )
    except (OSError, RuntimeError, AssertionError, ValueError, ZeroDivisionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if pretrained == "timm":
            reason += "; without a network give a file (pretrained=FILE) or pretrained=none"
        raise BadInput(f"trunk {name} could not be built: {reason}") from error
    # timm dilates the last stage in return for its stride; ReID's trunks only drop the stride.
    for layer in resnet.layer4.modules():
        if isinstance(layer, nn.Conv2d) and layer.dilation != (1, 1):
            layer.padding = tuple(
                p // d for p, d in zip(layer.padding, layer.dilation, strict=True)
            )
            layer.dilation = (1, 1)
    if not stem_relu:
        resnet.act1 = nn.Identity()
    if pretrained not in ("none", "timm"):
        load_trunk(resnet, Path(pretrained))
    return resnet


def load_trunk(resnet: nn.Module, file: Path) -> None:
    """Fill a trunk from a file, torchvision's included: its ResNets bear the same names.

    Classifiers are ignored, counters of batches may be missing; anything else must fit. Raises
    BadInput.
    """
    fill(resnet, read_weights(file), file)


def stem(resnet: nn.Module, image: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, D, H/4, W/4): what stands before the first stage."""
    if not (torch.is_grad_enabled() or torch.compiler.is_exporting()):
        # Two cores convolve faster so; a training says by its knob what it wants.
        image = image.contiguous(memory_format=torch.channels_last)
    return resnet.maxpool(resnet.act1(resnet.bn1(resnet.conv1(image))))


def stages(resnet: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The four stages, by name."""
    return ((name, getattr(resnet, name)) for name in STAGES)


def widths(resnet: nn.Module) -> list[int]:
    """Channels after each of the four stages."""
    return [info["num_chs"] for info in resnet.feature_info[-4:]]


def tokens_of(probe: str, grids: list[tuple[int, int]]) -> Tokens:
    """What stands where in a probe of the stage that its name tells."""
    stage = next((number for number, name in enumerate(STAGES) if name in probe.split(".")), -1)
    return Tokens(grids[stage])


def grids_of(size: tuple[int, int], last_stride: int) -> list[tuple[int, int]]:
    """Rows and columns after each of the four stages, for images of size (height, width)."""
    strides = (4, 8, 16, 16 * last_stride)
    return [(-(-size[0] // stride), -(-size[1] // stride)) for stride in strides]
