"""Same person or not? Pairs of a query and a gallery image, accepted when nearer than a threshold.

Only pairs that the protocol counts: a query's own camera's images of its identity are left out, junk
too. Distances stream by in blocks and are counted in bins, so nothing of size Q x G is kept. A bin
holds its left edge and not its right one: at the edges every share is exact. T bins.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, check_sides
from reid_core.scores.measure import Measure
from reid_core.scores.protocols import PROTOCOLS, REPEATS, named

BINS = 2**20  # of distances from 0 to 4: 4e-6 wide


@dataclass(frozen=True)
class Roc:
    """How many pairs of one and of two identities are nearer than a threshold.

    genuine, impostor (T,) int pairs by the bin of their distance; width of a bin.
    """

    genuine: np.ndarray
    impostor: np.ndarray
    width: float

    @cached_property
    def thresholds(self) -> np.ndarray:
        """(T + 1,) the edges of the bins: nearer than that is accepted."""
        return np.arange(len(self.genuine) + 1) * self.width

    @cached_property
    def true_accepts(self) -> np.ndarray:
        """(T + 1,) share of the pairs of one identity that each threshold accepts."""
        return _shares(self.genuine)

    @cached_property
    def false_accepts(self) -> np.ndarray:
        """(T + 1,) share of the pairs of two identities that each threshold accepts."""
        return _shares(self.impostor)

    def at(self, false_accepts: float) -> "Point":
        """The largest threshold that accepts no more than a share of the pairs of two identities."""
        if not 0 <= false_accepts <= 1:
            raise BadInput(f"expected a false-accept rate from 0 to 1, got {false_accepts}")
        place = int(np.searchsorted(self.false_accepts, false_accepts, "right")) - 1
        return self.point(min(place, self.last))

    def point(self, place: int) -> "Point":
        """What the threshold at a place among them gives."""
        return Point(
            float(self.thresholds[place]),
            float(self.false_accepts[place]),
            float(self.true_accepts[place]),
        )

    @cached_property
    def last(self) -> int:
        """The place of the first threshold that accepts every pair."""
        return int(np.flatnonzero(self.genuine + self.impostor)[-1]) + 1

    @property
    def equal_error(self) -> float:
        """The error where false accepts and false rejects are nearest to each other: their mean."""
        rejects = 1 - self.true_accepts
        place = int(np.abs(self.false_accepts - rejects).argmin())
        return float((self.false_accepts[place] + rejects[place]) / 2)

    @property
    def area(self) -> float:
        """Area under the curve of true against false accepts, straight between thresholds."""
        return float(np.trapezoid(self.true_accepts, self.false_accepts))

    def curve(self, most: int = 400) -> np.ndarray:
        """(n, 3) threshold, false and true accepts at places spread over the false-accept rates by
        their logarithm, for a drawing; each is a point of the whole curve."""
        low = max(1 / max(self.impostor.sum(), 1), 1e-7)
        rates = np.concatenate([[0], np.geomspace(low, 1, most)])
        places = np.unique(np.searchsorted(self.false_accepts, rates, "right") - 1)
        places = np.minimum(places, self.last)
        return np.column_stack(
            [self.thresholds[places], self.false_accepts[places], self.true_accepts[places]]
        )


class NoPairs(BadInput):
    """Without pairs of one identity and of two, nothing can be verified."""


@dataclass(frozen=True)
class Point:
    """A threshold, and the shares of pairs of two and of one identity that are nearer."""

    threshold: float
    false_accepts: float
    true_accepts: float


def roc(
    embeddings: Embeddings,
    protocol: str | None = None,
    measure: Measure | None = None,
    *,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Roc:
    """Count the pairs of a test split; those of repeated galleries together.

    Raises NoPairs where there is no pair of one identity, or none of two.
    """
    measure = measure or Measure()
    draws = PROTOCOLS[named(protocol, embeddings.encoded is not None)].draws
    width = measure.bound(embeddings) / BINS  # a power of two: dividing by it rounds nothing
    genuine, impostor = (np.zeros(BINS, np.int64) for _ in range(2))
    for split, _ in draws(embeddings, repeats, seed):
        _count(split, measure, width, genuine, impostor)
    if not genuine.any() or not impostor.any():
        raise NoPairs(
            "expected pairs of one identity under two cameras and pairs of two identities, got "
            f"{genuine.sum()} and {impostor.sum()}: no threshold can be chosen from them"
        )
    return Roc(genuine, impostor, width)


def threshold_at(embeddings: Embeddings, false_accepts: float = 0.01) -> float:
    """The Euclidean distance between vectors of length 1 below which a gallery image counts as a
    match: of the test split's pairs of two identities no more than that share are nearer. Raises
    BadInput."""
    return roc(embeddings).at(false_accepts).threshold


def _count(split: Embeddings, measure: Measure, width: float, genuine, impostor) -> None:
    """Add the pairs of one and of two identities to genuine and impostor (T,), by bin."""
    queries, gallery = split.query_rows, split.gallery_rows
    check_sides(queries, gallery)
    kept = np.flatnonzero(split.identities[gallery] != -1)
    identities, cameras = split.identities[gallery][kept], split.cameras[gallery][kept]
    start = 0
    for block in measure.blocks(split):
        asked = queries[start : start + len(block)]
        start += len(block)
        bins = (block[:, kept] / np.float32(width)).astype(np.int32)  # (q, G)
        np.minimum(bins, BINS - 1, out=bins)
        who, where = split.identities[asked, None], split.cameras[asked, None]
        same = (identities == who) & (who != -1)
        own = same & (cameras == where) & (where != -1)
        impostor += np.bincount(bins.ravel(), minlength=BINS)  # all; then without those of one
        np.subtract.at(impostor, bins[same], 1)
        np.add.at(genuine, bins[same & ~own], 1)


def _shares(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], counts.cumsum()]) / max(counts.sum(), 1)
