"""study: an analysis of a run, kept with the run."""

import argparse
import sys

from reid_core.commands.asked import Bar, pair


def add(commands) -> None:
    """The command's options."""
    command = commands.add_parser(
        "study",
        help="compute an analysis of a run and keep it with the run",
        description="Computes an analysis of a run, which the pages show, and keeps it in the run's "
        "folder. Prints the file. Without a name: lists the analyses and their knobs.",
    )
    command.add_argument("run", metavar="RUN", nargs="?")
    command.add_argument("name", metavar="NAME", nargs="?")
    command.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    command.add_argument("--quiet", action="store_true", help=argparse.SUPPRESS)
    command.set_defaults(act=act)


def act(asked: argparse.Namespace) -> int:
    """Compute it; its file on stdout. 130 where it was stopped."""
    from reid_core.runs import open_run
    from reid_core.studies import STUDIES, Stopped, Study, about, knobs

    if not asked.name:
        for name in STUDIES:
            print(f"{name}: {about(name).splitlines()[0]}")
            for knob in knobs(name):
                print(f"    {knob.name}={knob.default}  {knob.help}")
        return 0
    study = Study.asked(open_run(asked.run), asked.name, dict(map(pair, asked.set)))
    try:
        if asked.quiet:
            study.compute()
        elif study.found() is None:  # or a folder that may only be read has all that is asked for
            study.stop(False)  # what an earlier process was asked
            with Bar() as progress:
                study.compute(progress)
    except Stopped:
        print("reid_core: stopped", file=sys.stderr)
        return 130
    print(study.run.folder / study.file("npz"))
    return 0
