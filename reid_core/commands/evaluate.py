"""evaluate: the scores of a run's test split, or of features that lie in a file, as JSON."""

import argparse
import json

from reid_core.commands.asked import (
    Bar,
    asked_model,
    feature_options,
    folder,
    given_path,
    tell_unknown,
)
from reid_core.commands.embed import speed_options
from reid_core.errors import BadInput

ABOUT = """Scores a run on a test split, or stored features (--embeddings), and prints them as JSON. An
imported run keeps its last evaluation, so that every page shows it, and the data set that it was made
on, and so does a trained one whose own is gone or damaged; not with another --neck or --stage than its own, and only by the usual protocol and metric. Options
that change or add numbers add `conditions`, which say how they came about."""


def add(commands) -> None:
    """The command's options."""
    command = commands.add_parser(
        "evaluate", help="score a run on a test split, as JSON", description=ABOUT
    )
    _what(command)
    _how(command)
    _more(command)
    feature_options(command)
    speed_options(command)
    command.set_defaults(act=act)


def _what(command: argparse.ArgumentParser) -> None:
    """Whose features of which images."""
    command.add_argument("run", metavar="RUN", nargs="?")
    command.add_argument(
        "--embeddings",
        type=given_path,
        default=None,
        metavar="F.npz",
        help="in place of RUN: an .npz or a folder of .npy files, arrays embeddings (N, D), "
        "identities, cameras, is_query (N,); mapped, not read, where they are not compressed",
    )
    command.add_argument(
        "--refine",
        default=None,
        metavar="RUN",
        help="with --embeddings: refine them by this run first",
    )
    command.add_argument(
        "--dataset", default=None, help="the run's own; for an imported run with --data, market1501"
    )
    command.add_argument("--data", default=None, type=folder, metavar="DIR")
    command.add_argument(
        "--flip", action="store_true", help="mean of an image's embedding and its mirror image's"
    )


def _how(command: argparse.ArgumentParser) -> None:
    """Protocol and distance."""
    command.add_argument(
        "--protocol",
        default=None,
        metavar="NAME",
        help="market (the default), cuhk03-np, vehicleid, rga-sklearn-legacy, single-gallery-shot; for "
        "a model that refines: nformer-joint (queries and gallery are one set; the default) or "
        "nformer-per-query (each query with the gallery alone: exact)",
    )
    command.add_argument(
        "--metric",
        default="euclidean",
        metavar="NAME",
        help="euclidean or cosine between vectors of length 1; euclidean-unnormalised",
    )
    command.add_argument(
        "--rerank",
        default=None,
        type=_rerank,
        metavar="K1,K2,LAMBDA[,CONVENTION]",
        help="k-reciprocal re-ranking, such as 20,6,0.3; CONVENTION is squared (distances; the default) "
        "or fourth-power, torchreid's",
    )
    command.add_argument(
        "--approximate",
        choices=("faiss",),
        default=None,
        help="search approximately for each query's nearest images (a match beyond them ranks last); "
        "tells how many they are, and the search's recall",
    )


def _more(command: argparse.ArgumentParser) -> None:
    """What is told beside the scores."""
    command.add_argument(
        "--bootstrap", default=0, type=int, metavar="N", help="95%% intervals from N resamples"
    )
    command.add_argument(
        "--far",
        default=None,
        type=float,
        metavar="RATE",
        help="the threshold at a false-accept rate",
    )
    command.add_argument(
        "--details",
        action="store_true",
        help="CMC at ranks 1 to 50, verification, mAP by pairs of cameras",
    )
    command.add_argument(
        "--seed", default=0, type=int, metavar="S", help="of what a protocol or --bootstrap draws"
    )


def act(asked: argparse.Namespace) -> None:
    """Print the record. Raises BadInput."""
    if (asked.run is None) == (asked.embeddings is None):
        raise BadInput("expected a RUN or --embeddings F.npz, one of them")
    scores = _of_file(asked) if asked.embeddings else _of_run(asked)
    print(json.dumps(scores, indent=2))


def _of_file(asked: argparse.Namespace) -> dict:
    usual = dict(dataset=None, data=None, neck=None, stage=None, views=None, batch_size=None)
    for name, value in (usual | dict(precision="fp32")).items():
        if getattr(asked, name) != value:
            said = f"--{name.replace('_', '-')}"
            raise BadInput(f"{said} is for a RUN: stored features are scored as they are")
    from reid_core.scores.stored import evaluate_stored

    return evaluate_stored(asked.embeddings, _wish(asked), asked.refine)


def _of_run(asked: argparse.Namespace) -> dict:
    if asked.refine:
        raise BadInput("--refine is for --embeddings: a RUN refines its own features")
    from reid_core.runs import open_run
    from reid_core.scores.scoring import Features, evaluate_run

    run, wish = open_run(asked.run), _wish(asked)
    model = asked_model(run, asked)
    how = dict(precision=asked.precision, batch_size=asked.batch_size)
    features = Features(run, model, asked.stage, asked.neck, asked.views, **how)
    with Bar() as progress:
        scores, seen = evaluate_run(features, wish, asked.dataset, asked.data, progress)
    tell_unknown(run.experiment, model, seen.cameras.tolist(), seen.views.tolist())
    return scores


def _wish(asked: argparse.Namespace):
    from reid_core.scores.measure import Rerank
    from reid_core.scores.record import Wish

    return Wish(
        asked.protocol,
        asked.metric,
        asked.flip,
        Rerank(*asked.rerank) if asked.rerank else None,
        asked.bootstrap,
        asked.far,
        asked.details,
        asked.approximate is not None,
        asked.seed,
    )


def _rerank(text: str) -> tuple[int, int, float, str]:
    k1, k2, weight, convention = (
        (*text.split(","), "squared")[:4] if text.count(",") in (2, 3) else [""] * 4
    )
    try:
        found = int(k1), int(k2), float(weight), convention
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected K1,K2,LAMBDA such as 20,6,0.3, got {text!r}"
        ) from None
    if found[0] < 1 or found[1] < 1 or not 0 <= found[2] <= 1:
        raise argparse.ArgumentTypeError(
            f"expected K1 and K2 of 1 or more and LAMBDA from 0 to 1, got {text!r}"
        )
    return found
