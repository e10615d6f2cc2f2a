"""Images as tensors: decoding, and a batch's augmentation. B images of H x W pixels."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from reid_core.data.depth import eight_bits
from reid_core.errors import BadInput

NORMALISATIONS = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
}
# TransReID's loader takes the first for training; all take torchvision's default for test.
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
TEST_FILTER = FILTERS["bilinear"]


def read(
    source: Path | Image.Image, size: tuple[int, int], filter: int = TEST_FILTER
) -> np.ndarray:
    """One image as (H, W, 3) uint8 RGB, resized to size = (H, W). Raises BadInput."""
    try:
        image = source if isinstance(source, Image.Image) else Image.open(source)
        image = eight_bits(image).convert("RGB").resize(size[::-1], filter)
    except FileNotFoundError:
        raise BadInput(f"no image {source}: was the data set moved?") from None
    except IsADirectoryError:
        raise BadInput(f"{source} is a folder, not an image") from None
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        ValueError,
        SyntaxError,
    ) as error:
        raise BadInput(
            f"{source} can't be read as an image ({error}); replace or remove it"
        ) from None
    return np.asarray(image)


class Images:
    """A list of images by number: `images[rows]` is (B, 3, H, W) uint8.

    Each is decoded once and kept, resized, as long as all of them fit into `cache` GiB; otherwise
    it is decoded each time. Threads decode: PIL lets go of Python's lock while it does.
    """

    def __init__(
        self,
        sources: Sequence[Path | Image.Image],
        size: tuple[int, int],
        filter: int = TEST_FILTER,
        cache: float = 4.0,
    ):
        self.sources, self.size, self.filter = sources, size, filter
        fits = len(sources) * 3 * size[0] * size[1] <= cache * 2**30
        self.kept: dict[int, np.ndarray] | None = {} if fits else None

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, rows: Sequence[int]) -> Tensor:
        _, pixels, problems = self.readable(rows)
        for problem in problems.values():
            raise problem
        return pixels

    def readable(self, rows: Sequence[int]) -> tuple[list[int], Tensor, dict[int, BadInput]]:
        """Of these rows those that can be read, (B, 3, H, W) uint8, and what is wrong with the others."""
        rows = [int(row) for row in rows]
        missing = [row for row in dict.fromkeys(rows) if row not in (self.kept or {})]
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            decoded = dict(zip(missing, pool.map(self._tried, missing), strict=True))
        problems = {row: it for row, it in decoded.items() if isinstance(it, BadInput)}
        decoded = {row: it for row, it in decoded.items() if row not in problems}
        if self.kept is not None:
            self.kept |= decoded
            decoded = self.kept
        rows = [row for row in rows if row not in problems]
        if not rows:
            return rows, torch.empty((0, 3, *self.size), dtype=torch.uint8), problems
        stacked = np.stack([decoded[row] for row in rows])  # (B, H, W, 3)
        return rows, torch.from_numpy(stacked).permute(0, 3, 1, 2), problems  # (B, 3, H, W)

    def name(self, row: int) -> Path | Image.Image:
        """What a row was made of: a file, unless it came as a picture."""
        return self.sources[row]

    def _tried(self, row: int) -> np.ndarray | BadInput:
        try:
            return self._read(row)
        except BadInput as problem:
            return problem

    def _read(self, row: int) -> np.ndarray:
        return read(self.sources[row], self.size, self.filter)


def normalise(image: Tensor, normalisation: str) -> Tensor:
    """(B, 3, H, W) from 0..1 to what the trunk expects."""
    mean, deviation = _statistics(normalisation, image.device, image.dtype)
    return (image - mean) / deviation


@cache
def _statistics(normalisation: str, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Mean and deviation, (3, 1, 1). Kept: each new copy to a GPU waits for what it is busy with."""
    kept = NORMALISATIONS[normalisation]
    return tuple(torch.tensor(v, device=device, dtype=dtype)[:, None, None] for v in kept)


def finish(
    image: Tensor, *, erase: float, normalisation: str, area: float = 1 / 3, fill: str = "noise"
) -> Tensor:
    """How `augment` ends: (B, 3, H, W) in 0..1 -> normalised, and erased with this probability.

    A rectangle of 0.02 to `area` of the image becomes noise, zero, or the numbers of ImageNet's mean.
    """
    seen = normalise(image, normalisation)
    if not erase:
        return seen
    mode = "pixel" if fill == "noise" else "const"
    eraser = RandomErasing(erase, max_area=area, mode=mode, device=str(image.device))
    if fill == "mean":  # timm's constant is zero
        mean = seen.new_tensor(IMAGENET_DEFAULT_MEAN)[:, None, None]
        return eraser(seen - mean) + mean
    return eraser(seen)


def augment(
    image: Tensor, *, flip: float, pad: int, translate: float = 0.0, **end
) -> tuple[Tensor, Tensor]:
    """The official training transforms on a batch: flip, pad with black and crop, or enlarge and
    crop with probability `translate`; then `finish` with `end`.

    image (B, 3, H, W) uint8 -> (what the model sees, the same before normalising and erasing), both
    float. Draws from torch's and (erasing) Python's global generators.
    """
    count, _, height, width = image.shape
    clean = image.float() / 255
    mirrored = torch.rand(count, device=image.device) < flip
    clean = torch.where(mirrored[:, None, None, None], clean.flip(3), clean)
    if pad:
        clean = cropped(F.pad(clean, (pad,) * 4), (height, width))
    if translate:
        # RGA's code enlarges the file's image; this one has been resized before.
        size = (round(1.125 * height), round(1.125 * width))
        larger = F.interpolate(clean, size=size, mode="bilinear")
        moved = torch.rand(count, device=image.device) < translate
        clean = torch.where(moved[:, None, None, None], cropped(larger, (height, width)), clean)
    return finish(clean, **end), clean


def cropped(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 3, H', W') -> (B, 3, H, W) with size = (H, W): each image at a random place."""
    count, (height, width), device = len(image), size, image.device
    top = torch.randint(0, image.shape[2] - height + 1, (count, 1), device=device)
    left = torch.randint(0, image.shape[3] - width + 1, (count, 1), device=device)
    rows = top + torch.arange(height, device=device)  # (B, H)
    columns = left + torch.arange(width, device=device)  # (B, W)
    each = torch.arange(count, device=device)[:, None, None]
    found = image.movedim(1, 3)[each, rows[:, :, None], columns[:, None]]  # (B, H, W, 3)
    return found.movedim(3, 1).contiguous()
