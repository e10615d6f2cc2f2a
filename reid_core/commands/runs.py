"""runs: all runs, and how well they do."""

import argparse
import json
import sys

from reid_core.commands.asked import one_line
from reid_core.errors import BadInput


def add(commands) -> None:
    """The command's options."""
    command = commands.add_parser("runs", help="list the runs")
    command.add_argument("--json", action="store_true")
    command.set_defaults(act=act)


def act(asked: argparse.Namespace) -> None:
    """A line or a record for each run, on stdout."""
    from reid_core.runs import damaged_runs, list_runs

    for why in damaged_runs().values():  # one damaged run must not hide the others
        print(f"reid_core: {why}", file=sys.stderr)
    rows, said = [], []
    for run in list_runs():
        experiment = run.experiment
        try:
            metrics = run.metrics()
        except BadInput as error:
            print(f"reid_core: {error}", file=sys.stderr)
            metrics = {}
        status = run.status()
        said.append(one_line(status.message))
        row = dict(run=run.name, model=experiment.model, recipe=experiment.recipe)
        rows.append(row | dict(state=status.state, metrics=metrics, shipped=run.shipped))
    if asked.json:
        print(json.dumps(rows, indent=2))
        return
    for row, more in zip(rows, said, strict=True):
        score = f"mAP {row['metrics']['mAP']:.3f}" if row["metrics"] else ""
        line = (
            f"{row['run']:<32} {row['model']:<12} {row['recipe']:<8} {row['state']:<12} {score:<9}"
        )
        print(f"{line} {more}".rstrip())
