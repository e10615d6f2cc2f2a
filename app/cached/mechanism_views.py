"""Why two images are similar, what lies on the person, deletion, orders."""

import numpy as np
import streamlit as st

from app.cached.base import (
    data_url,
    dataset,
    embeddings,
    experiment,
    folder,
    looked,
    looked_upload,
    model,
)
from reid_core.analysis import (
    faithfulness,
    gates,
    maps,
    occlusion,
    similarity,
)
from reid_core.analysis.attention import chain, pulled
from reid_core.analysis.costs import seconds_a_pass
from reid_core.analysis.offsets import Surveyed
from reid_core.analysis.offsets import surveyed as surveyed_orders
from reid_core.data.masks import mask_of, outline
from reid_core.data.spaced import spaced
from reid_core.look import Looked, look
from reid_core.models.base import Tokens
from reid_core.studies import shares
from reid_core.studies.shares import Placed

# mechanisms: why two images are similar, what lies on the person, deletion

SURVEYED, FEWEST = 24, 4  # queries that are looked into to find where a mechanism shows
PATIENCE = 3  # seconds of passes that a visitor waits for that
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


@st.cache_resource(max_entries=32, show_spinner=False)
def pass_seconds(run: str, stamp: int) -> float:
    """How long this machine takes for one image. Raises BadInput."""
    return seconds_a_pass(model(run, stamp), *experiment(run, stamp).training.size)


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


def few_queries(run: str, stamp: int) -> np.ndarray:
    """Evenly spaced positions among the queries, fewer where the model is slow. Raises BadInput."""
    most = min(SURVEYED, int(PATIENCE / pass_seconds(run, stamp)))
    return spaced(len(embeddings(run, stamp).query_rows), max(FEWEST, most))


@st.cache_resource(max_entries=64, show_spinner=False)
def gate_made_of(
    run: str, stamp: int, who: Who, probe: str, kinds: tuple[str, ...], _content: bytes | None
) -> gates.Made:
    """What a gate of RGA is made of; probe is its `both`. Raises BadInput."""
    module = model(run, stamp).get_submodule(probe.rpartition(".")[0])
    return gates.made_of(module, looked_at(run, stamp, who, kinds, _content).seen[probe])


@st.cache_resource(max_entries=8, show_spinner="Measuring where the maps lie")
def placed(run: str, stamp: int) -> tuple[np.ndarray, Placed | None]:
    """Evenly spaced queries, as positions among the queries, and where every layer's map lies on
    them; None without masks. Raises BadInput."""
    found, asked = embeddings(run, stamp), experiment(run, stamp)
    queries = few_queries(run, stamp)
    rows, root = found.query_rows[queries], dataset(*folder(asked)).root
    if mask(run, stamp, int(rows[0])) is None:
        return queries, None
    return queries, shares.measured(model(run, stamp), asked, found, root, rows)


@st.cache_resource(max_entries=8, show_spinner="Measuring where orders differ")
def orders_surveyed(run: str, stamp: int) -> tuple[np.ndarray, Surveyed | None]:
    """Evenly spaced queries, as positions among the queries, and how far orders are apart on them;
    None without high orders. Raises BadInput."""
    found, asked = embeddings(run, stamp), experiment(run, stamp)
    queries, root = few_queries(run, stamp), dataset(*folder(asked)).root

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
