"""Camera by camera: average precision between the query's camera and those of the true matches.

Shapes: Q queries, A query cameras, B cameras of true matches, M true matches of all queries together.
"""

from dataclasses import dataclass

import numpy as np

from reid_core.analysis.errors import Lists
from reid_core.analysis.intervals import interval


@dataclass(frozen=True)
class Pairs:
    """Query cameras (A,) against the cameras of the true matches (B,).

    For a pair, true matches under other cameras are left out and everybody else stays: precision
    (A, B) is the mean over the queries of the average precision of that list, low and high its 95 %
    interval, rank the median rank of its first true match, count the queries; NaN and 0 for no query.
    mean is the precision over all queries and pairs. of_query (Q, B): each query's own.
    """

    query_cameras: np.ndarray
    match_cameras: np.ndarray
    precision: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rank: np.ndarray
    count: np.ndarray
    mean: float
    of_query: np.ndarray
    first_of_query: np.ndarray


def camera_pairs(found: Lists, cameras: np.ndarray, draws: int = 1000) -> Pairs:
    """Average precision per query camera and camera of the true match; cameras (Q,) the queries'."""
    precision, first, columns = _by_camera(found)
    rows = np.unique(cameras)
    shape = len(rows), len(columns)
    mean, low, high, rank = (np.full(shape, np.nan) for _ in range(4))
    count = np.zeros(shape, int)
    for a, b in np.ndindex(shape):
        those = (cameras == rows[a]) & np.isfinite(precision[:, b])
        count[a, b] = those.sum()
        if count[a, b]:
            mean[a, b], rank[a, b] = precision[those, b].mean(), np.median(first[those, b])
            low[a, b], high[a, b] = interval(precision[those, b], draws)
    total = float(np.nanmean(precision)) if np.isfinite(precision).any() else float("nan")
    return Pairs(rows, columns, mean, low, high, rank, count, total, precision, first)


def _by_camera(found: Lists) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average precision and rank of the first hit (Q, B) where the true matches under one camera are
    the only ones, NaN without any; and the cameras (B,)."""
    columns, column = np.unique(found.match_camera, return_inverse=True)
    place = np.arange(len(column)) - _starts(found.match_query)  # true matches before, any camera
    order = np.lexsort((found.match_rank, column, found.match_query))
    group = found.match_query[order] * len(columns) + column[order]
    before = np.arange(len(order)) - _starts(group)  # true matches before, this camera
    rank = found.match_rank[order] - place[order] + before  # the others left out
    size = len(found.first_hit) * len(columns)
    total = np.bincount(group, (before + 1) / rank, size)
    hits = np.bincount(group, minlength=size)
    precision = np.divide(total, hits, out=np.full(size, np.nan), where=hits > 0)
    first = np.full(size, np.nan)
    first[group[before == 0]] = rank[before == 0]
    shape = len(found.first_hit), len(columns)
    return precision.reshape(shape), first.reshape(shape), columns


def _starts(groups: np.ndarray) -> np.ndarray:
    """Where each element's group starts; equal groups stand together."""
    new = np.flatnonzero(np.diff(groups, prepend=-1))
    return np.repeat(new, np.diff(np.append(new, len(groups))))


def costliest(pairs: Pairs) -> tuple[int, int]:
    """The pair (row, column) that takes most from the mean over all queries and pairs: how far it is
    below that mean, times its queries."""
    loss = np.where(pairs.count > 0, (pairs.mean - pairs.precision) * pairs.count, -np.inf)
    row, column = np.unravel_index(int(loss.argmax()), loss.shape)
    return int(row), int(column)
