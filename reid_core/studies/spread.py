"""How a run's embeddings lie: neighbours, distances within and between identities, silhouette."""

from dataclasses import dataclass, replace

import numpy as np

from reid_core.analysis.projection import METRICS, space, spread
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, evaluate
from reid_core.knobs import knob
from reid_core.runs import Run

STAGES = ("final", "encoder")
KEPT = 50  # neighbours; a layout may ask for as many
ARRAYS = ("neighbours", "reach", "own", "other", "rival", "silhouette", "counts", "edges")


@dataclass(frozen=True)
class Options:
    metric: str = knob("cosine", "What is called near.", "Space", choices=METRICS)
    stage: str = knob(
        "final",
        "final: as the run ranks them; encoder: before the images looked at one another.",
        "Space",
        choices=STAGES,
    )


def compute(run: Run, options: Options, progress) -> dict[str, np.ndarray]:
    """The arrays of `analysis.projection.Spread`, all of them, for the run's test split, N images.

    And precision and first_hit (N,): each query's average precision and the rank of its first true
    match, NaN and 0 for the gallery and for queries without one. Raises BadInput.
    """
    found = staged(run.embeddings(), options.stage)
    points = space(found.vectors, options.metric)
    tell = lambda share: progress(int(90 * share), 100)  # noqa: E731
    lie = spread(points, found.identities, found.cameras, KEPT, tell)
    precision, first = np.full(len(points), np.nan), np.zeros(len(points), int)
    scored = evaluate(found)
    precision[found.query_rows], first[found.query_rows] = (
        scored.average_precision,
        scored.first_hit,
    )
    progress(100, 100)
    return {name: getattr(lie, name) for name in ARRAYS} | dict(
        precision=precision, first_hit=first
    )


def staged(found: Embeddings, stage: str) -> Embeddings:
    """The embeddings at a stage. Raises BadInput where the run has no other one than "final"."""
    if stage == "final":
        return found
    if found.encoded is None:
        raise BadInput(
            "expected a run whose images look at one another, got one that embeds each alone: "
            "choose an NFormer run"
        )
    return replace(found, vectors=found.encoded, encoded=None)
