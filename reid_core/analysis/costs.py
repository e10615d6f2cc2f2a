"""What a model costs: its parameters, and the operations of one forward pass."""

import math
import time

import torch
import torchvision  # noqa: F401 - names its operators
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from reid_core.models.base import Batch, ReIDModel

QUICK, SLOW, MANY = 0.1, 1.0, 16  # seconds of a pass, images of a batch


def parameters(model: nn.Module) -> int:
    """How many numbers a model has, with the classifiers that only training needs."""
    return sum(each.numel() for each in model.parameters())


def one_image(height: int, width: int, count: int = 1) -> Batch:
    """A batch of one image of noise, of an unknown camera; count: of so many."""
    unknown = torch.full((count,), -1)
    image = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))
    return Batch(image, unknown, unknown)


@torch.no_grad()
def seconds_a_pass(model: ReIDModel, height: int, width: int) -> float:
    """The time of one image's forward pass on this machine, as busy as it is: the best of four, in
    batches where the model is quick; of one that takes over a second the first has to do."""
    best = _timed(model, one_image(height, width))
    for _ in range(3):
        if best < SLOW:
            count = MANY if best < QUICK else 1
            best = min(best, _timed(model, one_image(height, width, count)) / count)
    return best


def _timed(model: ReIDModel, batch: Batch) -> float:
    start = time.perf_counter()
    model(batch)
    return time.perf_counter() - start


@torch.no_grad()
def flops(model: ReIDModel, batch: Batch) -> int:
    """Floating point operations of one forward pass, as `torch.utils.flop_counter` counts them.

    It counts convolutions, linear layers and both products of attention, two operations for each
    multiplication and addition; not softmax, normalisation, activations or sums. Deformable
    convolutions are unknown to it and counted here as plain ones, without their interpolation.
    """
    also = {torch.ops.torchvision.deform_conv2d: _deformable_flops}
    # Attention as two products: torch 2.11 doesn't know a processor's fused form.
    plainly = sdpa_kernel(SDPBackend.MATH)
    with plainly, FlopCounterMode(display=False, custom_mapping=also) as counter:
        model(batch)
    return counter.get_total_flops()


def _deformable_flops(x_shape, weight_shape, *args, out_shape=None, **keywords) -> int:
    """x (B, C, h, w), weight (D, C, k, k), out (B, D, h', w')."""
    return 2 * math.prod(out_shape) * math.prod(weight_shape[1:])
