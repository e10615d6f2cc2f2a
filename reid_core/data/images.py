"""Images as tensors: decoding, and a batch's augmentation. B images of H x W pixels."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from reid_core.errors import BadInput

NORMALISATIONS = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
}
# The official loaders' filters: bicubic for training, torchvision's default for test.
TRAIN_FILTER, TEST_FILTER = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR


def read(
    source: Path | Image.Image, size: tuple[int, int], filter: int = TEST_FILTER
) -> np.ndarray:
    """One image as (H, W, 3) uint8 RGB, resized to size = (H, W). Raises BadInput."""
    try:
        image = source if isinstance(source, Image.Image) else Image.open(source)
        image = image.convert("RGB").resize(size[::-1], filter)
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
        rows = [int(row) for row in rows]
        missing = [row for row in dict.fromkeys(rows) if row not in (self.kept or {})]
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            decoded = dict(zip(missing, pool.map(self._read, missing), strict=True))
        if self.kept is not None:
            self.kept |= decoded
            decoded = self.kept
        stacked = np.stack([decoded[row] for row in rows])  # (B, H, W, 3)
        return torch.from_numpy(stacked).permute(0, 3, 1, 2)  # (B, 3, H, W)

    def _read(self, row: int) -> np.ndarray:
        return read(self.sources[row], self.size, self.filter)


def normalise(image: Tensor, normalisation: str) -> Tensor:
    """(B, 3, H, W) from 0..1 to what the trunk expects."""
    mean, deviation = (image.new_tensor(v)[:, None, None] for v in NORMALISATIONS[normalisation])
    return (image - mean) / deviation


def finish(image: Tensor, *, erase: float, normalisation: str) -> Tensor:
    """How `augment` ends: (B, 3, H, W) in 0..1 -> normalised, and erased with this probability."""
    seen = normalise(image, normalisation)
    if erase:
        seen = RandomErasing(probability=erase, mode="pixel", device=str(image.device))(seen)
    return seen


def augment(
    image: Tensor, *, flip: float, pad: int, erase: float, normalisation: str
) -> tuple[Tensor, Tensor]:
    """The official training transform on a batch: flip, pad with black, crop, normalise, erase.

    image (B, 3, H, W) uint8 -> (what the model sees, the same before normalising and erasing), both
    float. Draws from torch's and (erasing) Python's global generators.
    """
    count, _, height, width = image.shape
    clean = image.float() / 255
    mirrored = torch.rand(count, device=image.device) < flip
    clean = torch.where(mirrored[:, None, None, None], clean.flip(3), clean)
    if pad:
        corner = torch.randint(0, 2 * pad + 1, (2, count, 1), device=image.device)
        rows = corner[0] + torch.arange(height, device=image.device)  # (B, H)
        columns = corner[1] + torch.arange(width, device=image.device)  # (B, W)
        padded = F.pad(clean, (pad,) * 4).movedim(1, 3)  # (B, H + 2p, W + 2p, 3)
        each = torch.arange(count, device=image.device)[:, None, None]
        clean = padded[each, rows[:, :, None], columns[:, None]].movedim(3, 1).contiguous()
    return finish(clean, erase=erase, normalisation=normalisation), clean
