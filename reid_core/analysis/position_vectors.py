"""What a transformer has learned of where its patches lie, and what resizing that to another grid does.

Shapes: an h x w grid of patches, D width.
"""

import numpy as np
import torch
from torch import Tensor

from reid_core.evaluate import directions
from reid_core.models.base import ReIDModel
from reid_core.models.vit import resized

PARAMETER = "trunk.pos_embed"


def vectors(model: ReIDModel, grid: tuple[int, int] | None = None) -> np.ndarray:
    """The position embeddings of a model's patches (h, w, D), resized bilinearly where another grid
    is asked for, as TransReID's code brings ImageNet's to its own grid."""
    patches = model.get_parameter(PARAMETER).detach()[:, 1:].float()
    grid = grid or model.grid
    if grid != model.grid:
        patches = resized(patches, model.grid, grid)
    return patches[0].unflatten(0, grid).cpu().numpy()


def alike(found: np.ndarray) -> np.ndarray:
    """The cosines of all positions (h, w, D) with one another: (h, w, h, w)."""
    unit = directions(found.reshape(-1, found.shape[-1]))
    return (unit @ unit.T).reshape(*found.shape[:2], *found.shape[:2])


def by_distance(cosines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean cosine of positions so many rows apart in one column (h,), and so many columns apart
    in one row (w,); from cosines (h, w, h, w)."""
    rows = np.einsum("iwjw->wij", cosines)  # (w, h, h)
    columns = np.einsum("hihj->hij", cosines)  # (h, w, w)
    return tuple(
        np.array([np.diagonal(each, away, 1, 2).mean() for away in range(each.shape[1])])
        for each in (rows, columns)
    )


def there_and_back(positions: Tensor, grid: tuple[int, int], by: tuple[int, int]) -> Tensor:
    """Positions (1, 1 + h*w, D) resized to another grid and back to their own; the class token's
    stays. What a grid can't hold is lost."""
    patches = resized(resized(positions[:, 1:], grid, by), by, grid)
    return torch.cat([positions[:, :1], patches], dim=1)


def near(place: tuple[int, int], grid: tuple[int, int], to: tuple[int, int]) -> tuple[int, int]:
    """The row and column of another grid in which the middle of a position lies."""
    return tuple(int((at + 0.5) * b / a) for at, a, b in zip(place, grid, to, strict=True))
