"""Widgets that mean something on more than one page: the run, the query, a visitor's picture."""

import numpy as np
import streamlit as st

from app import cached, uploads
from app.notices import explained, say
from app.uploads import Upload
from reid_core.data import family_of
from reid_core.data.market import parse_name
from reid_core.experiment import Experiment
from reid_core.models import MODELS
from reid_core.runs import Run, list_runs, open_run

ORDERS = ["File name", "Worst first", "Best first"]
MISSING = "missing run"  # the one that a link asked for, and the one shown instead
BY_NAME = "as its name says"
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


def typed(key: str) -> None:
    """Tie a text field to the address, as `linked` does: call it just before the widget."""
    state, address = st.session_state, st.query_params
    asked, last = address.get(key), state.get(f"{key} in the address")
    if asked is not None and asked != last:
        state[key] = asked
    else:
        state[key] = state.get(key, last or "")
    if state[key]:
        address[key] = state[key]
    elif asked is not None:
        del address[key]
    state[f"{key} in the address"] = state[key]


def sidebar_run() -> None:
    """The run that every page looks at; main.py draws it once for all of them."""
    names = [run.name for run in list_runs()]
    with st.sidebar:
        if not names:
            st.caption("No run yet. The page Train starts one.")
            return
        asked = st.query_params.get("run")
        linked("run", names, _first(names))
        if asked and asked not in names:
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
    with row:
        say("warning", f"There is no run named {asked} here; shown is {shown}.")
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


def upload(run: Run, asked: Experiment, label: str, named: bool = False) -> Upload | None:
    """A visitor's picture, and which camera took it from which side, where the model is told.

    named: unless the visitor says otherwise, the camera is the one that the picture's name tells.
    """
    cameras = run.facts.cameras if asked.knows_cameras else ()
    views = run.facts.views if asked.knows_views else ()
    spots = st.columns([3, 1, 1] if views else [3, 1])
    file = spots[0].file_uploader(
        label, uploads.TYPES, max_upload_size=uploads.MEGABYTES, key="picture"
    )
    camera = spots[1].selectbox(
        "Taken by camera",
        [None, *cameras],
        format_func=lambda number: str(number or (BY_NAME if named and cameras else "unknown")),
        required=True,
        key="camera",
        disabled=not cameras,
    )
    if named and file and camera is None:
        found = named_camera(file.name)
        camera = found if found in cameras else None
    view = None
    if views:
        side = lambda row: "unknown" if row is None else _side(run, row)  # noqa: E731
        view = spots[2].selectbox(
            "Seen from", [None, *views], format_func=side, required=True, key="view of it"
        )
    told = [_told("camera", cameras, str(camera or ""))]
    told += [_told("view", views, "" if view is None else _side(run, view))] if views else []
    st.caption(" ".join(told))
    return Upload(file.name, file.getvalue(), camera, view) if file else None


def named_camera(name: str) -> int | None:
    """The camera that a file's name tells, as in Market-1501's names."""
    found = parse_name(name)
    return found[1] if found else None


def _told(what: str, known: tuple[int, ...], given: str) -> str:
    """What a model makes of what is said, or not said, of a picture."""
    if not known:
        return f"This model is not told which {what} took a picture."
    if given:
        return f"{what.capitalize()} {given}: the picture takes that {what}'s embedding."
    return f"Unknown {what}: the picture takes the mean {what} embedding."


def _side(run: Run, row: int) -> str:
    """A row of a model's view embedding, in words where it was trained here."""
    return str(row) if run.imported else family_of(run.experiment.dataset).views[row]


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
    by = state.get("order") or ORDERS[0]  # only Retrieval asks for it
    labels, line = cached.labels(name, stamp), cached.order(name, stamp, by)
    here = int(np.flatnonzero(line == labels.index(state["query"]))[0])
    random = int(np.random.default_rng().integers(len(line)))
    there = {"Previous": here - 1, "Next": here + 1, "Random": random}.get(which, 0)
    state["query"] = labels[line[there % len(line)]]
