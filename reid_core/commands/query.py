"""`query`: who in a gallery looks like the person on a picture, or nobody."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from reid_core.commands.asked import Bar, asked_model, camera_number, given_path, tell_unknown
from reid_core.commands.embed import speed_options
from reid_core.errors import BadInput

UNKNOWN = -2  # nobody's identity, where -1 is junk that a ranking leaves out


def add(commands) -> None:
    command = commands.add_parser(
        "query",
        help="search a gallery for the person on a picture",
        description="Ranks a gallery for a picture, or for each below a folder: names, distances, "
        'identities where they are known. Says "no match" where the nearest is not nearer than the '
        "threshold, by default the one that accepts 1% of the pairs of two identities in the run's "
        "last evaluation. The share counts pairs: a gallery of G strangers has G chances.",
    )
    command.add_argument("run", metavar="RUN")
    command.add_argument("--images", required=True, type=given_path, metavar="FILE_OR_DIR")
    command.add_argument(
        "--gallery", type=given_path, default=None, metavar="DIR", help="by default the run's own"
    )
    command.add_argument(
        "--top", type=int, default=10, metavar="K", help="images to list; 0 is all"
    )
    limit = command.add_mutually_exclusive_group()
    limit.add_argument("--far", type=float, default=None, metavar="SHARE", help="false accepts")
    limit.add_argument("--threshold", type=float, default=None, metavar="DISTANCE")
    command.add_argument(
        "--camera", type=camera_number, default=None, metavar="N", help="of the queries"
    )
    command.add_argument("--json", action="store_true")
    speed_options(command)
    # The threshold was measured on what the run compares.
    command.set_defaults(act=act, neck=None, stage=None, views=None)


def act(asked: argparse.Namespace) -> None:
    import numpy as np

    from reid_core.extraction.pictures import pictures_at
    from reid_core.retrieve import retrieve_encoded
    from reid_core.runs import open_run

    run = open_run(asked.run)
    if asked.top < 0:
        raise BadInput(f"--top {asked.top}: expected 0 or more")
    if asked.gallery is None and not run.has_embeddings:
        raise BadInput(f"run {run.name!r} has no gallery of its own yet: give --gallery DIR")
    queries = pictures_at(asked.images)
    threshold, said = asked_threshold(asked, run)
    model = asked_model(run, asked)
    gallery, row_of, where = asked_gallery(asked, run, model)
    vectors, queries = looked_at(asked, run, model, queries, asked.camera)
    kept = gallery.vectors if gallery.encoded is None else gallery.encoded
    if kept.shape[1] != vectors.shape[1]:
        raise BadInput(
            f"run {run.name!r} has a damaged embeddings.npz: vectors of {kept.shape[1]} numbers, where "
            f"its model gives {vectors.shape[1]}: {run.mending}"
        )
    found = []
    for row, path in enumerate(queries.paths):
        ranking = retrieve_encoded(
            model, gallery, vectors[row : row + 1], int(queries.cameras[row])
        )
        itself = row_of.get(os.path.realpath(path), -1)  # a picture is not an answer to itself
        places = np.flatnonzero(~ranking.ignored & (ranking.rows != itself))
        shown = places[: asked.top or None]
        ranked = [_entry(gallery, ranking, *each) for each in enumerate(shown, 1)]
        nearest = float(ranking.distances[places[0]]) if len(places) else None
        match = None if threshold is None else bool(len(places)) and threshold.accepts(nearest)
        name = str(queries.names[row])
        found.append(dict(query=name, match=match, nearest=nearest, ranked=ranked))
    answer = dict(run=run.name, gallery=where, threshold=said, queries=found)
    print(json.dumps(answer, indent=2) if asked.json else "\n".join(_table(answer)))


def asked_threshold(asked: argparse.Namespace, run) -> tuple[Any, dict | None]:
    """The threshold, and what is said of it; none where there is nothing to measure it on."""
    from reid_core.scores.protocols import named
    from reid_core.scores.threshold import Threshold, measured

    if asked.threshold is not None:
        if not 0 <= asked.threshold < float("inf"):
            raise BadInput(f"--threshold {asked.threshold}: expected a distance, 0 or more")
        return Threshold(asked.threshold), dict(distance=asked.threshold, measured_on=None)
    if not run.has_embeddings:
        if asked.far is not None:
            raise BadInput(
                f"--far: run {run.name!r} has no test split to measure it on: evaluate the run first, "
                "or give --threshold"
            )
        print(
            "reid_core: no threshold without an evaluation: nothing is accepted or refused",
            file=sys.stderr,
        )
        return None, None
    embeddings = run.embeddings()
    it = measured(embeddings, 0.01 if asked.far is None else asked.far)
    experiment = run.experiment
    return it, dict(
        distance=it.distance,
        false_accepts=it.false_accepts,
        true_accepts=it.true_accepts,
        pairs_of_two_identities=it.strangers,
        pairs_of_one_identity=it.same,
        measured_on=f"{experiment.evaluated_on} of {experiment.dataset}",
        protocol=named(None, embeddings.encoded is not None),
    )


def asked_gallery(asked: argparse.Namespace, run, model) -> tuple[Any, dict[str, int], dict]:
    """The gallery's embeddings, the rows of its files where a folder was named, and what it is."""
    from dataclasses import replace

    from reid_core.extraction.pictures import pictures_at
    from reid_core.retrieve import gallery_of

    if asked.gallery is None:
        found = run.embeddings()
        count = len(found.gallery_rows)
        title = f"gallery of {run.experiment.evaluated_on} of {run.experiment.dataset}"
        return found, {}, dict(title=title, images=count)
    vectors, pictures = looked_at(asked, run, model, pictures_at(asked.gallery))
    found = gallery_of(model, vectors, pictures.names, pictures.cameras.tolist(), run.refined)
    identities = pictures.identities.copy()
    identities[identities == -1] = UNKNOWN
    row_of = {os.path.realpath(path): row for row, path in enumerate(pictures.paths)}
    title = str(asked.gallery)
    return replace(found, identities=identities), row_of, dict(title=title, images=len(pictures))


def looked_at(asked: argparse.Namespace, run, model, pictures, camera: int | None = None):
    """Embeddings (N, D') of pictures, each alone, and those of them that could be read."""
    import numpy as np

    from reid_core.data.images import Images
    from reid_core.embed import embedded

    experiment = run.experiment
    if camera is not None:
        pictures = pictures.told(camera=camera)
    told = pictures.cameras.tolist(), pictures.views.tolist()
    images = Images(pictures.paths, experiment.training.size, cache=0)
    how = dict(batch_size=asked.batch_size, precision=asked.precision)
    parts, problems = [], {}
    with Bar() as progress:
        for part in embedded(model, experiment, images, *told, **how):
            parts += [part.vectors] if len(part.vectors) else []
            problems |= part.problems
            if len(pictures) > 1 and parts:
                progress(part.rows.stop, len(pictures))
    tell_unknown(experiment, model, *told)
    if not parts:
        raise BadInput(str(next(iter(problems.values()))))
    for problem in problems.values():
        print(f"reid_core: left out: {problem}", file=sys.stderr)
    return np.concatenate(parts), pictures.without(problems)


def _entry(gallery, ranking, rank: int, place: int) -> dict[str, Any]:
    row = ranking.rows[place]
    identity, camera = int(gallery.identities[row]), int(gallery.cameras[row])
    return dict(
        rank=rank,
        name=str(gallery.names[row]),
        identity=identity if identity >= 0 else None,
        camera=camera if camera >= 0 else None,
        distance=float(ranking.distances[place]),
    )


def _table(answer: dict[str, Any]) -> Iterator[str]:
    """The answer as lines to read."""
    from textwrap import fill

    from reid_core.evaluate import JOINT
    from reid_core.scores.threshold import REFINED

    limit, size = answer["threshold"], answer["gallery"]["images"]
    yield f"gallery: {answer['gallery']['title']}, {size} images"
    if limit:
        yield f"threshold: {limit['distance']:.4f}{_measured(limit)}"
    if limit and limit.get("protocol") == JOINT:
        yield fill(REFINED, 100)
    for each in answer["queries"]:
        first = each["ranked"][0] if each["ranked"] else None
        verdict = {None: "nearest first", True: "match", False: "no match"}[each["match"]]
        if first and each["match"] is False:
            verdict += f": the nearest is at {each['nearest']:.4f}"
        elif first and each["match"] and first["identity"]:
            verdict += f": identity {first['identity']}"
        yield f"\n{each['query']}: {verdict}"
        for entry in each["ranked"]:
            who = {None: "", 0: "distractor"}.get(
                entry["identity"], f"identity {entry['identity']}"
            )
            yield f"{entry['rank']:>4}  {entry['distance']:.4f}  {who:<14} {entry['name']}"


def _measured(limit: dict[str, Any]) -> str:
    if limit["measured_on"] is None:
        return ""
    return (
        f", nearer than which are {limit['false_accepts']:.3%} of "
        f"{limit['pairs_of_two_identities']:,} pairs of two identities and "
        f"{limit['true_accepts']:.1%} of {limit['pairs_of_one_identity']:,} of one, "
        f"on {limit['measured_on']}"
    )
