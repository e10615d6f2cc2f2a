"""The command line: data on stdout, progress on stderr, exit code 2 and one line for bad input."""

import argparse
import os
import sys

from reid_core.commands import (
    bring,
    check,
    clone,
    embed,
    evaluate,
    export,
    ledger,
    places,
    query,
    queue,
    runs,
    study,
    sweep,
    synth,
    train,
)
from reid_core.errors import BadInput, as_told

# torch takes seconds to import, and the renderer's workers come through this file: so each command
# imports what it needs when it acts.
COMMANDS = (
    *(synth, train, queue, clone, sweep, bring),
    *(evaluate, ledger, embed, query, check, export, study, runs),
)


class Parser(argparse.ArgumentParser):
    """argparse, with a single line for a mistake."""

    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def main(arguments: list[str] | None = None) -> int:
    if hasattr(sys.stdout, "reconfigure"):  # a file's name need not be text in the terminal's code
        sys.stdout.reconfigure(errors="backslashreplace")
    asked = parser().parse_args(places.joined(sys.argv[1:] if arguments is None else arguments))
    try:
        code = asked.act(asked) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read it has enough: head, less
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except Exception as error:
        mistake = as_told(error)
        if not isinstance(mistake, BadInput):
            raise
        print(f"reid_core: {' '.join(str(mistake).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("reid_core: interrupted", file=sys.stderr)
        return 130


def parser() -> Parser:
    top = Parser(prog="reid_core", description="Attention in person re-identification.")
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for each in COMMANDS:
        each.add(commands)
    return top


if __name__ == "__main__":
    sys.exit(main())
