"""Features that lie in a file, an .npz or a folder of .npy: read and scored. N images, D dimensions.

embeddings (N, D) of any floating-point type; identities (N,) and cameras (N,) whole numbers, -1
unknown; is_query (N,) booleans. What is not compressed is mapped, not read, so that a gallery may be
larger than the memory.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reid_core.errors import BadInput
from reid_core.evaluate import JOINT, Embeddings
from reid_core.ranking.nearer import SHORTEST, SMALL, ranking_device, with_room
from reid_core.ranking.ranks import warm
from reid_core.scores.measure import CHUNK
from reid_core.scores.protocols import PROTOCOLS, named
from reid_core.scores.reading import ENCODED, left_out, read_stored
from reid_core.scores.record import Wish, record

ROUGH = 1e-20, 1e70  # squares of lengths between are far from what is too short or too long


def evaluate_stored(path: Path, wish: Wish, refiner: str | None = None) -> dict[str, Any]:
    """Score features that lie in a file, refined first by a run's neighbour transformer if one is
    named. seconds are those from opening the file to the scores. Raises BadInput."""
    started = time.perf_counter()
    if wish.flip:
        raise BadInput("--flip needs images: stored features can't be mirrored")
    embeddings, away = read_stored(path), None
    name = protocol_of(embeddings, wish.protocol, refiner, path)
    if len(embeddings.query_rows) * len(embeddings.gallery_rows) > SMALL:
        warm()
    conditions: dict[str, Any] = dict(features=str(path), dimensions=embeddings.vectors.shape[1])
    spent = dict(read=time.perf_counter() - started)
    if missing := left_out(path):
        conditions["left_out"] = missing
    if refiner is not None and embeddings.encoded is not None:  # `embed` refined them already
        embeddings = replace(embeddings, vectors=embeddings.encoded)
    longest = np.finfo(np.float64 if refiner is None else np.float32).max  # as it is computed with
    if short := without_direction(embeddings.vectors, path, longest):
        conditions["without_direction"] = short
    if refiner is not None:
        embeddings, away = refined_by(embeddings, refiner, name)
        conditions["refined_by"] = refiner
        spent["refine"] = time.perf_counter() - started - sum(spent.values())
    found = record(embeddings, wish, conditions, away)
    spent["evaluate"] = time.perf_counter() - started - sum(spent.values())
    total = time.perf_counter() - started
    return found | dict(seconds=total, seconds_of=spent, peak_memory_bytes=peak_memory())


def protocol_of(embeddings: Embeddings, asked: str | None, refiner: str | None, path: Path) -> str:
    """The protocol that was asked for, or the one that features of a file have by default: encoded
    beside them says that they were refined. Raises BadInput where they can't be scored by it."""
    refined = refiner is not None or embeddings.encoded is not None
    protocol = PROTOCOLS.get(asked or "")
    if protocol and protocol.refined and not refined:
        raise BadInput(
            f"--protocol {asked} is for refined features, and {path} holds none (no {ENCODED}): "
            "refine them by --refine RUN"
        )
    if protocol and protocol.alone and refiner is None:
        raise BadInput(
            f"--protocol {asked} refines each query with the gallery alone, and {path} holds features "
            "that were refined as one set: name the run that gave them by --refine RUN"
        )
    if protocol and refined and not protocol.refined:
        raise BadInput(
            f"--protocol {asked} is for features of each image alone, and these are refined: leave it "
            f"out (that is {JOINT}), or score what embed --stage encoder writes"
        )
    return named(asked, refined)


def refined_by(
    embeddings: Embeddings, name: str, protocol: str
) -> tuple[Embeddings, Callable[[np.ndarray], np.ndarray] | None]:
    """Stored features (N, D') refined as one set by a run's neighbour transformer; under
    nformer-per-query left as they are, with distances that refine each query with the gallery.
    Raises BadInput."""
    from reid_core.embed import per_query_distances, refine  # with the models, seconds to import
    from reid_core.models.nformer import embedding_width
    from reid_core.runs import open_run

    run = open_run(name)
    model = run.model()
    if not model.refines or not run.refined:
        raise BadInput(
            f"--refine {name}: it has no neighbour transformer; name a run of nformer whose second "
            "stage was trained"
        )
    width = embedding_width(model, run.experiment.training.size)
    if embeddings.vectors.shape[1] != width:
        raise BadInput(
            f"--refine {name}: expected features of {width} dimensions, as its encoder gives them "
            f"(embed --stage encoder), got {embeddings.vectors.shape[1]}"
        )
    encoded = np.array(embeddings.vectors, np.float32)
    device = ranking_device(len(encoded) ** 2)
    if PROTOCOLS[protocol].alone:
        embeddings = replace(embeddings, vectors=encoded, encoded=encoded)
        by_query = lambda where: per_query_distances(model.to(where), embeddings)  # noqa: E731
        return embeddings, with_room(by_query, device)
    refined = with_room(lambda where: refine(model.to(where), encoded), device)
    return replace(embeddings, vectors=refined, encoded=encoded), None


def without_direction(vectors: np.ndarray, path: Path, longest: float) -> int:
    """How many vectors (N, D) of a file are too short to point anywhere. Raises BadInput, with the first
    row, where some hold NaN or infinity or are longer than can be computed with."""
    bad: list[int] = []
    long: list[int] = []
    short = 0
    for start in range(0, len(vectors), CHUNK):
        part = np.asarray(vectors[start : start + CHUNK])
        with np.errstate(all="ignore"):  # squares in the file's own numbers are quick, and rough
            square = np.einsum("nd,nd->n", part, part).astype(np.float64)
            doubtful = np.flatnonzero(~((square > ROUGH[0]) & (square < ROUGH[1])))
            for row in doubtful:
                length = np.linalg.norm(part[row].astype(np.float64))
                short += int(length < SHORTEST)
                if not np.isfinite(part[row]).all():
                    bad.append(start + int(row))
                elif not length <= longest:
                    long.append(start + int(row))
    for rows, what in ((bad, "hold NaN or infinity"), (long, "hold numbers too large to compare")):
        if rows:
            raise BadInput(
                f"{path}: {len(rows):,} of {len(vectors):,} embeddings {what}, the first in row "
                f"{rows[0]} (from 0): write the file without those rows, or embed their images anew"
            )
    return short


def peak_memory() -> int:
    """Bytes that this process has held at most."""
    try:
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset
