"""How a model is run in training: its memory format, what of it is computed twice, whether it is
compiled. Weights and their names stay as they are."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from timm.models.resnet import BasicBlock, Bottleneck
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from reid_core.errors import BadInput
from reid_core.experiment import Training

RESIDUAL = Bottleneck, BasicBlock


def equip(model: nn.Module, training: Training, device: str) -> None:
    """Make a model run as its knobs ask, on the kind of device that it will be on. Raises BadInput."""
    convolutional = any(isinstance(each, RESIDUAL) for each in model.modules())
    wanted = dict(auto=device in ("cuda", "cpu") and convolutional, on=True, off=False)
    if wanted[training.channels_last]:
        model.to(memory_format=torch.channels_last)
        for layer in model.modules() if device == "cpu" and not training.compile else ():
            if is_product(layer):
                layer.forward = partial(_multiplied, layer)
    if training.checkpointing:
        for block in [each for each in model.modules() if is_layer(each)]:
            block.forward = partial(_twice, block, block.forward)
    if training.compile:
        check_compiler(device)
        model.compile()


def is_product(layer: nn.Module) -> bool:
    """Whether it is a 1x1 convolution that a processor computes faster as a product of matrices, which
    those of few channels are not."""
    return (
        type(layer) is nn.Conv2d
        and layer.kernel_size == layer.stride == (1, 1)
        and layer.groups == 1
        and not any(layer.padding)
        and min(layer.in_channels, layer.out_channels) >= 128
    )


def _multiplied(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, D, h, w), where the channels of a position lie together in memory."""
    rows = x.permute(0, 2, 3, 1)  # (B, h, w, C)
    return F.linear(rows, layer.weight.flatten(1), layer.bias).permute(0, 3, 1, 2)


def is_layer(module: nn.Module) -> bool:
    """timm's layers, and what a model calls one of its own."""
    return isinstance(module, (Block, *RESIDUAL)) or getattr(module, "is_layer", False)


def check_compiler(device: str) -> None:
    """Raises BadInput where torch.compile would fail in the first step."""
    names = (os.environ.get("CXX"), "g++", "clang++", "cl")
    if device == "cuda" and find_spec("triton") is None:
        raise BadInput(
            "compile: expected triton, which torch.compile needs on a GPU; install it, or "
            "train with compile=false"
        )
    if device == "cpu" and not any(name and shutil.which(name) for name in names):
        raise BadInput(
            "compile: expected a C++ compiler, which torch.compile needs, and found none; "
            "install g++, or train with compile=false"
        )


def not_compiled(error: RuntimeError, training: Training) -> BadInput | None:
    """What to say of a step that torch.compile could not rewrite; None for any other error."""
    if not training.compile or not isinstance(error, torch._dynamo.exc.TorchDynamoException):
        return None
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = lines[0] if lines else type(error).__name__
    return BadInput(f"compile: torch.compile failed ({told}); train with compile=false")


def _twice(block: nn.Module, forward, *given, **named):
    """Nothing between a block's input and its output is kept; its gradient computes it anew, from the
    same draws (dropout, drop path)."""
    if not torch.is_grad_enabled():
        return forward(*given, **named)
    if torch.compiler.is_compiling():  # it takes no contexts, and moves statistics once by itself
        return checkpoint(forward, *given, use_reentrant=False, **named)
    contexts = lambda: (nullcontext(), _same_statistics(block))  # noqa: E731
    return checkpoint(forward, *given, use_reentrant=False, context_fn=contexts, **named)


@contextmanager
def _same_statistics(block: nn.Module) -> Iterator[None]:
    """BatchNorm's running statistics have seen these images: they see them once."""
    norms = [each for each in block.modules() if isinstance(each, _BatchNorm)]
    before = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, kept in before:
                buffer.copy_(kept)
