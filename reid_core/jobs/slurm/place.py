"""Runs are handed to Slurm and taken back."""

import os
from typing import Any

from reid_core.errors import BadInput
from reid_core.jobs import queue
from reid_core.jobs.slurm import says
from reid_core.jobs.slurm.script import Options, parameters_of, processes_of, submitted
from reid_core.run_folder import QUEUED, RunFolder, this_process
from reid_core.runs import Run


def submit(run: Run, asked: dict[str, Any]) -> None:
    """Hand a run to Slurm. Raises BadInput, with Slurm's words where it refuses; the run is then as it
    was."""
    from reid_core.train import redistribute

    lacks = missing()
    if lacks:
        raise BadInput(lacks)
    options = Options(**asked)
    training = run.experiment.training
    spread = dict(devices=processes_of(options, training), nodes=options.nodes or training.nodes)
    parameters = parameters_of(options, run.name, **spread)
    before = dict(devices=training.devices, nodes=training.nodes)
    with queue.changing():
        status, job = run.status(), queue.job_of(run)
        if status.queued or (status.active and status.pid is not None):
            raise BadInput(f"run {run.name!r} can't be queued: it is {status.state}")
        if spread != before:
            redistribute(run, spread)
        environment = dict(REID_DATA=os.environ.get("REID_DATA"))
        kept = dict(where="slurm", asked=asked, device=training.device, environment=environment)
        queue.keep_job(run, **kept)  # before its job may begin; without a number it waits for that
        run.ask_stop(False)
        # With the process that sends it: should that end before it has a number, somebody can see so.
        run.report(QUEUED, **this_process(), **queue.progress(status))
    try:
        number = submitted(run, parameters)
    except BaseException:
        if spread != before:
            redistribute(run, before)
        queue.keep_job(run, **job)
        run.report(status.state, message=status.message, **queue.progress(status))
        raise
    with queue.changing():
        if over := queue.job_of(run).get("over"):  # cancelled meanwhile
            says.cancel(number)
            kept["over"] = over
        queue.keep_job(run, **kept, number=number, requeues=options.requeues)


def cancel(run: RunFolder) -> None:
    """Take a run that waits out of Slurm's queue. Raises BadInput."""
    job = queue.job_of(run)
    if job.get("number"):
        says.needed("scancel")
    with queue.changing():
        status = run.status()
        queue.keep_job(run, **job | dict(over="cancelled here"))
        if status.queued:
            run.report("stopped", **queue.progress(status))
    if number := job.get("number"):
        says.cancel(number)


def missing() -> str:
    """What this machine lacks to submit jobs, in a sentence; nothing where it lacks nothing."""
    try:
        import submitit  # noqa: F401
    except ImportError:
        return "Slurm is reached through submitit, which is not installed: pip install submitit"
    try:
        says.needed("sbatch", "srun", "squeue", "scancel", "scontrol")
    except BadInput as error:
        return str(error)
    return ""
