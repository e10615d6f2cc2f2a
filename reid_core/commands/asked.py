"""What several commands ask for and say: options, the model they mean, a progress bar."""

import argparse
import re
import sys
from pathlib import Path

from reid_core.errors import BadInput


def feature_options(command: argparse.ArgumentParser) -> None:
    """Which of a model's features is meant."""
    command.add_argument(
        "--neck", choices=("before", "after"), default=None, help="BNNeck; the run's own knob"
    )
    command.add_argument(
        "--stage",
        choices=("encoder", "refined"),
        default=None,
        help="for a model that refines embeddings: each image alone, or all of them as one set "
        "(the default; --neck is then the refining part's own; an encoder's is after)",
    )
    command.add_argument(
        "--views",
        type=given_path,
        default=None,
        metavar="F.csv",
        help="columns name (of the file, or the end of its path) and view (from 0), where a model is "
        "told from which side a picture was taken",
    )


def asked_model(run, asked: argparse.Namespace):
    """The run's model on the fastest device, giving the feature that --neck, --stage and --views ask
    for. Raises BadInput."""
    from reid_core.models import MODELS
    from reid_core.ranking.nearer import fastest

    experiment = run.experiment
    refines = MODELS[experiment.model].refines
    if asked.stage and not refines:
        raise BadInput(f"--stage: {experiment.model} refines no embeddings; leave it out")
    if asked.views and not experiment.knows_views:
        raise BadInput(f"--views: run {run.name!r} is not told of views; leave it out")
    if refines and not run.refined:
        if asked.stage == "refined":
            raise BadInput(
                f"--stage refined: run {run.name!r} has trained its encoder alone so far; give encoder"
            )
        asked.stage = "encoder"
    model = run.model()
    if asked.neck:
        (model.encoder if asked.stage == "encoder" else model).neck = asked.neck
    return model.to(fastest())


def tell_unknown(experiment, model, cameras: list, views: list) -> None:
    """Say on stderr how many images take a mean embedding."""
    asked = {"camera": (experiment.knows_cameras, cameras, model.facts.cameras)}
    asked["view"] = (experiment.knows_views, views, model.facts.views)
    for name, (knows, ids, known) in asked.items():
        if knows and (unknown := sum(each not in known for each in ids)):
            print(
                f"reid_core: {unknown} of {len(ids)} images have a {name} that the model does not "
                f"know; they take the mean {name} embedding",
                file=sys.stderr,
            )


def folder(text: str) -> str:
    """An absolute path, so that a run can be resumed from elsewhere."""
    if not text.strip():
        raise argparse.ArgumentTypeError("no folder given")
    return str(Path(text).absolute())


def given_path(text: str) -> Path:
    """A path; an empty one, as an unset variable gives, would be this very folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("no file or folder given")
    return Path(text)


def camera_number(text: str) -> int:
    """A camera's number, or -1 for an unknown one."""
    if not re.fullmatch(r"-1|\+?\d{1,9}", text):
        raise argparse.ArgumentTypeError(
            f"expected a camera's number, or -1 for unknown, got {text!r}"
        )
    return int(text)


def pair(text: str) -> tuple[str, str]:
    """A setting as it is typed. Raises BadInput."""
    key, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"--set {text}: expected key=value")
    return key, value


class Bar:
    """A progress callback (done, total) for as long as a `with` block lasts."""

    def __init__(self, kind: str = "bar"):
        self.kind, self.bar = kind, None

    def __enter__(self):
        return self

    def __call__(self, done: int, total: int) -> None:
        if self.kind == "lines":
            print(f"{done}/{total}", file=sys.stderr, flush=True)
            return
        if self.bar is not None and self.bar.total != total:  # the next part of the work
            self.bar.close()
            self.bar = None
        if self.bar is None:
            from tqdm import tqdm

            # What is done already says nothing of the speed.
            kind = dict(unit="img", file=sys.stderr, dynamic_ncols=True)
            kind |= {} if sys.stderr.isatty() else dict(mininterval=5)  # a log wants few lines
            self.bar = tqdm(total=total, initial=done, **kind)
        self.bar.update(done - self.bar.n)

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()


def one_line(message: str) -> str:
    """A message as a line of a list ends with it."""
    return " ".join(message.split())
