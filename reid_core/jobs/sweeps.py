"""Sweeps: the same training over the values of a knob and over seeds, and what they gave together."""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from reid_core.errors import BadInput
from reid_core.experiment import Experiment, knobs
from reid_core.jobs.clones import difference
from reid_core.knobs import unknown
from reid_core.runs import Run, checked, list_runs, runs_folder

MOST = 200  # runs


@dataclass(frozen=True)
class Member:
    """One training of a sweep. value is as it was typed; "" where only seeds differ."""

    run: str
    value: str
    seed: int
    experiment: Experiment

    def note(self, name: str, key: str) -> dict[str, Any]:
        """What its record says of the sweep."""
        return dict(sweep=dict(name=name, key=key, value=self.value, seed=self.seed))


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep, by value and then by seed."""

    name: str
    key: str
    runs: dict[str, list[Run]]


@dataclass(frozen=True)
class Band:
    """A metric over epochs (E,): mean, smallest and largest over the seeds that have come that far,
    and how many have."""

    epochs: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: np.ndarray


def planned(
    name: str,
    *,
    model: str,
    key: str = "",
    values: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    settings: dict[str, Any] | None = None,
    **asked: Any,
) -> list[Member]:
    """The trainings of a sweep, looked at before any is created. Raises BadInput.

    key "" is a sweep over seeds alone. asked is as Experiment.create takes it.
    """
    checked(name)
    _check(model, key, values, seeds, settings or {})
    found, seen = [], {}
    for value in values or ("",):
        for seed in seeds:
            own = {key: value} if key else {}
            experiment = Experiment.create(
                model=model, settings=(settings or {}) | own | dict(seed=seed), **asked
            )
            parsed = _meant(experiment.values[key]) if key else ""
            if seen.setdefault((parsed, experiment.training.seed), value) != value:
                raise BadInput(
                    f"sweep over {key}: {value!r} and {seen[parsed, seed]!r} are one value"
                )
            parts = [name, _word(value), f"s{seed}"] if key else [name, f"s{seed}"]
            found.append(Member(checked("-".join(parts)), value, int(seed), experiment))
    names = [each.run for each in found]
    for each in names:
        if names.count(each) > 1:
            raise BadInput(f"two trainings of the sweep would be named {each!r}; give other values")
        if (runs_folder() / each).exists():
            raise BadInput(f"run {each!r} exists already; give the sweep another name")
    _refuse_other(name, key, found)
    return found


def _refuse_other(name: str, key: str, found: list[Member]) -> None:
    """A sweep that there is may get more values and seeds. Raises BadInput where more would differ."""
    if not (there := sweeps().get(name)):
        return
    if there.key != key:
        over = there.key or "seeds alone"
        raise BadInput(f"sweep {name!r} is over {over}; give this one another name")
    kept = next(iter(there.runs.values()))[0].experiment
    if other := difference(kept, found[0].experiment).keys() - {key, "seed"}:
        raise BadInput(
            f"sweep {name!r} has other {', '.join(sorted(other))}; give this one another name"
        )
    spelled = {
        _meant(runs[0].experiment.values[key]): value for value, runs in there.runs.items() if key
    }
    for each in found:
        meant = _meant(each.experiment.values[key]) if key else ""
        if (known := spelled.get(meant, each.value)) != each.value:
            raise BadInput(f"sweep {name!r} has {each.value!r} as {known!r}; write it so")


def _meant(value: Any) -> Any:
    """A knob's value, such that two spellings of one are equal: a text may hold numbers."""
    if not isinstance(value, str):
        return value
    with suppress(ValueError):
        return tuple(float(part) for part in value.replace(",", " ").split())
    return value


def sweeps() -> dict[str, Sweep]:
    """Every sweep of which there are runs, by name."""
    found: dict[str, Sweep] = {}
    for run in list_runs():
        if not (note := note_of(run)):
            continue
        sweep = found.setdefault(note["name"], Sweep(note["name"], note["key"], {}))
        sweep.runs.setdefault(note["value"], []).append(run)
    return {name: _ordered(sweep) for name, sweep in sorted(found.items())}


def note_of(run: Run) -> dict[str, Any]:
    """What a run's record says of its sweep; empty for one that belongs to none."""
    try:
        note = json.loads((run.folder / "experiment.json").read_text("utf-8"))["sweep"]
        kinds = dict(name=str, key=str, value=str, seed=int)
        return note if all(isinstance(note[name], kinds[name]) for name in kinds) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def band(runs: Sequence[Run], metric: str) -> Band:
    """A metric of the history over the epochs that any of these runs has it for; a damaged history has
    none."""
    kept: dict[int, list[float]] = {}
    for run in runs:
        for entry in _history(run):
            if entry.get(metric) is not None:
                kept.setdefault(int(entry["epoch"]), []).append(float(entry[metric]))
    epochs = sorted(kept)
    of = lambda how: np.array([how(kept[epoch]) for epoch in epochs])  # noqa: E731
    return Band(np.array(epochs, dtype=int), of(np.mean), of(min), of(max), of(len))


def final(runs: Sequence[Run], metric: str = "mAP") -> np.ndarray:
    """The metric of each finished run's last evaluation, (n,) with n of them that have one."""
    done = [run for run in runs if run.status().state == "finished"]
    scores = [entry[-1][metric] for run in done if (entry := _scored(run, metric))]
    return np.array(scores, dtype=float)


def failures(runs: Sequence[Run]) -> dict[str, str]:
    """The runs whose training failed or whose process is gone, and those that are finished without a
    score, and why."""
    found = {}
    for run in runs:
        status = run.status()
        if status.state in ("failed", "interrupted"):
            found[run.name] = status.message or status.state
        elif status.state == "finished" and not _scored(run, "mAP"):
            found[run.name] = "its history.jsonl is damaged or holds no mAP"
    return found


def _scored(run: Run, metric: str) -> list[dict[str, Any]]:
    return [entry for entry in _history(run) if metric in entry]


def _history(run: Run) -> list[dict[str, Any]]:
    try:
        return run.history()
    except BadInput:
        return []


def _check(model: str, key: str, values: Sequence[str], seeds: Sequence[int], settings) -> None:
    if key == "seed" or (key and key not in {knob.name for knob in knobs(model)}):
        known = {knob.name for knob in knobs(model)} - {"seed"}
        raise BadInput("give seeds with --seeds" if key == "seed" else unknown("key", key, known))
    if bool(key) != bool(values):
        raise BadInput("--sweep: expected KEY=VALUE,VALUE,... with at least one value")
    if key in settings or "seed" in settings:
        raise BadInput(f"{key if key in settings else 'seed'}: is swept over; don't set it as well")
    if not seeds or len(set(seeds)) < len(seeds):
        raise BadInput("--seeds: expected whole numbers, each once, such as 0,1,2")
    if (count := max(len(values), 1) * len(seeds)) > MOST:
        raise BadInput(f"a sweep of {count} trainings: expected {MOST} at most; give fewer values")


def _ordered(sweep: Sweep) -> Sweep:
    seed = lambda run: note_of(run).get("seed", 0)  # noqa: E731
    runs = {value: sorted(sweep.runs[value], key=seed) for value in sorted(sweep.runs, key=_rank)}
    return Sweep(sweep.name, sweep.key, runs)


def _rank(value: str) -> tuple[bool, float, str]:
    """Numbers by size, before words."""
    try:
        return False, float(value), ""
    except ValueError:
        return True, 0.0, value


def _word(value: str) -> str:
    """A value as part of a run's name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", str(value)).strip("-") or "none"
