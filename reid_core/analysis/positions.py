"""Positions of a grid and the pixels they are cut from.

Shapes: h x w positions of a grid, H x W pixels of an image.
"""

import numpy as np

from reid_core.models.base import Tokens, Window


def spread(values: np.ndarray, tokens: Tokens, size: tuple[int, int]) -> np.ndarray:
    """A map (..., h, w) over pixels (..., H, W): the weight of a position lies evenly on what of its
    window is inside the image. Sums are kept. Without windows the grid tiles the image evenly."""
    rows = covered(tokens.grid[0], size[0], tokens.window)  # (h, H)
    columns = covered(tokens.grid[1], size[1], tokens.window)  # (w, W)
    rows, columns = (each / each.sum(axis=1, keepdims=True) for each in (rows, columns))
    return rows.T @ np.asarray(values, np.float64) @ columns


def covered(count: int, length: int, window: Window | None) -> np.ndarray:
    """(count, length) how much of each pixel along a side belongs to each position's window, 0 to 1."""
    size, stride = (window.size, window.stride) if window else (length / count,) * 2
    first = (window.start if window else 0) + np.arange(count)[:, None] * stride
    pixel = np.arange(length)[None]
    return np.clip(np.minimum(first + size, pixel + 1) - np.maximum(first, pixel), 0, 1)
