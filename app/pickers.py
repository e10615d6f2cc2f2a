"""Widgets that mean something on more than one page: the run and the query."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from app import address, cached, projector
from app.notices import explained, plain, say
from reid_core.models import MODELS
from reid_core.runs import Run, damaged_runs, list_runs, open_run

ORDERS = ["File name", "Worst first", "Best first"]
MISSING = "missing run"  # the one that a link asked for, and the one shown instead
BY_ITSELF = "not chosen"  # by key, what a page set without being asked
STEPS = {  # button -> shortcut, icon
    "Previous": ("Left", "arrow_back"),
    "Next": ("Right", "arrow_forward"),
    "Random": ("S", "shuffle"),
    "Worst": ("W", "trending_down"),
}


def linked(key: str, options: list[str], default: str, unlike: str = "") -> None:
    """Tie the widget of a key to the address: call it just before the widget.

    A link or the back button wins over the widget, the widget over an address that stayed the same.
    A link that asks for what is no option gets a passing word on what is shown instead.
    unlike: what does not come back only because it was chosen when the widget was shown last.
    Streamlit's own bind leaves a default out of the address, so a copied link would open another
    view once the default has changed, and it can't be set by a link on another page.
    """
    if asked := _tied(key, options, default, unlike):
        shown = st.session_state[key]
        text = f"The link asks for {key} {asked}, which is no choice here; shown is {shown}."
        st.toast(plain(text), icon=":material/link_off:", duration="long")


def _tied(key: str, options: list[str], default: str, unlike: str = "") -> str:
    """As `linked`; returns what a link asks for in vain when it is opened, else an empty text."""
    state = st.session_state
    asked, last = address.get(key), address.tied(key)
    linked_anew = asked is not None and asked != last
    if linked_anew and asked in options:
        state[key] = asked
    elif state.get(key) not in options:
        if last in options and last != unlike:
            state[key] = last
        else:
            preset(key, default)
    if not address.stands(key):
        state[key] = state[key]  # the browser is told once more
    address.tie(key, state[key])
    return asked if linked_anew and asked not in options else ""


def labelled(key: str, labels: dict[str, str]) -> None:
    """Call it just before a widget whose options are called something else for another run: the browser
    knows a choice by its label, and goes on to show the old one, or none, unless it is told anew."""
    state = st.session_state
    if state.get(f"{key} labels") != labels:
        state[f"{key} labels"], state[key] = labels, state[key]


def preset(key: str, value: Any) -> None:
    """Set a widget's value that nobody asked for: until somebody does, another page may set another."""
    st.session_state[key] = value
    st.session_state.setdefault(BY_ITSELF, {})[key] = value


def chosen(key: str) -> bool:
    """Whether the visitor chose what a widget holds, or held on a page before this one."""
    state = st.session_state
    held = state.get(key, address.tied(key))
    return held is not None and held != state.get(BY_ITSELF, {}).get(key)


def missing(
    key: str, options: list[str], default: str, known: Sequence[str] = (), of: Any = None
) -> str:
    """As `linked`; returns what a link asks for in vain, for as long as what stands in for it is
    shown, else an empty text. known: what is there, though it is no option now; of: what the choice
    belongs to, if that may change while the choice keeps its name."""
    state, asked = st.session_state, address.get(key, "")
    there, opened = {"", *options, *known}, key not in state
    # An address that stayed behind when the page chose something else is no link, and what came by
    # itself for another run is nobody's wish.
    left = asked == address.tied(key) and (state.get(key) in options or not chosen(key))
    _tied(key, options, default)
    if asked not in there and not left:
        state[f"{key} missing"] = (asked, (state[key], of))
    gone, shown = state.get(f"{key} missing", ("", None))
    if (opened and asked in there) or gone in there or shown != (state[key], of):
        state.pop(f"{key} missing", None)
        return ""
    return gone


def typed(key: str) -> None:
    """Tie a text field to the address, as `linked` does: call it just before the widget."""
    state = st.session_state
    asked, last = address.get(key), address.tied(key)
    if address.taken_out(key):
        state[key] = ""
    elif asked is not None and asked != last:
        state[key] = asked
    else:
        state[key] = state.get(key, last or "")
    address.tie(key, state[key])


def sidebar_run() -> None:
    """The run that every page looks at; main.py draws it once for all of them."""
    names = [run.name for run in list_runs()]
    with st.sidebar:
        if not names:
            st.caption("No run to show. The page Train starts one.")
            return
        asked = address.get("run")
        _tied("run", names, _first(names))
        if asked and asked not in names:  # or a run that went away while it was looked at
            st.session_state[MISSING] = (asked, st.session_state["run"])
        st.markdown(
            ":small[Run]", help="A run is one training and what it left. Every page shows this one."
        )
        st.selectbox("Run", names, key="run", label_visibility="collapsed")


def missing_run() -> None:
    """A word on a link whose run is not here, until it is closed or another run is chosen."""
    state = st.session_state
    asked, shown = state.get(MISSING, ("", ""))
    if not asked or state.get("run") != shown:
        state.pop(MISSING, None)
        return
    row = st.container(horizontal=True, vertical_alignment="center", key="missing-run")
    why = damaged_runs().get(asked, f"there is no run named {asked} here")
    with row:
        say("warning", f"{why[0].upper()}{why[1:]}; shown is {shown}.")
    row.button(
        "Close",
        key="close missing run",
        icon=":material/close:",
        type="tertiary",
        on_click=lambda: state.pop(MISSING, None),
    )


def _first(names: list[str]) -> str:
    """The run that a newcomer sees: one that came with the product, else one with pictures; of
    several that of the first model in the table."""
    order = list(MODELS)
    runs = [open_run(name) for name in names]
    ranked = sorted(
        runs,
        key=lambda run: (
            not run.shipped,
            not run.has_embeddings,
            order.index(run.experiment.model),
            run.name,
        ),
    )
    return ranked[0].name


def run() -> Run:
    """The run chosen in the sidebar; without one the page ends here with a word on why."""
    name = st.session_state.get("run")
    if not name:
        damaged = damaged_runs()
        for why in damaged.values():
            say("warning", why)
        if not damaged:
            say(
                "info", "There is no run yet. Start a training on the page Train; it takes minutes."
            )
        address.stop()
    with explained():
        return open_run(name)


def order(name: str, stamp: int) -> str:
    """How the queries are lined up: one of ORDERS."""
    linked("order", ORDERS, ORDERS[0])
    return st.segmented_control(
        "Order",
        ORDERS,
        required=True,
        key="order",
        on_change=_step,
        args=(name, stamp, "First"),
        help="By file name, or by average precision: those with the worst or best list first.",
    )


def linked_query(run: str, names: list[str], known: Sequence[str] = ()) -> None:
    """Tie the query to the address, and tell where a link names one that the run has not. names: those
    to choose from; known: the run's others."""
    if asked := missing("query", names, names[0], known):
        say("warning", f"Run {run} has no query {asked}; shown is {st.session_state['query']}.")


def query(name: str, stamp: int, place: Any = st) -> int:
    """The position of one of a run's queries: chosen by name, by step or at random. place: where the
    widgets stand; what there is to tell comes where this is called."""
    labels = cached.labels(name, stamp)
    row = place.container(horizontal=True, vertical_alignment="center")
    linked_query(name, labels)
    row.selectbox(
        "Query",
        labels,
        key="query",
        width=projector.wide(290),
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


def pick_query(key: str) -> None:
    """Take what was clicked in the component of that key as the query."""
    picked = st.session_state[key]["picked"]
    if picked:
        address.choose("query", picked)


def _step(name: str, stamp: int, which: str) -> None:
    """Go to another query; "Worst" lines them up by their lists as well."""
    state = st.session_state
    if which == "Worst":
        state["order"] = ORDERS[1]
    by = state.get("order") or ORDERS[0]  # only Retrieval asks for it
    labels, line = cached.labels(name, stamp), cached.order(name, stamp, by)
    here = int(np.flatnonzero(line == labels.index(address.held("query")))[0])
    random = int(np.random.default_rng().integers(len(line)))
    there = {"Previous": here - 1, "Next": here + 1, "Random": random}.get(which, 0)
    address.choose("query", labels[line[there % len(line)]])
