"""Trainings, studies and renderings as processes of their own, which outlive the app that starts them.

    processes    commands of ours, detached
    job          where one of them was sent
    queue        runs that wait for their device: files in their folders, changed by whoever likes
    runner       the process that takes them
    where        the places that train: this machine, Slurm
    slurm        the second of them
    clones       a run once more, with other knobs
    sweeps       a training over values of a knob and over seeds

What needs torch is imported where it is used: the runner needs none.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from reid_core.errors import BadInput, from_system
from reid_core.jobs import queue, runner
from reid_core.jobs.processes import detached as _detached
from reid_core.jobs.processes import generate

if TYPE_CHECKING:
    from reid_core.studies import Study


def start(
    model: str,
    recipe: str,
    dataset: str,
    data: str | None = None,
    settings: dict[str, Any] | None = None,
    run: str | None = None,
    *,
    where: str = "here",
    asked: dict[str, Any] | None = None,
    cloned_from: str | None = None,
) -> str:
    """Create a run and queue it; returns its name. Raises BadInput.

    where is a row of `where.WHERE`, asked what that one wants to know; cloned_from the run whose
    experiment was the first draft of this one.
    """
    from reid_core.experiment import Experiment
    from reid_core.jobs.clones import origin
    from reid_core.jobs.where import submit
    from reid_core.train import create

    experiment = Experiment.create(
        model=model, recipe=recipe, dataset=dataset, data=data, settings=settings
    )
    notes = origin(cloned_from, experiment) if cloned_from else None
    try:
        created = create(experiment, run, notes=notes, here=where == "here")
        try:
            submit(created, where, asked)
        except BadInput:
            shutil.rmtree(created.folder)  # or its name would be taken for what follows
            raise
    except OSError as error:
        raise from_system(error) from error
    return created.name


def start_sweep(
    name: str, *, where: str = "here", asked: dict[str, Any] | None = None, **what: Any
) -> list[str]:
    """Create the runs of a sweep and queue them; returns their names. Raises BadInput.

    what is as `sweeps.planned` takes it. Nothing is created unless all of them can be.
    """
    from reid_core.jobs.sweeps import planned
    from reid_core.jobs.where import submit
    from reid_core.train import create

    members, key = planned(name, **what), what.get("key", "")
    here, created, sent = where == "here", [], 0
    try:
        for each in members:
            created.append(create(each.experiment, each.run, each.note(name, key), here=here))
        for run in created:  # one that is not reached can be resumed
            run.report("stopped", epochs=run.experiment.epochs)
        for run in created:
            submit(run, where, asked)
            sent += 1
    except (BadInput, OSError) as error:
        for run in created if not sent else ():  # their names would be taken for what follows
            shutil.rmtree(run.folder, ignore_errors=True)
        raise (from_system(error) if isinstance(error, OSError) else error) from error.__cause__
    return [run.name for run in created]


def resume(name: str, where: str | None = None, asked: dict[str, Any] | None = None) -> None:
    """Go on with a stopped, failed or interrupted run, or with one that waits on another machine, by
    the queue: where it was sent last unless another place is named. Raises BadInput."""
    from reid_core.jobs.where import place_of, submit
    from reid_core.runs import open_run

    run = open_run(name)
    try:
        place_of(run).look()  # what seems gone may only be silent
        job, status = queue.job_of(run), run.status()
        same = where is None or where == job.get("where", "here")
        elsewhere = job.get("where", "here") == "here" and not queue.Entry(run, status).here
        if status.queued and (elsewhere or not same):
            place_of(run).cancel(run)
        if not run.resumable:
            raise BadInput(f"run {name!r} can't be resumed: it is {run.status().state}")
        submit(
            run, where or job.get("where", "here"), asked or (job.get("asked") if same else None)
        )
    except OSError as error:
        raise from_system(error) from error


def stop(name: str) -> None:
    """Take a run out of its queue, or ask its training to stop at its next step and save its state.
    Raises BadInput for one that has ended."""
    from reid_core.jobs.where import place_of
    from reid_core.runs import open_run

    found = (each.run for each in queue.entries() if each.run.name == name)
    run = next(found, None) or open_run(name)  # one that is damaged can be stopped too
    try:
        status = run.status()
        if status.state in ("finished", "failed", "stopped"):
            raise BadInput(f"run {name!r} can't be stopped: it is {status.state}")
        if status.queued:
            place_of(run).cancel(run)
        else:
            run.ask_stop()
    except OSError as error:
        raise from_system(error) from error


def shift(name: str, by: int) -> None:
    """Move a run that waits on this machine by so many places, up where negative. Raises BadInput."""
    from reid_core.runs import open_run

    try:
        queue.shift(open_run(name), by)
    except OSError as error:
        raise from_system(error) from error


def limit(device: str, number: int) -> None:
    """How many trainings a device of this machine has room for at a time. Raises BadInput."""
    try:
        queue.limit(device, number)
        runner.revive()
    except OSError as error:
        raise from_system(error) from error


def devices() -> list[str]:
    """The kinds of device that this machine can train on."""
    import torch

    others = dict(cuda=torch.cuda.is_available, mps=torch.backends.mps.is_available)
    return ["cpu", *(name for name, there in others.items() if there())]


def start_study(study: Study) -> None:
    """Compute a study in a process of its own, unless it is computed or on its way. Raises BadInput."""
    if study.standing().state in ("done", "running"):
        return
    settings = [f"{key}={value}" for key, value in asdict(study.options).items()]
    try:
        (study.run.folder / "studies").mkdir(exist_ok=True)
        study.stop(False)  # what an earlier process was asked; from here on it is for the new one
        study.report("running")  # until the process says so itself, or the page would start another
        log = study.run.folder / study.file("log")
        process = _detached(
            ["study", study.run.name, study.name, "--quiet", "--set", *settings], log
        )
        study.report("running", pid=process.pid)
    except OSError as error:
        raise from_system(error) from error


__all__ = [
    "devices",
    "generate",
    "limit",
    "resume",
    "shift",
    "start",
    "start_study",
    "start_sweep",
    "stop",
]
