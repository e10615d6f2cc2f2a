"""Walking through chosen queries with two keys."""

from typing import Any

import numpy as np
import streamlit as st

from app import address, cached, pickers, projector


def walk(run: str, stamp: int, order: np.ndarray, place: Any) -> int:
    """The query of the address if it is among these positions, else the first of them; buttons and
    keys to go on stand in place, what there is to tell where this is called."""
    labels = cached.labels(run, stamp)
    names = [labels[position] for position in order]
    pickers.linked_query(run, names, known=labels)
    here = names.index(st.session_state["query"])
    place.selectbox(
        "Query",
        names,
        key="query",
        width=projector.wide(270),
        filter_mode="contains",
        label_visibility="collapsed",
    )
    for label, shortcut, step, icon in (
        ("Previous", "K", -1, "arrow_upward"),
        ("Next", "J", 1, "arrow_downward"),
    ):
        place.button(
            label,
            key=label.lower(),
            icon=f":material/{icon}:",
            shortcut=shortcut,
            on_click=_go,
            args=(names, step),
        )
    place.markdown(f":small[:gray[{here + 1} of {len(names)}]]", width="content")
    return int(order[here])


def current(run: str, stamp: int) -> int:
    """The position of the query that is chosen now. For callbacks: who types faster than the page
    answers means the query that the keys before have led to."""
    return cached.labels(run, stamp).index(address.held("query"))


def _go(names: list[str], step: int) -> None:
    here = names.index(address.held("query"))
    address.choose("query", names[(here + step) % len(names)])
