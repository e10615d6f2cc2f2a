"""Images in, embeddings out. N images, D dimensions."""

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from reid_core.data import Dataset
from reid_core.data.images import Images, normalise
from reid_core.device import sent
from reid_core.distributed import share, to_first
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, directions, distances
from reid_core.experiment import Experiment
from reid_core.extraction.pictures import pictures_of
from reid_core.extraction.stream import Embedded, decoded, fitting, stream
from reid_core.models.base import Batch, ReIDModel
from reid_core.models.nformer_query import GalleryPass

FEW = 8  # so many are one batch, whatever the model
NAMED = 10  # images that a message names


def embedded(
    model: ReIDModel,
    experiment: Experiment,
    images: Images,
    cameras: Sequence[int | None],
    views: Sequence[int | None],
    *,
    batch_size: int | None = None,
    precision: str = "fp32",
    start: int = 0,
) -> Iterator[Embedded]:
    """The test features of images from a row on, as `stream` gives them: batch by batch, (B, D)
    float32 before L2 normalisation, with what is wrong with the images that can't be read.

    precision "fp32" computes in that of the weights, "bf16" where it is safe in bfloat16. The rest is
    as in `embed_images`.
    """
    device = next(model.parameters()).device
    batch_size = batch_size or batch_size_of(model, experiment, precision, len(images))

    def forward(rows: list[int], pixels: torch.Tensor) -> torch.Tensor:
        pixels = pixels.to(device, non_blocking=True).float() / 255  # (B, 3, H, W)
        told = [cameras[row] for row in rows], [views[row] for row in rows]
        return _features(model, batch_of(model, experiment, pixels, *told), precision)

    pin = device.type == "cuda"
    return stream(forward, images, batch_size, start=start, pin=pin)


def batch_size_of(
    model: ReIDModel, experiment: Experiment, precision: str = "fp32", count: int | None = None
) -> int:
    """How many of `count` images at a time suit the model, their size and the device."""
    if count is not None and count <= FEW:
        return max(count, 1)
    pixels = torch.zeros(1, 3, *experiment.training.size)
    batch = batch_of(model, experiment, pixels, [None])
    return fitting(model, lambda: _features(model, batch, precision), batch.image.device)


def _features(model: ReIDModel, batch: Batch, precision: str) -> torch.Tensor:
    kind, half = batch.image.device.type, precision == "bf16"
    with torch.no_grad(), torch.autocast(kind, torch.bfloat16, enabled=half):
        return model(batch).embedding


def embed_images(
    model: ReIDModel,
    experiment: Experiment,
    images: Images | Sequence[Path | Image.Image],
    cameras: Sequence[int | None],
    views: Sequence[int | None] | None = None,
    *,
    batch_size: int | None = None,
    precision: str = "fp32",
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """The test features (N, D) float32 of images, before L2 normalisation.

    cameras are ids as in the file names and views rows of the data set's views; None or -1, and any
    that the model was not trained with, take the mean of the model's embedding. The model must be in
    evaluation mode. Raises BadInput with the names of all images that can't be read: scores on fewer
    would be scores on another data set.
    """
    if not isinstance(images, Images):
        images = Images(images, experiment.training.size, cache=0)
    views = views if views is not None else [None] * len(cameras)
    count = len(images)
    batch_size = batch_size or batch_size_of(model, experiment, precision, count)
    how = dict(batch_size=batch_size, precision=precision)
    vectors = np.empty((0, 0), np.float32)
    for part in embedded(model, experiment, images, cameras, views, **how):
        if part.problems:
            raise _unreadable(images, part, batch_size, progress)
        if not len(vectors):
            vectors = np.empty((count, part.vectors.shape[1]), np.float32)
        vectors[part.rows.start : part.rows.stop] = part.vectors
        if progress:
            progress(part.rows.stop, count)
    return vectors


def _unreadable(images: Images, part: Embedded, batch_size: int, progress) -> BadInput:
    """What to say of a list of images that can't all be read: the rest is only decoded."""
    problems = dict(part.problems)
    for rows, (_, _, more) in decoded(images, batch_size, part.rows.stop):
        problems |= more
        if progress:
            progress(rows.stop, len(images))
    if len(problems) == 1:
        return next(iter(problems.values()))
    names = [str(images.name(row)) for row in problems]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return BadInput(
        f"{len(names)} of {len(images)} images can't be read: {', '.join(names[:NAMED])}{more}; "
        "replace them, or remove them from the data set (python -m reid_core check lists them)"
    )


def batch_of(
    model: ReIDModel,
    experiment: Experiment,
    pixels: torch.Tensor,
    cameras: Sequence[int | None],
    views: Sequence[int | None] | None = None,
) -> Batch:
    """Images (B, 3, H, W) in 0..1, of the size that the model was trained with, as it wants them.

    cameras and views as in `embed_images`.
    """
    device = next(model.parameters()).device
    views = views if views is not None else [None] * len(cameras)
    pixels = pixels.to(device)
    return Batch(
        normalise(pixels, experiment.training.normalisation),
        camera=sent(rows_of(cameras, model.facts.cameras), device),
        view=sent(rows_of(views, model.facts.views), device),
        clean=pixels,
    )


def rows_of(ids: Sequence[int | None], known: tuple[int, ...]) -> torch.Tensor:
    """(N,) the row of each id in an embedding over the known ids; -1 where it has none."""
    row = {each: number for number, each in enumerate(known)}
    return torch.tensor([row.get(each, -1) for each in ids], dtype=torch.long)


@torch.no_grad()
def refine(model: ReIDModel, vectors: np.ndarray, **keywords) -> np.ndarray:
    """(N, D') features of a whole set -> (N, D), each refined by those that it resembles."""
    device = next(model.parameters()).device
    return model.refine(torch.from_numpy(vectors).to(device), **keywords).float().cpu().numpy()


def read_view_table(table: Path) -> dict[str, int]:
    """Names of images to rows of a model's view embedding, from a table with columns name and view.

    A name is a file's name or the end of its path. Raises BadInput, with the line, for anything odd.
    """
    views = {}
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if not {"name", "view"} <= set(rows.fieldnames or ()):
                raise BadInput(f"{table}, line 1: expected the columns name and view")
            for row in rows:
                name, view = (row["name"] or "").replace("\\", "/"), (row["view"] or "").strip()
                where = f"{table}, line {rows.line_num}"
                if not name or not view.isdecimal():
                    raise BadInput(
                        f"{where}: expected a name and a view from 0, got {name!r} and {view!r}"
                    )
                if views.setdefault(name, int(view)) != int(view):
                    raise BadInput(f"{where}: {name} had view {views[name]} before, and now {view}")
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{table} is no table in UTF-8 ({error}): save it anew as CSV") from None
    return views


def views_of(paths: Sequence[Path], table: dict[str, int]) -> list[int]:
    """Each image's view in a table, by the longest end of its path that stands there; -1 without."""
    found = []
    for path in paths:
        ends = ("/".join(path.parts[start:]) for start in range(len(path.parts)))
        found.append(next((table[end] for end in ends if end in table), -1))
    return found


def embed_test(
    model: ReIDModel, experiment: Experiment, dataset: Dataset, stage: str = "refined", **keywords
) -> Embeddings | None:
    """The embeddings of a data set's queries and gallery. Keywords as in `embed_images`.

    Of several processes each embeds its share (images are then that share's alone); the first gets
    all, the others None. Where a model refines, queries and gallery are one set (stage "refined"; "encoder" leaves each
    image alone).
    """
    seen = pictures_of(dataset)
    own = share(len(seen.paths))
    images = keywords.pop("images", seen.paths[own])
    told = seen.cameras[own].tolist(), seen.views[own].tolist()
    vectors = to_first(embed_images(model, experiment, images, *told, **keywords))
    if vectors is None:
        return None
    encoded = None
    if model.refines and stage == "refined":
        encoded, vectors = vectors, refine(model, vectors)
    return Embeddings(vectors, names=seen.names, **seen.labels(), encoded=encoded)


def per_query_distances(
    model: ReIDModel, embeddings: Embeddings, seed: int | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Distances where each query meets the gallery without the other queries.

    Returns rows (q,) of the embeddings -> distances (q, G): for each query, it and the gallery are
    refined as one set of 1 + G images (NFormer's paper; protocol `nformer-per-query`). How that is
    exact without doing it all again for each: `models.nformer_query`.
    """
    device = next(model.parameters()).device
    encoded = torch.from_numpy(embeddings.encoded)
    gallery = GalleryPass(model, encoded[embeddings.gallery_rows].to(device), seed)
    alone = directions(gallery.refined.float().cpu().numpy()) if gallery.alone else None

    def of(rows: np.ndarray) -> np.ndarray:
        met = gallery.meet(encoded[rows].to(device))
        units = directions(torch.stack([each.query for each in met]).float().cpu().numpy())
        found = np.zeros((len(met), gallery.count), np.float32)
        if alone is not None:
            found = distances(units, alone)
        for row, unit, each in zip(found, units, met, strict=True):
            others = directions(each.vectors.float().cpu().numpy())
            row[each.rows.cpu().numpy()] = distances(unit[None], others)[0]
        return found

    return of
