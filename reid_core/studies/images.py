"""A cheap stamp of the images that a run was tested on: what is computed from them is stale once they
change in place, which the run itself can't know."""

import json
import os
import time
from functools import lru_cache
from pathlib import Path

import numpy as np

from reid_core.data import default_root, open_dataset
from reid_core.errors import BadInput
from reid_core.runs import Run

MOST = 5000  # files that are asked; of more an even sample, and their folders
FRESH = 10  # seconds that an answer holds
KEPT = "studies/images.json"


def stamp(run: Run) -> list[int]:
    """[count, newest change, bytes] of the test split's files and, where there are more than MOST,
    when their folders last changed.

    Where the files are gone it is what `remember` kept, or nothing: what was computed from them stays.
    """
    asked = run.experiment
    data = asked.data or str(default_root(asked.dataset))
    try:
        names, root = _names(run.folder, run.stamp()), _root(asked.dataset, data)
    except BadInput:
        return _remembered(run)
    return list(_seen(root, names, int(time.monotonic() / max(FRESH, 1e-9)))) or _remembered(run)


def remember(run: Run) -> None:
    """Keep the stamp with the run, for when the files are gone."""
    run.write(KEPT, json.dumps(stamp(run)).encode())


def _remembered(run: Run) -> list[int]:
    try:
        return json.loads((run.folder / KEPT).read_text("utf-8"))
    except (OSError, ValueError):
        return []


@lru_cache(maxsize=8)
def _root(dataset: str, data: str) -> str:
    return str(open_dataset(dataset, data).root)


@lru_cache(maxsize=8)
def _names(folder: Path, changed: int) -> tuple[str, ...]:
    """The paths of the test split below the data set's root, without the vectors beside them."""
    try:
        with np.load(folder / "embeddings.npz", allow_pickle=False) as file:
            return tuple(file["names"].tolist())
    except Exception:  # whatever a damaged archive makes of itself
        return ()


@lru_cache(maxsize=8)
def _seen(root: str, names: tuple[str, ...], moment: int) -> tuple[int, ...]:
    """The stamp as it is now; () where no file is there. moment: changes when it is to be taken anew."""
    newest = size = count = 0
    for name in names[:: -(-len(names) // MOST) or 1]:
        try:
            found = os.stat(f"{root}/{name}")
        except OSError:
            continue
        newest, size, count = max(newest, found.st_mtime_ns), size + found.st_size, count + 1
    if not count or len(names) <= MOST:
        return (count, newest, size) if count else ()
    folders = sorted({os.path.dirname(name) for name in names})
    return count, newest, size, max(_changed(f"{root}/{folder}") for folder in folders)


def _changed(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0
