"""Images in, embeddings out. N images, D dimensions."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from reid_core.data import Dataset
from reid_core.data.images import Images, normalise
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, directions, distances
from reid_core.experiment import Experiment
from reid_core.models.base import Batch, ReIDModel


@torch.no_grad()
def embed_images(
    model: ReIDModel,
    experiment: Experiment,
    images: Images | Sequence[Path | Image.Image],
    cameras: Sequence[int | None],
    views: Sequence[int | None] | None = None,
    *,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """The test features (N, D) float32 of images, before L2 normalisation.

    cameras are ids as in the file names and views rows of `data.market.VIEWS`; None or -1, and any
    that the model was not trained with, take the mean of the model's embedding. The model must be in
    evaluation mode; it computes in the precision of its weights. Raises BadInput for an image that
    can't be read.
    """
    if not isinstance(images, Images):
        images = Images(images, experiment.training.size, cache=0)
    views = views if views is not None else [None] * len(cameras)
    device = next(model.parameters()).device
    embeddings = []
    for start in range(0, len(images), batch_size):
        rows = range(start, min(start + batch_size, len(images)))
        those = slice(rows.start, rows.stop)
        pixels = images[rows].to(device).float() / 255  # (B, 3, H, W)
        batch = batch_of(model, experiment, pixels, cameras[those], views[those])
        embeddings.append(model(batch).embedding.float().cpu())
        if progress:
            progress(rows.stop, len(images))
    return torch.cat(embeddings).numpy()


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
    return Batch(
        normalise(pixels.to(device), experiment.training.normalisation),
        camera=rows_of(cameras, model.facts.cameras).to(device),
        view=rows_of(views, model.facts.views).to(device),
        clean=pixels.to(device),
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
) -> Embeddings:
    """The embeddings of a data set's queries and gallery. Keywords as in `embed_images`.

    Where a model refines, queries and gallery are one set (stage "refined"; "encoder" leaves each
    image alone).
    """
    parts = (dataset.query, dataset.gallery)
    paths = [path for part in parts for path in part.paths]
    identities, cameras, views = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("identities", "cameras", "views")
    )
    images = keywords.pop("images", paths)
    vectors = embed_images(model, experiment, images, cameras.tolist(), views.tolist(), **keywords)
    encoded = None
    if model.refines and stage == "refined":
        encoded, vectors = vectors, refine(model, vectors)
    return Embeddings(
        vectors,
        names=np.array([path.relative_to(dataset.root).as_posix() for path in paths]),
        identities=identities,
        cameras=cameras,
        views=views,
        is_query=np.arange(len(paths)) < len(dataset.query),
        encoded=encoded,
    )


def per_query_distances(
    model: ReIDModel, embeddings: Embeddings, seed: int | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Distances where each query meets the gallery without the other queries.

    Returns rows (q,) of the embeddings -> distances (q, G): for each query, it and the gallery are
    refined as one set of 1 + G images (NFormer's paper; protocol `nformer-per-query`).
    """
    gallery = embeddings.gallery_rows

    def of(rows: np.ndarray) -> np.ndarray:
        found = []
        for row in rows:
            refined = refine(model, embeddings.encoded[[row, *gallery]], seed=seed)
            found.append(distances(directions(refined[:1]), directions(refined[1:]))[0])
        return np.stack(found)

    return of
