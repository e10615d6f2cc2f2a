"""Widgets that mean something on more than one page: the run, the query."""

import numpy as np
import streamlit as st
from PIL import Image

from app import cached, uploads
from app.notices import explained, say
from reid_core.runs import Run, list_runs, open_run

ORDERS = ["File name", "Worst first", "Best first"]
STEPS = {  # button -> shortcut, icon
    "Previous": ("Left", "arrow_back"),
    "Next": ("Right", "arrow_forward"),
    "Random": ("S", "shuffle"),
    "Worst": ("W", "trending_down"),
}


def linked(key: str, options: list[str], default: str) -> None:
    """Tie the widget of a key to the address: call it just before the widget.

    A link or the back button wins over the widget, the widget over an address that stayed the same.
    Streamlit's own bind leaves a default out of the address, so a copied link would open another
    view once the default has changed, and it can't be set by a link on another page.
    """
    state, address = st.session_state, st.query_params
    asked, last = address.get(key), state.get(f"{key} in the address")
    if asked in options and asked != last:
        state[key] = asked
    elif state.get(key) not in options:
        state[key] = last if last in options else default
    if asked != state[key]:
        address[key] = state[key]
    state[f"{key} in the address"] = state[key]


def sidebar_run() -> None:
    """The run that every page looks at; main.py draws it once for all of them."""
    names = [run.name for run in list_runs()]
    with st.sidebar:
        if not names:
            st.caption("No run yet. The page Train starts one.")
            return
        linked("run", names, _first(names))
        st.markdown(
            ":small[Run]", help="A run is one training and what it left. Every page shows this one."
        )
        st.selectbox("Run", names, key="run", label_visibility="collapsed")


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


def order(name: str, stamp: int) -> str:
    """How the queries are lined up: one of ORDERS."""
    return st.segmented_control(
        "Order",
        ORDERS,
        default=ORDERS[0],
        required=True,
        key="order",
        bind="query-params",
        on_change=_step,
        args=(name, stamp, "First"),
        help="By file name, or by average precision: those with the worst or best list first.",
    )


def query(name: str, stamp: int) -> int:
    """The position of one of a run's queries: chosen by name, by step or at random."""
    labels = cached.labels(name, stamp)
    linked("query", labels, labels[0])
    row = st.container(horizontal=True, vertical_alignment="center")
    row.selectbox(
        "Query",
        labels,
        key="query",
        width=290,
        filter_mode="contains",
        label_visibility="collapsed",
    )
    for label, (shortcut, icon) in STEPS.items():
        row.button(
            label,
            key=label.lower(),
            icon=f":material/{icon}:",
            shortcut=shortcut,
            on_click=_step,
            args=(name, stamp, label),
        )
    return labels.index(st.session_state["query"])


def upload(known: tuple[int, ...]) -> tuple[str, str, Image.Image, int | None]:
    """A visitor's picture as (name, digest, image, camera); the page ends here without a good one.

    known are the cameras that the model has an embedding for: none, where it is not told of cameras.
    """
    left, right = st.columns([3, 1])
    file = left.file_uploader(
        "A picture of one person", uploads.TYPES, max_upload_size=uploads.MEGABYTES
    )
    camera = right.selectbox(
        "Taken by camera",
        [None, *known],
        format_func=lambda number: str(number or "unknown"),
        key="camera",
        disabled=not known,
    )
    if camera:
        word = f"Camera {camera}: the picture takes that camera's embedding."
    elif known:
        word = "Unknown camera: the picture takes the mean camera embedding."
    else:
        word = "This model is not told which camera took a picture."
    st.caption(f"{word} Nothing is removed from the ranking, since nobody knows who is on it.")
    if not file:
        st.stop()
    with explained():
        return file.name, *uploads.picture(file.getvalue()), camera


def pick_query(key: str) -> None:
    """Take what was clicked in the component of that key as the query."""
    picked = st.session_state[key]["picked"]
    if picked:
        st.session_state["query"] = picked


def _step(name: str, stamp: int, which: str) -> None:
    """Go to another query; "Worst" lines them up by their lists as well."""
    state = st.session_state
    if which == "Worst":
        state["order"] = ORDERS[1]
    labels, line = cached.labels(name, stamp), cached.order(name, stamp, state["order"])
    here = int(np.flatnonzero(line == labels.index(state["query"]))[0])
    random = int(np.random.default_rng().integers(len(line)))
    there = {"Previous": here - 1, "Next": here + 1, "Random": random}.get(which, 0)
    state["query"] = labels[line[there % len(line)]]
