"""Features that lie in a file, an .npz or a folder of .npy: read and scored. N images, D dimensions.

embeddings (N, D) of any floating-point type; identities (N,) and cameras (N,) whole numbers, -1
unknown; is_query (N,) booleans. What is not compressed is mapped, not read, so that a gallery may be
larger than the memory.
"""

import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings
from reid_core.ranking.nearer import SMALL, ranking_device, with_room
from reid_core.ranking.ranks import warm
from reid_core.scores.measure import CHUNK
from reid_core.scores.protocols import PROTOCOLS, named
from reid_core.scores.record import Wish, record

ARRAYS = ("embeddings", "identities", "cameras", "is_query")
ENCODED = "encoded"  # beside embeddings that were refined as one set
LOCAL_HEADER = 30  # bytes of a zip member's own header before its name


def evaluate_stored(path: Path, wish: Wish, refiner: str | None = None) -> dict[str, Any]:
    """Score features that lie in a file, refined first by a run's neighbour transformer if one is
    named. seconds are those from opening the file to the scores. Raises BadInput."""
    started = time.perf_counter()
    if wish.flip:
        raise BadInput("--flip needs images: stored features can't be mirrored")
    name = named(wish.protocol, refiner is not None)
    embeddings, away = read_stored(path), None
    if len(embeddings.query_rows) * len(embeddings.gallery_rows) > SMALL:
        warm()
    conditions: dict[str, Any] = dict(features=str(path), dimensions=embeddings.vectors.shape[1])
    spent = dict(read=time.perf_counter() - started)
    if missing := left_out(path):
        conditions["left_out"] = missing
    if refiner is not None and embeddings.encoded is not None:  # `embed` refined them already
        embeddings = replace(embeddings, vectors=embeddings.encoded)
    refuse_no_numbers(embeddings.vectors, path)
    if refiner is not None:
        embeddings, away = refined_by(embeddings, refiner, name)
        conditions["refined_by"] = refiner
        spent["refine"] = time.perf_counter() - started - sum(spent.values())
    found = record(embeddings, wish, conditions, away)
    spent["evaluate"] = time.perf_counter() - started - sum(spent.values())
    total = time.perf_counter() - started
    return found | dict(seconds=total, seconds_of=spent, peak_memory_bytes=peak_memory())


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


def refuse_no_numbers(vectors: np.ndarray, path: Path) -> None:
    """Raises BadInput where vectors (N, D) of a file hold NaN or infinity; names the first row."""
    bad: list[int] = []
    for start in range(0, len(vectors), CHUNK):
        part = np.asarray(vectors[start : start + CHUNK])
        with np.errstate(all="ignore"):  # a sum is quick to form; too large a one decides nothing
            doubtful = np.flatnonzero(~np.isfinite(part.sum(axis=1)))
        bad += [start + int(row) for row in doubtful if not np.isfinite(part[row]).all()]
    if bad:
        raise BadInput(
            f"{path}: {len(bad):,} of {len(vectors):,} embeddings hold NaN or infinity, the first in "
            f"row {bad[0]} (from 0): write the file without those rows, or embed their images anew"
        )


def peak_memory() -> int:
    """Bytes that this process has held at most."""
    try:
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset


def read_stored(path: Path) -> Embeddings:
    """The features as a test split. Raises BadInput for anything that it can't be."""
    found = _folder(path) if path.is_dir() else _archive(path)
    if missing := [name for name in ARRAYS if name not in found]:
        raise BadInput(
            f"{path} has no {', '.join(missing)}: expected the arrays {', '.join(ARRAYS)}, "
            f"found {', '.join(found) or 'none'}"
        )
    vectors, identities, cameras, is_query = (found[name] for name in ARRAYS)
    if vectors.ndim != 2 or not vectors.size or not np.issubdtype(vectors.dtype, np.floating):
        raise BadInput(
            f"{path}: expected embeddings (N, D) of floating-point numbers, got "
            f"{vectors.shape} of {vectors.dtype}"
        )
    count = len(vectors)
    for name in ARRAYS[1:]:
        array = found[name]
        if array.shape != (count,) or array.dtype.kind not in "iub":
            kind = "booleans" if name == "is_query" else "whole numbers"
            raise BadInput(
                f"{path}: expected {name} ({count},) of {kind}, one for each embedding, got "
                f"{array.shape} of {array.dtype}"
            )
    if not np.isin(is_query, (0, 1)).all():
        raise BadInput(f"{path}: expected is_query to be true or false, got other numbers")
    encoded = found.get(ENCODED)
    if encoded is not None and (encoded.ndim != 2 or len(encoded) != count):
        raise BadInput(f"{path}: expected {ENCODED} ({count}, D), got {encoded.shape}")
    return Embeddings(
        vectors,
        names=np.arange(count),
        identities=identities.astype(np.int64),
        cameras=cameras.astype(np.int64),
        views=np.full(count, -1),
        is_query=is_query.astype(bool),
        encoded=encoded,
    )


def left_out(path: Path) -> int:
    """How many images `embed` could not read: the scores are those of fewer."""
    if path.is_dir():
        return 0
    with zipfile.ZipFile(path) as archive:
        written = "left_out.npy" in archive.namelist()
    return _unpacked(path, "left_out").size if written else 0


def _folder(path: Path) -> dict[str, np.ndarray]:
    files = {name: path / f"{name}.npy" for name in (*ARRAYS, ENCODED)}
    return {name: _mapped(file, 0, name) for name, file in files.items() if file.is_file()}


def _archive(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        raise BadInput(f"no file or folder {path}: give an .npz or a folder of .npy files")
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            members = {name: members[name] for name in (*ARRAYS, ENCODED) if name in members}
            offsets = {name: _offset(file, info) for name, info in members.items()}
    except zipfile.BadZipFile:
        raise BadInput(f"{path} is no .npz (or half of one): write it with numpy.savez") from None
    found = {}
    for name, info in members.items():
        plain = info.compress_type == zipfile.ZIP_STORED
        found[name] = _mapped(path, offsets[name], name) if plain else _unpacked(path, name)
    return found


def _offset(file, info: zipfile.ZipInfo) -> int:
    """Where a member's content begins: its own header has other lengths than the directory's."""
    file.seek(info.header_offset)
    header = file.read(LOCAL_HEADER)
    lengths = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    return info.header_offset + LOCAL_HEADER + sum(lengths)


def _mapped(path: Path, offset: int, name: str) -> np.ndarray:
    """An .npy that begins at an offset of a file: the embeddings mapped, labels read."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            version = np.lib.format.read_magic(file)
            read = {(1, 0): "1_0", (2, 0): "2_0"}.get(version)
            if read is None:
                raise ValueError(f"format {version}")
            shape, fortran, dtype = getattr(np.lib.format, f"read_array_header_{read}")(file)
            if dtype.hasobject:
                raise BadInput(_pickled(path, name))
            if 0 in shape:
                return np.empty(shape, dtype)
            order = "F" if fortran else "C"
            # Copied where it is written to, which torch wants to be free to do.
            array = np.memmap(file, dtype, "c", file.tell(), shape, order)
    except BadInput:
        raise
    except (ValueError, EOFError, SyntaxError, TypeError, TokenError) as error:
        raise BadInput(f"{path}: {name} is damaged ({error}): write it anew") from None
    return array if name in ("embeddings", ENCODED) else np.array(array)


def _unpacked(path: Path, name: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as file:
            return file[name]
    except Exception as error:
        if "allow_pickle" in str(error):
            raise BadInput(_pickled(path, name)) from None
        raise BadInput(f"{path}: {name} is damaged ({error}): write it anew") from None


def _pickled(path: Path, name: str) -> str:
    return (
        f"{path}: {name} holds pickled Python objects, which are never opened; store numbers "
        f"(array.astype(...))"
    )
