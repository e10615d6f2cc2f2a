"""What Slurm is asked for, and how it is asked."""

import io
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any

from reid_core.data import ROOT
from reid_core.errors import BadInput
from reid_core.experiment import Training
from reid_core.jobs.slurm import task
from reid_core.knobs import knob
from reid_core.runs import Run

# A task is deaf to Slurm's signal, not killed by it, while Python starts: `task` listens soon after.
PYTHON = f"""sh -c 'trap "" USR2; exec "$0" "$@"' {shlex.quote(sys.executable)}"""
LOGS = "state/slurm"  # what a job says before it has the run's own log
CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", re.ASCII)


@dataclass(frozen=True)
class Options:
    """What Slurm is asked for; nothing is asked for what is empty or 0, and Slurm's own rule counts."""

    partition: str = knob("", "A partition of the cluster; empty: its usual one.", "Machines")
    nodes: int = knob(0, "Machines; 0: as the run's own nodes.", "Machines", least=0)
    gpus: int = knob(0, "GPUs of each machine.", "Machines", least=0)
    processes: int = knob(
        0,
        "Processes on each machine; 0: one for each GPU, without GPUs as the run's own devices. The "
        "run's devices and nodes become what is asked for here.",
        "Machines",
        least=0,
    )
    cpus: int = knob(0, "Processor cores for each process.", "Machines", least=0)
    memory: str = knob("", "Of each machine, such as 32G.", "Machines")
    time: str = knob(
        "",
        "Minutes, H:MM:SS or D-HH:MM:SS. Two minutes before its end the state is saved and the job "
        "waits for its turn again, to go on as if nothing had happened.",
        "Limits",
    )
    requeues: int = knob(
        20,
        "How often a job may wait for its turn again, after its time was over or another job took its "
        "place.",
        "Limits",
        least=0,
    )
    notice: int = knob(
        120,
        "Seconds before the end of its time at which a job is told: enough for a step and for writing "
        "the state.",
        "Limits",
        least=10,
        most=3600,
    )
    account: str = knob("", "Who pays.", "Limits")
    qos: str = knob("", "Quality of service.", "Limits")
    extra: str = knob(
        "", "Other options of sbatch, such as --constraint=a100 --exclude=node7.", "Limits"
    )


def processes_of(options: Options, training: Training) -> int:
    """Of each node. Raises BadInput where they can't have a GPU each."""
    processes = options.processes or options.gpus or training.devices
    if training.device == "cuda" and not options.gpus:
        raise BadInput("gpus: 0 asked of Slurm for device=cuda; give at least one")
    if options.gpus and training.device != "cpu" and processes > options.gpus:
        raise BadInput(
            f"gpus: {options.gpus} asked of Slurm for {processes} processes on each node; give as many"
        )
    return processes


def parameters_of(options: Options, name: str, devices: int, nodes: int) -> dict[str, Any]:
    """As submitit takes them. Raises BadInput."""
    words = {key: getattr(options, key) for key in ("partition", "account", "qos", "memory")}
    for key, word in words.items():
        if not re.fullmatch(r"[\w.,@+/-]*", word, re.ASCII):  # they become lines of a script
            raise BadInput(f"{key}: expected a word without spaces, got {word!r}")
    words["mem"] = words.pop("memory")
    minutes = _minutes(options.time)
    if minutes and minutes * 60 < options.notice + 60:  # Slurm may tell a minute early
        raise BadInput(
            f"time: {options.time} is over before much is done, as notice is {options.notice} seconds; "
            "give more"
        )
    # All processes of a node see all its GPUs, and each takes its own, as outside Slurm.
    # In a job's script srun does not look at sbatch's --cpus-per-task.
    lines = [f"export SRUN_CPUS_PER_TASK={options.cpus}"] if options.cpus else None
    asked = dict(cpus_per_task=options.cpus, gpus_per_node=options.gpus, time=minutes, **words)
    extra = dict(requeue=True, chdir=str(ROOT)) | _extra(options.extra)
    return dict(
        job_name=name,
        nodes=nodes,
        ntasks_per_node=devices,
        signal_delay_s=options.notice,
        setup=lines,
        additional_parameters=extra,
        time=None,
    ) | {key: value for key, value in asked.items() if value}


def _minutes(time: str) -> int:
    """Whole minutes, 0 for nothing. Raises BadInput."""
    text = time.strip()
    if text.isdecimal() or not text:
        return int(text or 0)
    if not (found := CLOCK.fullmatch(text)):
        raise BadInput(f"time: expected minutes, H:MM:SS or D-HH:MM:SS, got {time!r}")
    days, hours, minutes, seconds = (int(each or 0) for each in found.groups())
    return (24 * days + hours) * 60 + minutes + (seconds > 0)


def _extra(text: str) -> dict[str, Any]:
    """Options of sbatch by name. Raises BadInput."""
    try:
        words = shlex.split(text)
    except ValueError:
        raise BadInput(f"extra: a quote is open in {text!r}") from None
    found = {}
    for word in words:
        parts = re.fullmatch(r"--([a-z][a-z-]*)(?:=([^\x00-\x1f]*))?", word)
        if not parts:
            raise BadInput(f"extra: expected options such as --constraint=a100, got {word!r}")
        if parts[1] in ("chdir", "output", "error", "wrap", "array", "parsable", "signal"):
            raise BadInput(f"extra: --{parts[1]} is not yours to choose here; leave it out")
        found[parts[1]] = True if parts[2] is None else parts[2]
    return found


def submitted(run: Run, parameters: dict[str, Any]) -> str:
    """The number of a new job. Raises BadInput, with what sbatch says."""
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        executor = submitit.SlurmExecutor((run.folder / LOGS).absolute(), python=PYTHON)
        executor.update_parameters(**parameters)
        # submitit prints what Slurm says, which the error says too.
        with _outside(), redirect_stderr(io.StringIO()):
            return executor.submit(task.train, str(run.folder.absolute())).job_id
    except (FailedJobError, FailedSubmissionError, RuntimeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = [line for line in lines if "error:" in line] or lines
        raise BadInput(f"Slurm refused it: {' '.join(said) or type(error).__name__}") from None


@contextmanager
def _outside() -> Iterator[None]:
    """As outside any job, where this process is in one: its job's variables are not the new one's."""
    from submitit.helpers import clean_env

    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    here = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    with clean_env():
        os.environ.update(here)
        yield
