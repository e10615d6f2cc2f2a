"""Trainings and renderings as processes of their own, which outlive the app that starts them."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reid_core.data import ROOT
from reid_core.errors import BadInput, from_system
from reid_core.experiment import Experiment
from reid_core.runs import Run, open_run
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


def _spawn(run: Run) -> None:
    for child in _children:
        child.poll()  # or the finished ones stay zombies
    # A log rather than a pipe: nobody reads a pipe once the app is gone.
    with (run.folder / "log.txt").open("ab") as log:
        detached = (
            dict(creationflags=subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS)
            if os.name == "nt"
            else dict(start_new_session=True)
        )
        _children.append(
            subprocess.Popen(
                [sys.executable, "-m", "reid_core", "train", "--resume", run.name, "--quiet"],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                **detached,
            )
        )


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
