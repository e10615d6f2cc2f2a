"""Where a training can be sent: one row each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reid_core.errors import BadInput
from reid_core.jobs import queue, runner
from reid_core.jobs.slurm import place as slurm
from reid_core.jobs.slurm import script as slurm_script
from reid_core.jobs.slurm import watch as slurm_watch
from reid_core.knobs import Knob, knobs_of, unknown
from reid_core.run_folder import RunFolder
from reid_core.runs import Run


@dataclass(frozen=True)
class Where:
    """A place that trains.

    submit(run, asked) queues a run there, asked being the place's own knobs (Options) by name, and
    keeps in `queue.keep_job` what it needs later; it raises BadInput. cancel(run) takes out a run that
    waits. describe(run) says in a few words where a run that waits stands, or where it is trained if
    not here. look() sees to the runs that were sent there; watch() does so too, now and then, and never
    lets one wait. missing() is what this machine lacks to send anything there, in a sentence.
    """

    title: str
    about: str
    submit: Callable[[Run, dict[str, Any]], None]
    cancel: Callable[[RunFolder], None]
    describe: Callable[[RunFolder], str]
    look: Callable[[], None]
    watch: Callable[[], None]
    missing: Callable[[], str] = lambda: ""
    Options: type | None = None

    @property
    def knobs(self) -> list[Knob]:
        """What it wants to know of a training."""
        return knobs_of(self.Options) if self.Options else []

    def usual(self, where: str) -> dict[str, Any]:
        """What this place, of that name, was asked last."""
        last, found = queue.remembered(where), {}
        for knob in self.knobs:
            try:
                found[knob.name] = knob.parse(last.get(knob.name, knob.default))
            except BadInput:
                found[knob.name] = knob.default
        return found


def submit(run: Run, where: str, asked: dict[str, Any] | None = None) -> None:
    """Queue a run where it is said. Raises BadInput."""
    if where not in WHERE:
        raise BadInput(unknown("place", where, WHERE))
    known, asked = {knob.name: knob for knob in WHERE[where].knobs}, asked or {}
    for key in asked:
        if key not in known:
            raise BadInput(f"{WHERE[where].title} takes no {key!r}")
    asked = {key: known[key].parse(value) for key, value in asked.items()}
    WHERE[where].submit(run, asked)
    if asked:
        queue.remember(where, asked)


def watch() -> None:
    """See to the runs of every place."""
    for place in WHERE.values():
        place.watch()


def look() -> None:
    """The same, now: returns when every place has been asked."""
    for place in WHERE.values():
        place.look()


def place_of(run: RunFolder) -> Where:
    """Where a run was sent last."""
    return WHERE.get(queue.job_of(run).get("where", "here"), WHERE["here"])


def _submit(run: Run, asked: dict[str, Any]) -> None:
    from reid_core.optimize import fabric_for

    queue.enqueue(run, fabric_for(run.experiment.training).device.type)
    runner.revive()


def _describe(run: RunFolder) -> str:
    """Such as "number 2 in the queue for cpu"."""
    line = queue.waiting()
    entry = next((each for each in line if each.run.name == run.name), None)
    if entry is None:
        host = run.status().host
        return f"queued on {host}" if host and run.status().queued else ""
    same = [each.run.name for each in line if each.device == entry.device]
    return f"number {same.index(run.name) + 1} in the queue for {entry.device}"


def _look() -> None:
    runner.revive()


WHERE: dict[str, Where] = {
    "here": Where(
        "this machine",
        "A queue, with room for as many at a time as each device is given.",
        _submit,
        queue.cancel,
        _describe,
        _look,
        _look,
    ),
    "slurm": Where(
        "Slurm",
        "A job on a cluster, in the same run folder, which its machines have to share with this one.",
        slurm.submit,
        slurm.cancel,
        slurm_watch.describe,
        slurm_watch.look,
        slurm_watch.watch,
        slurm.missing,
        slurm_script.Options,
    ),
}
