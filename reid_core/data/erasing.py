"""Random erasing (Zhong et al. 2020) of normalised images. B images of H x W pixels.

A rectangle of 0.02 to `area` of the image, its aspect from 0.3 to its inverse, becomes noise, zero, or
the numbers of ImageNet's mean. Noise is drawn as timm does, which the transformers' official code calls:
the logarithm of the aspect evenly. The others as the convolutional models' code, and Zhong's own, has
them: the aspect itself.
"""

import math
import random
from collections.abc import Callable

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from reid_core.device import sent

LEAST, ASPECT = 0.02, 0.3
Among = tuple[int, slice]  # of a batch of so many images, which ones


def erased(
    seen: Tensor, probability: float, area: float, fill: str, among: Among | None = None
) -> Tensor:
    """(B, 3, H, W) -> the same with a rectangle erased in each, with this probability.

    among: these are a part of a larger batch, of which all are drawn for. Draws from Python's and
    torch's global generators.
    """
    count, own = among or (len(seen), slice(0, len(seen)))
    if seen.device.type != "cpu":
        return at_once(seen, probability, area, fill, (count, own))
    erase = eraser(probability, area, fill)
    others = torch.empty_like(seen[0])  # takes what is drawn for images that are not here
    for row in range(count):
        erase(seen[row - own.start] if own.start <= row < own.stop else others)
    return seen


def eraser(probability: float, area: float, fill: str) -> Callable[[Tensor], Tensor]:
    """Erases in one image (3, H, W) on the CPU, in place."""
    if fill == "noise":
        return RandomErasing(probability, max_area=area, mode="pixel", device="cpu")
    return Evenly(probability, area, fill)


def at_once(seen: Tensor, probability: float, area: float, fill: str, among: Among) -> Tensor:
    """`erased` in a few operations for the whole batch, as a GPU wants it: the same rectangles from the
    same draws, filled with other noise of the same kind. Does not wait for the GPU."""
    (count, own), evenly = among, fill != "noise"
    height, width = seen.shape[2:]
    boxes = [  # an empty one where nothing is erased
        (random.random() <= probability and box(height, width, area, evenly)) or (0, 0, 0, 0)
        for _ in range(count)
    ][own]
    edges = sent(torch.tensor(boxes), seen.device)[:, :, None]  # (B, 4, 1)
    top, left, tall, wide = edges.unbind(1)  # (B, 1) each
    rows = torch.arange(height, device=seen.device) - top  # (B, H)
    columns = torch.arange(width, device=seen.device) - left  # (B, W)
    inside = ((rows >= 0) & (rows < tall))[:, :, None] & ((columns >= 0) & (columns < wide))[
        :, None
    ]
    if fill == "noise":
        drawn = torch.randn(count, *seen.shape[1:], device=seen.device, dtype=seen.dtype)[own]
    else:
        drawn = _mean(seen) if fill == "mean" else torch.zeros_like(seen[:1, :, :1, :1])
    return torch.where(inside[:, None], drawn, seen)


class Evenly:
    """Erasing of one image as the official convolutional models draw it: the aspect is drawn evenly,
    and up to a hundred times until the rectangle fits."""

    def __init__(self, probability: float, area: float, fill: str):
        self.probability, self.area, self.fill = probability, area, fill

    def __call__(self, image: Tensor) -> Tensor:
        """(3, H, W), changed in place."""
        if random.random() > self.probability:
            return image
        if found := box(*image.shape[1:], self.area, evenly=True):
            top, left, tall, wide = found
            filled = _mean(image) if self.fill == "mean" else 0.0
            image[:, top : top + tall, left : left + wide] = filled
        return image


def box(
    height: int, width: int, area: float, evenly: bool = False
) -> tuple[int, int, int, int] | None:
    """(top, left, height, width) of a rectangle, or None where none that was drawn fits."""
    for _ in range(100 if evenly else 10):
        target = random.uniform(LEAST, area) * (height * width)
        if evenly:
            aspect = random.uniform(ASPECT, 1 / ASPECT)
        else:
            aspect = math.exp(random.uniform(math.log(ASPECT), math.log(1 / ASPECT)))
        tall, wide = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if wide < width and tall < height:
            return random.randint(0, height - tall), random.randint(0, width - wide), tall, wide
    return None


_means: dict[tuple, Tensor] = {}


def _mean(like: Tensor) -> Tensor:
    """ImageNet's mean colour (3, 1, 1). Kept, since a new copy to a GPU waits for it."""
    key = like.device, like.dtype
    if key not in _means:
        _means[key] = like.new_tensor(IMAGENET_DEFAULT_MEAN)[:, None, None]
    return _means[key]
