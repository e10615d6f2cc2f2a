"""Embeddings in, scores out: the market protocol. Q queries, G gallery images, D dimensions."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from reid_core.data.matches import Labels, refuse_unmatched
from reid_core.errors import BadInput
from reid_core.ranking.nearer import SHORTEST
from reid_core.ranking.ranks import Hits, refuse_no_numbers, true_ranks

PROTOCOL = "market"
# A model that refines compares a set's images with one another first: all queries and the gallery as
# one set, which is what NFormer's official code does, or one query and the gallery at a time.
JOINT, PER_QUERY = "nformer-joint", "nformer-per-query"
CMC_LENGTH = 50


@dataclass(frozen=True)
class Embeddings:
    """What a model concluded of a test split. N images.

    vectors (N, D) as the model gives them, before L2 normalisation; names (N,) paths below the data
    set's root; identities, cameras, views (N,) int, -1 unknown; is_query (N,) bool. Where the images
    of a set look at one another, encoded (N, D') is what each was alone.
    """

    vectors: np.ndarray
    names: np.ndarray
    identities: np.ndarray
    cameras: np.ndarray
    views: np.ndarray
    is_query: np.ndarray
    encoded: np.ndarray | None = None

    @cached_property
    def query_rows(self) -> np.ndarray:
        return np.flatnonzero(self.is_query)

    @cached_property
    def gallery_rows(self) -> np.ndarray:
        return np.flatnonzero(~self.is_query)

    @cached_property
    def judged(self) -> int:
        """Gallery images that a protocol counts: all but junk (identity -1)."""
        return int((self.identities[self.gallery_rows] != -1).sum())

    def labels(self, rows: np.ndarray) -> Labels:
        """The identities and cameras of some rows."""
        return Labels(self.identities[rows], self.cameras[rows])

    @cached_property
    def directions(self) -> np.ndarray:
        """(N, D) float64 vectors of length 1; a zero vector stays zero."""
        return directions(self.vectors)


def directions(vectors: np.ndarray) -> np.ndarray:
    """(N, D) float64 vectors of length 1; a zero vector stays zero. Raises BadInput for NaN."""
    vectors = vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    refuse_no_numbers(lengths)
    return vectors / np.maximum(lengths, SHORTEST)


def check_width(queries: np.ndarray, gallery: np.ndarray) -> None:
    """Raises BadInput for vectors (Q, D) and (G, D') that can't be compared."""
    if queries.shape[1] != gallery.shape[1]:
        raise BadInput(
            f"the model gives {queries.shape[1]} numbers for an image, and its run's embeddings.npz has "
            f"{gallery.shape[1]}: that file is of another model; put back a copy of the run's own, or "
            "train a clone of the run"
        )


def distances(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Euclidean distances (Q, G) float32 between vectors of length 1, float64 (Q, D) and (G, D).

    The squares are rounded to ten decimals: matrix products of other shapes differ in the sixteenth,
    and equal vectors must be at equal distances, so that ties are broken by the order of the gallery
    alone, for one query as for all. Raises BadInput where their widths differ.
    """
    check_width(queries, gallery)
    square = np.round(2 - 2 * (queries @ gallery.T), 10)
    return np.sqrt(np.maximum(square, 0)).astype(np.float32)


@dataclass(frozen=True)
class Judged:
    """One query's ranking, nearest first, ties in the order of the gallery. G gallery images.

    order (G,) positions in the gallery; distances (G,); match (G,) same identity; ignored (G,) what
    the protocol leaves out: the same identity under the same camera, and junk.
    """

    order: np.ndarray
    distances: np.ndarray
    match: np.ndarray
    ignored: np.ndarray

    @cached_property
    def ranks(self) -> np.ndarray:
        """(G,) from 1, counting only what is not ignored; 0 for what is."""
        return np.where(self.ignored, 0, np.cumsum(~self.ignored))

    @cached_property
    def hits(self) -> np.ndarray:
        """Ranks of the true matches, ascending."""
        return self.ranks[self.match & ~self.ignored]

    @cached_property
    def running_average_precision(self) -> np.ndarray:
        """(G,) what the hits down to here add to the average precision; the last one is it."""
        hit = self.match & ~self.ignored
        found = np.cumsum(hit)
        precision = np.divide(found, self.ranks, where=hit, out=np.zeros(len(hit)))
        return np.cumsum(precision) / max(len(self.hits), 1)

    @property
    def average_precision(self) -> float:
        """Mean over the true matches of hits so far / rank; NaN without a true match."""
        found = np.arange(1, len(self.hits) + 1)
        return float((found / self.hits).mean()) if len(self.hits) else float("nan")

    @property
    def inverse_negative_penalty(self) -> float:
        """True matches / rank of the last of them (Ye et al. 2021, eq. 3); NaN without one."""
        return float(len(self.hits) / self.hits[-1]) if len(self.hits) else float("nan")

    @property
    def first_hit(self) -> int:
        """Rank of the first true match; 0 without one."""
        return int(self.hits[0]) if len(self.hits) else 0


def judge(
    row: np.ndarray,
    identities: np.ndarray,
    cameras: np.ndarray,
    identity: int | None,
    camera: int | None,
) -> Judged:
    """Rank a gallery for one query. row (G,) distances; identities, cameras (G,).

    An unknown identity (None or -1) matches nothing; under an unknown camera (None or -1) only junk
    (identity -1) is ignored. Distractors need no rule: no query has their identity.
    """
    order = np.argsort(row, kind="stable")
    identities, cameras = identities[order], cameras[order]
    nothing = np.zeros(len(row), bool)
    match = nothing if identity in (None, -1) else identities == identity
    same_camera = nothing if camera in (None, -1) else cameras == camera
    return Judged(order, row[order], match, (match & same_camera) | (identities == -1))


@dataclass(frozen=True)
class Evaluation:
    """The scores of a test split, over the queries that have a true match under another camera.

    average_precision, inverse_negative_penalty (Q,) are NaN and first_hit (Q,) is 0 where there is
    none; cmc (50,) is the share of queries whose first true match is at rank r or before.
    """

    average_precision: np.ndarray
    inverse_negative_penalty: np.ndarray
    first_hit: np.ndarray
    gallery: int
    protocol: str = PROTOCOL

    @property
    def queries(self) -> int:
        return len(self.first_hit)

    @property
    def valid_queries(self) -> int:
        return int((self.first_hit > 0).sum())

    @property
    def mAP(self) -> float:  # noqa: N802 - the field's name for it
        return float(np.nanmean(self.average_precision))

    @property
    def mINP(self) -> float:  # noqa: N802
        return float(np.nanmean(self.inverse_negative_penalty))

    @property
    def cmc(self) -> np.ndarray:
        first = self.first_hit[self.first_hit > 0]
        return (first[:, None] <= np.arange(1, CMC_LENGTH + 1)).mean(axis=0)

    def as_dict(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        return dict(
            mAP=self.mAP,
            mINP=self.mINP,
            cmc={str(rank): float(self.cmc[rank - 1]) for rank in (1, 5, 10)},
            queries=self.queries,
            valid_queries=self.valid_queries,
            gallery=self.gallery,
            protocol=self.protocol,
        )


def evaluate(
    embeddings: Embeddings,
    block: int = 256,
    *,
    distances_to: Callable[[np.ndarray], np.ndarray] | None = None,
    protocol: str | None = None,
) -> Evaluation:
    """Mean average precision, mINP and CMC by Market-1501's protocol.

    For each query gallery images of its identity under its own camera are left out; queries without
    another true match are skipped; distractors stay. distances_to gives the distances (q, G) of some
    rows, a block of them, to the gallery where they are not those of the embeddings; protocol is its
    name. The vectors may be mapped from a file larger than memory. Raises BadInput where no query is
    left.
    """
    queries, gallery = embeddings.query_rows, embeddings.gallery_rows
    check_sides(queries, gallery)
    if distances_to:
        hits = _hits(embeddings, distances_to, block)
    else:
        labels = embeddings.identities, embeddings.cameras
        hits = true_ranks(
            *(embeddings.vectors, embeddings.vectors),
            *(each[rows] for each in labels for rows in (queries, gallery)),
            query_rows=queries,
            gallery_rows=gallery,
        )
    if not len(hits.ranks):
        refuse_unmatched(embeddings.labels(queries), embeddings.labels(gallery))
    protocol = protocol or (PROTOCOL if embeddings.encoded is None else JOINT)
    return Evaluation(
        *(hits.average_precision, hits.inverse_negative_penalty, hits.first_hit),
        gallery=embeddings.judged,
        protocol=protocol,
    )


def check_sides(queries: np.ndarray, gallery: np.ndarray) -> None:
    """Raises BadInput where there is nothing to compare."""
    if not len(queries) or not len(gallery):
        raise BadInput(
            f"expected queries and a gallery, got {len(queries)} and {len(gallery)} images: is_query "
            "tells them apart (embed --dataset writes it)"
        )


def _hits(
    embeddings: Embeddings, distances_to: Callable[[np.ndarray], np.ndarray], block: int
) -> Hits:
    """The true matches by given distances, each gallery ranked by itself."""
    queries, gallery = embeddings.query_rows, embeddings.gallery_rows
    identities, cameras = embeddings.identities[gallery], embeddings.cameras[gallery]
    found = []
    for start in range(0, len(queries), block):
        rows = queries[start : start + block]
        for query, row in zip(rows, distances_to(rows), strict=True):
            whose = embeddings.identities[query], embeddings.cameras[query]
            found.append(judge(row, identities, cameras, *whose).hits)
    starts = np.concatenate([[0], np.cumsum([len(each) for each in found])])
    return Hits(np.concatenate(found), starts)
