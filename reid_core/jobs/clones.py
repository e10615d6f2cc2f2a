"""A run once more, with other knobs."""

from typing import Any

from reid_core.errors import BadInput
from reid_core.experiment import Experiment
from reid_core.runs import Run, open_run
from reid_core.train import create


def clone(
    name: str,
    run: str | None = None,
    settings: dict[str, Any] | None = None,
    *,
    here: bool = True,
) -> Run:
    """A new run with another's experiment but these knobs, not started; here: this machine has the
    device that it wants. Raises BadInput."""
    experiment = cloned(open_run(name).experiment, settings)
    made = create(experiment, run, notes=origin(name, experiment), here=here)
    made.report("stopped", epochs=experiment.epochs)  # so that it can be resumed
    return made


def cloned(source: Experiment, settings: dict[str, Any] | None = None) -> Experiment:
    """The same experiment but for these knobs. Raises BadInput."""
    asked = dict(model=source.model, recipe=source.recipe, dataset=source.dataset, data=source.data)
    return Experiment.create(**asked, settings=source.values | (settings or {}))


def origin(name: str, experiment: Experiment) -> dict[str, Any]:
    """What a clone's record says of the run that it was cloned from. Raises BadInput."""
    changes = difference(open_run(name).experiment, experiment)
    if "encoder" in changes and changes["encoder"][1]:
        open_run(changes["encoder"][1])
    return dict(cloned_from=dict(run=name, changes=changes))


def difference(before: Experiment, now: Experiment) -> dict[str, list[Any]]:
    """What two experiments were asked apart: name -> [before, now]; None where one knows no such
    knob."""
    asked = []
    for each in (before, now):
        what = dict(model=each.model, recipe=each.recipe, dataset=each.dataset, data=each.data)
        asked.append(what | each.values)
    names = dict.fromkeys([*asked[1], *asked[0]])
    both = {name: [each.get(name) for each in asked] for name in names}
    return {name: values for name, values in both.items() if values[0] != values[1]}


def cloned_from(run: Run) -> dict[str, Any]:
    """What `origin` left in a run's record; empty for one that is no clone. Raises BadInput."""
    found = run.record.get("cloned_from")
    if not found:
        return {}
    changes = found.get("changes") if isinstance(found, dict) else None
    pairs = changes.values() if isinstance(changes, dict) else [None]
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs) or "run" not in found:
        raise BadInput(
            f"run {run.name!r} has a damaged note of what it was cloned from: mend or remove "
            "cloned_from in its experiment.json"
        )
    return found
