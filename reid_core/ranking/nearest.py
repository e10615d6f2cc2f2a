"""Who is nearest to whom, exactly, at the speed of the matrix product.

N vectors among M (the same N, or others), D dimensions, all of length 1 (or 0); k nearest. Nothing
of size N x M is ever kept. Similarities are formed in float32, in blocks; of each row a few more than
k candidates are kept, which are compared again in float64. So the result does not depend on blocks,
device or number of threads, and equal vectors tie: ties are broken by row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from reid_core.errors import BadInput
from reid_core.ranking.threads import in_parts

TILE = 4096  # rows and columns of a block that is formed once for both its rows and its columns
NUMBERS = 2**25  # of a block of rows: 128 MB
SPARE = 8  # candidates beyond k
SMALL = 4096  # images of a set that is not worth loading compiled code for
PAIRS = 2**16  # products from which on it is
CANDIDATES = 2**19  # that are compared again at a time: some 20 MB
MOST = 128  # candidates above which a compiled insertion is slower than a sort
TIE = 3e-7  # similarities that a distance in float32 can't tell apart

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Nearest:
    """Each vector's nearest, on the device of the vectors.

    rows (N, k) int64, nearest first, ties by row; distances (N, k) float32, Euclidean, as
    `evaluate.distances` rounds them; longest (N,) float64 the largest squared distance, to 1e-6.
    """

    rows: Tensor
    distances: Tensor
    longest: Tensor


@torch.no_grad()
def nearest(
    vectors: Tensor, k: int, among: Tensor | None = None, progress: Progress | None = None
) -> Nearest:
    """The k nearest of each vector (N, D) among the others and itself, or among (M, D) others.

    k shrinks to M. Raises BadInput for NaN or infinity.
    """
    others = vectors if among is None else among
    if not (vectors.sum() + others.sum()).isfinite():
        raise BadInput("the features hold NaN or infinity: train with a lower learning rate")
    k = min(k, len(others))
    spare = min(k + SPARE, len(others))
    told = progress or (lambda done, total: None)
    small = max(len(vectors), len(others)) <= SMALL or spare > MOST
    compiled = vectors.device.type == "cpu" and not small and find_spec("numba")
    with torch.autocast(vectors.device.type, enabled=False):
        if compiled:
            places, values, least = _by_tiles(vectors.float(), among, spare, told)
        else:
            places, values, least = _by_rows(vectors.float(), others.float(), spare, told)
    longest = (2 - 2 * least.double()).clamp(min=1e-12)
    return Nearest(*_decided(vectors, others, places, values, k), longest)


def _by_rows(vectors: Tensor, others: Tensor, spare: int, told: Progress) -> tuple[Tensor, ...]:
    """Candidates (N, C), their similarities (N, C), largest first, and the smallest of all (N,)."""
    size, found = max(1, NUMBERS // len(others)), []
    for start in range(0, len(vectors), size):
        block = vectors[start : start + size] @ others.T  # (n, M)
        values, places = block.topk(spare, dim=1)
        found.append((places, values, block.amin(dim=1)))
        told(min(start + size, len(vectors)), len(vectors))
    return tuple(torch.cat(part) for part in zip(*found, strict=True))


def _by_tiles(
    vectors: Tensor, among: Tensor | None, spare: int, told: Progress
) -> tuple[Tensor, ...]:
    """The same with compiled code. Within one set a tile serves its rows and its columns, so that
    half of the products are enough."""
    from reid_core.ranking.compiled import keep_in_columns, keep_in_rows

    others = vectors if among is None else among.float()
    values = np.full((len(vectors), spare), -np.inf, np.float32)
    places, least = np.zeros((len(vectors), spare), np.int64), np.full(len(vectors), 2, np.float32)
    starts = range(0, len(vectors), TILE), range(0, len(others), TILE)
    pairs = [
        (row, col) for row in starts[0] for col in starts[1] if among is not None or col >= row
    ]
    kept = torch.empty(TILE * TILE)
    for done, (row, column) in enumerate(pairs, 1):
        left, right = vectors[row : row + TILE], others[column : column + TILE]
        tile = kept[: len(left) * len(right)].view(len(left), len(right))
        torch.mm(left, right.T, out=tile)
        part, tile = slice(row, row + len(left)), tile.numpy()
        rows = values[part], places[part], least[part]
        in_parts(keep_in_rows, len(left), tile, column, *rows)
        if among is None and column > row:
            part = slice(column, column + len(right))
            columns = values[part], places[part], least[part]
            in_parts(keep_in_columns, len(right), tile, row, *columns)
        told(done * len(vectors) // len(pairs), len(vectors))
    return tuple(torch.from_numpy(part) for part in (places, values, least))


def _decided(
    vectors: Tensor, others: Tensor, places: Tensor, values: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """The k nearest among the candidates, and among all where the candidates can't be enough."""
    size = max(1, CANDIDATES // places.shape[1])
    found, error = [], 0.0
    for start in range(0, len(places), size):
        some, theirs = places[start : start + size], values[start : start + size]
        own = torch.arange(start, start + len(some), device=places.device)
        own = own.repeat_interleave(places.shape[1])
        exact = products(vectors, others, own, some.flatten()).view(some.shape)  # (n, C) float64
        error = max(error, (exact - theirs).abs().max().item())
        kth = exact.sort(dim=1, descending=True).values[:, k - 1]
        some, by_row = some.sort(dim=1)
        distances, order = rounded(exact.gather(1, by_row)).sort(dim=1, stable=True)
        found.append((some.gather(1, order)[:, :k], distances[:, :k], kth))
    rows, distances, kth = (torch.cat(each) for each in zip(*found, strict=True))
    if values.shape[1] < len(others):
        # What float32 was off by among so many candidates bounds what it was off by among the others.
        doubtful = (kth <= values[:, -1] + 4 * error + TIE).nonzero().flatten()
        if len(doubtful):  # many equal vectors, say
            rows[doubtful], distances[doubtful] = among_all(vectors[doubtful], others, k)
    return rows, distances


def among_all(vectors: Tensor, others: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """rows and distances (n, k) in float64, all compared with all; ties by row. The slow way, but no
    number is looked at from the host on it, so a GPU is never waited for."""
    found, others = [], others.double()
    row = torch.arange(len(others), device=others.device)
    for block in vectors.split(max(1, NUMBERS // (8 * len(others)))):
        away = rounded(block.double() @ others.T).abs()  # (n, M); no -0.0
        # Floats that are not negative are ordered as their bits are, so a pair is one whole number:
        # its distance, then its row. No two are equal, and no order is left to chance.
        pairs = (away.view(torch.int32).long() << 32) + row
        found.append(pairs.topk(min(k, len(others)), dim=1, largest=False).values)
    pairs = torch.cat(found)
    return pairs & (2**32 - 1), (pairs >> 32).int().view(torch.float32)


def rounded(products: Tensor) -> Tensor:
    """Products float64 of vectors of length 1 -> Euclidean distances float32, as `evaluate` has them."""
    return torch.round(2 - 2 * products, decimals=10).clamp(min=0).sqrt().float()


def first(row: Tensor, k: int) -> Tensor:
    """Positions (k,) of the smallest values of (M,), ascending, ties in order, without sorting all."""
    if k >= len(row):
        return row.sort(stable=True).indices
    candidates = (row <= row.kthvalue(k).values).nonzero().flatten()
    return candidates[row[candidates].sort(stable=True).indices][:k]


def products(vectors: Tensor, others: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    """(P,) float64: rows (P,) of vectors (N, D) times rows places (P,) of others (M, D)."""
    if vectors.device.type == "cpu" and len(rows) > PAIRS and find_spec("numba"):
        from reid_core.ranking.compiled import dots

        found = np.empty(len(rows))
        arrays = (each.contiguous().numpy() for each in (vectors, others, rows, places))
        in_parts(dots, len(rows), *arrays, found)
        return torch.from_numpy(found)
    size = max(1, NUMBERS // (4 * vectors.shape[1]))
    parts = zip(rows.split(size), places.split(size), strict=True)
    found = [(vectors[row].double() * others[place].double()).sum(1) for row, place in parts]
    return torch.cat(found) if found else torch.empty(0, dtype=torch.double)
