"""Commands of ours as processes of their own, which outlive the one that starts them."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from reid_core.data import ROOT
from reid_core.errors import BadInput
from reid_core.priority import give_way
from reid_core.run_folder import runs_folder

_children: list[subprocess.Popen] = []


def detached(
    arguments: list[str], log_file: Path, environment: dict[str, str | None] | None = None
) -> subprocess.Popen:
    """A command of ours in a process that outlives this one and gives way to it; what it says goes to
    the log.

    environment: variables that it sees otherwise than this process does, None for not at all.
    """
    for child in _children:
        child.poll()  # or the finished ones stay zombies
    own = os.environ | dict(REID_RUNS=str(runs_folder().absolute())) | (environment or {})
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
                env={key: value for key, value in own.items() if value is not None},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                **detached,
            )
        )
    give_way(_children[-1], leads=True)
    return _children[-1]


def generate(root: Path) -> Iterator[tuple[int, int]]:
    """Render the default pedestrians in a process of its own; yields (done, total). Raises BadInput."""
    command = [sys.executable, "-m", "reid_core", "synth", str(root), "--progress", "lines"]
    if count := os.environ.get("REID_PEDESTRIANS"):
        command += ["--identities", count]
    last = ""
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        give_way(process)
        for line in process.stderr:
            if found := re.fullmatch(r"(\d+)/(\d+)", line.strip()):
                yield int(found[1]), int(found[2])
            else:
                last = line.strip() or last
    if process.returncode:
        raise BadInput(last or f"the renderer ended with {process.returncode}")
