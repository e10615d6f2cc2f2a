"""Jigsaws drawn: patches by group, patches where the model's row of tokens has them, and a toy.

Shapes: H x W pixels, h x w positions.
"""

import io
from base64 import b64encode
from typing import Any

import numpy as np
from PIL import Image

from reid_core.analysis import attention
from reid_core.errors import BadInput
from reid_core.models.base import Tokens
from reid_core.models.transreid import jigsaw_order

# Okabe and Ito (2008), without black: groups also carry their number.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")


def coloured(image: np.ndarray, tokens: Tokens) -> Image.Image:
    """An image (H, W, 3) with its patches tinted by group; those of no group are grey."""
    drawn, member = image.astype(float), attention.membership(tokens)
    for row, column in np.ndindex(tokens.grid):
        rows, columns = cell(tokens, image.shape[:2], row, column)
        groups = np.flatnonzero(member[:, row, column])
        tint = (128, 128, 128)
        if len(groups):
            shade = COLOURS[groups[0] % len(COLOURS)].removeprefix("#")
            tint = tuple(bytes.fromhex(shade))
        drawn[rows, columns] = 0.45 * drawn[rows, columns] + 0.55 * np.array(tint)
    return Image.fromarray(drawn.astype(np.uint8))


def rearranged(image: np.ndarray, tokens: Tokens, order: list[int]) -> Image.Image:
    """An image (H, W, 3) whose patches' middles stand where the order puts them."""
    drawn, width = np.full_like(image, 128), tokens.grid[1]
    for place, patch in enumerate(order[: tokens.grid[0] * width]):
        there = cell(tokens, image.shape[:2], *divmod(place, width))
        here = cell(tokens, image.shape[:2], *divmod(patch, width))
        piece = image[here]
        area = drawn[there]
        high, wide = min(len(piece), len(area)), min(piece.shape[1], area.shape[1])
        area[:high, :wide] = piece[:high, :wide]
    return Image.fromarray(drawn)


def cell(tokens: Tokens, size: tuple[int, int], row: int, column: int) -> tuple[slice, slice]:
    """The pixels that a position is drawn on: the stride's cell around the middle of its window."""

    def along(place: int, count: int, length: int) -> slice:
        if tokens.window is None:
            return slice(round(place * length / count), round((place + 1) * length / count))
        patch, stride, start = tokens.window
        first = start + place * stride + (patch - stride) // 2
        return slice(max(0, first), min(length, max(0, first + stride)))

    return along(row, tokens.grid[0], size[0]), along(column, tokens.grid[1], size[1])


def url(image: Image.Image) -> str:
    """Enlarged by whole pixels, so that borders of patches stay sharp."""
    times = max(1, 384 // image.height)
    image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    packed = io.BytesIO()
    image.save(packed, "PNG")
    return "data:image/png;base64," + b64encode(packed.getvalue()).decode()


def toy(count: int, shift: int, groups: int) -> list[dict[str, Any]]:
    """Tiles with the patches' numbers: at first, shifted, in rows, transposed, read off. Raises
    BadInput where the groups don't divide the patches."""
    if count % groups:
        raise BadInput(
            f"the toy needs a number of patches that the groups divide, got {count} in {groups} groups"
        )
    shifted = np.array(jigsaw_order(count, shift, 1))
    stages = {"patches": np.arange(count)[None]}
    if shift > 1:
        stages[f"shifted by {shift - 1}"] = shifted[None]
    stages |= {
        f"{groups} groups": shifted.reshape(groups, -1),
        "transposed": shifted.reshape(groups, -1).T,
        "read off": np.array(jigsaw_order(count, shift, groups))[None],
    }
    first = set(shifted[: count // groups].tolist())
    return [_squares(label, numbers, first, count) for label, numbers in stages.items()]


def _squares(label: str, numbers: np.ndarray, first: set[int], count: int) -> dict[str, Any]:
    """A tile of numbered squares on a sheet that all stages share; the first group's are darker."""
    height, width = numbers.shape
    sheet = np.full((count // 2, count), np.nan)
    top, left = (sheet.shape[0] - height) // 2, (count - width) // 2
    sheet[top : top + height, left : left + width] = np.where(
        np.isin(numbers, list(first)), 1, 0.45
    )
    return dict(
        label=label,
        size=(24 * sheet.shape[0], 24 * count),
        map=sheet,
        scale=[0, 1],
        palette="mask",
        marks=[
            dict(row=top + r, column=left + c, text=str(numbers[r, c] + 1), tone="quiet")
            for r, c in np.ndindex(height, width)
        ],
    )
