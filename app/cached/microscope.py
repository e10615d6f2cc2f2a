"""The page Attention."""

import numpy as np
import streamlit as st

from app.cached.base import dataset, embeddings, experiment, folder, model
from app.cached.mechanism_views import _said, few_queries, looked_at
from reid_core.analysis import position_vectors as positions_learned
from reid_core.analysis import side
from reid_core.analysis.attention import Pulled, pulled
from reid_core.analysis.survey import Survey, survey
from reid_core.data.masks import IDS, PERSON, mask_of
from reid_core.look import interior, look
from reid_core.models.base import Tokens
from reid_core.runs import open_run


@st.cache_resource(max_entries=64, show_spinner=False)
def probes(run: str, stamp: int) -> dict[str, tuple[str, Tokens]]:
    """What can be seen inside a run's model: kind and tokens of each probe, by name. Raises BadInput."""
    return interior(experiment(run, stamp), open_run(run).facts)


@st.cache_resource(max_entries=8, show_spinner="Measuring where attention shows most")
def surveyed(run: str, stamp: int) -> tuple[np.ndarray, Survey | None]:
    """Evenly spaced queries, as positions among the queries, and what was measured on them; the
    survey is None for a model without a class token. Raises BadInput."""
    found, asked = embeddings(run, stamp), experiment(run, stamp)
    root, size = dataset(*folder(asked)).root, asked.training.size
    queries = few_queries(run, stamp)
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


@st.cache_resource(max_entries=32, show_spinner=False)
def position_vectors(run: str, stamp: int, grid: tuple[int, int]) -> np.ndarray:
    """A run's position embeddings (h, w, D) on a grid. Raises BadInput."""
    return positions_learned.vectors(model(run, stamp), grid)


@st.cache_resource(max_entries=64, show_spinner=False)
def repositioned(
    run: str, stamp: int, who: tuple, by: tuple[int, int] | None, _content: bytes | None
) -> np.ndarray:
    """A picture's embedding (D,) where the model's position embeddings went to another grid and
    back, or are gone. who is as in `looked_at`. Raises BadInput."""
    net, asked = model(run, stamp), experiment(run, stamp)
    pixels = looked_at(run, stamp, who, ("attention",), _content).pixels

    def change(positions):
        if by is None:
            return positions * 0
        return positions_learned.there_and_back(positions, net.grid, by)

    other = side.altered(net, positions_learned.PARAMETER, change)
    return side.told(other, asked, pixels, [_said(run, stamp, who)])[0]
