"""Pictures that Streamlit has no widget for, drawn in the page as one message each.

Every picture comes as a data URL, so a gallery of fifty is one message and no request. The scripts
build text with textContent only: nothing from a file name is read as HTML.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

HERE = Path(__file__).parent


def _component(name: str):
    script, style = ((HERE / f"{name}.{kind}").read_text("utf-8") for kind in ("js", "css"))
    return st.components.v2.component(name, html="<div class='root'></div>", css=style, js=script)


_ranked_gallery = _component("ranked_gallery")
_query_strip = _component("query_strip")


def ranked_gallery(
    query: dict[str, Any], tiles: list[dict[str, Any]], *, key: str, compact: bool = False
) -> None:
    """A query beside its ranked gallery; compact is a single row, as many as fit.

    query: src, title, facts (a list of [name, value]). tiles: src, title, rank, distance, share (of
    the longest distance shown), camera, and state: "right", "wrong", "ignored" or "unknown"; a right
    one also has running (average precision so far).
    """
    _ranked_gallery(data=dict(query=query, tiles=tiles, compact=compact), key=key)


def query_strip(items: list[dict[str, Any]], *, key: str, on_pick: Callable[[], None]) -> None:
    """A filmstrip; a click calls on_pick, which finds the label in st.session_state[key]["picked"].

    items: label, src, title, note (shown below), share (length of the bar, 0 to 1, or None), chosen.
    """
    _query_strip(data=dict(items=items), key=key, on_picked_change=on_pick)
