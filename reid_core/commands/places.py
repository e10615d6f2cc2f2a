"""--on and what the places that train want to know, for the commands that send trainings there."""

import argparse
from collections.abc import Sequence
from typing import Any

from reid_core.errors import BadInput

# A parser is made for every command, and the places themselves need torch.
PLACES = ("here", "slurm")
SLURM = {
    "partition": "P",
    "nodes": "N",
    "gpus": "N",
    "processes": "N",
    "cpus": "N",
    "memory": "32G",
    "time": "H:MM:SS",
    "requeues": "N",
    "notice": "SECONDS",
    "account": "A",
    "qos": "Q",
    "extra": "'--constraint=a100'",
}


def add(command: argparse.ArgumentParser, usual: str) -> None:
    """The options; usual says what happens without --on."""
    group = command.add_argument_group("where")
    group.add_argument(
        "--on",
        choices=PLACES,
        default=None,
        help=f"here: in this machine's queue; slurm: as a job; without it: {usual}",
    )
    for name, value in SLURM.items():
        group.add_argument(f"--{name}", dest=f"on_{name}", default=None, metavar=value)
    group.description = (
        "The others are for --on slurm: partition, nodes, and for each of these GPUs, processes (else "
        "one for each GPU) and memory; cores for each process; the time (minutes, H:MM:SS), how often "
        "the job may queue again when it is over, and how many seconds before it is told; account, "
        "quality of service, other options of sbatch."
    )


def joined(arguments: Sequence[str]) -> list[str]:
    """--extra with its value, which begins with dashes: the parser would take it for an option of ours."""
    found: list[str] = []
    for each in arguments:
        if found and found[-1] == "--extra":
            found[-1] += f"={each}"
        else:
            found.append(each)
    return found


def asked_place(asked: argparse.Namespace) -> dict[str, Any]:
    """where and asked, as `jobs.start` takes them; where is None without --on. Raises BadInput."""
    given = {name: value for name in SLURM if (value := getattr(asked, f"on_{name}")) is not None}
    if given and asked.on != "slurm":
        raise BadInput(f"--{next(iter(given))}: is for Slurm; give --on slurm too")
    return dict(where=asked.on, asked=given or None)
