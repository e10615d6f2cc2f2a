"""ledger: published numbers, where they stand, and what the runs here gave."""

import argparse
import json
import sys


def add(commands) -> None:
    """The command's options."""
    command = commands.add_parser(
        "ledger",
        help="published numbers beside those of the runs",
        description="Lists what papers, official repositories and users report, with the source of "
        "each number, beside the runs that were evaluated on that data set.",
    )
    command.add_argument("--json", action="store_true")
    command.set_defaults(act=act)


def act(asked: argparse.Namespace) -> None:
    """Print the ledger."""
    from reid_core.scores.ledger import ledger

    found = ledger()
    for why in found.damaged:
        print(f"reid_core: {why}", file=sys.stderr)
    if asked.json:
        print(json.dumps(found.as_dict(), indent=2))
        return
    for line in found.lines():
        print(line)
