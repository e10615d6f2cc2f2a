"""The processes of one training: the first starts the others of its machine; all of them watch one
another, so that one which dies ends the rest with a reason, and none waits for ever.

Only the first writes to the run's folder.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta

import torch.distributed as dist

from reid_core.data import ROOT
from reid_core.distributed import PATIENCE, Elsewhere, Place, leave
from reid_core.errors import BadInput
from reid_core.runs import Run, checked, open_run, runs_folder
from reid_core.train.ending import Stopped, log

BEAT = 1.0  # seconds between signs of life
GRACE = 10.0  # for a process to end by itself, once another is gone
LOST = 60.0  # without a sign of life: gone, or its machine is
REASON = "reid/reason"
# What gloo and NCCL say where the other side is gone.
DISCONNECTED = re.compile(r"gloo|nccl|connection|broken pipe|timed out", re.IGNORECASE)


class Lost(BadInput):
    """Another process of the training is gone, or told why it could not go on."""


def awaited(name: str | None) -> Run:
    """The run that the first process trains, or is about to create. Raises BadInput."""
    if not name:
        raise BadInput("--run is missing: several processes need to know the run's name")
    until = time.monotonic() + PATIENCE.total_seconds()
    while not (runs_folder() / checked(name) / "experiment.json").is_file():
        if time.monotonic() > until:
            raise BadInput(f"run {name!r} was not created by the first process: see what it says")
        time.sleep(0.2)
    return open_run(name)


@contextmanager
def together(run: Run, place: Place) -> Iterator[Place]:
    """All the processes of a training, while the block lasts. Yields the place with what was still
    open.

    Raises Lost, with the reason, where another process was lost or could not go on.
    """
    if place.world == 1:
        yield place
        return
    helpers = []
    if not place.given:
        place = replace(place, port=_free_port())
        places = [replace(place, rank=r, local_rank=r) for r in range(1, place.world)]
        helpers = [_started(run, each) for each in places]
    watch = Watch(run, place, helpers)
    try:
        yield place
        watch.leave()
    except Stopped:
        watch.leave()
        raise
    except BaseException as error:
        if reason := watch.reason_of(error):
            raise Lost(reason) from error
        raise
    finally:
        watch.over.set()
        leave()
        for helper in helpers:
            _ended(helper)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _started(run: Run, place: Place) -> subprocess.Popen:
    """Another process of this training, on this machine."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    own = dict(REID_RUNS=str(run.folder.parent.absolute()), PYTHONPATH=path)
    own["TORCH_CPP_LOG_LEVEL"] = "FATAL"  # that the others are gone is told in our words
    return subprocess.Popen(
        [sys.executable, "-m", "reid_core", "train", "--resume", run.name, "--quiet"],
        env=os.environ | own | place.variables(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def _ended(helper: subprocess.Popen) -> None:
    with suppress(subprocess.TimeoutExpired):
        helper.wait(timeout=GRACE)
    if helper.poll() is None:
        helper.kill()
        helper.wait()


class Watch:
    """Signs of life, told and looked for in a thread of its own: a process that waits for a lost one
    in the middle of a step can't look.

    They are counters in the store through which the processes met, and in it lies the reason of the
    first that could not go on.
    """

    def __init__(self, run: Run, place: Place, helpers: list[subprocess.Popen]):
        self.run, self.place, self.helpers = run, place, helpers
        self.over = threading.Event()
        self.parent, self.store = os.getppid(), None
        self.beats: dict[int, tuple[int, float]] = {}
        threading.Thread(target=self._watch, daemon=True).start()

    def leave(self) -> None:
        """This process has done its part."""
        self.over.set()
        with suppress(RuntimeError):
            self.met().add(f"reid/left/{self.place.rank}", 1)

    def tell(self, reason: str) -> None:
        """Why this process can't go on; the first reason told counts."""
        with suppress(RuntimeError):
            self.met().compare_set(REASON, "", f"{self._named(self.place.rank)}: {reason}")

    def reason_of(self, error: BaseException) -> str:
        """Why the training can't go on where that lies in another process; else nothing, and they are
        told."""
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        away = isinstance(error, RuntimeError) and DISCONNECTED.search(words)
        if not (away or isinstance(error, Elsewhere)):
            self.tell(words)
            return ""
        until = time.monotonic() + GRACE
        while time.monotonic() < until:
            if reason := self.look():
                return reason
            time.sleep(0.1)
        # Without the place in the library's source, and without its good wishes.
        said = re.sub(r"^\[\S+:\d+\] ", "", words).partition(". ")[0]
        return f"another process of the training was lost: {said}"

    def look(self) -> str:
        """Why the training can't go on, as far as one knows; else nothing."""
        reason = self._told()
        for number, helper in enumerate(self.helpers, 1):
            if not reason and (code := helper.poll()):
                # It may have told why in its last moment.
                reason = (
                    self._told() or f"{self._named(number)} ended without a word ({_how(code)})"
                )
        if reason or not self.place.rank:
            return reason or self._silent()
        return "" if os.getppid() == self.parent else "the first process is gone"

    def met(self) -> dist.TCPStore:
        """The store, by a connection of one's own: that of the group may be waiting. Raises
        RuntimeError as long as there is none."""
        if self.store is None:
            where = (self.place.address, self.place.port)
            soon = timedelta(seconds=5)
            self.store = dist.TCPStore(*where, timeout=soon, wait_for_workers=False)
        return self.store

    def _told(self) -> str:
        known = self.store is not None
        try:
            store = self.met()
            store.add(f"reid/beat/{self.place.rank}", 1)
            return store.get(REASON).decode() if store.check([REASON]) else ""
        except RuntimeError:
            return "the first process is gone" if known and self.place.rank else ""

    def _silent(self) -> str:
        """A process that has given no sign of life for too long."""
        now = time.monotonic()
        with suppress(RuntimeError):
            for number in range(1, self.place.world):
                beat = self.met().add(f"reid/beat/{number}", 0)
                before, since = self.beats.get(number, (0, now))
                self.beats[number] = (beat, now if beat != before or not beat else since)
                left = self.met().add(f"reid/left/{number}", 0)
                if not left and now - self.beats[number][1] > LOST:
                    return f"{self._named(number)} has given no sign of life for {LOST:.0f} seconds"
        return ""

    def _watch(self) -> None:
        while not self.over.wait(BEAT):
            if (reason := self.look()) and not self.over.wait(GRACE):
                self._end(reason)

    def _end(self, reason: str) -> None:
        """The end of a process that waits for one which will never answer."""
        if not self.place.rank:
            self.tell(reason)
            log.warning("%s", reason)  # nobody is left to tell the terminal
            with suppress(OSError):
                self.run.report_end("failed", reason)
            for helper in self.helpers:
                helper.kill()
        os._exit(1)

    def _named(self, rank: int) -> str:
        return f"process {rank + 1} of {self.place.world}" + (
            f" (on {socket.gethostname()})"
            if self.place.nodes > 1 and rank == self.place.rank
            else ""
        )


def _how(code: int) -> str:
    if code > 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    more = "; the system kills so where memory is short" if name == "SIGKILL" else ""
    return f"{name}{more}"
