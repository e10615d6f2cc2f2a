"""sweep: a training over the values of a knob and over seeds."""

import argparse
import json

from reid_core.commands import places
from reid_core.commands.asked import folder, pair
from reid_core.errors import BadInput


def add(commands) -> None:
    """The command's options."""
    command = commands.add_parser(
        "sweep",
        help="queue a training over the values of a knob and over seeds",
        description="Creates and queues a run for each value and each seed, NAME-VALUE-sSEED, and "
        "prints their names. With --show NAME: what a sweep gave, as mean (smallest to largest) over "
        "its seeds.",
    )
    command.add_argument("--name", default=None, metavar="NAME")
    command.add_argument("--model", default=None)
    command.add_argument("--recipe", default="demo", help="paper or demo")
    command.add_argument("--dataset", default="pedestrians")
    command.add_argument("--data", default=None, type=folder, metavar="DIR", help="only ever read")
    command.add_argument(
        "--sweep", default="", metavar="KEY=V1,V2", help="without it only seeds are swept over"
    )
    command.add_argument("--seeds", default="0", metavar="0,1,2")
    command.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    command.add_argument("--show", default=None, metavar="NAME")
    command.add_argument("--json", action="store_true", help="with --show")
    places.add(command, "here")
    command.set_defaults(act=act)


def act(asked: argparse.Namespace) -> None:
    """Queue a sweep, or print one."""
    if asked.show is not None:
        return _show(asked)
    from reid_core import jobs
    from reid_core.data import prepare

    if asked.model is None or asked.name is None:
        raise BadInput(f"--{'model' if asked.model is None else 'name'} is missing")
    key, equals, values = asked.sweep.partition("=")
    if asked.sweep and not equals:
        raise BadInput(f"--sweep {asked.sweep}: expected KEY=VALUE,VALUE,...")
    there = places.asked_place(asked)
    what = dict(model=asked.model, recipe=asked.recipe, dataset=asked.dataset, data=asked.data)
    prepare(asked.dataset, asked.data)
    names = jobs.start_sweep(
        asked.name,
        key=key,
        values=[each.strip() for each in values.split(",")] if values.strip() else [],
        seeds=_seeds(asked.seeds),
        settings=dict(map(pair, asked.set)),
        **what,
        **there | dict(where=there["where"] or "here"),
    )
    print("\n".join(names))


def _seeds(text: str) -> list[int]:
    try:
        return [int(each) for each in text.split(",") if each.strip()]
    except ValueError:
        raise BadInput(f"--seeds {text}: expected whole numbers, such as 0,1,2") from None


def _show(asked: argparse.Namespace) -> None:
    from reid_core.jobs.sweeps import failures, final, sweeps
    from reid_core.knobs import unknown

    found = sweeps()
    if asked.show not in found:
        start = "start one with sweep --name NAME --model M --sweep KEY=V1,V2 --seeds 0,1,2"
        raise BadInput(unknown("sweep", asked.show, found) + f" yet: {start}" * (not found))
    sweep, rows = found[asked.show], []
    for value, runs in sweep.runs.items():
        scores = final(runs)
        row = dict(
            key=sweep.key,
            value=value,
            runs=[run.name for run in runs],
            finished=len(scores),
            evaluated_on=runs[0].experiment.evaluated_on,
        )
        rows.append(row | dict(mAP=scores.tolist(), failed=failures(runs)))
    if asked.json:
        print(json.dumps(rows, indent=2))
        return
    splits = {row["evaluated_on"] for row in rows}
    for row in rows:
        label = f"{row['key']}={row['value']}" if row["key"] else "seeds"
        scores, done = row["mAP"], f"{row['finished']} of {len(row['runs'])} finished"
        spread = (
            f"mAP {sum(scores) / len(scores):.3f} ({min(scores):.3f} to {max(scores):.3f})"
            if scores
            else ("none" if len(row["failed"]) == len(row["runs"]) else "no mAP yet")
        )
        on = f", on {row['evaluated_on']}" if len(splits) > 1 else ""
        print(f"{label:<32} {spread:<32} {done}{on}")
        for name, why in row["failed"].items():
            print(f"  {name} failed: {why}")
