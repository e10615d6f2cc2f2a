"""The only st.cache_*. Arguments are names, numbers and stamps, never objects.

A stamp changes when a run's files do, so that a run trained further is never shown stale. What comes
out is shared by all sessions: nobody changes it in place.
"""

import base64
import io
import time
from dataclasses import replace

import numpy as np
import streamlit as st
from PIL import Image

from app import uploads
from reid_core.analysis import (
    cutoffs,
    faithfulness,
    filters,
    frequency,
    maps,
    neighbours,
    occlusion,
    orders,
    outliers,
    side,
    similarity,
)
from reid_core.analysis.attention import Pulled, chain, pulled
from reid_core.analysis.cameras import Pairs
from reid_core.analysis.cameras import camera_pairs as pairs_of
from reid_core.analysis.comparison import Difference, Pattern, differences, patterns, same_split
from reid_core.analysis.costs import flops, one_image, parameters
from reid_core.analysis.errors import Lists, Slice, binned, lists, numbers
from reid_core.analysis.errors import slices as slices_of
from reid_core.analysis.offsets import Surveyed
from reid_core.analysis.offsets import surveyed as surveyed_orders
from reid_core.analysis.orders import Apart, OrdersApart
from reid_core.analysis.projection import TRUSTED
from reid_core.analysis.survey import Survey, survey
from reid_core.analysis.tags import Known, Tag
from reid_core.analysis.tags import tags as tags_of
from reid_core.data import Dataset, default_root, open_dataset
from reid_core.data.attributes import attributes as read_attributes
from reid_core.data.attributes import sizes
from reid_core.data.masks import IDS, PERSON, mask_of, outline
from reid_core.embed import embed_images
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, Evaluation, evaluate
from reid_core.experiment import Experiment
from reid_core.look import Looked, interior, look, pixels_of
from reid_core.models import ReIDModel
from reid_core.models.base import Tokens
from reid_core.rerank import Reciprocal
from reid_core.rerank import ranked as ranked_by
from reid_core.retrieve import RankedList, retrieve, retrieve_encoded
from reid_core.runs import open_run
from reid_core.studies import Arrays, Study, shares
from reid_core.studies.projection import in_order, rows_of
from reid_core.studies.rerank import distances_by, features
from reid_core.studies.shares import Placed
from reid_core.studies.spread import staged

DRAWS = 5  # random orders of the keys

# A quiet tile in place of a picture that is gone.
NO_PICTURE = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='64' height='128'%3E"
    "%3Crect width='64' height='128' fill='%2393a0ad' fill-opacity='.25'/%3E"
    "%3Cpath d='M20 52l24 24m0-24L20 76' stroke='%2393a0ad' stroke-width='3'/%3E%3C/svg%3E"
)


@st.cache_resource(max_entries=4, show_spinner="Reading the run's embeddings")
def embeddings(run: str, stamp: int) -> Embeddings:
    """The test split as the run's last evaluation saw it. Raises BadInput."""
    return open_run(run).embeddings()


@st.cache_resource(max_entries=8, show_spinner="Ranking every query")
def evaluation(run: str, stamp: int) -> Evaluation:
    """The scores, from the same arrays as every ranked list. Raises BadInput."""
    return evaluate(embeddings(run, stamp))


@st.cache_resource(max_entries=64, show_spinner=False)
def ranked(run: str, stamp: int, query: int) -> RankedList:
    """The gallery as the run ranks it for one query."""
    return retrieve(embeddings(run, stamp), query)


@st.cache_resource(max_entries=2, show_spinner="Loading the model")
def model(run: str, stamp: int) -> ReIDModel:
    """The run's model, ready to embed. Raises BadInput."""
    return open_run(run).model()


@st.cache_resource(max_entries=16, show_spinner=False)
def experiment(run: str, stamp: int) -> Experiment:
    """What the run was asked to do. Raises BadInput."""
    return open_run(run).experiment


@st.cache_resource(max_entries=512, show_spinner=False)
def vector(
    run: str, stamp: int, digest: str, camera: int | None, view: int | None, _content: bytes
) -> np.ndarray:
    """A visitor's picture (1, D) as the model sees it alone. Raises BadInput.

    One by one and kept, since a gallery grows by a file at a time.
    """
    asked, image = experiment(run, stamp), uploads.picture(_content)
    return embed_images(model(run, stamp), asked, [image], [camera], [view])


@st.cache_resource(max_entries=16, show_spinner="The model looks at your picture")
def ranked_upload(
    run: str, stamp: int, digest: str, camera: int | None, view: int | None, _content: bytes
) -> RankedList:
    """The test split's gallery ranked for a visitor's picture. Raises BadInput."""
    alone = vector(run, stamp, digest, camera, view, _content)
    return retrieve_encoded(model(run, stamp), embeddings(run, stamp), alone, camera)


@st.cache_resource(max_entries=12, show_spinner="The model looks at the picture")
def looked(run: str, stamp: int, row: int, kinds: tuple[str, ...]) -> Looked:
    """What is seen inside the model while it embeds one image of the test split. Raises BadInput."""
    found, asked = embeddings(run, stamp), experiment(run, stamp)
    image = dataset(*folder(asked)).root / str(found.names[row])
    said = [int(found.cameras[row])], [int(found.views[row])]
    return look(model(run, stamp), asked, [image], *said, kinds=kinds)


@st.cache_resource(max_entries=12, show_spinner="The model looks at your picture")
def looked_upload(
    run: str,
    stamp: int,
    digest: str,
    camera: int | None,
    view: int | None,
    kinds: tuple[str, ...],
    _content: bytes,
) -> Looked:
    """The same for a visitor's picture. Raises BadInput."""
    image, asked = uploads.picture(_content), experiment(run, stamp)
    return look(model(run, stamp), asked, [image], [camera], [view], kinds=kinds)


@st.cache_data(max_entries=512, show_spinner=False)
def thumbnail(digest: str, height: int, _content: bytes) -> str:
    """A visitor's picture as a data URL. Raises BadInput."""
    return data_url(uploads.picture(_content), height)


def folder(asked: Experiment) -> tuple[str, str]:
    """A run's data set and where it lies, as the names that `picture` takes."""
    return asked.dataset, asked.data or str(default_root(asked.dataset))


@st.cache_resource(max_entries=8, show_spinner="Looking through the data set", ttl=600)
def dataset(name: str, data: str) -> Dataset:
    """A data set's images. Raises BadInput where it is missing."""
    return open_dataset(name, data)


@st.cache_data(max_entries=20_000, show_spinner=False)
def picture(name: str, data: str, image: str, height: int) -> str:
    """One image of a data set as a data URL; image is its path below the data set's root."""
    try:
        return data_url(Image.open(dataset(name, data).root / image), height)
    except OSError:
        return NO_PICTURE


def data_url(image: Image.Image, height: int) -> str:
    """An image, at most `height` pixels high, as a JPEG that needs no request of its own."""
    image = image.convert("RGB")
    image.thumbnail((2 * height, height), Image.Resampling.LANCZOS)
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode()


@st.cache_resource(max_entries=8, show_spinner=False)
def labels(run: str, stamp: int) -> list[str]:
    """What the queries are called in lists and links: file names, or paths where those repeat."""
    found = embeddings(run, stamp)
    paths = [str(name) for name in found.names[found.query_rows]]
    names = [path.rsplit("/", 1)[-1] for path in paths]
    return names if len(set(names)) == len(names) else paths


@st.cache_resource(max_entries=32, show_spinner=False)
def order(run: str, stamp: int, by: str) -> np.ndarray:
    """Positions of the queries: by "File name", or the "Worst first" or "Best first" lists.

    Queries without a true match have no average precision and come last.
    """
    precision = evaluation(run, stamp).average_precision
    if by == "File name":
        return np.arange(len(precision))
    return np.argsort(precision if by == "Worst first" else -precision, kind="stable")


# attention


@st.cache_resource(max_entries=64, show_spinner=False)
def probes(run: str, stamp: int) -> dict[str, tuple[str, Tokens]]:
    """What can be seen inside a run's model: kind and tokens of each probe, by name. Raises BadInput."""
    return interior(experiment(run, stamp), open_run(run).facts)


@st.cache_resource(max_entries=8, show_spinner="Measuring where attention shows most")
def surveyed(run: str, stamp: int, count: int = 24) -> tuple[np.ndarray, Survey | None]:
    """Evenly spaced queries, as positions among the queries, and what was measured on them; the
    survey is None for a model without a class token. Raises BadInput."""
    found, asked = embeddings(run, stamp), experiment(run, stamp)
    root, size = dataset(*folder(asked)).root, asked.training.size
    queries = np.unique(np.linspace(0, len(found.query_rows) - 1, count).astype(int))
    rows = found.query_rows[queries]

    def looks():
        for some in np.array_split(rows, -(-len(rows) // 4)):  # a ViT-B's maps are 25 MB an image
            images = [root / str(name) for name in found.names[some]]
            said = found.cameras[some].tolist(), found.views[some].tolist()
            seen = look(model(run, stamp), asked, images, *said, kinds=("attention",))
            yield seen, [mask_of(root, str(name), size) for name in found.names[some]]

    return queries, survey(looks(), [IDS[part] for part in PERSON])


@st.cache_resource(max_entries=8, show_spinner="Tracing the target back through the layers")
def traced(run: str, stamp: int, who: tuple, towards: int | None, _content: bytes | None) -> Pulled:
    """The gradients, with respect to a picture's attention maps, of its cosine with a row of the
    embeddings, or of its squared norm. who is as in `looked_at`. Raises BadInput."""
    other = None
    if towards is not None:
        split = embeddings(run, stamp)
        other = (split.vectors if split.encoded is None else split.encoded)[towards]
    pixels = looked_at(run, stamp, who, ("attention",), _content).pixels
    said = _said(run, stamp, who)
    return pulled(model(run, stamp), experiment(run, stamp), pixels, *said, other)


def said(run: str, stamp: int, who: tuple) -> tuple[int | None, int | None]:
    """The camera and the view that a picture is said to have. who is as in `looked_at`."""
    return _said(run, stamp, who)


@st.cache_resource(max_entries=64, show_spinner=False)
def told(
    run: str, stamp: int, who: tuple, ways: tuple[tuple, ...], factor: float, _content: bytes | None
) -> np.ndarray:
    """A picture's embeddings (K, D) under each (camera, view), the side information scaled by a
    factor. who is as in `looked_at`. Raises BadInput."""
    pixels = looked_at(run, stamp, who, ("attention",), _content).pixels
    other = side.scaled(model(run, stamp), side.PARAMETER, factor)
    return side.told(other, experiment(run, stamp), pixels, list(ways))


# studies


@st.cache_resource(max_entries=24, show_spinner=False)
def found(run: str, study: str, key: str, settings: tuple[tuple[str, object], ...]) -> Arrays:
    """What a computed study found; the key changes with the files it came from. Raises BadInput."""
    asked = Study.asked(open_run(run), study, dict(settings))
    if (arrays := asked.found()) is None:
        raise BadInput(f"{study}: what was kept is gone or damaged; compute it again")
    return arrays


# neighbours


@st.cache_resource(max_entries=2, show_spinner=False)
def alone(run: str, stamp: int) -> Embeddings:
    """A refined test split before its images looked at one another. Raises BadInput."""
    return neighbours.alone(embeddings(run, stamp))


@st.cache_resource(max_entries=4, show_spinner="The images look at one another")
def attention(run: str, stamp: int, seed: int) -> neighbours.Attention:
    """Who attends to whom in a run's test split, its landmarks drawn from a seed. Raises BadInput."""
    return neighbours.attend(model(run, stamp), alone(run, stamp).vectors, seed=seed)


@st.cache_resource(max_entries=16, show_spinner=False)
def weights(
    run: str, stamp: int, seed: int, layer: int | None = None, head: int | None = None
) -> np.ndarray:
    """(N, k) what each image gives its neighbours; None is the mean over layers or heads."""
    return attention(run, stamp, seed).mean(layer, head)


@st.cache_resource(max_entries=4, show_spinner=False)
def effective(run: str, stamp: int, seed: int) -> np.ndarray:
    """(L,) how many neighbours count in each layer, mean over images and heads."""
    seen = attention(run, stamp, seed)
    return neighbours.effective_neighbours(seen.weights).mean(axis=(1, 2))


@st.cache_resource(max_entries=2, show_spinner=False)
def redrawn(run: str, stamp: int, seed: int) -> Embeddings:
    """A run's test split refined with landmarks drawn from a seed. Raises BadInput."""
    return replace(embeddings(run, stamp), vectors=attention(run, stamp, seed).refined)


@st.cache_resource(max_entries=4, show_spinner="Ranking every query twice")
def gains(run: str, stamp: int) -> tuple[np.ndarray, np.ndarray]:
    """Average precision (Q,) before and after a run's images looked at one another. Raises BadInput."""
    before = evaluate(alone(run, stamp)).average_precision
    return before, evaluation(run, stamp).average_precision


@st.cache_resource(max_entries=64, show_spinner=False)
def ranked_before(run: str, stamp: int, query: int) -> RankedList:
    """The gallery ranked for one query by what each image was alone."""
    return retrieve(alone(run, stamp), query)


@st.cache_resource(max_entries=64, show_spinner=False)
def ranked_redrawn(run: str, stamp: int, query: int, seed: int) -> RankedList:
    """The gallery ranked for one query, with landmarks drawn from a seed."""
    return retrieve(redrawn(run, stamp, seed), query)


@st.cache_resource(max_entries=4, show_spinner=False)
def repeated(run: str, stamp: int, seed: int) -> float:
    """How far a pass with a seed is from the stored features, relative to their length."""
    return neighbours.difference(redrawn(run, stamp, seed).vectors, embeddings(run, stamp).vectors)


# errors


@st.cache_resource(max_entries=8, show_spinner="Ranking every query")
def ranked_lists(run: str, stamp: int) -> Lists:
    """What every query's list comes to. Raises BadInput."""
    return lists(embeddings(run, stamp))


@st.cache_resource(max_entries=8, show_spinner=False)
def camera_pairs(run: str, stamp: int) -> Pairs:
    """Query camera against camera of the true match. Raises BadInput."""
    found = embeddings(run, stamp)
    return pairs_of(ranked_lists(run, stamp), found.cameras[found.query_rows])


@st.cache_resource(max_entries=8, show_spinner="Reading the attributes")
def attributes(run: str, stamp: int) -> dict[str, np.ndarray]:
    """Columns (N,) of attributes.csv for the images of a run's test split. Raises BadInput."""
    root = dataset(*folder(experiment(run, stamp))).root
    return read_attributes(root, embeddings(run, stamp).names)


@st.cache_resource(max_entries=8, show_spinner="Judging every failure")
def tags(run: str, stamp: int) -> dict[str, Tag]:
    """Every failure's tags. Raises BadInput."""
    found, known = embeddings(run, stamp), attributes(run, stamp)
    root = dataset(*folder(experiment(run, stamp))).root
    pixels = sizes(root, found.names[found.query_rows])
    return tags_of(
        found,
        ranked_lists(run, stamp),
        camera_pairs(run, stamp),
        Known(
            known.get("lookalike_group"),
            numbers(known["occlusion"][found.query_rows]) if "occlusion" in known else None,
            np.where(pixels[:, 0] > 0, pixels[:, 0] * pixels[:, 1], -1),
        ),
    )


@st.cache_resource(max_entries=64, show_spinner=False)
def slices(run: str, stamp: int, attribute: str) -> list[Slice]:
    """Average precision by an attribute's values. Raises BadInput."""
    return slices_of(ranked_lists(run, stamp), attribute_values(run, stamp, attribute))


@st.cache_resource(max_entries=64, show_spinner=False)
def attribute_values(run: str, stamp: int, attribute: str) -> np.ndarray:
    """The queries' values (Q,) of an attribute as text, numbers in bins. Raises BadInput."""
    values = attributes(run, stamp)[attribute][embeddings(run, stamp).query_rows]
    return binned(values) if attribute == "occlusion" else values


@st.cache_resource(max_entries=16, show_spinner="Comparing the runs, query by query")
def runs_compared(runs: tuple[tuple[str, int], ...]) -> tuple[list[Pattern], list[Difference]]:
    """Who is right where, and how sure the differences are, for (run, stamp). Raises BadInput."""
    same_split({run: embeddings(run, stamp) for run, stamp in runs})
    scores = {run: evaluation(run, stamp) for run, stamp in runs}
    return patterns(list(scores.values())), differences(scores)


@st.cache_resource(max_entries=4, show_spinner=False)
def split_by(run: str, stamp: int, which: str) -> Embeddings:
    """A run's test split with the vectors that are asked for (study "rerank"). Raises BadInput."""
    return features(embeddings(run, stamp), which)


@st.cache_resource(max_entries=2, show_spinner=False)
def reciprocal(run: str, key: str, settings: tuple[tuple[str, object], ...]) -> Reciprocal:
    """The k-reciprocal codes that the study "rerank" of a key has kept. Raises BadInput."""
    return Reciprocal.from_arrays(found(run, "rerank", key, settings))


@st.cache_resource(max_entries=64, show_spinner=False)
def reranked(
    run: str, stamp: int, query: int, key: str, settings: tuple[tuple[str, object], ...]
) -> RankedList:
    """The gallery ranked for one query by a study's settings; key is that of the study whose codes
    it takes, "" where the method needs none. Raises BadInput."""
    options = Study.asked(open_run(run), "rerank", dict(settings)).options
    split = split_by(run, stamp, options.features)
    code = reciprocal(run, key, settings) if key else None
    away = distances_by(split, options, code)(split.query_rows[[query]])[0]
    return ranked_by(split, query, away)


# frequency

PATIENCE = 3  # seconds that a visitor waits for a preset


@st.cache_resource(max_entries=64, show_spinner="The model looks at the filtered picture")
def swept(run: str, stamp: int, query: int, band: str) -> tuple[np.ndarray, np.ndarray]:
    """A query at each of the `FINE` cut-offs: embeddings (K, D'), average precisions (K,) against the
    gallery as it is. Raises BadInput."""
    return _swept(run, stamp, query, band, cutoffs.FINE)


@st.cache_resource(max_entries=64, show_spinner=False)
def ranked_cut(run: str, stamp: int, query: int, band: str, place: int) -> RankedList:
    """The gallery ranked for a query at one of those cut-offs. Raises BadInput."""
    return _ranked_cut(run, stamp, query, swept(run, stamp, query, band)[0][place])


@st.cache_resource(max_entries=16, show_spinner="Looking where the lists break")
def collapse(run: str, stamp: int, queries: int) -> cutoffs.Collapse | None:
    """Where one of some queries, evenly spread, loses most by one step of the cut-off; a large model
    is asked about fewer, as many as fit into a few seconds."""
    count, started, curves = len(embeddings(run, stamp).query_rows), time.monotonic(), {}
    for query in np.unique(np.linspace(0, count - 1, min(queries, count)).astype(int)).tolist():
        for band in filters.BANDS:
            curves[query, band] = _swept(run, stamp, query, band, cutoffs.COARSE)[1]
        if time.monotonic() - started > PATIENCE:
            break
    return cutoffs.steepest(curves, cutoffs.COARSE)


@st.cache_resource(max_entries=32, show_spinner=False)
def held(run: str, stamp: int, wavelet: str, share: float, images: int) -> np.ndarray:
    """Share of an image's detail energy in the patches that PHA would keep, for some images of the
    test split, evenly spread: (n,). Raises BadInput."""
    found, asked, net = embeddings(run, stamp), experiment(run, stamp), model(run, stamp)
    rows = np.linspace(0, len(found.names) - 1, min(images, len(found.names))).astype(int)
    root = dataset(*folder(asked)).root
    pixels = pixels_of(asked, [root / str(found.names[row]) for row in rows])
    return frequency.held(pixels, Tokens(net.grid, (), net.window), wavelet, share)


def _swept(run, stamp, query, band, cuts) -> tuple[np.ndarray, np.ndarray]:
    found, net = embeddings(run, stamp), model(run, stamp)
    row = int(found.query_rows[query])
    said = int(found.cameras[row]), int(found.views[row])
    embed = occlusion.alone(net, experiment(run, stamp), *said)
    vectors = cutoffs.swept(embed, looked(run, stamp, row, ()).pixels[0], band, cuts)
    if found.encoded is None:
        return vectors, cutoffs.precisions(found, vectors, row)
    lists = [_ranked_cut(run, stamp, query, vector) for vector in vectors]
    return vectors, np.array([each.average_precision for each in lists])


def _ranked_cut(run, stamp, query, vector) -> RankedList:
    found = embeddings(run, stamp)
    row = int(found.query_rows[query])
    said = int(found.cameras[row]), int(found.identities[row])
    return retrieve_encoded(model(run, stamp), found, vector[None], *said)


# mechanisms: why two images are similar, what lies on the person, deletion

# A row of the test split, or a visitor's picture: its digest, camera and view.
Who = tuple[int] | tuple[str, int | None, int | None]


def looked_at(
    run: str, stamp: int, who: Who, kinds: tuple[str, ...], content: bytes | None
) -> Looked:
    """`looked` or `looked_upload`."""
    if content is None:
        return looked(run, stamp, *who, kinds)
    return looked_upload(run, stamp, *who, kinds, content)


def _embed(run: str, stamp: int, who: Who) -> occlusion.Embed:
    said = _said(run, stamp, who)
    return occlusion.alone(model(run, stamp), experiment(run, stamp), *said)


def _said(run: str, stamp: int, who: Who) -> tuple[int | None, int | None]:
    """Camera and view of a picture."""
    if len(who) > 1:
        return who[1:]
    found = embeddings(run, stamp)
    return int(found.cameras[who[0]]), int(found.views[who[0]])


@st.cache_resource(max_entries=8, show_spinner=False)
def positions(run: str, stamp: int) -> Tokens:
    """The grid on which a run's images are blanked. Raises BadInput."""
    return occlusion.positions_of(model(run, stamp))


@st.cache_resource(max_entries=512, show_spinner=False)
def blanked(run: str, stamp: int, who: Who, part: int, _content: bytes | None) -> np.ndarray:
    """Embeddings of a picture with positions blanked, the part-th batch of `one_by_one`."""
    pixels = looked_at(run, stamp, who, (), _content).pixels[0]
    tokens = positions(run, stamp)
    gone = occlusion.one_by_one(tokens.grid[0] * tokens.grid[1]).split(occlusion.BATCH)[part]
    where = occlusion.cells(tokens, tuple(pixels.shape[-2:]))
    return occlusion.embedded(_embed(run, stamp, who), pixels, where, gone)


def left_out(run: str, stamp: int, who: Who, _content: bytes | None) -> similarity.LeftOut:
    """A picture without each of its positions, from the batches of `blanked`."""
    rows, columns = positions(run, stamp).grid
    parts = -(-(2 + rows * columns) // occlusion.BATCH)
    vectors = [blanked(run, stamp, who, part, _content) for part in range(parts)]
    return similarity.LeftOut.of(np.concatenate(vectors))


@st.cache_resource(max_entries=32, show_spinner=False)
def candidates(run: str, stamp: int, who: Who, _content: bytes | None) -> dict[str, np.ndarray]:
    """Every map (h, w) of a picture that deletion can test, by the method's name."""
    seen = looked_at(run, stamp, who, maps.KINDS, _content)
    asked = experiment(run, stamp), seen.pixels, *_said(run, stamp, who)
    traced = pulled(model(run, stamp), *asked) if chain(seen) else None
    image = left_out(run, stamp, who, _content)
    return faithfulness.candidates(seen, positions(run, stamp), image, traced)


@st.cache_resource(max_entries=1024, show_spinner=False)
def deletion(
    run: str, stamp: int, who: Who, method: str, insertion: bool, _content: bytes | None
) -> np.ndarray:
    """The curve (S + 1,) of a method, or of a random order where method is its number."""
    tokens = positions(run, stamp)
    if method.isdecimal():
        count = tokens.grid[0] * tokens.grid[1]
        order = faithfulness.random_orders(count, 1, seed=int(method))[0]
    else:
        order = faithfulness.order_of(candidates(run, stamp, who, _content)[method])
    pixels = looked_at(run, stamp, who, (), _content).pixels[0]
    return faithfulness.curve(_embed(run, stamp, who), pixels, tokens, order, insertion)


@st.cache_resource(max_entries=64, show_spinner=False)
def mask(run: str, stamp: int, row: int) -> np.ndarray | None:
    """Part ids (H, W) of an image of the test split, as large as the model sees it; None without.

    Raises BadInput.
    """
    asked = experiment(run, stamp)
    name = str(embeddings(run, stamp).names[row])
    return mask_of(dataset(*folder(asked)).root, name, asked.training.size)


@st.cache_resource(max_entries=8, show_spinner="Measuring where the maps lie")
def placed(run: str, stamp: int) -> tuple[np.ndarray, Placed | None]:
    """Evenly spaced queries, as positions among the queries, and where every layer's map lies on
    them; None without masks. Raises BadInput."""
    found, asked = embeddings(run, stamp), experiment(run, stamp)
    queries = _spaced(found)
    rows, root = found.query_rows[queries], dataset(*folder(asked)).root
    if mask(run, stamp, int(rows[0])) is None:
        return queries, None
    return queries, shares.measured(model(run, stamp), asked, found, root, rows)


def _spaced(found: Embeddings, count: int = 24) -> np.ndarray:
    """Evenly spaced positions among the queries."""
    return np.unique(np.linspace(0, len(found.query_rows) - 1, count).astype(int))


@st.cache_resource(max_entries=8, show_spinner="Measuring where orders differ")
def orders_surveyed(run: str, stamp: int) -> tuple[np.ndarray, Surveyed | None]:
    """Evenly spaced queries, as positions among the queries, and how far orders are apart on them;
    None without high orders. Raises BadInput."""
    found, asked = embeddings(run, stamp), experiment(run, stamp)
    queries, root = _spaced(found), dataset(*folder(asked)).root

    def looks():
        for some in np.array_split(found.query_rows[queries], -(-len(queries) // 4)):
            images = [root / str(name) for name in found.names[some]]
            said = found.cameras[some].tolist(), found.views[some].tolist()
            kinds = ("attention", "prior", "offsets")
            yield look(model(run, stamp), asked, images, *said, kinds=kinds)

    return queries, surveyed_orders(looks())


@st.cache_resource(max_entries=64, show_spinner=False)
def outlined(run: str, stamp: int, row: int, ids: tuple[int, ...]) -> str:
    """An image of the test split with these parts of its mask outlined, as a data URL."""
    asked = experiment(run, stamp)
    path = dataset(*folder(asked)).root / str(embeddings(run, stamp).names[row])
    return data_url(outline(path, np.isin(mask(run, stamp, row), ids)), 768)


# order lab

MAPS = ("attention", "prior")


@st.cache_resource(max_entries=32, show_spinner=False)
def orders_apart(run: str, stamp: int, who: Who, _content: bytes | None) -> list[OrdersApart]:
    """A picture's orders, compared layer by layer. Raises BadInput."""
    seen = looked_at(run, stamp, who, MAPS, _content)
    return [orders.orders_apart(pair, DRAWS) for pair in orders.pairs(seen)]


@st.cache_resource(max_entries=32, show_spinner=False)
def comparable(
    run: str, stamp: int, who: Who, _content: bytes | None
) -> tuple[list[int], Tokens | None]:
    """Which layers have maps over the same tokens, and what these tokens are. Raises BadInput."""
    seen = looked_at(run, stamp, who, MAPS, _content)
    names = list(orders.comparable(seen))
    numbers = orders.numbered(seen)
    return [numbers[name] for name in names], seen.tokens[names[0]] if names else None


@st.cache_resource(max_entries=32, show_spinner=False)
def layers_apart(run: str, stamp: int, who: Who, _content: bytes | None) -> Apart:
    """A picture's layers compared with one another, each the mean of its heads. Raises BadInput."""
    seen = orders.comparable(looked_at(run, stamp, who, MAPS, _content))
    return orders.apart(orders.over_heads(list(seen.values()))[0], DRAWS)


@st.cache_resource(max_entries=32, show_spinner=False)
def heads_apart(run: str, stamp: int, who: Who, place: int, _content: bytes | None) -> Apart:
    """The heads of one of those layers compared with one another. Raises BadInput."""
    seen = orders.comparable(looked_at(run, stamp, who, MAPS, _content))
    return orders.apart(list(seen.values())[place][0], DRAWS)


@st.cache_resource(max_entries=64, show_spinner="Counting operations")
def cost(run: str, stamp: int) -> tuple[int, int]:
    """A model's parameters, and the floating point operations of one image. Raises BadInput."""
    built = open_run(run).model()
    height, width = experiment(run, stamp).training.size
    return parameters(built), flops(built, one_image(height, width))


# clusters


@st.cache_resource(max_entries=4, show_spinner=False)
def crops(run: str, stamp: int) -> dict[str, object] | None:
    """Small pictures of all test images on one sheet (src, tile, columns); None where they are not
    computed or the data set was missing."""
    arrays = Study.asked(open_run(run), "crops").found()
    if arrays is None:
        return None
    src = "data:image/jpeg;base64," + base64.b64encode(arrays["sheet"].tobytes()).decode()
    return dict(src=src, tile=arrays["tile"].tolist(), columns=int(arrays["columns"]))


@st.cache_resource(max_entries=8, show_spinner=False)
def lie(run: str, stamp: int, metric: str, stage: str, other: str, other_stamp: int) -> Arrays:
    """How embeddings lie, as the study spread found it, row by row those of the run; other: those of
    another run on the same images. Raises BadInput where it is not computed."""
    owner = other or run
    arrays = Study.asked(open_run(owner), "spread", dict(metric=metric, stage=stage)).found()
    if arrays is None:
        raise BadInput(f"spread of {owner!r} is gone: remove the map from the run's studies")
    rows = rows_of(embeddings(run, stamp), embeddings(other, other_stamp)) if other else None
    return arrays if rows is None else in_order(arrays, rows)


def attributes_if_any(run: str, stamp: int) -> dict[str, np.ndarray]:
    """The same columns as `attributes`; nothing where the data set is gone or its table damaged."""
    try:
        return attributes(run, stamp)
    except BadInput:
        return {}


@st.cache_resource(max_entries=8, show_spinner=False)
def why_apart(run: str, stamp: int, metric: str) -> outliers.Reasons:
    """What goes together with an image lying among others. Raises BadInput."""
    found, arrays = embeddings(run, stamp), lie(run, stamp, metric, "final", "", 0)
    near = arrays["neighbours"][:, :TRUSTED]
    known = attributes_if_any(run, stamp)
    return outliers.reasons(found.identities, found.cameras, arrays["rival"], near, known)


@st.cache_resource(max_entries=64, show_spinner=False)
def top(
    run: str, stamp: int, query: int, stage: str, other: str, other_stamp: int, count: int
) -> list[tuple[int, bool]]:
    """The best ranked images of a query, without what the protocol ignores: their rows in the run,
    and whether each is right. other: as another run ranks them."""
    found = embeddings(run, stamp)
    if not other:
        ranking, back = retrieve(staged(found, stage), query), np.arange(len(found.names))
    else:
        there = embeddings(other, other_stamp)
        rows = rows_of(found, there)
        back = np.argsort(rows)
        position = int(np.searchsorted(there.query_rows, rows[found.query_rows[query]]))
        ranking = ranked(other, other_stamp, position)
    places = np.flatnonzero(~ranking.ignored)[:count]
    return [(int(back[ranking.rows[place]]), bool(ranking.match[place])) for place in places]
