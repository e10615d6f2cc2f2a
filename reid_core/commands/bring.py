"""import: a run of a checkpoint of a paper's official code."""

import argparse
import sys

from reid_core.commands.asked import given_path, pair


def add(commands) -> None:
    """The command's options."""
    command = commands.add_parser(
        "import",
        help="make a run of a checkpoint of a paper's official code",
        description="Makes a run of a checkpoint of a paper's official code. Nothing in the file is "
        "executed. What its shapes don't tell takes the official value; --set decides otherwise: "
        "every knob of the model, and views=V for side information of V views.",
    )
    command.add_argument("file", type=given_path, metavar="FILE")
    command.add_argument("--model", required=True, help="transreid, pha, rga or nformer")
    command.add_argument("--run", required=True, metavar="NAME")
    command.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    command.add_argument("--dataset", default="pedestrians", help="what evaluate takes by default")
    command.set_defaults(act=act)


def act(asked: argparse.Namespace) -> None:
    """Make the run; its name on stdout, the report on stderr."""
    from reid_core.official import import_checkpoint

    run, report = import_checkpoint(
        asked.file,
        model=asked.model,
        name=asked.run,
        settings=dict(pair(each) for each in asked.set),
        dataset=asked.dataset,
    )
    for line in report:
        print(f"reid_core: {line}", file=sys.stderr)
    print(run.name)
