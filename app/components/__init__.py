"""Pictures that Streamlit has no widget for, drawn in the page as one message each.

Every picture comes as a data URL, so a gallery of fifty is one message and no request. The scripts
build text with textContent only: nothing from a file name is read as HTML.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from app import address

HERE = Path(__file__).parent
OF_NO_RUN = ("data", "ledger")  # pages


def _component(name: str, *shared: str):
    """One component from its files; shared scripts stand before its own, since it can't import any."""
    scripts = [(HERE / f"{each}.js").read_text("utf-8") for each in (*shared, name)]
    style = (HERE / f"{name}.css").read_text("utf-8")
    return st.components.v2.component(
        name,
        html="<div class='root'></div>",
        css="/* */\n" + style,  # Streamlit takes a single line for a path
        js="\n".join(scripts),
    )


_ranked_gallery = _component("ranked_gallery")
_query_strip = _component("query_strip")
_pictures = _component("pictures", "saving", "palettes", "colour_bars", "tiles", "pictured")
_downloads = _component("downloads", "saving")
_keys = _component("keys", "steps")
_embedding_map = _component(
    "embedding_map",
    "saving",
    "embedding_points",
    "embedding_lasso",
    "embedding_hands",
    "embedding_svg",
)
_embedding_legend = _component("embedding_legend", "saving")


def ranked_gallery(
    query: dict[str, Any], tiles: list[dict[str, Any]], *, key: str, compact: bool = False
) -> None:
    """A query beside its ranked gallery; compact is a single row, as many as fit.

    query: src, title, facts (a list of [name, value]). tiles: src, title, rank, distance, share (of
    the longest distance shown), camera, and state: "right", "wrong", "ignored" or "unknown"; a right
    one also has running (average precision so far); any may have a note (a few letters below).
    """
    _ranked_gallery(data=dict(query=query, tiles=tiles, compact=compact), key=key)


def query_strip(
    items: list[dict[str, Any]], *, key: str, on_pick: Callable[[], None], wrap: bool = False
) -> None:
    """A filmstrip; a click calls on_pick, which finds the label in st.session_state[key]["picked"].
    wrap: several rows, of any images, instead of one strip of queries.

    items: label, src, title, note (shown below), share (length of the bar, 0 to 1, or None), chosen.
    """
    _query_strip(data=dict(items=items, wrap=wrap), key=key, on_picked_change=on_pick)


def pictures(
    drawn: dict[str, Any],
    *,
    key: str,
    alt: str,
    columns: int | None,
    links: list[dict[str, Any]],
    csv: str | None,
    on_pick: Callable[[], None] | None,
    unit: str,
) -> None:
    """Image tiles with maps over them; see `app.figures.pictures`, which packs the tiles.

    drawn: images (data URLs) and tiles, whose src is the place of their image. csv: what is
    downloaded; None for the maps themselves.
    """
    said = dict(alt=alt, columns=columns, links=links, csv=csv, unit=unit, file=file_name(key))
    data = drawn | said | dict(pickable=on_pick is not None)
    _pictures(data=data, key=key, on_picked_change=on_pick or (lambda: None))


def file_name(key: str) -> str:
    """What a figure's files are called: its page, whose run it is of, and its key in plain letters,
    without a fingerprint."""
    state, page = st.session_state, address.page()
    run = state.get("run", "") if page not in OF_NO_RUN else ""
    name = re.sub(r" [0-9a-f]{16}$", "", key.strip())
    if name.endswith(" beside"):  # on Attention, of the second run
        name, run = name.removesuffix(" beside"), state["beside"]
    plain = re.sub(r"[^a-zA-Z0-9_-]+", "-", name).lower()
    return "-".join(word for word in (page, run, plain) if word)


def downloads(chart: str, title: str) -> None:
    """Buttons that save the plotly chart of a key as PNG or SVG, in the browser."""
    place = "st-key-" + re.sub(r"[^a-zA-Z0-9_-]", "-", chart.strip())
    _downloads(data=dict(place=place, title=title, file=file_name(chart)), key=f"{chart} downloads")


def keys() -> None:
    """What the keys of all pages need, once: none is lost or acts on what the one before it is about to
    change, and N, or the button beside it, puts the cursor into the text field of the container
    `note`; Escape leaves it. With it comes what keeps the back button's steps few (steps.js)."""
    _keys(data=dict(place="st-key-note", letter="n"), key="keys")


def embedding_map(
    drawn: dict[str, Any],
    *,
    key: str,
    height: int,
    alt: str,
    on_pick: Callable[[], None],
    on_lasso: Callable[[], None],
) -> None:
    """A map of embeddings to pan, zoom, turn and lasso.

    drawn: id (the same one goes to the legend), dimensions, names (one per map), places (per map the
    base64 float32 (N, 3)), query (base64 uint8 (N,)), facts (label, values base64 float32 (N,), and
    perhaps words by value, digits, unit, side) shown on hover, sheet (src, tile, columns) or None.
    As long as it stays the same it is sent once. A click calls on_pick, which finds the row in
    st.session_state[key]["picked"]; a lasso calls on_lasso, which finds it in ...["lasso"] as
    `clusters_lasso` reads it, empty where it was dropped.
    """
    data = drawn | dict(height=height, alt=alt, file=file_name(key))
    _embedding_map(data=data, key=key, on_picked_change=on_pick, on_lasso_change=on_lasso)


def embedding_legend(painted: dict[str, Any], *, key: str) -> None:
    """How the points of a map are painted, and the words for it.

    painted: id of the map, colours (base64 uint8 (N,), a place in the palette), palette (colours or
    theme variables; place 0 is what stands back), faint (its opacity, 0 to 255), entries (colour,
    label, perhaps quiet), ramp (colours, low, high) or None, picked (a row or None), selected (rows),
    edges (per map a list of [row, row, right]), perhaps turned (base64 uint8 (N,), 1 for a query whose
    triangle stands on its tip). An entry may have a sign: up or down, for a triangle in its place.
    """
    _embedding_legend(data=painted, key=key)
