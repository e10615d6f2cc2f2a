"""The command line: data on stdout, progress on stderr, exit code 2 and one line for bad input."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from reid_core.commands import check, clone, embed, evaluate, ledger, places, query, queue, sweep
from reid_core.commands.asked import Bar, folder, pair
from reid_core.errors import BadInput, from_system


class Parser(argparse.ArgumentParser):
    """argparse, with a single line for a mistake."""

    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def main(arguments: list[str] | None = None) -> int:
    if hasattr(sys.stdout, "reconfigure"):  # a file's name need not be text in the terminal's code
        sys.stdout.reconfigure(errors="backslashreplace")
    asked = parser().parse_args(arguments)
    try:
        code = asked.act(asked) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read it has enough: head, less
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except (BadInput, OSError) as error:
        mistake = from_system(error) if isinstance(error, OSError) else error
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

    synth = commands.add_parser("synth", help="render a data set of synthetic pedestrians")
    synth.add_argument("dir", type=Path, metavar="DIR")
    synth.add_argument("--identities", type=int, default=None, metavar="N")
    synth.add_argument("--cameras", type=int, default=6, metavar="C")
    synth.add_argument("--seed", type=int, default=0, metavar="S")
    synth.add_argument("--size", default="256x128", metavar="HxW")
    synth.add_argument(
        "--progress", choices=("bar", "lines"), default="bar", help=argparse.SUPPRESS
    )
    synth.set_defaults(act=act_synth)

    train = commands.add_parser("train", help="train a model, or resume a run")
    train.add_argument("--model", default=None)
    train.add_argument("--recipe", default=None, help="paper or demo")
    train.add_argument("--dataset", default=None)
    train.add_argument("--data", default=None, type=folder, metavar="DIR", help="only ever read")
    train.add_argument("--run", default=None, metavar="NAME")
    train.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    train.add_argument("--resume", default=None, metavar="RUN")
    # As the app starts it: no bar, and room for whoever else uses the machine.
    train.add_argument("--quiet", action="store_true", help=argparse.SUPPRESS)
    places.add(train, "in the foreground")
    train.set_defaults(act=act_train)

    queue.add(commands)
    clone.add(commands)
    sweep.add(commands)

    bring = commands.add_parser(
        "import",
        help="make a run of a checkpoint of a paper's official code",
        description="Makes a run of a checkpoint of a paper's official code. Nothing in the file is "
        "executed. What its shapes don't tell takes the official value; --set decides otherwise: "
        "every knob of the model, and views=V for side information of V views.",
    )
    bring.add_argument("file", type=Path, metavar="FILE")
    bring.add_argument("--model", required=True, help="transreid, pha, rga or nformer")
    bring.add_argument("--run", required=True, metavar="NAME")
    bring.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    bring.add_argument("--dataset", default="pedestrians", help="what evaluate takes by default")
    bring.set_defaults(act=act_import)

    evaluate.add(commands)
    ledger.add(commands)
    embed.add(commands)
    query.add(commands)

    check.add(commands)

    export = commands.add_parser(
        "export",
        help="write a run's inference graph as ONNX",
        description="Writes a run's inference graph as ONNX and compares it with the model in "
        "onnxruntime, at two batch sizes. Inputs: image (B, 3, H, W), normalised; where the model is "
        "told of them, camera and view (B,), rows of the ids in the file's metadata, -1 for unknown. "
        "A model that refines gives two files: its encoder's, and F.refine.onnx over the features of "
        "a set.",
    )
    export.add_argument("run", metavar="RUN")
    export.add_argument("--out", required=True, type=Path, metavar="F.onnx")
    export.add_argument(
        "--neck", choices=("before", "after"), default=None, help="BNNeck; the run's own knob"
    )
    export.set_defaults(act=act_export)

    study = commands.add_parser(
        "study",
        help="compute an analysis of a run and keep it with the run",
        description="Computes an analysis of a run, which the pages show, and keeps it in the run's "
        "folder. Prints the file. Without a name: lists the analyses and their knobs.",
    )
    study.add_argument("run", metavar="RUN", nargs="?")
    study.add_argument("name", metavar="NAME", nargs="?")
    study.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    study.add_argument("--quiet", action="store_true", help=argparse.SUPPRESS)
    study.set_defaults(act=act_study)

    runs = commands.add_parser("runs", help="list the runs")
    runs.add_argument("--json", action="store_true")
    runs.set_defaults(act=act_runs)
    return top


# torch takes seconds to import, and the renderer's workers come through this file: so each command
# imports what it needs.


def act_synth(asked: argparse.Namespace) -> None:
    from reid_core.data import PEDESTRIAN_IDENTITIES, pedestrians
    from reid_core.knobs import Knob

    # As an error, so that the workers end and nothing half-made stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    size = Knob("--size", "size", None, "", "").parse(asked.size)
    with Bar(asked.progress) as progress:
        try:
            pedestrians.render(
                asked.dir,
                identities=PEDESTRIAN_IDENTITIES if asked.identities is None else asked.identities,
                cameras=asked.cameras,
                seed=asked.seed,
                size=size,
                progress=progress,
            )
        except (ValueError, FileExistsError, NotADirectoryError) as error:
            raise BadInput(str(error)) from None
    print(asked.dir)


def act_train(asked: argparse.Namespace) -> int:
    from reid_core.data import prepare
    from reid_core.distributed import given_place
    from reid_core.experiment import Experiment
    from reid_core.runs import checked, open_run, runs_folder
    from reid_core.train import Stopped, create, help_train, redistribute, train

    there = places.asked_place(asked)
    place = given_place() if there["where"] is None else None
    if place and place.rank:  # the first process sees to the rest
        return help_train(asked.resume or asked.run)
    if place and not (asked.resume or asked.run):
        raise BadInput("--run is missing: several processes need to know the run's name")
    if asked.resume is not None:
        given = ("model", "recipe", "dataset", "data", "run")
        if any(getattr(asked, name) is not None for name in given):
            raise BadInput("--resume takes a run as it is: leave the other options out")
        run = open_run(asked.resume)
        if there["where"]:
            return _sent(run, asked, there)
        state = run.status().state
        if run.resumable:
            run.ask_stop(False)  # an old wish
        elif state == "queued" and not asked.quiet:
            raise BadInput(f"run {run.name!r} waits in the queue: queue --cancel {run.name} first")
        elif not (asked.quiet and state in ("queued", "starting", "stopping")):  # the runner's
            raise BadInput(f"run {run.name!r} can't be resumed: it is {state}")
        if asked.set:
            redistribute(run, dict(pair(each) for each in asked.set))
    else:
        if asked.model is None:
            raise BadInput("--model is missing: name the model to train, or --resume RUN")
        settings = dict(pair(each) for each in asked.set)
        dataset = asked.dataset or "pedestrians"
        experiment = Experiment.create(
            model=asked.model,
            recipe=asked.recipe or "demo",
            dataset=dataset,
            data=asked.data,
            settings=settings,
        )
        if asked.run is not None and (runs_folder() / checked(asked.run)).exists():
            raise BadInput(f"run {asked.run!r} exists already; give another --run name")
        with Bar() as progress:
            prepare(experiment.dataset, experiment.data, progress)
        if there["where"]:
            return _sent(experiment, asked, there)
        run = create(experiment, asked.run)
    print(run.name, flush=True)
    try:
        train(run, quiet=asked.quiet)
    except Stopped as stop:
        print(f"reid_core: {stop}; go on with: train --resume {run.name}", file=sys.stderr)
        return 128 + stop.signal if stop.signal else 0
    except Exception:
        if not asked.quiet:
            raise
        return 1  # stderr is the run's log, and the reason stands there already
    return 0


def _sent(what, asked: argparse.Namespace, there: dict) -> int:
    """Send a run or a new experiment to a place that trains; its name and where it stands there."""
    from reid_core import jobs
    from reid_core.experiment import Experiment
    from reid_core.jobs.where import place_of
    from reid_core.runs import open_run
    from reid_core.train import redistribute

    if isinstance(what, Experiment):
        how = dict(model=what.model, recipe=what.recipe, dataset=what.dataset, data=what.data)
        name = jobs.start(**how, settings=what.values, run=asked.run, **there)
    else:
        name, training = what.name, what.experiment.training
        if asked.set and what.resumable:
            redistribute(what, dict(pair(each) for each in asked.set))
        try:
            jobs.resume(name, **there)
        except BadInput:
            if asked.set and what.resumable:
                redistribute(what, dict(devices=training.devices, nodes=training.nodes))
            raise
    run = open_run(name)
    print(name)
    print(f"reid_core: {place_of(run).describe(run)}", file=sys.stderr)
    return 0


def act_import(asked: argparse.Namespace) -> None:
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


def act_export(asked: argparse.Namespace) -> int:
    from reid_core.export import Unequal, export
    from reid_core.runs import open_run

    run = open_run(asked.run)
    try:
        written = export(run, asked.out, asked.neck)
    except Unequal as error:
        print(f"reid_core: {error}", file=sys.stderr)
        return 1
    for each in written:
        print(each.path)
        print(
            f"reid_core: {each.path.name}: as the model's to {each.difference:.1e} in onnxruntime",
            file=sys.stderr,
        )
    return 0


def act_study(asked: argparse.Namespace) -> int:
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
        else:
            study.stop(False)  # what an earlier process was asked
            with Bar() as progress:
                study.compute(progress)
    except Stopped:
        print("reid_core: stopped", file=sys.stderr)
        return 130
    print(study.run.folder / study.file("npz"))
    return 0


def act_runs(asked: argparse.Namespace) -> None:
    from reid_core.runs import list_runs

    rows = []
    for run in list_runs():
        experiment = run.experiment
        try:
            metrics = run.metrics()
        except BadInput as error:  # one damaged run must not hide the others
            print(f"reid_core: {error}", file=sys.stderr)
            metrics = {}
        row = dict(run=run.name, model=experiment.model, recipe=experiment.recipe)
        rows.append(row | dict(state=run.status().state, metrics=metrics, shipped=run.shipped))
    if asked.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        score = f"mAP {row['metrics']['mAP']:.3f}" if row["metrics"] else ""
        print(f"{row['run']:<32} {row['model']:<12} {row['recipe']:<8} {row['state']:<12} {score}")


if __name__ == "__main__":
    sys.exit(main())
