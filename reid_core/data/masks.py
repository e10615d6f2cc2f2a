"""Part masks: which part of whom each pixel of an image shows. The pedestrians have them."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from reid_core.data.depth import DAMAGED
from reid_core.data.images import read
from reid_core.data.wardrobe import PARTS
from reid_core.errors import BadInput

# The parts of the person in the box; what else there is hides that person or lies behind.
PERSON = tuple(name for name in PARTS if name not in ("background", "occluder", "passer-by"))
IDS = {name: number for name, (number, _) in PARTS.items()}


def mask_of(root: Path, name: str, size: tuple[int, int]) -> np.ndarray | None:
    """The part ids (H, W) of an image, by its path below the data set's root; None without a mask.

    Resized to size = (H, W), each pixel taking the nearest id. Raises BadInput for a damaged file.
    """
    path = root / "masks" / Path(name).with_suffix(".png")
    try:
        image = Image.open(path)
        return np.asarray(image.resize(size[::-1], Image.Resampling.NEAREST))
    except FileNotFoundError:
        return None
    except DAMAGED as error:
        raise BadInput(
            f"{path} can't be read as a mask ({error}): make the data set anew or remove the file"
        ) from None


def outline(image: Path, inside: np.ndarray, scale: int = 4) -> Image.Image:
    """An image as large as `scale` times inside (H, W) bool, whose border is drawn light on dark.

    Raises BadInput for an image that can't be read.
    """
    size = (scale * inside.shape[0], scale * inside.shape[1])
    drawn = read(image, size).copy()
    fine = inside.repeat(scale, 0).repeat(scale, 1)
    drawn[_border(fine, scale // 2 + 2)] = 20
    drawn[_border(fine, max(1, scale // 2))] = 255
    return Image.fromarray(drawn)


def _border(inside: np.ndarray, width: int) -> np.ndarray:
    """Pixels whose neighbourhood of 2 * width + 1 pixels lies on both sides."""
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    filled = inside.astype(np.uint8)
    return cv2.dilate(filled, kernel) != cv2.erode(filled, kernel)
