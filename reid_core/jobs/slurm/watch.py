"""What becomes of a job that can't say so itself: it waits, was killed, vanished with its node.

Slurm is asked by whoever looks at the runs, and what it says goes into their folders.
"""

import threading
import time
from contextlib import suppress
from typing import Any

from reid_core.errors import BadInput
from reid_core.jobs import queue
from reid_core.jobs.slurm import says, task
from reid_core.jobs.slurm.says import Job
from reid_core.jobs.slurm.script import LOGS
from reid_core.run_folder import ACTIVE, QUEUED, RunFolder, runs_folder

EVERY = 5.0  # seconds between two looks
STOP_PATIENCE = 300  # seconds that a training is given to stop by itself
SETTLE = 60  # seconds that a shared folder may take to show what a finished job has written

_said: dict[str, Job] = {}  # what Slurm said last
_silence = ""  # why it says nothing
_since: dict[str, float] = {}  # when a job was first seen to have ended
_looking = threading.Lock()
_last = 0.0


def describe(run: RunFolder) -> str:
    """Such as "pending on Slurm, job 42 (Resources)"."""
    number = queue.job_of(run).get("number")
    if not number:
        return "on its way to Slurm"
    if number not in _said:
        with suppress(BadInput):
            _said.update(says.jobs([number]))
    if number not in _said:
        return f"on Slurm, job {number}; {_silence}" if _silence else f"on Slurm, job {number}"
    job = _said[number]
    word = "starting" if job.state == "RUNNING" and run.status().queued else job.state.lower()
    more = f" ({job.reason})" if job.reason and job.waits else f", {job.nodes}" if job.nodes else ""
    return f"{word} on Slurm, job {number}{more}"


def watch() -> None:
    """See to the runs on Slurm, if nobody has for some seconds; returns at once."""
    global _last
    if time.monotonic() - _last > EVERY:
        _last = time.monotonic()
        threading.Thread(target=look, daemon=True).start()


def look() -> None:
    """Ask Slurm about the runs that were sent there, and say in their folders what their jobs can't."""
    global _silence
    with _looking:
        sent = _sent()
        for run in sent.pop("", []):
            with suppress(OSError, ValueError, TypeError):
                _note_lost(run)
        if not sent:
            return
        try:
            found = says.jobs(sent)
            _silence = ""
        except BadInput as error:
            _silence = str(error)
            return
        for number, runs in sent.items():
            job = found.get(number) or says.accounted(number)
            _said[number] = job
            for run in runs:
                with suppress(OSError, ValueError, TypeError):  # a folder that is gone or damaged
                    _note(run, job)


def _sent() -> dict[str, list[RunFolder]]:
    """By the number of its job, "" for none yet, every run whose job has not ended yet as far as one
    knows."""
    home, found = runs_folder(), {}
    for path in sorted(home.iterdir()) if home.is_dir() else ():
        run = RunFolder(path.name, path)
        job = queue.job_of(run)
        if job.get("where") == "slurm" and not job.get("over"):
            found.setdefault(job.get("number", ""), []).append(run)
    return found


def _note_lost(run: RunFolder) -> None:
    """One that is on its way to Slurm, if who sent it is gone."""
    with queue.changing():
        kept, status = queue.job_of(run), run.raw_status()
        if kept.get("number") or status is None or not (status.queued and run.forsaken):
            return
        queue.keep_job(run, **kept | dict(over="not sent"))  # should it get there yet: not wanted
        words = "it never got to Slurm: the process that sent it is gone; resume it"
        run.report("interrupted", message=words, **queue.progress(status))


def _note(run: RunFolder, job: Job) -> None:
    with queue.changing():
        kept, status = queue.job_of(run), run.raw_status()
        if kept.get("number") != job.number or kept.get("over") or status is None:
            return  # it was sent elsewhere meanwhile
        if job.waits:
            if status.state not in (QUEUED, "finished"):  # Slurm has queued it again
                run.report(QUEUED, **queue.progress(status))
        elif job.goes_on:
            run.vouch()
            if _stop_is_late(run):
                says.cancel(job.number)
        else:
            _end(run, kept, job)


def _end(run: RunFolder, kept: dict[str, Any], job: Job) -> None:
    """Say how a job ended, where it has not said so itself."""
    status = run.raw_status()
    silent = status.state in (QUEUED, *ACTIVE)
    seen = _since.setdefault(job.number, time.monotonic())
    if silent and job.state == "COMPLETED" and time.monotonic() - seen < SETTLE:
        return
    queue.keep_job(run, **kept | dict(over=job.state or "unknown"))
    if not silent and not (status.state == "interrupted" and status.message == task.ENDED):
        return
    saved = "" if silent else "; its state is saved"
    last = _last_words(run, job.number) if silent else []
    told = [line for line in last if "Terminat" not in line]  # srun's own end of the others
    hint = f": {told[-1]}" if told and job.state in ("FAILED", "COMPLETED", "") else ""
    run.report("interrupted", message=f"{job.end}{saved}{hint}", **queue.progress(status))
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    with (run.folder / "log.txt").open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in (*last, f"{stamp} {job.end}{saved}"))


def _stop_is_late(run: RunFolder) -> bool:
    try:
        return time.time() - (run.folder / "state/stop").stat().st_mtime > STOP_PATIENCE
    except OSError:
        return False


def _last_words(run: RunFolder, number: str, lines: int = 5) -> list[str]:
    """The end of what a job's script and its first process said before they had a log."""
    try:
        file = run.folder / LOGS / f"{number}_0_log.err"
        said = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [line.strip() for line in said if line.strip() and "submitit " not in line][-lines:]
