"""clone: a run once more, with other knobs."""

import argparse
import shutil
import sys

from reid_core.commands import places
from reid_core.commands.asked import pair
from reid_core.errors import BadInput


def add(commands) -> None:
    """The command's options."""
    command = commands.add_parser(
        "clone",
        help="a new run with a run's experiment but for some knobs",
        description="Makes a new run with another's experiment but for the knobs in --set, and keeps "
        "the difference in its record. It is not started unless --train queues it; train --resume NAME "
        "starts it in the foreground.",
    )
    command.add_argument("source", metavar="RUN")
    command.add_argument("--run", default=None, metavar="NAME")
    command.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    command.add_argument("--train", action="store_true", help="queue it")
    places.add(command, "with --train, this machine")
    command.set_defaults(act=act)


def act(asked: argparse.Namespace) -> None:
    """Make the run; its name on stdout, the difference on stderr."""
    from reid_core import jobs
    from reid_core.jobs.clones import clone, cloned_from

    there = places.asked_place(asked)
    if there["where"] and not asked.train:
        raise BadInput("--on: says where to --train; give that too")
    run = clone(
        asked.source, asked.run, dict(map(pair, asked.set)), here=there["where"] in (None, "here")
    )
    changes = cloned_from(run)["changes"]
    for name, (before, now) in changes.items():
        print(f"reid_core: {name}: {before} -> {now}", file=sys.stderr)
    if not changes:
        print(f"reid_core: nothing differs from {asked.source}", file=sys.stderr)
    if asked.train:
        try:
            jobs.resume(run.name, **there)
        except BadInput:
            shutil.rmtree(run.folder)  # or its name would be taken for what follows
            raise
    print(run.name)
