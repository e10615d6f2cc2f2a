"""What to do about what of a run is gone or damaged."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reid_core.runs.run import Run

WAIT = "wait for its next evaluation"
COPY = "put back a copy of that file, or "
CLONE = COPY + "train a clone of the run"


def of_evaluation(run: "Run") -> str:
    """What gives it whole embeddings and scores, and weights too unless it was imported."""
    if run.imported:
        return "evaluate it anew"
    if run.resumable:
        return "resume its training, which evaluates it anew"
    if run.going:
        return WAIT
    if run.has_weights:
        return f"python -m reid_core evaluate {run.name} computes it anew"
    return CLONE


def of_weights(run: "Run") -> str:
    """What gives it whole weights."""
    if run.going:
        return WAIT
    if run.resumable:
        return "resume its training, which writes them anew"
    if run.imported:
        return COPY + "import it anew"
    if run.has_state:
        return "remove that file, then resume its training, which writes it anew"
    return CLONE
