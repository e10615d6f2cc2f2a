"""Widgets that mean something on more than one page: the run, the query."""

import numpy as np
import streamlit as st

from app import cached
from app.notices import explained, say
from reid_core.runs import Run, list_runs, open_run

KEYS = {"Previous": "Left", "Next": "Right", "Random": "S"}
ORDERS = {"file": "By file name", "worst": "Worst first", "best": "Best first"}


def settle(key: str, options: list[str], default: str) -> None:
    """Give a widget that is bound to the URL its first value.

    Streamlit leaves a default out of the URL; written there, a copied link opens the same view even
    when the default is another one by then.
    """
    state, asked = st.session_state, st.query_params
    if state.get(key) in options or (key not in state and asked.get(key) in options):
        return
    if key not in state and key not in asked:
        asked[key] = default
    state[key] = default


def sidebar_run() -> None:
    """The run that every page looks at; main.py draws it once for all of them."""
    names = [run.name for run in list_runs()]
    with st.sidebar:
        if not names:
            st.caption("No run yet. The page Train starts one.")
            return
        settle("run", names, _first(names))
        st.selectbox(
            "Run",
            names,
            index=None,
            key="run",
            bind="query-params",
            help="A run is one training and what it left. Every page shows this one.",
        )


def _first(names: list[str]) -> str:
    """The run that a newcomer sees: one that came with the product, else one with pictures."""
    runs = [open_run(name) for name in names]
    ranked = sorted(runs, key=lambda run: (not run.shipped, not run.has_embeddings, run.name))
    return ranked[0].name


def run() -> Run:
    """The run chosen in the sidebar; without one the page ends here with a word on why."""
    name = st.session_state.get("run")
    if not name:
        say("info", "There is no run yet. Start a training on the page Train; it takes minutes.")
        st.stop()
    with explained():
        return open_run(name)


def query(name: str, stamp: int) -> tuple[int, str]:
    """One of a run's queries, as (position, order): by name, by step, at random, or in an order."""
    labels = cached.labels(name, stamp)
    settle("query", labels, labels[0])
    row = st.container(horizontal=True, vertical_alignment="bottom")
    by = row.segmented_control(
        "Order",
        list(ORDERS),
        format_func=ORDERS.get,
        default="file",
        required=True,
        key="order",
        bind="query-params",
        on_change=_to_first,
        args=(name, stamp),
        help="Of the queries below. By average precision, those with the worst or best list first.",
    )
    row.selectbox(
        "Query", labels, index=None, key="query", bind="query-params", width=260, filter_mode="contains"
    )
    for label, icon in (("Previous", "arrow_back"), ("Next", "arrow_forward"), ("Random", "shuffle")):
        row.button(
            label,
            icon=f":material/{icon}:",
            on_click=_step,
            args=(name, stamp, label),
            shortcut=KEYS[label],
            key=label.lower(),
        )
    return labels.index(st.session_state["query"]), by


def pick_query(key: str) -> None:
    """Take what was clicked in the component of that key as the query."""
    picked = st.session_state[key]["picked"]
    if picked:
        st.session_state["query"] = picked


def _to_first(name: str, stamp: int) -> None:
    order = cached.order(name, stamp, st.session_state["order"])
    st.session_state["query"] = cached.labels(name, stamp)[order[0]]


def _step(name: str, stamp: int, which: str) -> None:
    labels, order = cached.labels(name, stamp), cached.order(name, stamp, st.session_state["order"])
    here = int(np.flatnonzero(order == labels.index(st.session_state["query"]))[0])
    random = int(np.random.default_rng().integers(len(order)))
    there = {"Previous": here - 1, "Next": here + 1, "Random": random}[which] % len(order)
    st.session_state["query"] = labels[order[there]]
