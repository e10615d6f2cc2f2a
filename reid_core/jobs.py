"""Trainings and renderings as processes of their own, which outlive the app that starts them."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reid_core.data import ROOT
from reid_core.errors import BadInput, from_system
from reid_core.experiment import Experiment
from reid_core.runs import Run, open_run
from reid_core.studies import Study
from reid_core.train import create

_children: list[subprocess.Popen] = []


def start(
    model: str,
    recipe: str,
    dataset: str,
    data: str | None = None,
    settings: dict[str, Any] | None = None,
    run: str | None = None,
) -> str:
    """Create a run and train it in a process of its own; returns its name. Raises BadInput."""
    experiment = Experiment.create(
        model=model, recipe=recipe, dataset=dataset, data=data, settings=settings
    )
    try:
        created = create(experiment, run)
        _spawn(created)
    except OSError as error:
        raise from_system(error) from error
    return created.name


def resume(name: str) -> None:
    """Go on with a stopped, failed or interrupted run. Raises BadInput."""
    run = open_run(name)
    if not run.resumable:
        raise BadInput(f"run {name!r} can't be resumed: it is {run.status().state}")
    run.ask_stop(False)
    run.report("starting", epochs=run.experiment.epochs)
    _spawn(run)


def stop(name: str) -> None:
    """Ask a training to stop at its next step and save its state."""
    open_run(name).ask_stop()


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


def _spawn(run: Run) -> None:
    _detached(["train", "--resume", run.name, "--quiet"], run.folder / "log.txt")


def _detached(arguments: list[str], log_file: Path) -> subprocess.Popen:
    """A command of ours in a process that outlives this one; what it says goes to the log."""
    for child in _children:
        child.poll()  # or the finished ones stay zombies
    # A log rather than a pipe: nobody reads a pipe once the app is gone.
    with log_file.open("ab") as log:
        detached = (
            dict(creationflags=subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS)
            if os.name == "nt"
            else dict(start_new_session=True)
        )
        _children.append(
            subprocess.Popen(
                [sys.executable, "-m", "reid_core", *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                **detached,
            )
        )
    return _children[-1]


def generate(root: Path) -> Iterator[tuple[int, int]]:
    """Render the default pedestrians in a process of its own; yields (done, total). Raises BadInput."""
    command = [sys.executable, "-m", "reid_core", "synth", str(root), "--progress", "lines"]
    if count := os.environ.get("REID_PEDESTRIANS"):
        command += ["--identities", count]
    last = ""
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if found := re.fullmatch(r"(\d+)/(\d+)", line.strip()):
                yield int(found[1]), int(found[2])
            else:
                last = line.strip() or last
    if process.returncode:
        raise BadInput(last or f"the renderer ended with {process.returncode}")
