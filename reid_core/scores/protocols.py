"""Protocols by name: who is compared with whom, and what is counted.

Q queries, G gallery images, R repeats, D dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reid_core.data.matches import refuse_unmatched
from reid_core.errors import BadInput
from reid_core.evaluate import CMC_LENGTH, JOINT, PER_QUERY, PROTOCOL, Embeddings
from reid_core.knobs import unknown
from reid_core.ranking.ranks import Hits
from reid_core.scores.draws import Draws, as_it_is, one_of_each, single_shot
from reid_core.scores.measure import Measure

CUHK03, VEHICLES, LEGACY, SINGLE_SHOT = (
    "cuhk03-np",
    "vehicleid",
    "rga-sklearn-legacy",
    "single-gallery-shot",
)
REPEATS = 10  # TransReID's trials on VehicleID; torchreid's draws on CUHK03


def steps(hits: Hits) -> np.ndarray:
    """(Q,) average precision as everybody has it: mean over the true matches of hits so far / rank."""
    return hits.average_precision


def trapezoid(hits: Hits) -> np.ndarray:
    """(Q,) area under the lines between the points (recall, precision), from (0, 1) on.

    scikit-learn's average_precision_score before 0.19, which RGA's evaluation pins: a match at rank
    r_j adds 1/n times the mean of j / r_j and of the precision just before it, (j - 1) / (r_j - 1),
    which is 1 where nothing came before. Ties are in the order of the gallery here and make one point
    there. NaN without a true match.
    """
    counts = np.diff(hits.starts)
    place = np.arange(len(hits.ranks)) - np.repeat(hits.starts[:-1], counts)  # j - 1
    before = np.divide(place, hits.ranks - 1, out=np.ones(len(place)), where=hits.ranks > 1)
    parts = (before + (place + 1) / hits.ranks) / 2
    total = np.bincount(np.repeat(np.arange(len(counts)), counts), parts, len(counts))
    return np.divide(total, counts, out=np.full(len(counts), np.nan), where=counts > 0)


@dataclass(frozen=True)
class Protocol:
    """What a name stands for.

    draws gives the splits that are ranked by Market-1501's rules, precision the average precision of
    their lists. single_shot: the CMC is over galleries of one image per identity. refined: for
    embeddings that looked at one another, and alone says whether each query did so alone.
    """

    title: str
    about: str
    draws: Callable[[Embeddings, int, int], Draws] = as_it_is
    precision: Callable[[Hits], np.ndarray] = steps
    single_shot: bool = False
    refined: bool = False
    alone: bool = False


PROTOCOLS: dict[str, Protocol] = {
    PROTOCOL: Protocol(
        "Market-1501",
        "A query's own camera's images of its identity are left out, junk too; distractors stay; "
        "queries without another true match are skipped (Zheng et al. 2015).",
    ),
    CUHK03: Protocol(
        "CUHK03, new protocol",
        "Market-1501's rules on the split of 767 and 700 identities (Zhong et al. 2017).",
    ),
    VEHICLES: Protocol(
        "VehicleID",
        "Of each identity that is asked for one image is in the gallery, with all images of those that "
        "are not, and the rest are queries; cameras play no part; mean over repeated random galleries "
        "(Liu et al. 2016; ten draws as in TransReID's test).",
        draws=one_of_each,
    ),
    LEGACY: Protocol(
        "RGA's mAP",
        "As market, but average precision is the area under straight lines between the points of the "
        "precision-recall curve, as scikit-learn had it before 0.19: another quantity than mAP "
        "elsewhere, to compare with RGA's printed numbers.",
        precision=trapezoid,
    ),
    JOINT: Protocol(
        "NFormer, all at once",
        "As market, on features that queries and gallery refined as one set: the official code.",
        refined=True,
    ),
    PER_QUERY: Protocol(
        "NFormer, query by query",
        "As market, on features that each query refined with the gallery alone: the paper.",
        refined=True,
        alone=True,
    ),
    SINGLE_SHOT: Protocol(
        "Single gallery shot",
        "The CMC counts galleries of one image per identity, drawn anew for each query ten times "
        "(CUHK03's first protocol as torchreid has it); mAP and mINP are over the whole gallery, as "
        "in market.",
        single_shot=True,
    ),
}


def named(name: str | None, refined: bool) -> str:
    """The protocol of a name, or the one that embeddings have by default. Raises BadInput."""
    fitting = [key for key, each in PROTOCOLS.items() if each.refined == refined]
    if name is not None and name not in fitting:
        raise BadInput(unknown("protocol for these features", name, fitting))
    return name or fitting[0]


def refuse_together(name: str, measure: Measure) -> None:
    """Raises BadInput where a protocol can't be scored with a measure."""
    if PROTOCOLS[name].single_shot and measure.approximate:
        raise BadInput(f"protocol {name}: expected exact distances, leave --approximate out")


@dataclass(frozen=True)
class Scored:
    """What a protocol gives, query by query; where galleries are drawn again, means over the draws.

    precision, penalty (Q,) average precision and inverse negative penalty, NaN without a true match;
    early (Q, 50) how often the first true match is at rank r or before; times (Q,) how often the
    query was judged. queries, valid_queries and gallery are those of one draw.
    """

    precision: np.ndarray
    penalty: np.ndarray
    early: np.ndarray
    times: np.ndarray
    queries: int
    valid_queries: int
    gallery: int
    protocol: str

    @property
    def columns(self) -> np.ndarray:
        """(V, 53) of each query that was judged, times how often: once, precision, penalty, early.
        Sums of columns over the sum of the first are the scores, for all as for a resample."""
        valid = self.times > 0
        values = np.column_stack([self.precision, self.penalty, self.early])[valid]
        times = self.times[valid, None].astype(float)
        return np.hstack([times, values * times])

    @property
    def scores(self) -> np.ndarray:
        """(52,) mAP, mINP, CMC at ranks 1 to 50."""
        return ratio(self.columns[None], axis=1)[0]

    @property
    def mAP(self) -> float:  # noqa: N802 - the field's name for it
        return float(self.scores[0])

    @property
    def mINP(self) -> float:  # noqa: N802
        return float(self.scores[1])

    @property
    def cmc(self) -> np.ndarray:
        """(50,)"""
        return self.scores[2:]


def ratio(columns: np.ndarray, axis: int) -> np.ndarray:
    """Sums over an axis of what `Scored.columns` gives, as scores."""
    total = columns.sum(axis)
    return total[..., 1:] / total[..., :1]


def score(
    embeddings: Embeddings,
    protocol: str | None = None,
    measure: Measure | None = None,
    *,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Scored:
    """The scores of a test split by a protocol. Raises BadInput where no query has a true match.

    Under nformer-per-query the measure brings the distances, since a model gives them.
    """
    name = named(protocol, embeddings.encoded is not None)
    asked, measure = PROTOCOLS[name], measure or Measure()
    if asked.alone and measure.away is None:
        raise BadInput(
            f"protocol {name}: expected distances that each query gives with the gallery"
        )
    refuse_together(name, measure)
    total, sizes = None, []
    for split, places in asked.draws(embeddings, repeats, seed):
        hits = measure.hits(split)
        valid = hits.first_hit > 0
        early = hits.first_hit[:, None] <= np.arange(1, CMC_LENGTH + 1)
        if asked.single_shot:
            early = single_shot(split, measure, repeats, seed)
        values = np.column_stack([asked.precision(hits), hits.inverse_negative_penalty, early])
        if total is None:
            count = len(places) if asked.draws is as_it_is else len(split.is_query)
            total, times = np.zeros((count, values.shape[1])), np.zeros(count, int)
        total[places[valid]] += values[valid]
        times[places[valid]] += 1
        sizes.append((len(places), int(valid.sum()), split.judged))
    if not any(valid for _, valid, _ in sizes):
        refuse_unmatched(split.labels(split.query_rows), split.labels(split.gallery_rows))
    means = np.divide(
        total, times[:, None], out=np.full(total.shape, np.nan), where=times[:, None] > 0
    )
    queries, valid_queries, gallery = sizes[0]
    return Scored(
        means[:, 0], means[:, 1], means[:, 2:], times, queries, valid_queries, gallery, name
    )
