"""What Slurm says of jobs, and what it is told, through its own commands."""

import re
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass

from reid_core.errors import BadInput

PATIENCE = 30  # seconds, for an answer
WAITS = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT")
GOES_ON = (
    *("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT"),
    "RESV_DEL_HOLD",
)
# How a job ends, in words; what is not here ends by Slurm's own word.
ENDS = {
    "BOOT_FAIL": "its node did not start",
    "CANCELLED": "it was cancelled on Slurm",
    "COMPLETED": "its process ended without a word",
    "DEADLINE": "its deadline was over",
    "FAILED": "its process ended with an error",
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "it took more memory than it had asked Slurm for",
    "PREEMPTED": "it had to give way to another job",
    "TIMEOUT": "its time was over",
    "": "Slurm knows it no more",
}
FIELDS = "%i|%T|%r|%N"


@dataclass(frozen=True)
class Job:
    """What Slurm says of one: its state ("PENDING", "RUNNING", ...; "" for one that it does not know),
    the reason that it gives and the nodes."""

    number: str
    state: str = ""
    reason: str = ""
    nodes: str = ""

    @property
    def waits(self) -> bool:
        return self.state in WAITS

    @property
    def goes_on(self) -> bool:
        return self.state in GOES_ON

    @property
    def end(self) -> str:
        """How it ended, in words."""
        words = ENDS.get(self.state, f"Slurm says {self.state}")
        more = [each for each in (self.state, self.reason) if each]
        return f"{words} (job {', '.join([self.number, *more])})"


def jobs(numbers: Collection[str]) -> dict[str, Job]:
    """Those of these jobs that Slurm knows, which are all that have not ended and those that did in
    the last minutes. Raises BadInput."""
    try:
        asked = ["--jobs", ",".join(numbers), "--states", "all", "--format", FIELDS, "--noheader"]
        lines = told("squeue", *asked).splitlines()
    except BadInput as error:
        if "Invalid job id" in str(error):  # of a single job that it knows no more
            return {}
        raise
    rows = [line.strip().split("|") for line in lines]
    return {row[0]: Job(row[0], row[1], _reason(row[2]), row[3]) for row in rows if len(row) == 4}


def accounted(number: str) -> Job:
    """A job that `jobs` does not know, as the accounts have it; of no state where there are none."""
    try:
        row = told(
            *("sacct", "--jobs", number, "--allocations", "--noheader", "--parsable2"),
            *("--format", "State,NodeList"),
        )
    except BadInput:  # many a Slurm keeps no accounts
        return Job(number)
    state, _, nodes = row.strip().splitlines()[-1].partition("|") if row.strip() else ("", "", "")
    word, _, more = state.partition(" ")  # CANCELLED by 1000
    return Job(number, word, more, nodes)


def preempted(number: str) -> bool:
    """Whether a job was told to make room for another. Raises BadInput."""
    found = re.search(r"\bPreemptTime=(\S+)", told("scontrol", "show", "job", number))
    return bool(found) and found[1] not in ("None", "N/A", "Unknown")


def cancel(number: str) -> None:
    """End a job, whatever it does. One that has ended already is no error. Raises BadInput."""
    try:
        told("scancel", number)
    except BadInput as error:
        if "Invalid job id" not in str(error):
            raise


def requeue(number: str) -> None:
    """Let a job wait for its turn once more. Raises BadInput."""
    told("scontrol", "requeue", number)


def told(*command: str) -> str:
    """What one of Slurm's commands prints. Raises BadInput, with what it says."""
    needed(command[0])
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        raise BadInput(f"Slurm does not answer ({command[0]})") from None
    if done.returncode:
        words = " ".join((done.stderr or done.stdout).split())
        raise BadInput(f"Slurm: {words or f'{command[0]} ended with {done.returncode}'}")
    return done.stdout


def needed(*commands: str) -> None:
    """Raises BadInput where one of Slurm's commands is missing."""
    if missing := [name for name in commands if not shutil.which(name)]:
        raise BadInput(
            f"Slurm's {', '.join(missing)} can't be found on this machine: start this where jobs are "
            "submitted, a login node as a rule"
        )


def _reason(word: str) -> str:
    return "" if word in ("None", "none", "(null)", "N/A") else word.strip("()")
