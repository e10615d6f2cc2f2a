"""Where a deformable convolution looks: its taps on the image, in pixels.

Shapes: B images, K = k * k taps of a kernel, h' x w' cells it is computed for.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from reid_core.analysis import orders
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


def unseen(places: np.ndarray, source: Tokens) -> np.ndarray:
    """Which taps at places (..., 2) read nothing but zeros: those a whole position outside the map
    that is sampled. source has windows."""
    window = source.window
    position = (places - window.start - window.size / 2) / window.stride
    return ((position <= -1) | (position >= source.grid)).any(axis=-1)


def source_of(looked: Looked, name: str) -> tuple[Tokens, int]:
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
        return cells, 1
    return fine, cells.window.stride // fine.window.stride


@dataclass(frozen=True)
class Surveyed:
    """Orders and offsets over B images. pairs are P layers and orders, (layer, order).

    js (B, P, H) is a mean over rows, in nats; outside (P,) the share of taps that read zeros, plain
    (P,) what it would be without offsets.
    """

    pairs: list[tuple[int, int]]
    js: np.ndarray
    outside: np.ndarray
    plain: np.ndarray


def surveyed(looks: Iterable[Looked]) -> Surveyed | None:
    """How far each high order is from the first one, and where its taps read, over some passes; None
    without high orders."""
    js, zeros = [], []
    for looked in looks:
        if not (found := orders.pairs(looked)):
            return None
        js.append(np.stack([pair.js().mean(dim=-1).cpu().numpy() for pair in found], axis=1))
        zeros.append([_unseen_shares(looked, name) for name in looked.of("offsets")])
    shares = np.average(zeros, axis=0, weights=[len(each) for each in js])  # (P, 2)
    names = [(pair.layer, pair.order) for pair in found]
    return Surveyed(names, np.concatenate(js), shares[:, 0], shares[:, 1])


def _unseen_shares(looked: Looked, name: str) -> tuple[float, float]:
    """The share of a probe's taps that read zeros, and what it would be without offsets."""
    source, stride = source_of(looked, name)
    plain, moved = taps(looked.seen[name], source.window, stride)
    return float(unseen(moved, source).mean()), float(unseen(plain, source).mean())
