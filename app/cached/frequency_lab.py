"""The page Frequency."""

import time

import numpy as np
import streamlit as st

from app.cached.base import dataset, embeddings, experiment, folder, looked, model
from reid_core.analysis import (
    contrast,
    cutoffs,
    filters,
    frequency,
    occlusion,
)
from reid_core.data.spaced import spaced
from reid_core.look import pixels_of
from reid_core.models.base import Tokens
from reid_core.retrieve import RankedList, retrieve_encoded

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
    for query in spaced(count, queries).tolist():
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
    rows = spaced(len(found.names), images)
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


@st.cache_resource(max_entries=16, show_spinner="The model looks at a small batch")
def contrasted(run: str, stamp: int, rows: tuple[int, ...]) -> contrast.Contrast:
    """PHA's contrastive loss between some images of the test split. Raises BadInput."""
    found, asked = embeddings(run, stamp), experiment(run, stamp)
    root, picked = dataset(*folder(asked)).root, list(rows)
    pixels = pixels_of(asked, [root / str(name) for name in found.names[picked]])
    told = (each[picked].tolist() for each in (found.cameras, found.views, found.identities))
    return contrast.contrasted(model(run, stamp), asked, pixels, *told)
