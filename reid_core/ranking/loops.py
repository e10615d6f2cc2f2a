"""The ranks of true matches at the speed of the matrix product: compiled loops count in blocks of it.

Importing this needs numba, and compiles the loops (10 s, once) or loads them (0.5 s). Q queries,
G gallery images, D dimensions, P pairs of a query and an image of its identity, H true matches.
"""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from reid_core.ranking import counting
from reid_core.ranking.nearer import BLOCK, Pairs, Rows, some

FEW = 64  # rows that are not worth waking a thread


def by_loops(
    queries: Rows, gallery: Rows, pairs: Pairs, block: tuple[int, int] = BLOCK
) -> np.ndarray:
    """(H,) ranks as `nearer.in_float64`, by cosine.

    float32 similarities decide all but the few pairs that they can't tell apart, which are compared in
    float64. A float32 product of vectors of length 1 is wrong by no more than (D + 8) 2^-24, in
    whatever order it is summed (Higham 2002, section 3.1; 8 for the rounding of the vectors);
    distances are kept in float32, which adds 3e-7.
    """
    size, width = min(block[1], len(gallery)), queries.vectors.shape[1]
    images = np.empty((size, width), np.float32)
    held = torch.empty(block[0] * size)
    margin = (width + 8) * 2**-24 * 1.01 + 5e-7
    with _Threads() as threads:
        asked = _Asked.of(queries, gallery, pairs, margin, size, threads)
        for where, vectors in gallery.blocks(size):
            units, lengths = images[: len(vectors)], gallery.lengths[where]
            threads.share(len(units), _scale, vectors, lengths, units)
            for start in range(0, len(queries), block[0]):
                rows = asked.units[start : start + block[0]]
                similar = held[: len(rows) * len(units)].view(len(rows), len(units))
                torch.mm(torch.from_numpy(rows), torch.from_numpy(units).T, out=similar)
                given = similar.numpy(), start, where.start, vectors, lengths
                threads.share(len(rows), asked.count, *given)
    return asked.hits["nearer"] + pairs.numbers


def lengths(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(N,) float64 lengths of rows (N,) of vectors (M, D); not finite where a vector is not."""
    found = np.empty(len(rows))

    def measure(part: slice) -> None:
        for start in range(part.start, part.stop, BLOCK[0]):
            those = slice(start, min(start + BLOCK[0], part.stop))
            counting.lengths(some(vectors, rows[those]), found[those])

    with _Threads() as threads:
        threads.share(len(rows), measure)
    return found


class _Threads(ThreadPoolExecutor):
    """As many as torch uses."""

    def __init__(self):
        self.count = torch.get_num_threads()
        super().__init__(self.count)

    def share(self, count: int, call: Callable, *given) -> None:
        """Call with parts of range(count), one for each thread, and what else is given."""
        if count < FEW:
            return call(slice(0, count), *given)
        edges = np.linspace(0, count, self.count + 1).astype(int).tolist()
        parts = [slice(*each) for each in itertools.pairwise(edges)]
        list(self.map(lambda part: call(part, *given), parts))
        return None


def _scale(part: slice, vectors: np.ndarray, lengths: np.ndarray, units: np.ndarray) -> None:
    counting.units(vectors[part], lengths[part], units[part])


@dataclass(frozen=True)
class _Asked:
    """The queries (Q, D), what they ask for, and what was counted so far.

    units (Q, D) float32; hits (H,) counting.HIT, nearest first for each query; margin as in
    `by_loops`.
    """

    vectors: np.ndarray
    lengths: np.ndarray
    units: np.ndarray
    pairs: Pairs
    hits: np.ndarray
    margin: float

    @classmethod
    def of(
        cls,
        queries: Rows,
        gallery: Rows,
        pairs: Pairs,
        margin: float,
        size: int,
        threads: _Threads,
    ) -> "_Asked":
        vectors = queries.block()
        units = np.empty(vectors.shape, np.float32)
        threads.share(len(units), _scale, vectors, queries.lengths, units)
        similarity = _similarity(vectors, queries.lengths, gallery, pairs, size, threads)
        hits = _nearest_first(pairs, similarity)
        return cls(vectors, queries.lengths, units, pairs, hits, margin)

    def count(
        self,
        part: slice,
        block: np.ndarray,
        first: int,
        start: int,
        images: np.ndarray,
        lengths: np.ndarray,
    ) -> None:
        """Count in part of a block (q, g), of the queries from first and the gallery from start on."""
        rows = slice(first + part.start, first + part.stop)
        ends = slice(rows.start, rows.stop + 1)
        counting.hide(block[part], start, self.pairs.places, self.pairs.ends[ends])
        counting.count(
            *(block[part], start, self.margin, self.vectors[rows], self.lengths[rows]),
            *(images, lengths, self.hits, self.pairs.starts[ends]),
        )


def _similarity(
    vectors: np.ndarray,
    lengths: np.ndarray,
    gallery: Rows,
    pairs: Pairs,
    size: int,
    threads: _Threads,
) -> np.ndarray:
    """(P,) float64, the gallery read once, in order."""
    order = np.argsort(pairs.places, kind="stable")
    asked, places, found = pairs.asked[order], pairs.places[order], np.empty(len(order))
    for where, images in gallery.blocks(size):
        start, stop = np.searchsorted(places, (where.start, where.stop))
        those = slice(start, stop)
        given = vectors, lengths, images, gallery.lengths[where]
        pair = asked[those], places[those] - where.start, found[those]
        threads.share(stop - start, _compare, given, pair)
    similarity = np.empty(len(order))
    similarity[order] = found
    return similarity


def _compare(part: slice, given: tuple, pair: tuple) -> None:
    counting.similarities(*given, *(each[part] for each in pair))


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
