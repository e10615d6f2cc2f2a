"""`embed`: a run's embeddings of a folder, or of a test split, in a file."""

import argparse
import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path

from reid_core.commands.asked import (
    Bar,
    asked_model,
    camera_number,
    feature_options,
    folder,
    given_path,
    tell_unknown,
)
from reid_core.errors import BadInput


def add(commands) -> None:
    command = commands.add_parser(
        "embed",
        help="write a run's embeddings of images",
        description="Writes a run's embeddings of a file, of all images below a folder, or of a data "
        "set's queries and gallery: arrays names (N,) and embeddings (N, D) float32, before L2 "
        "normalisation; where names or layout tell them also identities, cameras, views and is_query, "
        "so that evaluate --embeddings takes the file; encoded (N, D') for a model that refines; and "
        "left_out, the names of images that can't be read. Interrupted, the same command goes on "
        "where it stopped.",
    )
    command.add_argument("run", metavar="RUN")
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--images", type=given_path, metavar="FILE_OR_DIR")
    what.add_argument("--dataset", metavar="NAME", help="its queries and gallery")
    command.add_argument("--data", default=None, type=folder, metavar="DIR", help="with --dataset")
    command.add_argument("--out", required=True, type=given_path, metavar="F.npz")
    command.add_argument(
        "--camera", type=camera_number, default=None, metavar="N", help="3 means _c3"
    )
    feature_options(command)
    speed_options(command)
    command.set_defaults(act=act)


def speed_options(command: argparse.ArgumentParser) -> None:
    """How fast and how exactly a model looks at images."""
    command.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="bf16 computes in bfloat16 where that is safe; embeddings are float32 all the same",
    )
    command.add_argument(
        "--batch-size",
        type=_count,
        default=None,
        metavar="B",
        help="by model, image size and device",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def act(asked: argparse.Namespace) -> None:
    from reid_core.data.images import Images
    from reid_core.embed import batch_size_of, embedded
    from reid_core.extraction.unfinished import Unfinished
    from reid_core.runs import open_run

    run = open_run(asked.run)
    writable(asked.out)
    model, experiment = asked_model(run, asked), run.experiment  # says what does not fit the model
    pictures = asked_pictures(asked, run)
    told = pictures.cameras.tolist(), pictures.views.tolist()
    with Unfinished(asked.out, said_of(asked, run, pictures)) as kept:
        if kept.news:
            print(f"reid_core: {kept.news}", file=sys.stderr)
        kept.batch_size = kept.batch_size or asked.batch_size
        kept.batch_size = kept.batch_size or batch_size_of(
            model, experiment, asked.precision, len(pictures)
        )
        images = Images(pictures.paths, experiment.training.size, cache=0)
        how = dict(batch_size=kept.batch_size, precision=asked.precision, start=kept.tried)
        try:
            with Bar() as progress:
                if kept.kept:
                    progress(kept.tried, len(pictures))
                for part in embedded(model, experiment, images, *told, **how):
                    kept.add(part)
                    if kept.kept:
                        progress(kept.tried, len(pictures))
        except KeyboardInterrupt:
            print(f"reid_core: {kept.tried} of {len(pictures)} images are done", file=sys.stderr)
            print("reid_core: the same command goes on from there", file=sys.stderr)
            raise
        problems = list(kept.problems.values())
        if not kept.kept:
            more = f"; nor can the other {len(problems) - 1} images" if problems[1:] else ""
            raise BadInput(problems[0] + more)
        read = pictures.without(kept.problems)
        left_out = pictures.names[list(kept.problems)]
        write(asked.out, arrays_of(model, asked, read, kept.vectors()) | dict(left_out=left_out))
    tell_unknown(experiment, model, read.cameras.tolist(), read.views.tolist())
    if pictures.aside:
        print(
            f"reid_core: {pictures.aside} images are of no query and no gallery; their identity is "
            "-1, which every protocol leaves out",
            file=sys.stderr,
        )
    if problems:
        print(f"reid_core: left out {len(problems)} of {len(pictures)} images:", file=sys.stderr)
        print("\n".join(f"    {problem}" for problem in problems), file=sys.stderr)
    print(asked.out)


def writable(out: Path) -> None:
    """Raises BadInput where a file can't be written there."""
    if out.is_dir():
        raise BadInput(f"--out {out} is a folder: name a file")
    if not out.absolute().parent.is_dir():
        raise BadInput(f"no folder {out.absolute().parent} to write {out.name} into")


def asked_pictures(asked: argparse.Namespace, run):
    """The pictures that --images or --dataset name, with --camera and --views."""
    import numpy as np

    from reid_core.data import prepare
    from reid_core.embed import read_view_table, views_of
    from reid_core.extraction.pictures import pictures_at, pictures_of
    from reid_core.feed import prepared

    experiment = run.experiment
    if asked.dataset:
        data = asked.data
        if data is None and asked.dataset == experiment.dataset:
            data = experiment.data
        with Bar() as progress:
            pictures = pictures_of(prepared(experiment, prepare(asked.dataset, data, progress)))
    elif asked.data:
        raise BadInput("--data goes with --dataset: name the data set, or leave it out")
    else:
        pictures = pictures_at(asked.images)
    pictures = pictures.told(camera=asked.camera)
    if asked.views:
        table = read_view_table(asked.views)
        paths = [path.absolute() for path in pictures.paths]
        pictures = replace(pictures, views=np.array(views_of(paths, table)))
    return pictures


def said_of(asked: argparse.Namespace, run, pictures) -> dict[str, object]:
    """What the embeddings depend on: others begin anew."""
    files = hashlib.sha256()
    for path, name in zip(pictures.paths, pictures.names, strict=True):
        try:
            seen = path.stat()
        except OSError:
            continue  # told as unreadable
        files.update(f"{name}\t{seen.st_size}\t{seen.st_mtime_ns}\n".encode())
    for labels in pictures.labels().values():
        files.update(labels.tobytes())
    options = {k: getattr(asked, k) for k in ("neck", "stage", "precision", "batch_size")}
    return {
        "model": [run.name, run.stamp(anywhere=True)],
        "list of images": files.hexdigest(),
        "set of options": options,
    }


def arrays_of(model, asked: argparse.Namespace, pictures, vectors) -> dict:
    """What the file holds of pictures and what they were embedded as, each alone."""
    from reid_core.embed import refine

    arrays = dict(names=pictures.names, embeddings=vectors)
    if model.refines and asked.stage != "encoder":
        arrays |= dict(embeddings=refine(model, vectors), encoded=vectors)
    return arrays | (pictures.labels() if pictures.labelled else {})


def write(out: Path, arrays: dict) -> None:
    """As a whole or not at all."""
    import numpy as np

    beside = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:  # numpy would add .npz to another suffix
            np.savez(file, **arrays)
        os.replace(beside, out)
    except OSError as error:
        error.filename = error.filename or str(out)
        raise
    finally:
        beside.unlink(missing_ok=True)
