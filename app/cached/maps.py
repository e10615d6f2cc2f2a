"""The page Clusters."""

import base64

import numpy as np
import streamlit as st

from app.cached.base import embeddings, ranked
from app.cached.inbox import attributes
from reid_core.analysis import (
    outliers,
)
from reid_core.analysis.projection import TRUSTED
from reid_core.errors import BadInput
from reid_core.retrieve import retrieve
from reid_core.runs import open_run
from reid_core.studies import Arrays, Study
from reid_core.studies.projection import in_order, rows_of
from reid_core.studies.spread import staged


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
