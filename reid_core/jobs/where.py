"""Where a training can be sent: one row each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reid_core.errors import BadInput
from reid_core.jobs import queue, runner
from reid_core.knobs import Knob, knobs_of, unknown
from reid_core.run_folder import RunFolder
from reid_core.runs import Run


@dataclass(frozen=True)
class Where:
    """A place that trains.

    submit(run, asked) queues a run there, asked being the place's own knobs (Options) by name, and
    keeps in `queue.keep_job` what it needs later; it raises BadInput. cancel(run) takes out a run that
    waits. describe(run) says in a few words where a run that waits stands.
    """

    title: str
    about: str
    submit: Callable[[Run, dict[str, Any]], None]
    cancel: Callable[[RunFolder], None]
    describe: Callable[[RunFolder], str]
    Options: type | None = None

    @property
    def knobs(self) -> list[Knob]:
        """What it wants to know of a training."""
        return knobs_of(self.Options) if self.Options else []


def submit(run: Run, where: str, asked: dict[str, Any] | None = None) -> None:
    """Queue a run where it is said. Raises BadInput."""
    if where not in WHERE:
        raise BadInput(unknown("place", where, WHERE))
    known, asked = {knob.name: knob for knob in WHERE[where].knobs}, asked or {}
    for key in asked:
        if key not in known:
            raise BadInput(f"{WHERE[where].title} takes no {key!r}")
    WHERE[where].submit(run, {key: known[key].parse(value) for key, value in asked.items()})


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


WHERE: dict[str, Where] = {
    "here": Where(
        "this machine",
        "A queue, with room for as many at a time as each device is given.",
        _submit,
        queue.cancel,
        _describe,
    ),
}
