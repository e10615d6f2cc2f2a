"""The folder of a run, as far as one can tell without torch: where its training stands, its log, and
how its files are written. The process that runs the queue lives on this alone, so it stays small."""

import io
import json
import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from filelock import FileLock, Timeout

from reid_core.alive import alive, birth
from reid_core.data import ROOT
from reid_core.errors import BadInput

Kind = TypeVar("Kind")
QUEUED = "queued"
ACTIVE = ("starting", "running", "stopping")
STATES = (QUEUED, *ACTIVE, "stopped", "finished", "failed", "interrupted")
PROGRESS = ("epoch", "epochs", "step", "steps")
# A process that says nothing for this long before its first step is taken for dead.
START_PATIENCE = 120
QUIET = 90  # seconds without a sign of life, of which one is due every 20, that are worth a word


def runs_folder() -> Path:
    """Where the run folders are: `checkpoints/`, or $REID_RUNS."""
    return Path(os.environ.get("REID_RUNS") or ROOT / "checkpoints")


@dataclass(frozen=True)
class Status:
    """Where a training stands.

    state is one of STATES; "interrupted" is one whose process is gone. epoch and step count what is
    done, steps those of this epoch. place is its place in the queue, the lowest first, until its
    training says that it runs.
    """

    state: str
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    images_per_second: float = 0.0
    seconds_left: float | None = None
    message: str = ""
    pid: int | None = None
    born: float | None = None
    host: str = ""
    time: float = 0.0
    place: float | None = None

    @property
    def active(self) -> bool:
        """Whether a process is at work on it."""
        return self.state in ACTIVE

    @property
    def queued(self) -> bool:
        """Whether it waits for its turn."""
        return self.state == QUEUED


@dataclass(frozen=True)
class RunFolder:
    """One run folder."""

    name: str
    folder: Path

    @property
    def has_embeddings(self) -> bool:
        return (self.folder / "embeddings.npz").is_file()

    def report(self, state: str, **progress: Any) -> None:
        """Say where the training stands, and that it is alive."""
        own = this_process() | dict(time=time.time())
        if state in ("starting", QUEUED):
            own |= dict(pid=None, born=None)  # the process that will train is another one
        status = Status(state, **own | progress)
        self.write("state/status.json", (json.dumps(asdict(status), indent=2) + "\n").encode())

    def report_end(self, state: str, message: str) -> None:
        """Say why the training ended, where it stood when it last said anything."""
        last = self.raw_status()
        stood = {} if last is None else {name: getattr(last, name) for name in PROGRESS}
        self.report(state, message=message, **stood)

    def raw_status(self) -> Status | None:
        """What its process last said, "interrupted" where that is damaged; None where none has said
        anything."""
        try:
            return _read((self.folder / "state/status.json").read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, OverflowError, OSError):
            return Status("interrupted", message="state/status.json is damaged")

    def status(self) -> Status:
        """Where the training stands, judged by whether its process is alive."""
        status = self.raw_status()
        if status is None:
            return Status("finished" if self.has_embeddings else "interrupted")
        if status.active and not _alive(status, self._sign()):
            if status.place is not None:  # its runner is gone, and it never began
                return replace(status, state=QUEUED)
            return replace(status, state="interrupted", message="its process is gone")
        quiet = time.time() - max(status.time, self._sign())
        if status.active and status.pid is not None and quiet > QUIET:
            said = f"no sign of life for {quiet / 60:.0f} min: its process is there, and is stuck or hardly gets to compute"
            status = replace(status, message=said)
        if status.active and self.stop_asked:
            return replace(status, state="stopping")
        return status

    @property
    def forsaken(self) -> bool:
        """Whether the process is gone that last said where the training stands."""
        status = self.raw_status()
        return bool(status and status.pid is not None and not _alive(status, self._sign()))

    def vouch(self) -> None:
        """A sign of life, whatever the training is at."""
        with suppress(OSError):
            os.utime(self.folder / "state/status.json")

    def _sign(self) -> float:
        """When there was one last."""
        with suppress(OSError):
            return (self.folder / "state/status.json").stat().st_mtime
        return 0.0

    @property
    def stop_asked(self) -> bool:
        return (self.folder / "state/stop").exists()

    def ask_stop(self, wish: bool = True) -> None:
        """Ask the training to stop at its next step: a file, since Windows has no SIGTERM."""
        if wish:
            (self.folder / "state/stop").touch()  # at once: a signal may come within a signal
        else:
            (self.folder / "state/stop").unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held while training: the system frees it when the process ends. Raises BadInput."""
        try:
            with FileLock(self.folder / "state/lock", timeout=1):
                yield
        except Timeout:
            raise BadInput(f"run {self.name!r} is being trained by another process") from None

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the log; none where it can't be read."""
        try:
            with (self.folder / "log.txt").open("rb") as file:
                file.seek(max(0, file.seek(0, io.SEEK_END) - 200 * lines))
                return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])
        except OSError:
            return ""

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Write a file of the run so that a reader sees the old one or the new one."""
        with self.writing(name) as file:
            file.write(content)

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A file that takes its place, whole and on the disk, when the `with` block is through."""
        path = self.folder / name
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with beside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            move(beside, path)
        except OSError as error:
            if error.filename in (None, str(beside), beside):  # nobody knows of that one
                error.filename = str(path)
            raise
        finally:
            with suppress(OSError):  # or it would hide what went wrong
                beside.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a process that was killed while writing has left. Only with the lock."""
        for folder in (self.folder, self.folder / "state"):
            for left in folder.glob(".*.[0-9]*"):
                left.unlink(missing_ok=True)


def _read(text: str) -> Status:
    """Raises ValueError, TypeError or OverflowError where a value is not of its field's kind."""
    status = read_as(Status, text)
    if status.state not in STATES:
        raise ValueError(f"state {status.state!r}")
    return status


def read_as(kind: type[Kind], text: str) -> Kind:
    """A dataclass of plain values from its JSON. Raises ValueError, TypeError or OverflowError where a
    value is not of its field's kind, or a number no float can hold."""
    found = kind(**json.loads(text))
    for field in fields(found):
        value = getattr(found, field.name)
        fits = isinstance(value, field.type | int if isinstance(0.0, field.type) else field.type)
        if not fits or (isinstance(value, int | float) and not math.isfinite(value)):
            raise ValueError(f"{field.name} {value!r}")
    return found


def this_process() -> dict[str, Any]:
    """What tells this process from any other, also from a later one with its number."""
    return dict(pid=os.getpid(), born=birth(os.getpid()), host=socket.gethostname())


def _alive(status: Status, sign: float) -> bool:
    """sign is when its folder last showed one of life: all there is to see from another machine."""
    if status.host != socket.gethostname():
        return time.time() - max(status.time, sign) < START_PATIENCE
    if status.pid is None:
        return time.time() - status.time < START_PATIENCE
    return alive(status.pid, status.born or 0)


def move(source: Path, target: Path) -> None:
    """Replace the target; Windows refuses while a reader has it open, so try for a second."""
    for _ in range(20):
        try:
            return os.replace(source, target)
        except PermissionError:
            if os.name != "nt":
                raise
            time.sleep(0.05)
    os.replace(source, target)
