"""How far apart two images are taken to be: the metric, re-ranking, or distances that a model gives.

Q queries, G gallery images, q queries of a block, D dimensions.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, check_sides, directions, distances
from reid_core.knobs import unknown
from reid_core.ranking.listed import from_lists, from_rows
from reid_core.ranking.nearer import power, scale_of
from reid_core.ranking.ranks import Hits, true_ranks

EUCLIDEAN, COSINE, UNNORMALISED = "euclidean", "cosine", "euclidean-unnormalised"
METRICS = (EUCLIDEAN, COSINE, UNNORMALISED)
BLOCK = 256  # queries at a time
CHUNK = 2**15  # gallery images at a time, where they are read from a file

Rows = Callable[[np.ndarray], np.ndarray]


class Rerank(NamedTuple):
    """k-reciprocal re-ranking (Zhong et al. CVPR 2017): k1, k2, lambda, and which distances are
    divided by a row's largest (`rerank.POWERS`)."""

    k1: int = 20
    k2: int = 6
    weight: float = 0.3
    convention: str = "squared"


@dataclass
class Measure:
    """A metric, and what is done to its distances.

    "euclidean" and "cosine" (1 - cosine) compare vectors of length 1 and rank alike;
    "euclidean-unnormalised" takes them as the model gives them. away: rows (q,) of the embeddings ->
    distances (q, G), instead of the metric. approximate: faiss searches, which may miss some; recall
    is then the share of the exact nearest images that it found.
    """

    metric: str = EUCLIDEAN
    rerank: Rerank | None = None
    away: Rows | None = None
    approximate: bool = False
    recall: float | None = None
    _code: tuple[Embeddings, Rows] | None = field(default=None, repr=False)

    def __post_init__(self):
        if self.metric not in METRICS:
            raise BadInput(unknown("metric", self.metric, METRICS))
        if self.rerank and self.metric == UNNORMALISED:
            raise BadInput(
                "re-ranking takes vectors of length 1: give --metric euclidean or cosine"
            )
        if self.away and (self.rerank or self.metric != EUCLIDEAN):
            raise BadInput(
                "nformer-per-query has distances of its own: no --rerank and no --metric"
            )
        if self.approximate and (self.rerank or self.away or self.metric == UNNORMALISED):
            raise BadInput(
                "--approximate searches by direction: no --rerank, no unnormalised metric"
            )

    def hits(self, embeddings: Embeddings) -> Hits:
        """Where the true matches of all queries stand. Raises BadInput for NaN or an empty side."""
        queries, gallery = embeddings.query_rows, embeddings.gallery_rows
        check_sides(queries, gallery)
        labels = _labels(embeddings)
        if self.away or self.rerank:
            return from_rows(self.rows(embeddings), *labels)
        if self.approximate:
            from reid_core.ranking.approximate import approximate

            found = approximate(embeddings)
            self.recall = found.recall
            return from_lists(found.lists, *labels)
        rows = dict(query_rows=queries, gallery_rows=gallery)
        both, unit = (embeddings.vectors,) * 2, self.metric != UNNORMALISED
        return true_ranks(*both, *labels, **rows, normalise=unit)

    def rows(self, embeddings: Embeddings) -> Iterator[np.ndarray]:
        """The distances (G,) of each query to the gallery, in the order of the queries."""
        for block in self.blocks(embeddings):
            yield from block

    def blocks(self, embeddings: Embeddings) -> Iterator[np.ndarray]:
        """The same for some queries at a time, (q, G) float32."""
        queries, of = embeddings.query_rows, self._rows_of(embeddings)
        for start in range(0, len(queries), BLOCK):
            yield of(queries[start : start + BLOCK])

    def matches(self, embeddings: Embeddings) -> np.ndarray:
        """(H,) positions in the gallery of the true matches, in the order of `hits`."""
        places: list[np.ndarray] = []
        from_rows(self.rows(embeddings), *_labels(embeddings), places)
        return np.concatenate(places)

    def bound(self, embeddings: Embeddings) -> float:
        """A power of two that no distance reaches."""
        if self.metric != UNNORMALISED:
            return 4.0  # the largest Euclidean and cosine distances are 2
        return power(2.000001 * float(_lengths(embeddings.vectors).max()))

    def _rows_of(self, embeddings: Embeddings) -> Rows:
        if self._code is None or self._code[0] is not embeddings:
            self._code = embeddings, self._distances(embeddings)
        return self._code[1]

    def _distances(self, embeddings: Embeddings) -> Rows:
        if self.away:
            return self.away
        if self.rerank:
            from reid_core.rerank import Reciprocal

            k1, k2, weight, convention = self.rerank
            code = Reciprocal.of(embeddings.directions, k1, k2, convention=convention)
            return lambda rows: code.distances(embeddings, rows, weight)
        if self.metric == UNNORMALISED:
            _refuse_no_numbers(embeddings.vectors)
            scale = scale_of(_lengths(embeddings.vectors))
            return lambda rows: np.float32(scale) * _chunked(embeddings, rows, _plain, scale)
        if self.metric == COSINE:
            return lambda rows: _chunked(embeddings, rows, _cosine)
        return lambda rows: _chunked(embeddings, rows, _euclidean)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    parts = (vectors[at : at + CHUNK] for at in range(0, len(vectors), CHUNK))
    return np.concatenate([np.linalg.norm(each.astype(float), axis=1) for each in parts])


def _chunked(
    embeddings: Embeddings, rows: np.ndarray, of: Callable, scale: float = 1.0
) -> np.ndarray:
    """Distances (q, G), the gallery read in parts where it lies in a file. scale: what vectors
    that are not of length 1 are divided by."""
    queries = np.asarray(embeddings.vectors[rows])
    gallery = part(embeddings.vectors, embeddings.gallery_rows)
    if of is not _plain and not isinstance(embeddings.vectors, np.memmap):
        units = embeddings.directions
        return of(units[rows], part(units, embeddings.gallery_rows))
    unit = (lambda vectors: vectors.astype(float) / scale) if of is _plain else directions
    parts = range(0, len(gallery), CHUNK)
    return np.hstack(
        [of(unit(queries), unit(np.asarray(gallery[at : at + CHUNK]))) for at in parts]
    )


def _refuse_no_numbers(vectors: np.ndarray) -> None:
    parts = (vectors[at : at + CHUNK] for at in range(0, len(vectors), CHUNK))
    if bad := sum(int((~np.isfinite(each).all(axis=1)).sum()) for each in parts):
        raise BadInput(f"{bad} embeddings hold NaN or infinity: train with a lower learning rate")


def _euclidean(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    return distances(queries, gallery)


def _cosine(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """1 - cosine, rounded as the Euclidean distances are."""
    return (np.maximum(np.round(2 - 2 * (queries @ gallery.T), 10), 0) / 2).astype(np.float32)


def _plain(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    lengths = (queries**2).sum(axis=1)[:, None] + (gallery**2).sum(axis=1)
    square = np.round(lengths - 2 * (queries @ gallery.T), 10)
    return np.sqrt(np.maximum(square, 0)).astype(np.float32)


def _labels(embeddings: Embeddings) -> list[np.ndarray]:
    """Identities of the queries and of the gallery, their cameras."""
    sides = (embeddings.identities, embeddings.cameras)
    rows = (embeddings.query_rows, embeddings.gallery_rows)
    return [side[those] for side in sides for those in rows]


def part(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of an array; no copy where they follow one another, so a mapped file stays one."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
        return array[rows[0] : rows[-1] + 1]
    return array[rows]
