"""Where a gallery is said to hold nobody like the query: its nearest image is not near enough."""

from dataclasses import dataclass

from reid_core.evaluate import Embeddings
from reid_core.scores.verification import Roc, roc

REFINED = (
    "It was measured by nformer-joint: all queries of that test split and its gallery were refined as "
    "one set. Here each query is refined with the gallery alone, so its distances, and the shares, are "
    "not quite the same."
)


@dataclass(frozen=True)
class Threshold:
    """A distance between vectors of length 1: nearer than that is a match.

    Where it was measured on a test split: strangers and same count its pairs of two identities and
    of one, false_accepts and true_accepts are the shares of each that are nearer.
    """

    distance: float
    false_accepts: float | None = None
    true_accepts: float | None = None
    strangers: int = 0
    same: int = 0

    def accepts(self, distance: float) -> bool:
        return bool(distance < self.distance)


def measured(embeddings: Embeddings, false_accepts: float = 0.01) -> Threshold:
    """The largest distance that no more than this share of a test split's pairs of two identities
    are nearer than. Raises BadInput where there are no such pairs.

    The share counts pairs: in a gallery of G strangers a query meets G of them.
    """
    return at(roc(embeddings), false_accepts)


def at(pairs: Roc, false_accepts: float) -> Threshold:
    """The same from pairs that have been counted. Raises BadInput for what is no share."""
    point = pairs.at(false_accepts)
    counts = int(pairs.impostor.sum()), int(pairs.genuine.sum())
    return Threshold(point.threshold, point.false_accepts, point.true_accepts, *counts)
