"""Where a deformable convolution looks: its taps on the image, in pixels.

Shapes: B images, K = k * k taps of a kernel, h' x w' cells it is computed for.
"""

import re

import numpy as np
from torch import Tensor

from reid_core.errors import BadInput
from reid_core.look import Looked
from reid_core.models.base import Tokens, Window

HIGH = re.compile(r"(?P<layer>.+)\.orders\.(?P<order>\d+)\.")


def taps(offsets: Tensor, source: Window, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the taps would be without offsets, and where they are: (B, K, h', w', 2) pixels each.

    offsets (B, 2K, h', w'), rows before columns, in positions of the map that is sampled (Dai et al.
    2017); source says which pixels such a position is cut from, and stride how many of them lie
    between two cells. A place is (row, column), the middle of the position there; it may lie outside
    the image, where the convolution sees zeros. Raises BadInput for a kernel
    without a middle.
    """
    pairs = offsets.float().cpu().numpy()
    pairs = pairs.reshape(len(pairs), -1, 2, *pairs.shape[-2:])  # (B, K, 2, h', w')
    count, rows, columns = pairs.shape[1], pairs.shape[-2], pairs.shape[-1]
    side = round(count**0.5)
    if side * side != count or not side % 2:
        raise BadInput(f"expected offsets of 9, 25 or more taps of a square kernel, got {count}")
    tap_row, tap_column = np.divmod(np.arange(count), side)
    regular = np.zeros((count, rows, columns, 2))
    regular[..., 0] = np.arange(rows)[:, None] * stride + tap_row[:, None, None] - side // 2
    regular[..., 1] = np.arange(columns) * stride + tap_column[:, None, None] - side // 2
    moved = regular + np.moveaxis(pairs, 2, -1)
    pixels = lambda place: source.start + source.size / 2 + place * source.stride  # noqa: E731
    return np.broadcast_to(pixels(regular), moved.shape), pixels(moved)


def source_of(looked: Looked, name: str) -> tuple[Window, int]:
    """What the offsets of a probe are counted in, and their stride, for `taps`.

    The lowest high order samples the grid of patches, the next ones the cells below them. Raises
    BadInput where the positions have no windows.
    """
    cells: Tokens = looked.tokens[name]
    layer, order = HIGH.match(name).group("layer", "order")
    others = [HIGH.match(each) for each in looked.of("offsets")]
    lowest = min(int(each["order"]) for each in others if each["layer"] == layer)
    fine = next(
        tokens
        for probe, tokens in looked.tokens.items()
        if probe.startswith(f"{layer}.") and not HIGH.match(probe)
    )
    if fine.window is None or cells.window is None:
        raise BadInput(f"{name}: expected positions with windows, got a grid that tiles the image")
    if int(order) > lowest:
        return cells.window, 1
    return fine.window, cells.window.stride // fine.window.stride
