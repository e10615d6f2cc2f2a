"""The ranks of true matches at the speed of the matrix product: compiled loops count in blocks of it.

Importing this needs numba, and compiles the loops (10 s, once) or loads them (0.5 s). Q queries,
G gallery images, D dimensions, P pairs of a query and an image of its identity, H true matches.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from reid_core.ranking import counting
from reid_core.ranking.nearer import BLOCK, Pairs, Rows, some
from reid_core.ranking.threads import in_parts

LONG = 1e15  # products of vectors no longer than this stay far from float32's largest number


def by_loops(
    queries: Rows, gallery: Rows, pairs: Pairs, block: tuple[int, int] = BLOCK
) -> np.ndarray:
    """(H,) ranks as `nearer.in_float64`, by cosine.

    float32 products decide all but the few pairs that they can't tell apart, which are compared in
    float64. A float32 product of two vectors, over their lengths, is wrong by no more than
    (D + 8) 2^-24, in whatever order it is summed (Higham 2002, section 3.1; 8 for the rounding of the
    vectors and of what it is compared with); distances are kept in float32, which adds 3e-7.
    """
    size = min(block[1], len(gallery))
    margin = (queries.vectors.shape[1] + 8) * 2**-24 * 1.01 + 5e-7
    asked = _Asked.of(queries, gallery, pairs, margin, size, block[0])
    for where, vectors in gallery.blocks(size):
        images = _Factor.of(vectors, gallery.lengths[where])
        in_parts(asked.count, len(queries), where.start, images)
    return asked.hits["nearer"] + pairs.numbers


def lengths(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(N,) float64 lengths of rows (N,) of vectors (M, D); not finite where a vector is not."""
    found = np.empty(len(rows))

    def measure(start: int, stop: int) -> None:
        for first in range(start, stop, BLOCK[0]):
            those = slice(first, min(first + BLOCK[0], stop))
            counting.lengths(some(vectors, rows[those]), found[those])

    in_parts(measure, len(rows))
    return found


@dataclass(frozen=True)
class _Factor:
    """Vectors (N, D), their lengths (N,), and what stands for them in a product in float32: plain
    (N, D), themselves where they can, else of length 1, and long (N,), the lengths of those."""

    vectors: np.ndarray
    lengths: np.ndarray
    plain: np.ndarray
    long: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, lengths: np.ndarray) -> "_Factor":
        if vectors.dtype == np.float32 and lengths.max(initial=0) <= LONG:
            return cls(vectors, lengths, vectors, lengths.astype(np.float32))
        units = np.empty(vectors.shape, np.float32)
        in_parts(_scale, len(units), vectors, lengths, units)
        return cls(vectors, lengths, units, np.ones(len(units), np.float32))

    def __getitem__(self, part: slice) -> "_Factor":
        return _Factor(self.vectors[part], self.lengths[part], self.plain[part], self.long[part])


def _scale(vectors: np.ndarray, lengths: np.ndarray, units: np.ndarray, *part: int) -> None:
    rows = slice(*part)
    counting.units(vectors[rows], lengths[rows], units[rows])


@dataclass(frozen=True)
class _Asked:
    """The queries (Q, D), what they ask for, and what was counted so far.

    hits (H,) counting.HIT, nearest first for each query; margin as in `by_loops`; most queries at a
    time.
    """

    queries: _Factor
    pairs: Pairs
    hits: np.ndarray
    margin: float
    most: int

    @classmethod
    def of(
        cls, queries: Rows, gallery: Rows, pairs: Pairs, margin: float, size: int, most: int
    ) -> "_Asked":
        asked = _Factor.of(queries.block(), queries.lengths)
        similarity = _similarity(asked.vectors, asked.lengths, gallery, pairs, size)
        return cls(asked, pairs, _nearest_first(pairs, similarity), margin, most)

    def count(self, place: int, images: _Factor, start: int, stop: int) -> None:
        """Count for the queries from start to stop in the part of the gallery that begins at place."""
        edges = np.linspace(start, stop, 1 + -(-(stop - start) // self.most)).astype(int)
        held = torch.empty(np.diff(edges).max(initial=0), len(images.plain))
        for first, last in pairwise(edges):
            asked, ends = self.queries[first:last], slice(first, last + 1)
            block = held[: last - first]  # (q, g)
            torch.mm(*map(torch.from_numpy, (asked.plain, images.plain.T)), out=block)
            counting.hide(block.numpy(), place, self.pairs.places, self.pairs.ends[ends])
            counting.count(
                *(block.numpy(), place, self.margin, asked.long, images.long),
                *(asked.vectors, asked.lengths, images.vectors, images.lengths),
                *(self.hits, self.pairs.starts[ends]),
            )


def _similarity(
    vectors: np.ndarray, lengths: np.ndarray, gallery: Rows, pairs: Pairs, size: int
) -> np.ndarray:
    """(P,) float64, the gallery read once, in order."""
    order = np.argsort(pairs.places)
    asked, places, found = pairs.asked[order], pairs.places[order], np.empty(len(order))

    def compare(images, long, first, begin, start, stop) -> None:
        those = slice(begin + start, begin + stop)
        pair = asked[those], places[those] - first, found[those]
        counting.similarities(vectors, lengths, images, long, *pair)

    for where, images in gallery.blocks(size):
        begin, end = np.searchsorted(places, (where.start, where.stop))
        in_parts(compare, end - begin, images, gallery.lengths[where], where.start, begin)
    similarity = np.empty(len(order))
    similarity[order] = found
    return similarity


def _nearest_first(pairs: Pairs, similarity: np.ndarray) -> np.ndarray:
    """(H,) counting.HIT from the similarity (P,) of each pair."""
    valid = ~pairs.ignored
    distance = np.empty(len(pairs.numbers), np.float32)
    counting.distances(similarity[valid], distance)
    # Positive floats ascend as their bits do; places ascend, and a stable sort leaves them so.
    order = np.argsort((pairs.asked[valid] << 32) | distance.view(np.int32), kind="stable")
    hits = np.zeros(len(order), counting.HIT)
    hits["similarity"], hits["distance"] = similarity[valid][order], distance[order]
    hits["place"] = pairs.places[valid][order]
    return hits
