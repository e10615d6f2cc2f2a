"""The ranks of the true matches where distances or lists come from elsewhere than the vectors.

Q queries, G gallery images. The rules are those of `ranks.true_ranks`.
"""

from collections.abc import Iterator

import numpy as np

from reid_core.errors import BadInput
from reid_core.ranking.ranks import Hits


def from_rows(
    rows: Iterator[np.ndarray],
    query_identities: np.ndarray,
    gallery_identities: np.ndarray,
    query_cameras: np.ndarray,
    gallery_cameras: np.ndarray,
    places: list[np.ndarray] | None = None,
) -> Hits:
    """The ranks of the true matches where distances (G,) come query by query; rules as `true_ranks`.

    places, a list, takes the positions of each query's true matches in the gallery, nearest first.
    """
    junk = gallery_identities == -1
    order = np.argsort(gallery_identities, kind="stable")
    ordered = gallery_identities[order]
    found = []
    for row, identity, camera in zip(rows, query_identities, query_cameras, strict=True):
        if not np.isfinite(row).all():
            raise BadInput("the distances hold NaN or infinity: look at the embeddings")
        ends = [np.searchsorted(ordered, identity, side) for side in ("left", "right")]
        same = order[slice(*ends)] if identity != -1 else order[:0]
        ignored = (gallery_cameras[same] == camera) & (camera != -1)
        row = np.where(junk, np.inf, row)
        row[same[ignored]] = np.inf
        matches = same[~ignored]
        matches = matches[np.lexsort((matches, row[matches]))]
        found.append(_ranks(row, matches))
        if places is not None:
            places.append(matches)
    starts = np.concatenate([[0], np.cumsum([len(hits) for hits in found], dtype=np.int64)])
    return Hits(np.concatenate(found or [np.empty(0, int)]), starts)


def _ranks(row: np.ndarray, matches: np.ndarray) -> np.ndarray:
    """Ranks (n,) of some images in a row, nearest first, ties in the order of the gallery."""
    if not len(matches):
        return np.empty(0, int)
    away = row[matches]
    places = np.flatnonzero(row <= away[-1])  # nobody else is before the last of them
    near = row[places]
    below = np.searchsorted(away, near, "right")  # how many of them are as near or nearer
    farther = np.bincount(below, minlength=len(away) + 1).cumsum()[: len(away)]  # strictly nearer
    before = [
        np.count_nonzero(near[: np.searchsorted(places, at)] == value)
        for at, value in zip(matches, away, strict=True)
    ]
    return farther + np.array(before, int) + 1


def from_lists(
    lists: np.ndarray,
    query_identities: np.ndarray,
    gallery_identities: np.ndarray,
    query_cameras: np.ndarray,
    gallery_cameras: np.ndarray,
) -> Hits:
    """The ranks of the true matches in lists (Q, count) of positions in the gallery, -1 for none.

    True matches that a list lacks stand at the end of the gallery, so scores are never too high.
    """
    found = []
    for order, identity, camera in zip(lists, query_identities, query_cameras, strict=True):
        match = (gallery_identities == identity) & (identity != -1)
        ignored = (match & (gallery_cameras == camera) & (camera != -1)) | (
            gallery_identities == -1
        )
        order = order[order >= 0]
        order = order[~ignored[order]]
        hits = np.flatnonzero(match[order]) + 1
        missed = (match & ~ignored).sum() - len(hits)
        last = len(gallery_identities) - ignored.sum()
        found.append(np.concatenate([hits, np.arange(last - missed, last) + 1]))
    starts = np.concatenate([[0], np.cumsum([len(hits) for hits in found], dtype=np.int64)])
    return Hits(np.concatenate(found or [np.empty(0, int)]), starts)
