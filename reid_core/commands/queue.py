"""queue: what waits and what is trained; its order, its limits, and the process that takes what waits."""

import argparse
import json

from reid_core.commands import places
from reid_core.commands.asked import one_line
from reid_core.errors import BadInput


def add(commands) -> None:
    """The command's options."""
    command = commands.add_parser(
        "queue",
        help="list, order and cancel the trainings that wait",
        description="Lists the trainings that run or wait, and sees to it that those which wait are "
        "taken, in order, as many at a time as their device has room for. The page Train shows and "
        "does the same.",
    )
    command.add_argument(
        "--limit",
        nargs="+",
        action="extend",
        default=[],
        metavar="DEVICE=N",
        help="trainings at a time on cpu, cuda or mps (1 each); 0 holds the queue",
    )
    act_on = command.add_mutually_exclusive_group()
    act_on.add_argument("--cancel", metavar="RUN", help="take it out, or stop it if it has begun")
    act_on.add_argument("--resume", metavar="RUN", help="queue a run that has stopped")
    act_on.add_argument("--up", metavar="RUN", help="one place up")
    act_on.add_argument("--down", metavar="RUN", help="one place down")
    command.add_argument("--json", action="store_true")
    places.add(command, "with --resume, where it was sent last")
    command.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    command.set_defaults(act=act)


def act(asked: argparse.Namespace) -> None:
    """Change what is asked, then print the queue."""
    from reid_core.jobs import queue, runner

    if asked.serve:
        return runner.serve()
    from reid_core.jobs import where

    _change(asked)
    where.look()
    found, limits = queue.entries(), queue.limits()
    if asked.json:
        rows = [
            dict(
                run=each.run.name,
                state=each.status.state,
                device=each.device,
                here=each.here,
                where=each.job.get("where", "here"),
            )
            for each in found
        ]
        print(json.dumps(dict(limits={k: limits[k] for k in queue.DEVICES}, runs=rows), indent=2))
        return
    for each in found:
        elsewhere = "" if each.here else where.place_of(each.run).describe(each.run) or "elsewhere"
        said = ", ".join(filter(None, (elsewhere, one_line(each.status.message))))
        print(f"{each.run.name:<32} {each.status.state:<12} {each.device:<6} {said}".rstrip())


def _change(asked: argparse.Namespace) -> None:
    from reid_core import jobs

    for each in asked.limit:
        device, equals, number = each.partition("=")
        if not equals:
            raise BadInput(f"--limit {each}: expected device=number, such as cpu=2")
        jobs.limit(device, number)
    if asked.cancel is not None:
        jobs.stop(asked.cancel)
    there = places.asked_place(asked)
    if there["where"] and asked.resume is None:
        raise BadInput("--on: says where to --resume RUN; a new one is sent with train --on")
    if asked.resume is not None:
        jobs.resume(asked.resume, **there)
    if asked.up is not None:
        jobs.shift(asked.up, -1)
    if asked.down is not None:
        jobs.shift(asked.down, 1)
