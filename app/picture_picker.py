"""Which picture a page looks into: a query, an image of its ranked list, or a visitor's own."""

from typing import Any

import numpy as np
import streamlit as st

from app import address, cached, galleries, pickers, upload_picker
from app.components import query_strip
from app.notices import explained, say
from app.pictures import LARGE, Picture, present
from reid_core.retrieve import RankedList
from reid_core.runs import Run

TEST, UPLOAD = "Test split", "Upload"
SOURCE = "from"  # the widget's key
ITSELF, NEAREST = "the query", 11  # one row of a laptop's page with the query
SAID = {None: "", True: "right, ", False: "wrong, "}


def bar() -> Any:
    """A row for where the picture comes from, and for what else a page asks there."""
    return st.container(horizontal=True, vertical_alignment="center", gap="small")


def pick(run: Run, place: Any = None) -> Picture:
    """Ask for a picture: a query, an image of its ranked list, or a visitor's own. place: a row of the
    page's for where the picture comes from, if there is one."""
    stamp, asked = run.stamp(), run.experiment
    if not run.has_weights:
        say("info", str(run.lacks("weights.safetensors")))
        address.stop()
    place, source = place or bar(), UPLOAD
    if run.has_embeddings:
        pickers.linked(SOURCE, [TEST, UPLOAD], TEST)
        source = place.segmented_control(
            "Picture from", [TEST, UPLOAD], required=True, key=SOURCE, label_visibility="collapsed"
        )
    if source == UPLOAD:
        picture = upload_picker.ask(run, asked, "A picture of one person")
        if not picture:
            address.stop()
        with explained():  # a file that is no picture, or too small
            cached.thumbnail(picture.digest, LARGE, picture.content)
        return Picture(run.name, stamp, upload=picture)
    with explained("info"):
        cached.dataset(*cached.folder(asked))
    with explained():
        position = pickers.query(run.name, stamp)
        return _of_list(run.name, stamp, position)


def _of_list(run: str, stamp: int, position: int) -> Picture:
    """The query itself, or the image that was clicked in its ranked list."""
    found, ranking = cached.embeddings(run, stamp), cached.ranked(run, stamp, position)
    source = cached.folder(cached.experiment(run, stamp))
    rows = {ITSELF: int(found.query_rows[position])}
    rows |= {f"rank {ranking.ranks[i]}": int(ranking.rows[i]) for i in _judged(ranking)}
    if st.session_state.setdefault("image of", position) != position:
        st.session_state.update({"image": ITSELF, "image of": position})  # another query's own list
    gone = pickers.missing("image", list(rows), ITSELF, of=(run, position))
    chosen = st.session_state["image"]
    if gone:
        say("warning", f"No image of this query's list is called {gone}; shown is {chosen}.")
    right = dict(zip(rows, [None, *ranking.match[_judged(ranking)].tolist()], strict=True))
    items = [
        dict(
            label=label,
            src=cached.picture(*source, str(found.names[row]), galleries.TILE),
            title=f"{label}, {SAID[right[label]]}{galleries.title(found, row)}",
            note="query" if right[label] is None else f"{label} {'✓' if right[label] else '✗'}",
            share=None,
            chosen=label == chosen,
        )
        for label, row in rows.items()
    ]
    query_strip(items, key="images", on_pick=_take, wrap=True)
    return present(Picture(run, stamp, rows[chosen], position))


def _judged(ranking: RankedList) -> np.ndarray:
    """Places of the nearest images that the protocol does not ignore."""
    return np.flatnonzero(~ranking.ignored)[:NEAREST]


def _take() -> None:
    """Look at the image that was clicked."""
    if picked := st.session_state["images"]["picked"]:
        st.session_state["image"] = picked
