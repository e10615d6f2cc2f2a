"""Every query's list re-ranked: k-reciprocal encoding, query expansion, or without NFormer.

Keeps what each query's list comes to, and the codes with which one list is re-ranked at once.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from reid_core import rerank
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, distances, evaluate
from reid_core.knobs import knob
from reid_core.rerank import Progress, Reciprocal
from reid_core.runs import Run

METHODS = ("none", "k-reciprocal", "average", "alpha")
FEATURES = ("as the run", "encoder")


@dataclass(frozen=True)
class Options:
    """How the lists are made."""

    method: str = knob("k-reciprocal", "How lists are re-ranked.", "Method", choices=METHODS)
    features: str = knob(
        "as the run",
        "The run's own vectors, or those from before its images looked at one another.",
        "Method",
        choices=FEATURES,
    )
    k1: int = knob(rerank.K1, "Neighbours that must be mutual.", "k-reciprocal", least=1)
    k2: int = knob(rerank.K2, "Neighbours whose codes are averaged.", "k-reciprocal", least=1)
    weight: float = knob(
        rerank.WEIGHT, "Share of the original distance (lambda).", "k-reciprocal", least=0, most=1
    )
    neighbours: int = knob(
        rerank.NEIGHBOURS, "Images that a query is averaged with.", "Query expansion", least=1
    )
    power: float = knob(
        rerank.POWER, "Exponent of their similarity (alpha).", "Query expansion", least=0
    )


def compute(run: Run, options: Options, progress: Progress) -> dict[str, np.ndarray]:
    """average_precision and first_hit (Q,) of the re-ranked lists, and for k-reciprocal the sparse
    features (`Reciprocal.as_arrays`)."""
    found = features(run.embeddings(), options.features)
    size, queries = len(found.names), len(found.query_rows)
    encoding = options.method == "k-reciprocal"
    total, kept = queries + encoding * size, {}
    told = 0
    code = None
    if encoding:
        code = Reciprocal.of(
            found.directions, options.k1, options.k2, lambda done, _: progress(done, total)
        )
        kept, told = code.as_arrays(), size
    of = distances_by(found, options, code)

    def step(rows: np.ndarray) -> np.ndarray:
        nonlocal told
        away, told = of(rows), told + len(rows)
        progress(told, total)
        return away

    scored = evaluate(found, distances_to=step)
    return kept | dict(average_precision=scored.average_precision, first_hit=scored.first_hit)


def features(found: Embeddings, which: str) -> Embeddings:
    """A test split with the vectors that are asked for. Raises BadInput where it has none."""
    if which == "as the run":
        return found
    if found.encoded is None:
        raise BadInput(
            "expected a run whose images look at one another, got one without: use features "
            "'as the run'"
        )
    return replace(found, vectors=found.encoded, encoded=None)


def distances_by(
    found: Embeddings, options: Options, code: Reciprocal | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Rows (q,) of the embeddings -> distances (q, G) by the method; code is its k-reciprocal one."""
    if options.method == "k-reciprocal":
        code = code or Reciprocal.of(found.directions, options.k1, options.k2)
        return lambda rows: code.distances(found, rows, options.weight)
    if options.method == "none":
        gallery = found.directions[found.gallery_rows]
        return lambda rows: distances(found.directions[rows], gallery)
    power = 0.0 if options.method == "average" else options.power
    return lambda rows: rerank.expand(found, rows, options.neighbours, power)
