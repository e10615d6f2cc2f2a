"""train: a model, or a run that goes on."""

import argparse
import sys

from reid_core.commands import places
from reid_core.commands.asked import Bar, folder, pair
from reid_core.errors import BadInput, as_told


def add(commands) -> None:
    """The command's options."""
    command = commands.add_parser("train", help="train a model, or resume a run")
    command.add_argument("--model", default=None)
    command.add_argument("--recipe", default=None, help="paper or demo")
    command.add_argument("--dataset", default=None)
    command.add_argument("--data", default=None, type=folder, metavar="DIR", help="only ever read")
    command.add_argument("--run", default=None, metavar="NAME")
    command.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    command.add_argument("--resume", default=None, metavar="RUN")
    # As the app starts it: no bar, and room for whoever else uses the machine.
    command.add_argument("--quiet", action="store_true", help=argparse.SUPPRESS)
    places.add(command, "in the foreground")
    command.set_defaults(act=act)


def act(asked: argparse.Namespace) -> int:
    """Train here, or send it where it is trained; the run's name on stdout."""
    from reid_core.distributed import given_place
    from reid_core.train import create, help_train

    there = places.asked_place(asked)
    place = given_place() if there["where"] is None else None
    if place and place.rank:  # the first process sees to the rest
        return help_train(asked.resume or asked.run)
    if place and not (asked.resume or asked.run):
        raise BadInput("--run is missing: several processes need to know the run's name")
    what = _old(asked, there) if asked.resume is not None else _new(asked)
    if there["where"]:
        return _sent(what, asked, there)
    run = what if asked.resume is not None else create(what, asked.run)
    return _trained(run, asked.quiet)


def _old(asked: argparse.Namespace, there: dict):
    """The run to resume. Raises BadInput."""
    from reid_core.runs import open_run
    from reid_core.train import redistribute

    given = ("model", "recipe", "dataset", "data", "run")
    if any(getattr(asked, name) is not None for name in given):
        raise BadInput("--resume takes a run as it is: leave the other options out")
    run = open_run(asked.resume)
    if there["where"]:
        return run
    state = run.status().state
    if run.resumable:
        run.ask_stop(False)  # an old wish
    elif state == "queued" and not asked.quiet:
        raise BadInput(f"run {run.name!r} waits in the queue: queue --cancel {run.name} first")
    elif not (asked.quiet and state in ("queued", "starting", "stopping")):  # the runner's
        raise BadInput(f"run {run.name!r} can't be resumed: it is {state}")
    if asked.set:
        redistribute(run, dict(pair(each) for each in asked.set))
    return run


def _new(asked: argparse.Namespace):
    """The experiment of a new run, its data prepared. Raises BadInput."""
    from reid_core.data import prepare
    from reid_core.experiment import Experiment
    from reid_core.runs import checked, runs_folder

    if asked.model is None:
        raise BadInput("--model is missing: name the model to train, or --resume RUN")
    experiment = Experiment.create(
        model=asked.model,
        recipe=asked.recipe or "demo",
        dataset=asked.dataset or "pedestrians",
        data=asked.data,
        settings=dict(pair(each) for each in asked.set),
    )
    if asked.run is not None and (runs_folder() / checked(asked.run)).exists():
        raise BadInput(f"run {asked.run!r} exists already; give another name")
    with Bar() as progress:
        prepare(experiment.dataset, experiment.data, progress)
    return experiment


def _trained(run, quiet: bool) -> int:
    """Train a run to its end; the exit code."""
    from reid_core.train import Lost, Stopped, train

    print(run.name, flush=True)
    try:
        train(run, quiet=quiet)
    except Stopped as stop:
        print(f"reid_core: {stop}; go on with: train --resume {run.name}", file=sys.stderr)
        return 128 + stop.signal if stop.signal else 0
    except Exception as error:
        if quiet:
            return 1  # stderr is the run's log, and the reason stands there already
        told = as_told(error)
        if isinstance(told, BadInput) and (told is not error or isinstance(error, Lost)):
            raise BadInput(f"{told}; go on with: train --resume {run.name}") from error
        raise
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
