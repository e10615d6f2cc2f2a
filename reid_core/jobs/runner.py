"""The process that takes what is queued: one for each runs folder and machine, as long as there is
work. Nobody has to start it (`revive` does, from whatever looks at the queue), and it outlives the app."""

import logging
import os
import signal
import socket
import subprocess
import time

from filelock import FileLock, Timeout

from reid_core.errors import BadInput
from reid_core.jobs import queue
from reid_core.jobs.processes import detached
from reid_core.run_folder import ACTIVE, RunFolder, runs_folder

PAUSE = 0.5  # seconds between two looks
HINTS = {
    "SIGKILL": "often the system was short of memory",
    "SIGSEGV": "a crash in a library",
    "SIGBUS": "a crash in a library, or a full disk",
    "SIGABRT": "a library gave up",
}
log = logging.getLogger(__name__)


def revive() -> None:
    """See to it that a runner is at work where anything waits for this machine."""
    if not queue.waiting():
        return
    try:
        with _lock().acquire(timeout=0):
            pass  # nobody holds it
    except Timeout:
        return
    detached(["queue", "--serve"], queue.folder() / "runner.log")


def serve() -> None:
    """Train what is queued until nothing waits. Returns at once where another runner is at work."""
    lock = _lock()
    try:
        lock.acquire(timeout=1)
    except Timeout:
        return
    children: dict[str, subprocess.Popen] = {}
    refused: set[str] = set()  # their folders can't be written
    while True:
        _bury(children)
        try:
            while entry := queue.take(but={*refused, *children}):  # some have only said their end
                _begin(entry, children)
            with queue.changing():
                left = [each for each in queue.waiting() if each.run.name not in refused]
                if not children and not left:
                    lock.release()  # before anybody can add what nobody would take
                    return
        except BadInput as problem:
            log.warning("%s", problem)
        except OSError as error:
            log.warning("a queued run could not be started: %s", error)
            more = {each.run.name for each in queue.waiting() if _is_of(error, each.run)}
            if not more - refused and not children:
                raise
            refused |= more
        time.sleep(PAUSE)


def _begin(entry: queue.Entry, children: dict[str, subprocess.Popen]) -> None:
    run, environment = entry.run, entry.job.get("environment")
    command = ["train", "--resume", run.name, "--quiet"]
    try:
        children[run.name] = detached(command, run.folder / "log.txt", environment)
    except (OSError, ValueError) as error:  # such as a variable that no process can have
        run.report("failed", message=f"its process could not be started: {error}")


def _bury(children: dict[str, subprocess.Popen]) -> None:
    """Note how those ended that have."""
    for name in [name for name, child in children.items() if child.poll() is not None]:
        child = children.pop(name)
        try:
            note_end(RunFolder(name, runs_folder() / name), child.pid, child.returncode)
        except OSError as error:  # full or gone
            log.warning("how the training of %s ended could not be kept: %s", name, error)


def note_end(run: RunFolder, pid: int, code: int) -> None:
    """Say how a training's process ended, where it could not say so itself."""
    status = run.raw_status()
    if status is None or status.state not in ACTIVE:
        return  # it has said so itself
    if status.pid != pid and not (status.state == "starting" and status.pid == os.getpid()):
        return  # another process trains the run
    reason = why(code)
    if code > 0 and (last := run.log_tail(1).strip()):
        reason += f": {last}"
    run.report_end("interrupted" if code < 0 else "failed", reason)
    with (run.folder / "log.txt").open("a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {why(code)}\n")


def why(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    hint = f": {HINTS[name]}" if name in HINTS else ""
    return f"killed by signal {-code} ({name}){hint}"


def _lock() -> FileLock:
    return FileLock(queue.folder() / f"runner-{socket.gethostname()}.lock")


def _is_of(error: OSError, run: RunFolder) -> bool:
    return str(error.filename or "").startswith(str(run.folder))
