"""Analyses that take longer than a page may: computed in a process of their own, kept with the run.

A study is a function of a run and a few knobs. What it finds lies in the run's folder,
`studies/NAME-KEY.npz`; the key changes with the knobs and with the weights and embeddings of every
run that takes part, so nothing stale is ever shown.
"""

import hashlib
import io
import json
import os
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from importlib import import_module
from inspect import cleandoc, getsource
from typing import Any

import numpy as np
import psutil
from filelock import FileLock, Timeout

from reid_core.alive import alive, birth
from reid_core.errors import BadInput, as_told
from reid_core.knobs import Knob, knobs_of, unknown
from reid_core.run_folder import read_as
from reid_core.runs import Run, open_run
from reid_core.studies import images

Progress = Callable[[int, int], None]
Arrays = dict[str, np.ndarray]
# Beside a study's arrays in its file: its name and key, so that no other passes for it.
WHOSE = "study"

# Name -> module. The module has Options, a dataclass of knobs, and
# compute(run: Run, options: Options, progress: Progress) -> Arrays, whose docstring names the arrays.
# One that reads the test split's pictures says so: IMAGES = True.
STUDIES: dict[str, str] = {
    "crops": "crops",
    "spread": "spread",
    "projection": "projection",
    "orders": "orders",
    "shares": "shares",
    "deletion": "deletion",
    "tokens-frequency": "tokens_frequency",
    "filters": "filters",
    "draws": "draws",
    "landmarks": "landmarks",
    "neighbour-count": "neighbour_count",
    "set-size": "set_size",
    "rerank": "rerank",
}


class Stopped(Exception):
    """A study was asked to stop."""


@dataclass(frozen=True)
class Standing:
    """Where a study stands: state is "none", "running", "done", "failed" or "stopped"; done of total
    steps; message says why it failed; pid and born of its process; since and time are those of its
    start and of this word, in seconds by one clock."""

    state: str
    done: int = 0
    total: int = 0
    message: str = ""
    pid: int = 0
    born: float = 0.0
    time: float = 0.0
    since: float = 0.0


@dataclass(frozen=True)
class Study:
    """One analysis of one run with its knobs."""

    run: Run
    name: str
    options: Any

    @classmethod
    def asked(cls, run: Run, name: str, settings: dict[str, Any] | None = None) -> "Study":
        """Settings may be text; what is left out takes its default. Raises BadInput."""
        if name not in STUDIES:
            raise BadInput(unknown("study", name, STUDIES))
        kind = _module(name).Options
        known = {knob.name: knob for knob in knobs(name)}
        for key in settings or {}:
            if key not in known:
                raise BadInput(f"{name}: {unknown('knob', key, known)}")
        parsed = {key: known[key].parse(value) for key, value in (settings or {}).items()}
        return cls(run, name, kind(**parsed))

    @cached_property
    def key(self) -> str:
        """Changes with the knobs, with what any of its runs has kept, with the study's own code and,
        where it reads them, with the run's images. What it is when first asked for holds: two steps
        of one computation never disagree."""
        stamps = {self.run.name: self.run.stamp()}
        for field in fields(self.options):
            value = getattr(self.options, field.name)
            if field.metadata.get("kind") == "run" and value:
                stamps[value] = open_run(value).stamp()
        said = [asdict(self.options), stamps, getsource(_module(self.name).compute)]
        said += [images.stamp(self.run)] if self.reads_images else []
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]

    @property
    def reads_images(self) -> bool:
        return getattr(_module(self.name), "IMAGES", False)

    def file(self, suffix: str) -> str:
        """The path of one of its files below the run's folder."""
        return f"studies/{self._whose}.{suffix}"

    @property
    def _whose(self) -> str:
        return f"{self.name}-{self.key}"

    def found(self) -> Arrays | None:
        """What it found, or None where it has not been computed."""
        path = self.run.folder / self.file("npz")
        try:
            with np.load(path, allow_pickle=False) as kept:
                arrays = {name: kept[name] for name in kept}
            if arrays.pop(WHOSE) != self._whose:
                raise ValueError("another study's")
            return arrays
        except FileNotFoundError:
            return None
        except Exception:  # whatever a damaged archive makes of itself: compute it anew
            with suppress(OSError):  # a folder that may only be read
                path.unlink()
            return None

    def standing(self) -> Standing:
        """Where it stands, judged by whether its process is alive."""
        if (self.run.folder / self.file("npz")).is_file():
            return Standing("done")
        try:
            said = (self.run.folder / self.file("json")).read_text("utf-8")
            standing = read_as(Standing, said)
        except FileNotFoundError:
            return Standing("none")
        except (ValueError, TypeError, OverflowError, OSError):
            return Standing("failed", message="its progress file is damaged: start it anew")
        if standing.state == "running" and not alive(standing.pid, standing.born):
            return Standing("failed", message="its process is gone: start it anew")
        return standing

    def stop(self, wanted: bool = True) -> None:
        """Ask it to stop at its next step, or take that back."""
        if wanted:
            self.run.write(self.file("stop"), b"")
        else:
            (self.run.folder / self.file("stop")).unlink(missing_ok=True)

    def compute(self, progress: Progress | None = None) -> Arrays:
        """Compute and keep it, unless it is kept already. Raises BadInput and Stopped.

        progress(done, total) is called as it goes. Two processes never compute the same study at once:
        the second one waits for what the first one finds.
        """
        (self.run.folder / "studies").mkdir(exist_ok=True)
        with self._alone():
            if (found := self.found()) is not None:
                return found
            stop = self.run.folder / self.file("stop")
            told = 0.0

            def step(done: int, total: int) -> None:
                nonlocal told
                if time.monotonic() - told > 0.2 or done == total:
                    self.report("running", done, total)
                    told = time.monotonic()
                if progress:
                    progress(done, total)
                if stop.exists():
                    raise Stopped

            try:
                self.report("running", 0, 0)
                found = _module(self.name).compute(self.run, self.options, step)
                packed = io.BytesIO()
                np.savez_compressed(packed, **found, **{WHOSE: self._whose})
                self.run.write(self.file("npz"), packed.getvalue())
                if self.reads_images:
                    images.remember(self.run)
                (self.run.folder / self.file("json")).unlink(missing_ok=True)
            except BaseException as error:
                stopped = isinstance(error, Stopped | KeyboardInterrupt)
                known = as_told(error)
                told = isinstance(known, BadInput)
                said = str(known) if told else f"{type(error).__name__}: {error}"
                self.report("stopped" if stopped else "failed", message="" if stopped else said)
                raise
            finally:
                self.stop(False)
            return found

    def report(
        self, state: str, done: int = 0, total: int = 0, message: str = "", pid: int = 0
    ) -> None:
        """Say where it stands; pid is that of the process which computes it, by default this one."""
        pid = pid or os.getpid()
        by_clock = time.time(), psutil.Process(pid).create_time()
        said = Standing(state, int(done), int(total), message, pid, birth(pid), *by_clock)
        self.run.write(self.file("json"), json.dumps(asdict(said)).encode())

    @contextmanager
    def _alone(self):
        try:
            with FileLock(self.run.folder / self.file("lock"), timeout=3600):
                yield
        except Timeout:
            raise BadInput(
                f"study {self.name} of run {self.run.name!r} takes over an hour"
            ) from None


def knobs(name: str) -> list[Knob]:
    """The knobs of a study."""
    return knobs_of(_module(name).Options)


def about(name: str) -> str:
    """What a study does, in the words of its module."""
    return cleandoc(_module(name).__doc__)


def _module(name: str):
    """Loaded when it is wanted: some bring heavy packages."""
    return import_module(f"reid_core.studies.{STUDIES[name]}")
