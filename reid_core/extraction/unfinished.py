"""What an extraction leaves beside its file until it has ended, so that it can go on.

    F.npz.unfinished/vectors.f32    (n, D) float32 of the images that could be read so far
    F.npz.unfinished/state.json     what was asked, how far it came, and what could not be read

The vectors go to the disk as they come, and are read back through a memory map: memory does not grow
with their number. A file that is appended to says when the disk is full; a memory map would be killed.
"""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from reid_core.errors import BadInput
from reid_core.extraction.stream import Embedded

SECONDS = 1.0  # of work that a kill may cost


class Unfinished:
    """Used in a `with` block, which removes it where all went well.

    said: what was asked, by name, as JSON; other values than those kept start anew. After entering,
    tried counts the images that were looked at before, and news says in words what was found.
    """

    def __init__(self, out: Path, said: dict[str, Any]):
        self.folder = out.with_name(out.name + ".unfinished")
        self.said = json.loads(json.dumps(said))
        self.tried, self.kept, self.dimensions = 0, 0, 0
        self.batch_size: int | None = None
        self.problems: dict[int, str] = {}
        self.news = ""
        self.saved = 0.0

    def __enter__(self) -> "Unfinished":
        self.folder.mkdir(exist_ok=True)
        self.lock = FileLock(self.folder / "lock", timeout=0)
        try:
            self.lock.acquire()
        except Timeout:
            raise BadInput(
                f"another process writes {self.folder.stem}: wait for it, or give another --out"
            ) from None
        try:
            self._go_on()
            self.file = self._vectors_file.open("r+b" if self.tried else "wb")
            self.file.truncate(self._bytes)
            self.file.seek(self._bytes)
        except BaseException:
            self.lock.release()
            raise
        return self

    def add(self, part: Embedded) -> None:
        """Keep the next batch."""
        if len(part.vectors):
            self.dimensions = part.vectors.shape[1]
            self.file.write(np.ascontiguousarray(part.vectors, np.float32).data)
            self.kept += len(part.vectors)
        self.problems |= {row: str(problem) for row, problem in part.problems.items()}
        self.tried = part.rows.stop
        if time.monotonic() - self.saved > SECONDS:
            self._save()

    def vectors(self) -> np.ndarray:
        """(n, D) float32 of the images without a problem, mapped into memory."""
        self.file.flush()
        shape = self.kept, self.dimensions
        return np.memmap(self._vectors_file, np.float32, "c", shape=shape) if self.kept else []

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, OSError):  # a disk that is full does not say for which file
            error.filename = error.filename or str(self.folder)
        try:
            if error is not None and not isinstance(error, OSError):
                self._save()
            self.file.close()
        except OSError as problem:
            problem.filename = problem.filename or str(self.folder)
            raise
        finally:
            self.lock.release()
        if error is None or not self.kept:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _vectors_file(self) -> Path:
        return self.folder / "vectors.f32"

    @property
    def _bytes(self) -> int:
        return self.kept * self.dimensions * 4

    def _go_on(self) -> None:
        """Take up what is there, or say why not."""
        path = self.folder / "state.json"
        if not path.is_file():
            return
        try:
            state = json.loads(path.read_text("utf-8"))
            said, numbers, problems = _checked(state)
            whole = self._vectors_file.stat().st_size >= numbers[1] * numbers[2] * 4
        except (OSError, ValueError, RecursionError):
            said, whole = self.said, False
        other = [name for name in self.said if said.get(name) != self.said[name]]
        if other or not whole:
            why = f"is of another {' and another '.join(other)}" if other else "is damaged"
            self.news = f"{self.folder.name} {why}: starting anew"
            return
        self.tried, self.kept, self.dimensions, self.batch_size = numbers
        self.problems = problems
        self.news = f"going on after {self.tried} images"

    def _save(self) -> None:
        self.file.flush()
        numbers = [self.tried, self.kept, self.dimensions, self.batch_size or 0]
        state = dict(said=self.said, numbers=numbers, problems=self.problems)
        beside = self.folder / "state.json.new"
        beside.write_text(json.dumps(state), "utf-8")
        os.replace(beside, self.folder / "state.json")
        self.saved = time.monotonic()


def _checked(state: Any) -> tuple[dict[str, Any], list[int], dict[int, str]]:
    """What was asked, the four numbers and the problems of a state. Raises ValueError for another."""
    kinds = dict(said=dict, numbers=list, problems=dict)
    if not isinstance(state, dict) or any(type(state.get(k)) is not v for k, v in kinds.items()):
        raise ValueError("no state")
    numbers, problems = state["numbers"], {int(row): str(p) for row, p in state["problems"].items()}
    if len(numbers) != 4 or any(type(each) is not int or each < 0 for each in numbers):
        raise ValueError("no numbers")
    tried, kept, dimensions, _ = numbers
    if kept + len(problems) != tried or (kept and not dimensions):
        raise ValueError("numbers that don't fit together")
    return state["said"], numbers, problems
