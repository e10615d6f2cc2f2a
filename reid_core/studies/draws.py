"""NFormer's landmarks drawn anew: what stays the same, and what moves.

The set is refined once for each draw, with the run's own numbers of landmarks and neighbours; each
time the same protocol judges every query.
"""

from dataclasses import dataclass, replace

import numpy as np

from reid_core.analysis.neighbours import alone, attend, in_common, judged
from reid_core.knobs import knob
from reid_core.runs import Run
from reid_core.studies import Arrays, Progress


@dataclass(frozen=True)
class Options:
    draws: int = knob(10, "Draws of the landmarks.", "Draws", least=2, most=1000)


def compute(run: Run, options: Options, progress: Progress) -> Arrays:
    """Q queries, k neighbours.

    seeds (draws,), the run's own first; precision (draws, Q); common (draws, Q) the share of a
    query's ten nearest that is also in its stored list; weights (draws, Q, k) mean over layers and
    heads, in the order of the neighbours; refined_difference (draws,) from the stored features; before
    (Q,) precision of the encoder alone, stored (Q,) that of the stored features. Raises BadInput.
    """
    found = run.embeddings()
    before = judged(alone(found))[0]
    model, seeds = run.model(), own_seed(run) + np.arange(options.draws)
    stored, lists = judged(found)
    kept = {name: [] for name in ("precision", "common", "weights", "refined_difference")}
    for number, seed in enumerate(seeds):
        progress(number, len(seeds))
        pass_ = attend(model, found.encoded, seed=int(seed))
        precision, top = judged(replace(found, vectors=pass_.refined))
        away = np.linalg.norm(pass_.refined - found.vectors) / np.linalg.norm(found.vectors)
        kept["precision"].append(precision)
        kept["common"].append(in_common(lists, top))
        kept["weights"].append(pass_.mean()[found.query_rows])
        kept["refined_difference"].append(away)
    progress(len(seeds), len(seeds))
    arrays = {name: np.array(values, np.float32) for name, values in kept.items()}
    return arrays | dict(seeds=seeds, before=before, stored=stored)


def own_seed(run: Run) -> int:
    """The seed of the landmarks that a run's features were refined with; 0 for a run that draws
    them anew at each pass."""
    return max(run.experiment.options.landmark_seed, 0)
