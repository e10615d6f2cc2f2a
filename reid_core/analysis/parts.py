"""Where a map lies, measured on masks of body parts: shares of its weight, and the pointing game.

Shapes: B images, h x w positions, H x W pixels, P parts.
"""

from collections.abc import Sequence

import numpy as np

from reid_core.analysis.positions import covered, spread
from reid_core.models.base import Tokens


def shares(
    weights: np.ndarray, tokens: Tokens, mask: np.ndarray, parts: Sequence[Sequence[int]]
) -> np.ndarray:
    """The share of a map's weight that lies on each part: (..., h, w) and a mask (H, W) -> (..., P).

    A position's weight is spread evenly over the pixels of its window, so a window that is half
    person counts half. parts are lists of ids in the mask. NaN for a map without any weight.
    """
    pixels = spread(weights, tokens, mask.shape)  # (..., H, W)
    inside = np.stack([np.isin(mask, ids) for ids in parts]).astype(float)  # (P, H, W)
    total = pixels.sum(axis=(-2, -1))[..., None]
    found = np.einsum("...hw,phw->...p", pixels, inside)
    return np.divide(found, total, where=total > 0, out=np.full(found.shape, np.nan))


def even_shares(tokens: Tokens, mask: np.ndarray, parts: Sequence[Sequence[int]]) -> np.ndarray:
    """(P,) the shares of an even map. They are those of the pixels where the grid tiles the image;
    overlapping windows count its middle more often than its edges."""
    return shares(np.ones(tokens.grid), tokens, mask, parts)


def centres(tokens: Tokens, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The pixel in the middle of each position's window, as far as it is inside: rows (h,), columns
    (w,)."""

    def middle(count: int, length: int) -> np.ndarray:
        inside = covered(count, length, tokens.window)  # (count, length)
        place = np.arange(length) + 0.5
        middles = (inside @ place) / inside.sum(axis=1)
        return middles.round(9).astype(int)  # 15.999... is 16, however it was summed

    return middle(tokens.grid[0], size[0]), middle(tokens.grid[1], size[1])


def on_mask(tokens: Tokens, mask: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """(h, w) whether the pixel in the middle of a position shows one of these ids."""
    rows, columns = centres(tokens, mask.shape)
    return np.isin(mask[np.ix_(rows, columns)], ids)


def points(weights: np.ndarray, tokens: Tokens, mask: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """The pointing game (Zhang et al., ECCV 2016): whether the middle of the strongest position of
    each map (..., h, w) shows one of these ids. Ours: no margin, since positions are coarse; where
    several are equally strong, the share of them that does."""
    inside = on_mask(tokens, mask, ids).ravel()
    flat = np.reshape(weights, (*weights.shape[:-2], -1))  # (..., N)
    strongest = flat == flat.max(axis=-1, keepdims=True)
    return (strongest * inside).sum(axis=-1) / strongest.sum(axis=-1)


def chance(tokens: Tokens, mask: np.ndarray, ids: Sequence[int]) -> float:
    """How often a random position wins that game."""
    return float(on_mask(tokens, mask, ids).mean())
