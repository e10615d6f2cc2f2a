"""What a job on Slurm does: every one of its tasks is a process of the training.

Before its time is over, and where it has to give way, Slurm sends SIGUSR2 (or SIGTERM): the training
stops at its next step with its state saved, and the job waits for its turn once more.
"""

import os
import signal
import sys
import time
from pathlib import Path

from reid_core.errors import BadInput
from reid_core.jobs import queue
from reid_core.jobs.slurm import says
from reid_core.run_folder import QUEUED, RunFolder

ENDED = "Slurm has ended it, its state is saved"
PATIENCE = 60  # seconds, until whoever has submitted the job has written its number down


def train(folder: str) -> None:
    """Train the run of a folder, as one of the tasks of this job."""
    path = Path(folder)
    run, number = RunFolder(path.name, path), os.environ["SLURM_JOB_ID"]
    first = os.environ.get("SLURM_PROCID", "0") == "0"
    if not _wanted(run, number):
        return
    if first:
        run.ask_stop(False)  # an old wish: who does not want the run any more has cancelled the job
    early = _listen(run) if first else _leave_signals_to_the_first()
    os.environ["REID_RUNS"] = str(path.parent)
    if data := queue.job_of(run).get("environment", {}).get("REID_DATA"):
        os.environ["REID_DATA"] = data
    if not first:
        from reid_core.train import help_train

        sys.exit(help_train(run.name))
    log = os.open(path / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(log, 2)  # as of every training in the background
    sys.exit(_train(run, number, early))


def _listen(run: RunFolder) -> list[int]:
    """Signals that come while the libraries are read, for which the training stops at its first step."""
    early: list[int] = []

    def note(number, frame):
        early.append(number)
        if len(early) == 1:
            run.ask_stop()

    for number in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, note)
    return early


def _leave_signals_to_the_first() -> list[int]:
    """It stops, and the others with it."""
    for number in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    return []


def _wanted(run: RunFolder, number: str) -> bool:
    """Whether the run still waits for this job, rather than for none or for another one."""
    until = time.monotonic() + PATIENCE
    while not (job := queue.job_of(run)).get("number") and job.get("where") == "slurm":
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    finished = run.raw_status() is not None and run.raw_status().state == "finished"
    return job.get("number") == number and not job.get("over") and not finished


def _train(run: RunFolder, number: str, early: list[int]) -> int:
    """The first process's part; early are the signals that it got before it trained. Returns the exit
    code."""
    from reid_core.runs import open_run
    from reid_core.train import Stopped
    from reid_core.train import train as trained

    if _restarts() > (most := _most(run)):
        _report(run, "interrupted", f"job {number} was queued {most} times again, and no more")
        return 0
    try:
        trained(open_run(run.name), quiet=True)
    except Stopped as stop:
        if received := stop.signal or next(iter(early), None):
            _go_on_later(run, number, received)
    except Exception:
        return 1  # the reason is in the run's status and log already
    return 0


def _go_on_later(run: RunFolder, number: str, received: int) -> None:
    """The state is saved: to the queue again, where the job was not ended for good."""
    try:
        if queue.job_of(run).get("over"):
            return  # cancelled by us, who has said so
        if received != signal.SIGUSR2 and not says.preempted(number):
            # Cancelled, or Slurm itself queues it again: who looks next will see which.
            return _report(run, "interrupted", ENDED)
        if _restarts() >= (most := _most(run)):
            words = f"job {number} was queued {most} times again, and no more: its state is saved"
            return _report(run, "interrupted", words)
        _report(run, QUEUED)
        says.requeue(number)
    except BadInput as problem:
        _report(run, "interrupted", f"its state is saved, but it can't be queued again: {problem}")


def _restarts() -> int:
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def _most(run: RunFolder) -> int:
    return int(queue.job_of(run).get("requeues", 0))


def _report(run: RunFolder, state: str, message: str = "") -> None:
    status = run.raw_status()
    run.report(state, message=message, **queue.progress(status) if status else {})
