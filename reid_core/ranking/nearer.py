"""How many gallery images are nearer than each true match: what is counted, and one way to count.

`in_float64` runs anywhere; `reid_core.ranking.loops` gives the same numbers faster, on a CPU with numba.
Q queries, G gallery images, D dimensions.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch

from reid_core.errors import is_short_of_memory

BLOCK = (1024, 2048)  # queries and gallery images whose similarities a thread holds at a time
SORTED = {"cpu": 2**22, "cuda": 2**26}  # distances that are held at a time in float64
SHORTEST = 1e-12  # a shorter vector is taken to be this long
SMALL = 2**22  # pairs: for fewer, neither compiling nor sending them anywhere pays
LARGE = 2**28  # pairs: for more, waking a GPU does, which takes seconds

T = TypeVar("T")


def fastest() -> str:
    """The kind of device that embeds and ranks: "cuda" where there is one, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def ranking_device(pairs: int) -> str:
    """The kind of device on which to compare so many pairs: a GPU where there is one, if it is at work
    for this process already or there is enough to do."""
    awake = pairs > SMALL and torch.cuda.is_initialized()
    return fastest() if awake or pairs > LARGE else "cpu"


def with_room(work: Callable[[str], T], device: str) -> T:
    """What work gives on this device; on the CPU where a GPU's memory is too full for it, of a
    training, say."""
    try:
        return work(device)
    except RuntimeError as error:
        if device == "cpu" or not is_short_of_memory(error):
            raise
    torch.cuda.empty_cache()  # after the except, which holds what the attempt had
    return work("cpu")


def power(length: float) -> float:
    """The power of two from there on: numbers that are divided by it lose nothing."""
    return float(2.0 ** np.ceil(np.log2(max(length, SHORTEST))))


def scale_of(lengths: np.ndarray) -> float:
    """What vectors of these lengths (N,) are divided by before their distances are rounded, so that it
    takes as little from small ones. The median, since one long vector says nothing of the others."""
    return power(float(np.median(lengths)))


@dataclass(frozen=True)
class Rows:
    """Rows (N,) of vectors (M, D), which may be mapped from a file; lengths (N,) are theirs."""

    vectors: np.ndarray
    rows: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, those: np.ndarray) -> "Rows":
        return Rows(self.vectors, self.rows[those], self.lengths[those])

    def block(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        return some(self.vectors, self.rows[start:stop])

    def blocks(self, size: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Where and what, (n, D), one after another."""
        for start in range(0, len(self), size):
            where = slice(start, min(start + size, len(self)))
            yield where, self.block(where.start, where.stop)


def some(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n, D) float32 or float64, not copied where the rows follow one another and torch may have them:
    it warns of what can't be written."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        rows = slice(rows[0], rows[-1] + 1)
    found = np.asarray(vectors[rows])
    exact = np.float32 if found.dtype in (np.float16, np.float32) else np.float64
    return np.require(found, exact, ["C", "W"])


@dataclass(frozen=True)
class Pairs:
    """Some queries, each with the gallery images of its identity.

    asked (P,) number of the query; places (P,) in the gallery, ascending for each query; ignored (P,)
    by the protocol; ends (Q + 1,): query q has places[ends[q] : ends[q + 1]].
    """

    asked: np.ndarray
    places: np.ndarray
    ignored: np.ndarray
    ends: np.ndarray

    @cached_property
    def counts(self) -> np.ndarray:
        """(Q,) how many are not ignored: the true matches."""
        return np.bincount(self.asked[~self.ignored], minlength=len(self.ends) - 1)

    @cached_property
    def starts(self) -> np.ndarray:
        """(Q + 1,) where each query's true matches start among those of all."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    @cached_property
    def numbers(self) -> np.ndarray:
        """(H,) of each true match among its query's, from 1."""
        return 1 + np.arange(self.starts[-1]) - np.repeat(self.starts[:-1], self.counts)


def in_float64(
    queries: Rows, gallery: Rows, pairs: Pairs, scale: float | None = None, device: str = "cpu"
) -> np.ndarray:
    """(H,) ranks of the true matches, ascending for each query, on a device. scale: what the vectors
    are divided by, where not by their lengths."""
    held = max(1, SORTED["cpu" if device == "cpu" else "cuda"] // len(gallery))
    ranks = [np.empty(0, int)]
    for start in range(0, len(queries), held):
        stop = min(start + held, len(queries))
        keys = _keys(queries[np.arange(start, stop)], gallery, scale, device)  # (q, G)
        those = slice(*pairs.ends[[start, stop]])
        valid = ~pairs.ignored[those]  # chosen by here, since a GPU would have to be waited for
        pair = pairs.asked[those] - start, pairs.places[those]
        hit = *(each[valid] for each in pair), pairs.numbers[slice(*pairs.starts[[start, stop]])]
        asked, places, queries_hit, places_hit, numbers = (
            torch.from_numpy(each).to(device) for each in (*pair, *hit)
        )
        longest = int(pairs.counts[start:stop].max(initial=0))
        last = torch.iinfo(torch.int64).max
        hits = torch.full((stop - start, longest + 1), last, device=device)
        hits[queries_hit, numbers - 1] = keys[queries_hit, places_hit]
        hits = hits.sort(dim=1).values
        keys[asked, places] = last  # only others are counted
        nearer = torch.zeros_like(hits)
        before = torch.searchsorted(hits, keys)
        nearer.scatter_add_(
            1, before, torch.ones((), dtype=torch.int64, device=device).expand_as(before)
        )
        nearer = nearer.cumsum(dim=1)
        ranks.append((nearer[queries_hit, numbers - 1] + numbers).cpu().numpy())
    return np.concatenate(ranks)


def _keys(queries: Rows, gallery: Rows, scale: float | None, device: str) -> torch.Tensor:
    """(Q, G) int64 in the order of distance, then of place: `evaluate.distances`, then the place."""

    def on_device(rows: Rows, vectors: np.ndarray, where: slice) -> torch.Tensor:
        vectors = torch.from_numpy(vectors).to(device).double()
        lengths = torch.from_numpy(rows.lengths[where, None]).to(device)
        return vectors / (lengths if scale is None else scale)

    asked = on_device(queries, queries.block(), slice(None))
    keys = torch.empty(len(queries), len(gallery), dtype=torch.int64, device=device)
    for where, vectors in gallery.blocks(BLOCK[1]):
        images = on_device(gallery, vectors, where)
        square = -2 * asked @ images.T
        square += 2 if scale is None else (asked**2).sum(1, keepdim=True) + (images**2).sum(1)
        square = (square * 1e10).round_().div_(1e10).clamp_(
            min=0
        ) + 0.0  # no -0, whose bits are not 0's
        distance = square.sqrt_().float().view(torch.int32).long()
        places = torch.arange(where.start, where.stop, device=device)
        keys[:, where] = (distance << 32) | places
    return keys
