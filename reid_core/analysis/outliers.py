"""Images that lie with others than their own identity, and what goes together with it. N images.

An image's silhouette is its measure: below 0 another identity is nearer on average than its own. A
reason says what goes together with that, not what caused it; the rules and thresholds are ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

OCCLUDED = 0.25  # share of the person that is covered
ONE_CAMERA = 0.6  # share of the nearest images that are from one camera
NAMES = ("occluded", "look-alike", "box error", "one camera", "unknown")


@dataclass(frozen=True)
class Reasons:
    """holds (5, N) whether a reason of NAMES holds; share (5,) of the judged images that it holds for."""

    holds: np.ndarray
    share: np.ndarray
    camera: np.ndarray  # (N,) the commonest camera among the nearest images
    nearest: np.ndarray  # (N,) its share of them


def worst(silhouette: np.ndarray, identities: np.ndarray) -> np.ndarray:
    """Rows by silhouette (N,), lowest first, of images whose identity has others."""
    who, count = np.unique(identities, return_counts=True)
    others = count[np.searchsorted(who, identities)] > 1
    rows = np.flatnonzero(np.isfinite(silhouette) & others)
    return rows[np.argsort(silhouette[rows], kind="stable")]


def scattered(silhouette: np.ndarray, identities: np.ndarray, least: int = 3) -> tuple[int, float]:
    """The identity of the lowest mean silhouette among those with so many images, and that mean;
    (-1, NaN) where there is none."""
    known = np.isfinite(silhouette)
    who, place = np.unique(identities[known], return_inverse=True)
    if not len(who):
        return -1, float("nan")
    size = np.bincount(place)
    means = np.bincount(place, silhouette[known]) / size
    if (size < least).all():
        return -1, float("nan")
    first = int(np.where(size >= least, means, np.inf).argmin())
    return int(who[first]), float(means[first])


def gained(before: np.ndarray, after: np.ndarray) -> int:
    """The row whose average precision (N,) rose most; -1 where no row has both."""
    gain = after - before
    return int(np.nanargmax(gain)) if np.isfinite(gain).any() else -1


def reasons(
    identities: np.ndarray,
    cameras: np.ndarray,
    rival: np.ndarray,
    neighbours: np.ndarray,
    known: Mapping[str, np.ndarray],
) -> Reasons:
    """Which reasons hold for each image. rival (N,) nearest other identity; neighbours (N, k) rows.

    known: columns (N,) of text of the data set's attributes, as far as there are any. occluded: a
    quarter of the person or more is covered; look-alike: the rival is of its look-alike group; box
    error: the box was drawn wrong; one camera: most of its nearest images are from one camera, which
    took less than half as large a share of all.
    """
    count = len(identities)
    nothing = np.full(count, "")
    groups = known.get("lookalike_group", nothing)
    group_of = {int(who): group for who, group in zip(identities, groups, strict=True) if group}
    rivals = np.array([group_of.get(int(who), "") for who in rival])
    camera, nearest = commonest(cameras[neighbours])
    usual = {int(each): float((cameras == each).mean()) for each in np.unique(cameras)}
    base = np.array([usual.get(int(each), 1.0) for each in camera])
    errors = known.get("box_error", nothing)
    holds = np.stack(
        [
            _numbers(known.get("occlusion", nothing)) >= OCCLUDED,
            (groups != "") & (groups == rivals),
            (errors != "") & (errors != "none"),
            (nearest >= ONE_CAMERA) & (2 * base < nearest) & (camera > 0),
        ]
    )
    holds = np.vstack([holds, ~holds.any(axis=0)])
    judged = identities > 0
    share = holds[:, judged].mean(axis=1) if judged.any() else np.full(len(NAMES), np.nan)
    return Reasons(holds, share, camera, nearest)


def commonest(cameras: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The commonest value in each row of (N, k), the smallest of several, and its share."""
    values = np.unique(cameras)
    counts = np.stack([(cameras == each).sum(axis=1) for each in values])
    return values[counts.argmax(axis=0)], counts.max(axis=0) / cameras.shape[1]


def _numbers(text: np.ndarray) -> np.ndarray:
    """Text as numbers; NaN for what is none."""

    def number(each: str) -> float:
        try:
            return float(each)
        except ValueError:
            return np.nan

    return np.array([number(str(each)) for each in text])
