"""Images as tensors: decoding, and a batch's augmentation. B images of H x W pixels."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from reid_core.data.cache import PixelFile
from reid_core.data.depth import DAMAGED, plain, regular
from reid_core.data.erasing import Among, erased
from reid_core.errors import BadInput

NORMALISATIONS = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
}
# TransReID's loader takes the first for training; all take torchvision's default for test.
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
TEST_FILTER = FILTERS["bilinear"]


BLOCK = 256  # images that `Images.fill` decodes before it says so


def read(
    source: Path | Image.Image, size: tuple[int, int], filter: int = TEST_FILTER
) -> np.ndarray:
    """One image as (H, W, 3) uint8 RGB, resized to size = (H, W). Raises BadInput."""
    with _explained(source):
        return np.asarray(_opened(source).resize(size[::-1], filter))


def opened(source: Path | Image.Image) -> Image.Image:
    """One image of its own size, upright, in RGB. Raises BadInput."""
    with _explained(source):
        return _opened(source)


def _opened(source: Path | Image.Image) -> Image.Image:
    image = source if isinstance(source, Image.Image) else Image.open(regular(source))
    return plain(image).convert("RGB")


@contextmanager
def _explained(source: Path | Image.Image) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise BadInput(f"no image {source}: was the data set moved?") from None
    except IsADirectoryError:
        raise BadInput(f"{source} is a folder, not an image") from None
    except DAMAGED as error:
        raise BadInput(
            f"{source} can't be read as an image ({error}); replace or remove it"
        ) from None


class Images:
    """A list of images by number: `images[rows]` is (B, 3, H, W) uint8.

    Each is decoded once and kept, resized: in memory as long as all of them fit into `cache` GiB,
    otherwise in a file, unless that and others like it would take more than `disk` GiB; else it is
    decoded each time. Threads decode: PIL lets go of Python's lock while it does.
    """

    def __init__(
        self,
        sources: Sequence[Path | Image.Image],
        size: tuple[int, int],
        filter: int = TEST_FILTER,
        cache: float = 4.0,
        disk: float = 0.0,
    ):
        self.sources, self.size, self.filter = sources, size, filter
        fits = len(sources) * 3 * size[0] * size[1] <= cache * 2**30
        self.kept: dict[int, np.ndarray] | None = {} if fits else None
        self.file = None if fits or not disk else PixelFile(sources, size, filter, disk)

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

    def fill(self, alive: Callable[[str], None], start: float = 0.0) -> None:
        """Decode what the file on disk lacks; one that can't be read is left for whoever asks for it.

        alive(message) is called after each block of images, equally often whatever is there, and may
        end it. Several processes share the work, if each begins at its own `start` (0 to 1).
        """
        blocks = [range(i, min(i + BLOCK, len(self))) for i in range(0, len(self), BLOCK)]
        first, done = int(start * len(blocks)), 0
        for block in blocks[first:] + blocks[:first]:
            if self.file and (missing := self.file.lacking(block)):
                self.readable(missing)
            done += len(block)
            alive(f"decoding the images, to be kept on disk: {done:,} of {len(self):,}")

    def name(self, row: int) -> Path | Image.Image:
        """What a row was made of: a file, unless it came as a picture."""
        return self.sources[row]

    def _tried(self, row: int) -> np.ndarray | BadInput:
        if self.file and (pixels := self.file.get(row)) is not None:
            return pixels
        try:
            pixels = self._read(row)
        except BadInput as problem:
            return problem
        if self.file:
            self.file.put(row, pixels)
        return pixels

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
    image: Tensor,
    *,
    erase: float,
    normalisation: str,
    area: float = 1 / 3,
    fill: str = "noise",
    among: Among | None = None,
) -> Tensor:
    """How `augment` ends: (B, 3, H, W) in 0..1 -> normalised, and erased with this probability.

    A rectangle of 0.02 to `area` of the image becomes noise, zero, or the numbers of ImageNet's mean.
    """
    seen = normalise(image, normalisation)
    return erased(seen, erase, area, fill, among) if erase else seen


def augment(
    image: Tensor,
    *,
    flip: float,
    pad: int,
    translate: float = 0.0,
    among: Among | None = None,
    **end,
) -> tuple[Tensor, Tensor]:
    """The official training transforms on a batch: flip, pad with black and crop, or enlarge and
    crop with probability `translate`; then `finish` with `end`.

    image (B, 3, H, W) uint8 -> (what the model sees, the same before normalising and erasing), both
    float. Draws from torch's and (erasing) Python's global generators. among (count, slice): image is
    that part of a batch of so many, and comes out as it would in the whole batch.
    """
    _, _, height, width = image.shape
    count, own = among = among or (len(image), slice(0, len(image)))
    mirrored = (torch.rand(count, device=image.device) < flip)[own]
    moved = torch.where(mirrored[:, None, None, None], image.flip(3), image)
    if pad:
        larger = F.pad(moved, (pad,) * 4)
        places = drawn_places(larger.shape[2:], (height, width), among, image.device)
        moved = cropped(larger, (height, width), places)
    clean = moved.float() / 255  # not before: bytes are moved four times as fast
    if translate:
        # RGA's code enlarges the file's image; this one has been resized before.
        size = (round(1.125 * height), round(1.125 * width))
        chosen = (torch.rand(count, device=image.device) < translate)[own]
        places = drawn_places(size, (height, width), among, image.device, rounded=True)
        if image.device.type == "cpu":  # where to look at a number is not to wait for it
            chosen = chosen.nonzero().flatten()
            larger = F.interpolate(clean[chosen], size=size, mode="bilinear")
            clean[chosen] = cropped(larger, (height, width), places[:, chosen])
        else:
            larger = F.interpolate(clean, size=size, mode="bilinear")
            parts = cropped(larger, (height, width), places)
            clean = torch.where(chosen[:, None, None, None], parts, clean)
    return finish(clean, among=among, **end), clean


def drawn_places(
    of: tuple[int, int],
    size: tuple[int, int],
    among: Among,
    device: torch.device,
    rounded: bool = False,
) -> Tensor:
    """(2, B) the top and left of a part of this size in each image, drawn for all that it is among;
    rounded: as RGA's code does, so that the first and the last place are half as likely as others."""
    count, own = among
    rooms = (whole - part for whole, part in zip(of, size, strict=True))
    if rounded:
        drawn = ((torch.rand(count, device=device) * room).round().long() for room in rooms)
    else:
        drawn = (torch.randint(0, room + 1, (count,), device=device) for room in rooms)
    return torch.stack([each[own] for each in drawn])


def cropped(image: Tensor, size: tuple[int, int], places: Tensor) -> Tensor:
    """(B, 3, H', W') -> (B, 3, H, W) with size = (H, W): each image from its place (2, B) on."""
    (height, width), device = size, image.device
    if device.type == "cpu":
        found = torch.empty(*image.shape[:2], height, width, dtype=image.dtype)
        for part, whole, y, x in zip(found, image, *places.tolist(), strict=True):
            part.copy_(whole[:, y : y + height, x : x + width])
        return found
    top, left = places[..., None]  # (B, 1) each
    rows = top + torch.arange(height, device=device)  # (B, H)
    columns = left + torch.arange(width, device=device)  # (B, W)
    each = torch.arange(len(image), device=device)[:, None, None]
    found = image.movedim(1, 3)[each, rows[:, :, None], columns[:, None]]  # (B, H, W, 3)
    return found.movedim(3, 1).contiguous()
