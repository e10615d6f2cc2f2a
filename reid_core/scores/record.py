"""A test split's scores by the protocol and metric that somebody asked for, as one record for JSON.

What departs from the usual is told beside the numbers: `conditions`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from reid_core.analysis.intervals import LEVEL, bootstrap
from reid_core.errors import BadInput
from reid_core.evaluate import CMC_LENGTH, JOINT, PROTOCOL, Embeddings
from reid_core.scores.measure import EUCLIDEAN, Measure, Rerank
from reid_core.scores.protocols import (
    PROTOCOLS,
    Scored,
    as_it_is,
    named,
    ratio,
    refuse_together,
    score,
)
from reid_core.scores.verification import NoPairs, roc

MOST_RESAMPLES = 100_000  # more would change no digit that is printed, and take very long
LEAST_RESAMPLES = 40  # so that one lies beyond each end of a 95 % interval
RATES = (1e-4, 1e-3, 1e-2, 1e-1)  # false accepts that a verification is reported at
RANKS = (1, 5, 10)
USUAL = (PROTOCOL, JOINT)


@dataclass(frozen=True)
class Wish:
    """How to score. protocol None is the split's own; bootstrap the number of resamples; far a
    false-accept rate to choose a threshold at; details: every rank, and pairs of cameras too."""

    protocol: str | None = None
    metric: str = EUCLIDEAN
    flip: bool = False
    rerank: Rerank | None = None
    bootstrap: int = 0
    far: float | None = None
    details: bool = False
    approximate: bool = False
    seed: int = 0

    def __post_init__(self):
        if self.bootstrap and not LEAST_RESAMPLES <= self.bootstrap <= MOST_RESAMPLES:
            raise BadInput(
                f"--bootstrap: expected {LEAST_RESAMPLES} to {MOST_RESAMPLES:,} resamples, or 0 for no "
                f"intervals, got {self.bootstrap}"
            )
        if self.seed < 0:
            raise BadInput(f"--seed: expected a whole number from 0 on, got {self.seed}")
        if self.far is not None and not 0 <= self.far <= 1:
            raise BadInput(f"--far: expected a false-accept rate from 0 to 1, got {self.far}")
        self._refuse_together()

    def _refuse_together(self) -> None:
        """Raises BadInput for what would be refused after all images were embedded."""
        protocol = PROTOCOLS.get(self.protocol or "")  # an unknown one is told with those that fit
        away = _no_rows if protocol and protocol.alone else None
        measure = Measure(self.metric, self.rerank, away, self.approximate)
        if protocol:
            refuse_together(self.protocol, measure)

    @property
    def usual(self) -> bool:
        """Whether the numbers are those that every page shows."""
        own = self.metric == EUCLIDEAN and not (self.flip or self.rerank or self.approximate)
        return own and self.protocol in (None, *USUAL)

    @property
    def says_more(self) -> bool:
        """Whether the record is to say more than the scores."""
        return not self.usual or self.details or bool(self.bootstrap) or self.far is not None


def _no_rows(rows: np.ndarray) -> np.ndarray:
    """Stands for the distances that a model will give."""
    raise NotImplementedError


def record(
    embeddings: Embeddings,
    wish: Wish,
    conditions: dict[str, Any] | None = None,
    away: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, Any]:
    """The scores as JSON holds them; what else was asked for beside them. conditions says what the
    embeddings are; away gives the distances of nformer-per-query. Raises BadInput."""
    name = named(wish.protocol, embeddings.encoded is not None)
    measure = Measure(wish.metric, wish.rerank, away, wish.approximate)
    found = score(embeddings, name, measure, seed=wish.seed)
    said = numbers(found, range(1, CMC_LENGTH + 1) if wish.details else RANKS)
    if wish.says_more or conditions:
        said["conditions"] = stated(found, wish, conditions or {})
    if wish.approximate:
        said["recall"] = measure.recall
    if wish.bootstrap:
        said["intervals"] = intervals(found, wish.bootstrap, wish.seed)
    if wish.far is not None or wish.details:
        try:
            said["verification"] = verified(embeddings, wish, name, measure)
        except NoPairs:
            if wish.far is not None:  # a threshold was asked for
                raise
            said["verification"] = None
    if wish.details and PROTOCOLS[name].draws is as_it_is:
        said["camera_pairs"] = camera_scores(embeddings, measure)
    return said


def numbers(found: Scored, ranks=RANKS) -> dict[str, Any]:
    """The scores, for JSON."""
    mean = found.scores
    return dict(
        mAP=float(mean[0]),
        mINP=float(mean[1]),
        cmc={str(rank): float(mean[1 + rank]) for rank in ranks},
        queries=found.queries,
        valid_queries=found.valid_queries,
        gallery=found.gallery,
        protocol=found.protocol,
    )


def stated(found: Scored, wish: Wish, more: dict[str, Any]) -> dict[str, Any]:
    """How the numbers came about."""
    if wish.approximate:
        from reid_core.ranking.approximate import COUNT

        more = dict(nearest=min(COUNT, found.gallery)) | more  # matches beyond them rank last
    return dict(
        protocol=found.protocol,
        about=PROTOCOLS[found.protocol].about,
        metric=wish.metric,
        flip=wish.flip,
        rerank=wish.rerank._asdict() if wish.rerank else None,
        approximate="faiss" if wish.approximate else None,
        queries=found.queries,
        valid_queries=found.valid_queries,
        gallery=found.gallery,
        **more,
    )


def intervals(found: Scored, draws: int, seed: int = 0) -> dict[str, Any]:
    """95 % percentile bootstrap intervals over the queries: a query's images of all draws go together."""
    resampled = bootstrap(found.columns, ratio, draws, seed)  # (draws, 52)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    places = dict(mAP=0, mINP=1) | {f"rank-{rank}": 1 + rank for rank in RANKS}
    both = {name: [float(low[at]), float(high[at])] for name, at in places.items()}
    return dict(level=LEVEL, draws=draws, over="queries", **both)


def verified(embeddings: Embeddings, wish: Wish, protocol: str, measure: Measure) -> dict[str, Any]:
    """Pairs of a query and a gallery image: the threshold at a false-accept rate and what it gives."""
    found = roc(embeddings, protocol, measure, seed=wish.seed)
    said = dict(
        genuine_pairs=int(found.genuine.sum()),
        impostor_pairs=int(found.impostor.sum()),
        distance=wish.metric if not wish.rerank else f"re-ranked, {wish.metric}",
        area=found.area,
        equal_error=found.equal_error,
        at=[dict(asked=rate, **vars(found.at(rate))) for rate in RATES],
    )
    if wish.far is not None:
        said |= dict(asked=wish.far, **vars(found.at(wish.far)))
    return said


def camera_scores(embeddings: Embeddings, measure: Measure) -> list[dict[str, Any]]:
    """mAP by the query's camera and the camera of the true matches, with intervals over queries."""
    from reid_core.analysis.cameras import camera_pairs

    hits, places = measure.hits(embeddings), measure.matches(embeddings)
    matches = SimpleNamespace(
        first_hit=hits.first_hit,
        match_query=np.repeat(np.arange(len(hits)), hits.counts),
        match_rank=hits.ranks,
        match_camera=embeddings.cameras[embeddings.gallery_rows[places]],
    )
    pairs = camera_pairs(matches, embeddings.cameras[embeddings.query_rows])
    return [
        dict(
            query_camera=int(pairs.query_cameras[a]),
            match_camera=int(pairs.match_cameras[b]),
            queries=int(pairs.count[a, b]),
            mAP=float(pairs.precision[a, b]),
            interval=[float(pairs.low[a, b]), float(pairs.high[a, b])],
        )
        for a, b in zip(*pairs.count.nonzero(), strict=True)
    ]
