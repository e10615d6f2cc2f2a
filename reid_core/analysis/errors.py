"""Why did a query fail? What each ranked list comes to, and tags that are rules on it.

A failure is a query whose first image is wrong. Each tag is one rule with the number that it was
judged by; the rules and their thresholds are ours. Several may hold for one failure, or none.

Shapes: N images, Q queries, G gallery images, T top places, M true matches of all queries together,
D dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from reid_core.analysis.intervals import interval
from reid_core.data.matches import refuse_unmatched
from reid_core.evaluate import Embeddings, distances, judge

TOP = 10  # places looked at for repeats
BLOCK = 256  # queries at a time

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Lists:
    """What every query's ranked list comes to, without what the protocol ignores.

    average_precision (Q,), NaN and first_hit (Q,), 0 without a true match. Rows of the embeddings and
    their distances (Q,), -1 and NaN where there is none: wrong, the first image of somebody else;
    right, the first true match; last, the last one. first (Q,) the image at rank 1. repeats (Q,) how
    many of the top T are of the identity of `wrong` (1 for a distractor: nobody else is it).
    match_query, match_rank, match_camera (M,): each true match, by query and rank.
    """

    average_precision: np.ndarray
    first_hit: np.ndarray
    first: np.ndarray
    wrong: np.ndarray
    wrong_distance: np.ndarray
    right: np.ndarray
    right_distance: np.ndarray
    last: np.ndarray
    repeats: np.ndarray
    match_query: np.ndarray
    match_rank: np.ndarray
    match_camera: np.ndarray

    @property
    def judged(self) -> np.ndarray:
        """(Q,) whether a query has a true match."""
        return self.first_hit > 0

    @property
    def failed(self) -> np.ndarray:
        """(Q,) whether rank 1 is wrong although there is a true match."""
        return self.first_hit > 1


def lists(embeddings: Embeddings, progress: Progress | None = None) -> Lists:
    """Rank every query once, by the protocol of `evaluate`, and keep what the tags need.

    Raises BadInput where no query has a true match: then nothing can be said of any.
    """
    queries, gallery = embeddings.query_rows, embeddings.gallery_rows
    identities, cameras = embeddings.identities[gallery], embeddings.cameras[gallery]
    found, matches = [], []
    for start in range(0, len(queries), BLOCK):
        rows = queries[start : start + BLOCK]
        matrix = distances(embeddings.directions[rows], embeddings.directions[gallery])
        for query, row in enumerate(matrix, start):
            asked = queries[query]
            who, where = int(embeddings.identities[asked]), int(embeddings.cameras[asked])
            judged = judge(row, identities, cameras, who, where)
            places = np.flatnonzero(~judged.ignored)  # by rank
            order, match = judged.order[places], judged.match[places]
            found.append(_ends(order, match, judged.distances[places], identities))
            hits = np.flatnonzero(match)
            matches.append((np.full(len(hits), query), hits + 1, cameras[order[hits]]))
        if progress:
            progress(start + len(rows), len(queries))
    if not any(len(ranks) for _, ranks, _ in matches):
        refuse_unmatched(embeddings.labels(queries), embeddings.labels(gallery))
    columns = {name: np.array(values) for name, *values in zip(_ENDS, *found, strict=True)}
    for name in ("first", "wrong", "right", "last"):
        places = columns[name]
        columns[name] = np.where(places >= 0, gallery[places], -1)
    names = ("match_query", "match_rank", "match_camera")
    parts = zip(*matches, strict=True)
    return Lists(**columns, **dict(zip(names, map(np.concatenate, parts), strict=True)))


_ENDS = (
    *("average_precision", "first_hit", "first", "wrong", "wrong_distance"),
    *("right", "right_distance", "last", "repeats"),
)


def _ends(order, match, away, identities) -> tuple:
    """One list's row of `Lists`, in the order of _ENDS; images as positions in the gallery."""
    hits, misses = np.flatnonzero(match), np.flatnonzero(~match)
    nothing = float("nan")
    precision = (np.arange(1, len(hits) + 1) / (hits + 1)).mean() if len(hits) else nothing
    wrong = order[misses[0]] if len(misses) else -1
    top = identities[order[:TOP]]
    repeats = 0 if wrong < 0 else 1 if identities[wrong] <= 0 else (top == identities[wrong]).sum()
    return (
        *(precision, hits[0] + 1 if len(hits) else 0, order[0] if len(order) else -1),
        *(wrong, away[misses[0]] if len(misses) else nothing),
        *(order[hits[0]] if len(hits) else -1, away[hits[0]] if len(hits) else nothing),
        *(order[hits[-1]] if len(hits) else -1, repeats),
    )


# By attribute


@dataclass(frozen=True)
class Slice:
    """The queries that share a value: count of those with a true match, mean average precision with
    its 95 % interval, and the share whose first image is right."""

    value: str
    count: int
    precision: float
    low: float
    high: float
    rank1: float


def slices(found: Lists, values: np.ndarray, draws: int = 1000) -> list[Slice]:
    """Average precision by the value (Q,) of an attribute; "" is unknown and left out."""
    rows = []
    for value in np.unique(values[(values != "") & found.judged]):
        those = (values == value) & found.judged
        precision = found.average_precision[those]
        low, high = interval(precision, draws)
        right = float((found.first_hit[those] == 1).mean())
        rows.append(Slice(str(value), len(precision), float(precision.mean()), low, high, right))
    return rows


def numbers(texts: np.ndarray) -> np.ndarray:
    """Text (Q,) as numbers, NaN for what is none."""
    return np.array([_number(text) for text in texts])


def binned(texts: np.ndarray, edges: tuple[float, ...] = (0, 0.05, 0.2, 0.4, 1)) -> np.ndarray:
    """Numbers written as text (Q,) as names of bins (Q,), whose upper edge is inside; "" for what is
    no number or outside."""
    names = ["", f"{edges[0]:g}", *(f"{a:g} to {b:g}" for a, b in pairwise(edges)), ""]
    found = numbers(texts)
    places = np.where(found == edges[0], 1, np.searchsorted(edges, found, side="left") + 1)
    inside = (found >= edges[0]) & (found <= edges[-1])  # not of NaN
    return np.array(names)[np.where(inside, places, 0)]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


# Is it the label?


def farther(embeddings: Embeddings, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How much nearer some images are to somebody else than to their own, across cameras.

    Returns (R,) the root mean square distance to the gallery's images of the own identity under other
    cameras, the same for the nearest other identity, and which that is. Only identities with two such
    images or more count, so that one odd image tells nothing; NaN, NaN and -1 where there is none.
    """
    groups = _Groups.of(embeddings)
    own, other, who = np.full(len(rows), np.nan), np.full(len(rows), np.nan), np.full(len(rows), -1)
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        away = groups.distances(embeddings.directions[part], embeddings.cameras[part])
        mine = embeddings.identities[part][:, None] == groups.identities
        own[start : start + BLOCK] = np.where(mine, away, np.inf).min(axis=1, initial=np.inf)
        strangers = np.where(mine, np.inf, away)
        nearest = strangers.argmin(axis=1)
        other[start : start + BLOCK] = strangers[np.arange(len(part)), nearest]
        who[start : start + BLOCK] = groups.identities[nearest]
    known = np.isfinite(own) & np.isfinite(other)
    return np.where(known, own, np.nan), np.where(known, other, np.nan), np.where(known, who, -1)


@dataclass(frozen=True)
class _Groups:
    """The gallery's identities (I,), each the sum of its unit vectors under each camera (I, C, D) and
    their number (I, C): the mean squared distance to unit vectors is 2 - 2 x . their mean."""

    identities: np.ndarray
    cameras: np.ndarray
    sums: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, embeddings: Embeddings) -> "_Groups":
        gallery = embeddings.gallery_rows
        gallery = gallery[embeddings.identities[gallery] > 0]
        identities, identity = np.unique(embeddings.identities[gallery], return_inverse=True)
        cameras, camera = np.unique(embeddings.cameras[gallery], return_inverse=True)
        sums = np.zeros((len(identities), len(cameras), embeddings.directions.shape[1]))
        np.add.at(sums, (identity, camera), embeddings.directions[gallery])
        counts = np.zeros(sums.shape[:2])
        np.add.at(counts, (identity, camera), 1)
        return cls(identities, cameras, sums, counts)

    def distances(self, vectors: np.ndarray, cameras: np.ndarray) -> np.ndarray:
        """(R, I) root mean square distances of unit vectors (R, D) to each identity under other
        cameras than theirs (R,); infinite where that is fewer than two images."""
        dots = np.einsum("rd,icd->ric", vectors, self.sums, optimize=True)
        elsewhere = cameras[:, None] != self.cameras  # (R, C)
        counts = elsewhere.astype(float) @ self.counts.T  # (R, I)
        total = (dots * elsewhere[:, None]).sum(axis=2)
        square = 2 - 2 * total / np.maximum(counts, 1)
        return np.where(counts >= 2, np.sqrt(np.maximum(square, 0)), np.inf)
