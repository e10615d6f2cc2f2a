"""The reproduction ledger: what others report, where it stands, and what the runs here gave.

Scores are shares of 1.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from reid_core.data import DATASETS
from reid_core.errors import BadInput
from reid_core.evaluate import PROTOCOL
from reid_core.runs import Run, list_runs
from reid_core.scores.protocols import CUHK03, LEGACY, score
from reid_core.scores.published import ENTRIES, MSMT17, NOTES, SETS, Entry

SAME = {CUHK03: PROTOCOL}  # two names of one rule


@dataclass(frozen=True)
class Given:
    """A run that was evaluated: on what, and what it gave by which protocol.

    dataset as in SETS, None where nothing is published for its images; why says why. queries and
    gallery count images. scores is protocol -> metric -> share.
    """

    run: str
    model: str
    recipe: str
    evaluated_on: str
    dataset: str | None
    why: str
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    queries: int = 0
    gallery: int = 0


@dataclass(frozen=True)
class Line:
    """A reported number beside a run's: ours and difference are None where they can't be compared."""

    entry: Entry
    run: str = ""
    ours: float | None = None
    difference: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Ledger:
    """All of it; damaged says of runs whose scores can't be read why."""

    entries: tuple[Entry, ...]
    runs: tuple[Given, ...]
    damaged: tuple[str, ...] = ()

    def compared(self) -> list[Line]:
        """Every entry with each run of its model on its data set, or alone."""
        found = []
        for entry in self.entries:
            runs = [r for r in self.runs if (r.model, r.dataset) == (entry.model, entry.dataset)]
            found += [_beside(entry, run) for run in runs] or [Line(entry)]
        return found

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        lines = [asdict(line) for line in self.compared()]
        return dict(entries=lines, runs=[asdict(run) for run in self.runs], notes=NOTES)

    def lines(self) -> Iterator[str]:
        """For a terminal."""
        for line in self.compared():
            each = line.entry
            ours = "" if line.ours is None else f"{line.run} {line.ours:.1%} ({_points(line)})"
            yield (
                f"{SETS[each.dataset][0]:<20} {each.model:<11} {each.metric:<7} {each.value:>6.1%}  "
                f"{each.what:<20} {each.protocol:<19} {ours or line.note:<10} "
                f"[{each.source}; {each.configuration}]"
            )
        for run in self.runs:
            if run.dataset is None:
                yield f"{run.run}: {run.why}"


def ledger(runs: Iterable[Run] | None = None) -> Ledger:
    """The entries, and the runs that there are (a damaged one is named instead)."""
    found, damaged = [], []
    for run in list_runs() if runs is None else runs:
        try:
            given = given_by(run)
        except BadInput as problem:
            damaged.append(str(problem))
            continue
        if given:
            found.append(given)
    return Ledger(ENTRIES, tuple(found), tuple(damaged))


def given_by(run: Run) -> Given | None:
    """What a run's last evaluation gave; None before the first. Raises BadInput."""
    metrics, asked = run.metrics(), run.experiment
    if not metrics:
        return None
    dataset, why = published(asked.dataset, metrics, asked.training.holdout)
    known = {"mAP": "mAP", "mINP": "mINP"}
    given = {name: float(metrics[key]) for name, key in known.items() if key in metrics}
    given["rank-1"] = float(metrics["cmc"]["1"])
    scores = {str(metrics.get("protocol", PROTOCOL)): given}
    if dataset and run.has_embeddings and _wants(asked.model, dataset, LEGACY):
        legacy = score(run.embeddings(), LEGACY) if not run.refined else None
        scores |= {LEGACY: {"mAP": legacy.mAP}} if legacy else {}
    sizes = (int(metrics.get(key, 0)) for key in ("queries", "gallery"))
    return Given(run.name, asked.model, asked.recipe, asked.dataset, dataset, why, scores, *sizes)


def published(name: str, metrics: dict[str, Any], holdout: float = 0) -> tuple[str | None, str]:
    """Which of SETS a run was evaluated on, by its data set's name and the size of its test split;
    else None, and why nothing is published for it."""
    if name == "pedestrians":
        return (
            None,
            "evaluated on the synthetic pedestrians, for which nobody has published a number",
        )
    if holdout:
        return (
            None,
            "evaluated on held-out training identities, for which nobody publishes a number",
        )
    first = name.split("+")[0]
    found = next((key for key, (_, names) in SETS.items() if first in names), None)
    if found is None:
        return None, f"no confirmed number of {name} is entered"
    expected = getattr(DATASETS.get(first), "published", None) or {}
    for split, key in (("query", "queries"), ("gallery", "gallery")):
        if split in expected and metrics.get(key) != expected[split][0]:
            return None, (
                f"its {metrics.get(key)} {key} are not {SETS[found][0]}'s {expected[split][0]}: "
                "other images in that layout"
            )
    return found, ""


def _wants(model: str, dataset: str, protocol: str) -> bool:
    return any((e.model, e.dataset, e.protocol) == (model, dataset, protocol) for e in ENTRIES)


def _beside(entry: Entry, run: Given) -> Line:
    alike = SAME.get(entry.protocol, entry.protocol)
    if other := _other_version(entry, run):
        ours = next((s[entry.metric] for s in run.scores.values() if entry.metric in s), None)
        return Line(entry, run.run, ours, None, other)
    for protocol, scores in run.scores.items():
        if SAME.get(protocol, protocol) == alike and entry.metric in scores:
            ours = scores[entry.metric]
            return Line(entry, run.run, ours, ours - entry.value)
    ours = next((s[entry.metric] for s in run.scores.values() if entry.metric in s), None)
    here = ", ".join(run.scores)
    note = f"{run.run}: another protocol ({here}), so not compared"
    return Line(entry, run.run, ours, None, note)


def _other_version(entry: Entry, run: Given) -> str:
    """Why an MSMT17 number is of other images than the run's, or ""."""
    if entry.dataset != "msmt17":
        return ""
    reported, ours = MSMT17.get(entry.model), run.evaluated_on.split("+")[0].split("-")[1]
    if reported is None:
        return f"{run.run}: the source does not say which version of MSMT17, so not compared"
    return "" if reported == ours else f"{run.run}: on {ours}, reported on {reported}: not compared"


def _points(line: Line) -> str:
    return line.note if line.difference is None else f"{100 * line.difference:+.1f} points"
