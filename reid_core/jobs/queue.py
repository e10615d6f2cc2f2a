"""The queue: runs that wait until a device of this machine has room for them.

A run waits while its state/status.json says "queued", and its place is a number in the same file. So
one write puts it in, moves it or takes it out, whole or not at all, and no list beside the runs could
say otherwise. Nothing here needs torch, or a process that serves: `runner` takes what waits.
"""

import json
import os
import socket
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from reid_core.errors import BadInput
from reid_core.jobs.job import DEVICES, JOB, damage, job_of, keep_job
from reid_core.knobs import Knob, unknown
from reid_core.run_folder import QUEUED, RunFolder, Status, move, runs_folder, this_process

# Of the one who queued it, for the process that trains it.
INHERITED = ("REID_DATA", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Entry:
    """A run that waits or is trained."""

    run: RunFolder
    status: Status

    @cached_property
    def job(self) -> dict[str, Any]:
        return job_of(self.run)

    @property
    def here(self) -> bool:
        """Whether it is this machine's to train."""
        return self.job.get("where", "here") == "here" and self.status.host == socket.gethostname()

    @property
    def device(self) -> str:
        """ "cpu", "cuda" or "mps"; "auto" for one that was not started through the queue."""
        if found := self.job.get("device"):
            return found
        try:
            record = json.loads((self.run.folder / "experiment.json").read_text("utf-8"))
            asked = record["knobs"]["device"]
        except (OSError, ValueError, KeyError, TypeError):
            return "auto"
        return asked if asked in DEVICES else "auto"  # where it is damaged, its training says so

    @property
    def damage(self) -> str:
        """Why it can't be started, and what to do; "" where it can."""
        if (self.run.folder / "state/stop").is_dir():
            return "state/stop is a folder: remove it, then resume the run"
        return damage(self.run)


def entries() -> list[Entry]:
    """Every run that is trained, by name, then every run that waits, by place; wherever they do."""
    found = _all()
    going = [each for each in found if each.status.active]
    waiting = [each for each in found if each.status.queued]
    return going + sorted(waiting, key=lambda each: (each.status.place or 0, each.run.name))


def waiting() -> list[Entry]:
    """What waits for this machine, in its order."""
    return [each for each in entries() if each.status.queued and each.here]


def ended(most: int) -> list[Entry]:
    """The runs of the queue that ended last, in whatever way, the latest first."""
    found = [each for each in _all() if not (each.status.active or each.status.queued)]
    found = [each for each in found if (each.run.folder / JOB).is_file()]
    return sorted(found, key=lambda each: -each.status.time)[:most]


def remember(where: str, asked: dict[str, Any]) -> None:
    """What a place was asked last, for who asks next."""
    beside = folder() / f".{where}.{os.getpid()}"
    beside.write_bytes(_json(asked))
    move(beside, folder() / f"{where}.json")


def remembered(where: str) -> dict[str, Any]:
    """What `remember` kept; empty before."""
    try:
        asked = json.loads((folder() / f"{where}.json").read_text("utf-8"))
        return asked if isinstance(asked, dict) else {}
    except (OSError, ValueError):
        return {}


# What changes it


def enqueue(run: RunFolder, device: str) -> None:
    """Put a run at the end. Raises BadInput where it waits or is trained already."""
    with changing():
        status = run.status()
        if status.queued or (status.active and status.pid is not None):
            raise BadInput(f"run {run.name!r} can't be queued: it is {status.state}")
        environment = {name: os.environ.get(name) for name in INHERITED}
        keep_job(run, where="here", device=device, environment=environment)
        run.ask_stop(False)  # an old wish
        last = max((each.status.place or 0 for each in entries()), default=0)
        run.report(QUEUED, place=last + 1, **progress(status))


def cancel(run: RunFolder) -> None:
    """Take a run out; one that has begun is asked to stop."""
    with changing():
        status = run.status()
        if status.queued:
            run.report("stopped", **progress(status))
            return
    run.ask_stop()


def shift(run: RunFolder, by: int) -> None:
    """Move a waiting run by so many places, up where negative. Raises BadInput."""
    with changing():
        line = waiting()
        here = next((n for n, each in enumerate(line) if each.run.name == run.name), None)
        if here is None:
            raise BadInput(f"run {run.name!r} does not wait in this machine's queue")
        entry = line.pop(here)
        there = min(max(here + by, 0), len(line))
        places = [each.status.place for each in line]
        before = places[there - 1] if there else places[0] - 2 if places else 0
        after = places[there] if there < len(places) else before + 2
        run.report(QUEUED, place=(before + after) / 2, **progress(entry.status))


def take(but: Collection[str] = ()) -> Entry | None:
    """The first that waits and whose device has room, now said to be starting; None without one.

    It keeps its place until its training says that it runs: should this process end before, it still
    waits. but are names to leave out.
    """
    with changing():
        found, limit = entries(), limits()
        begun = [each for each in found if each.status.active and each.status.pid is not None]
        going = Counter(each.device for each in begun if each.here)
        for entry in found:
            run, device = entry.run, entry.device
            if not entry.here or not entry.status.queued or run.name in but:
                continue
            if why := entry.damage:
                run.report("failed", message=why, **progress(entry.status))
            elif run.stop_asked:
                run.report("stopped", **progress(entry.status))
                run.ask_stop(False)
            elif going[device] + going["auto"] < limit[device]:
                place = entry.status.place
                run.report("starting", place=place, **this_process(), **progress(entry.status))
                return entry
        return None


def limits() -> dict[str, int]:
    """How many trainings a device has room for at a time; 1 unless said otherwise."""
    try:
        kept = json.loads((folder() / "limits.json").read_text("utf-8"))
        kept = {key: _room(key, value) for key, value in kept.items() if key in DEVICES}
    except (OSError, ValueError, AttributeError, BadInput):
        kept = {}  # nobody has said anything yet, or it is damaged
    return dict.fromkeys((*DEVICES, "auto"), 1) | kept


def limit(device: str, number: Any) -> None:
    """Say how many trainings a device has room for; 0 holds the queue. Raises BadInput."""
    if device not in DEVICES:
        raise BadInput(unknown("device", device, DEVICES))
    count = _room(device, number)
    with changing():
        kept = {name: count for name, count in limits().items() if name in DEVICES}
        beside = folder() / f".limits.{os.getpid()}"
        beside.write_bytes(_json(kept | {device: count}))
        move(beside, folder() / "limits.json")


def _room(device: str, number: Any) -> int:
    return Knob(f"limit of {device}", "int", 1, "", "", least=0, most=64).parse(number)


@contextmanager
def changing() -> Iterator[None]:
    """Only one process at a time changes the queue; the system frees it when that one ends."""
    try:
        with FileLock(folder() / "lock", timeout=20):
            yield
    except Timeout:
        raise BadInput("the queue is being changed by another process: try again") from None


def folder() -> Path:
    """Where the queue keeps its locks, limits and log."""
    path = runs_folder() / ".queue"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _all() -> list[Entry]:
    home = runs_folder()
    folders = sorted(home.iterdir()) if home.is_dir() else []
    runs = [RunFolder(path.name, path) for path in folders if (path / "state").is_dir()]
    return [Entry(run, run.status()) for run in runs]


def progress(status: Status) -> dict[str, Any]:
    """What a status says of how far the training is."""
    return {name: getattr(status, name) for name in ("epoch", "epochs", "step", "steps")}


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
