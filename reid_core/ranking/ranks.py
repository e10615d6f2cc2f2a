"""The ranks of the true matches, which are all that average precision, CMC and mINP need.

A query's gallery is never sorted: its few true matches are, and for each the nearer images are counted
while blocks of distances stream by. Q queries, G gallery images, D dimensions, H true matches.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property, partial
from threading import Thread

import numpy as np
import torch

from reid_core.errors import BadInput
from reid_core.ranking.nearer import (
    BLOCK,
    SHORTEST,
    SMALL,
    Pairs,
    Rows,
    in_float64,
    ranking_device,
    scale_of,
    some,
    with_room,
)

PAIRS = 2**21  # pairs of a query and an image of its identity that are held at a time
CROWD = 512  # images of one identity: more are looked up for each gallery image, not the other way


@dataclass(frozen=True)
class Hits:
    """Where the true matches of all queries stand.

    ranks (H,) int, from 1, counting only what the protocol does not ignore: query q has
    ranks[starts[q] : starts[q + 1]], ascending; starts (Q + 1,).
    """

    ranks: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def counts(self) -> np.ndarray:
        """(Q,) true matches of each query."""
        return np.diff(self.starts)

    @cached_property
    def average_precision(self) -> np.ndarray:
        """(Q,) mean over a query's true matches of hits so far / rank; NaN without one.

        The same sums as `Judged.average_precision`, to the last bit: queries with as many hits are
        rows of one matrix.
        """
        found = np.full(len(self), np.nan)
        for count in np.unique(self.counts[self.counts > 0]):
            those = np.flatnonzero(self.counts == count)
            for part in np.array_split(those, -(-len(those) * count // PAIRS)):
                ranks = self.ranks[self.starts[part, None] + np.arange(count)]  # (q, count)
                found[part] = (np.arange(1, count + 1) / ranks).mean(axis=1)
        return found

    @cached_property
    def inverse_negative_penalty(self) -> np.ndarray:
        """(Q,) true matches / rank of the last (Ye et al. 2021, eq. 3); NaN without one."""
        found, some = np.full(len(self), np.nan), self.counts > 0
        found[some] = self.counts[some] / self.ranks[self.starts[1:][some] - 1]
        return found

    @cached_property
    def first_hit(self) -> np.ndarray:
        """(Q,) int rank of the first true match; 0 without one."""
        found, some = np.zeros(len(self), int), self.counts > 0
        found[some] = self.ranks[self.starts[:-1][some]]
        return found


def true_ranks(
    queries: np.ndarray,
    gallery: np.ndarray,
    query_identities: np.ndarray,
    gallery_identities: np.ndarray,
    query_cameras: np.ndarray,
    gallery_cameras: np.ndarray,
    *,
    query_rows: np.ndarray | None = None,
    gallery_rows: np.ndarray | None = None,
    normalise: bool = True,
    device: str | None = None,
    block: tuple[int, int] = BLOCK,
) -> Hits:
    """Rank the gallery (G, D) for each query (Q, D), as `evaluate.distances` and `judge` do.

    An identity of -1 matches nothing and, in the gallery, is junk; images of the query's identity
    under its own camera are ignored, under an unknown one (-1) none. Nearest first, equal distances in
    the order of the gallery. Identities and cameras are (Q,) and (G,) int; with rows, (Q,) and (G,),
    the vectors are those rows of larger arrays, which may be mapped from a file.

    normalise: compare directions (vectors of length 1), else the vectors as they are, by Euclidean
    distance. device: where to compute; None chooses (`nearer.ranking_device`).
    block: queries and gallery images at a time. Raises BadInput for NaN and infinity.
    """
    compared = len(query_identities) * len(gallery_identities)
    device = device or ranking_device(compared)
    worth = normalise and compared > SMALL  # compiling
    quick = worth and device == "cpu" and compiled()
    asked, images = _rows(queries, query_rows, quick), _rows(gallery, gallery_rows, quick)
    refuse_no_numbers(asked.lengths, images.lengths)
    scale = None if normalise else scale_of(np.concatenate([asked.lengths, images.lengths]))
    keep = np.flatnonzero(gallery_identities != -1)
    images = images if len(keep) == len(images) else images[keep]
    same = _Same(query_identities, gallery_identities[keep], query_cameras, gallery_cameras[keep])
    found = []
    for those in same.groups():
        pairs, crowded = same.pairs(those), same.counts[those[0]] > CROWD
        given = asked[those], images, pairs
        if worth and not crowded:
            ranks = with_room(partial(_quickest, *given, block), device)
        else:
            ranks = with_room(partial(in_float64, *given, scale), device)
        found.append((those, pairs.counts, ranks.astype(np.int32)))
    return _together(len(asked), found)


def _quickest(
    queries: Rows, gallery: Rows, pairs: Pairs, block: tuple[int, int], device: str
) -> np.ndarray:
    """`in_float64` by cosine, on a processor by compiled loops where they are to be had."""
    alike = queries.vectors.dtype == gallery.vectors.dtype
    if device != "cpu" or not compiled() or not alike:
        return in_float64(queries, gallery, pairs, device=device)
    from reid_core.ranking.loops import by_loops

    return by_loops(queries, gallery, pairs, block)


def compiled() -> bool:
    """Whether the loops can be used: the first call loads them (0.5 s) or compiles them (10 s)."""
    return _compiled() and torch.get_float32_matmul_precision() == "highest"


@cache
def warm() -> None:
    """Load or compile the loops in the background, so that the first evaluation need not wait."""
    Thread(target=_compiled, daemon=True).start()


@cache
def _compiled() -> bool:
    try:
        import reid_core.ranking.loops  # noqa: F401
    except (ImportError, RuntimeError, OSError):  # no numba, or no folder that it may keep them in
        return False
    return True


def refuse_no_numbers(*lengths: np.ndarray) -> None:
    """Raises BadInput where one of the vectors' lengths is not finite: a square may be too large."""
    bad = sum(int((~np.isfinite(each)).sum()) for each in lengths)
    if bad:
        raise BadInput(
            f"{bad} embeddings hold NaN or infinity, or numbers too large to compare: where a run gave "
            "them, train it with a lower learning rate"
        )


def _rows(vectors: np.ndarray, rows: np.ndarray | None, quick: bool) -> Rows:
    """With their lengths, as `evaluate.directions` takes them."""
    rows = np.arange(len(vectors)) if rows is None else rows
    if quick:
        from reid_core.ranking.loops import lengths
    else:
        lengths = _lengths
    return Rows(vectors, rows, np.maximum(lengths(vectors, rows), SHORTEST))


@np.errstate(all="ignore")  # what is not finite is refused
def _lengths(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    found = np.empty(len(rows))
    for start in range(0, len(rows), BLOCK[0]):
        part = slice(start, start + BLOCK[0])
        found[part] = np.linalg.norm(some(vectors, rows[part]).astype(np.float64), axis=1)
    return found


class _Same:
    """Which gallery images have a query's identity. Q queries, G gallery images."""

    def __init__(self, asked, identities, asked_cameras, cameras):
        self.asked_cameras, self.cameras = asked_cameras, cameras
        self.order = np.argsort(identities, kind="stable")  # (G,)
        ordered = identities[self.order]
        self.left = np.searchsorted(ordered, asked)  # (Q,)
        self.counts = np.searchsorted(ordered, asked, side="right") - self.left
        self.counts[asked == -1] = 0

    def groups(self) -> Iterator[np.ndarray]:
        """Queries with such images, about PAIRS of them at a time; crowds by themselves."""
        few = (self.counts > 0) & (self.counts <= CROWD)
        for those in (np.flatnonzero(few), np.flatnonzero(self.counts > CROWD)):
            share = np.cumsum(self.counts[those]) // PAIRS
            yield from (
                part for part in np.split(those, np.flatnonzero(np.diff(share)) + 1) if len(part)
            )

    def pairs(self, those: np.ndarray) -> Pairs:
        counts = self.counts[those]
        ends = np.concatenate([[0], np.cumsum(counts)])
        asked = np.repeat(np.arange(len(those)), counts)
        places = self.order[np.arange(ends[-1]) + np.repeat(self.left[those] - ends[:-1], counts)]
        cameras = self.asked_cameras[those][asked]
        ignored = (self.cameras[places] == cameras) & (cameras != -1)
        return Pairs(asked, places, ignored, ends)


def _together(count: int, found: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Hits:
    """The hits of count queries from those of some: which, how many each has, and their ranks."""
    counts = np.zeros(count, int)
    for those, each, _ in found:
        counts[those] = each
    starts = np.concatenate([[0], np.cumsum(counts)])
    ranks = np.empty(starts[-1], np.int32)
    for those, each, part in found:
        before = np.cumsum(each) - each
        ranks[np.arange(len(part)) + np.repeat(starts[those] - before, each)] = part
    return Hits(ranks, starts)
