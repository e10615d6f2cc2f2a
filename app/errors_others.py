"""The runs that one can be compared with, and the one that differs most."""

from typing import Any

from app import cached
from reid_core.analysis.comparison import MOST, Pattern
from reid_core.errors import BadInput
from reid_core.runs import Run, list_runs, open_run

PAIRS = 20_000_000  # query x gallery pairs that a page may rank without being asked


def candidates(run: Run) -> list[str]:
    """Other runs whose test split has as many queries and images, the best first."""
    own, found = _size(run), []
    for other in list_runs():
        if other.name != run.name and other.has_embeddings and _size(other) == own:
            found.append((-_metrics(other).get("mAP", 0), other.name))
    return [name for _, name in sorted(found)]


def most_different(run: Run) -> tuple[str, Pattern] | None:
    """The other run, of the four best, with the largest set of queries that one of the two has right
    and the other wrong, and that set; None where nothing is comparable or it would take too long."""
    queries, gallery = _size(run) or (0, 0)
    best = None
    for name in candidates(run)[: min(MOST - 1, PAIRS // max(1, queries * gallery))]:
        try:
            found, _ = cached.runs_compared(
                ((run.name, run.stamp()), (name, open_run(name).stamp()))
            )
        except BadInput:
            continue
        pattern = disagreement(found)
        if best is None or len(pattern.queries) > len(best[1].queries):
            best = name, pattern
    return best


def disagreement(found: list[Pattern]) -> Pattern:
    """The largest set of queries that some runs have right and others wrong."""
    return max(
        (pattern for pattern in found if 0 < sum(pattern.right) < len(pattern.right)),
        key=lambda pattern: len(pattern.queries),
    )


def code(pattern: Pattern) -> str:
    """A pattern in the address: 1 for right, 0 for wrong, in the runs' order."""
    return "".join("01"[yes] for yes in pattern.right)


def _size(run: Run) -> tuple[int, int] | None:
    scores = _metrics(run)
    return (scores["queries"], scores["gallery"]) if "queries" in scores else None


def _metrics(run: Run) -> dict[str, Any]:
    try:
        return run.metrics()
    except BadInput:
        return {}
