"""The page Attention: which views there are, and one or two runs side by side."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, zip_longest

import streamlit as st

from app import (
    cached,
    contents,
    microscope_jigsaw,
    microscope_maps,
    microscope_rollout,
    microscope_side,
    pickers,
)
from app.lessons import Step
from app.notices import explained, say
from app.pictures import Picture
from reid_core.errors import BadInput
from reid_core.models.base import Tokens
from reid_core.runs import Run, list_runs, open_run

Probes = dict[str, tuple[str, Tokens]]  # name -> kind and tokens
LENS, ALONE = "lens", "none"


@dataclass(frozen=True)
class View:
    """One way to look: what it needs of a run, and what draws it.

    offered(run, probes) says whether the run has it; show(run, picture) draws it and names every
    widget and figure by `picture.key(...)`, since two of them may stand side by side. steps(run)
    are measured places to look at, the most telling first.
    """

    about: str
    offered: Callable[[Run, Probes], bool]
    show: Callable[[Run, Picture], None]
    steps: Callable[[Run], list[Step]] = lambda run: []


def has(*kinds: str) -> Callable[[Run, Probes], bool]:
    """Offered where the model has a probe of one of these kinds."""
    return lambda run, probes: any(kind in kinds for kind, _ in probes.values())


# In the order of the page. Another view is one more row.
VIEWS: dict[str, View] = {
    "Layers and heads": View(
        "Every attention map at once, for one token.",
        has("attention"),
        microscope_maps.show,
        microscope_maps.steps,
    ),
    "Rollout": View(
        "The class token's attention followed through all layers.",
        microscope_rollout.offered,
        microscope_rollout.show,
        microscope_rollout.steps,
    ),
    "Jigsaw": View(
        "Shifted and shuffled patches, and what their groups see.",
        microscope_jigsaw.offered,
        microscope_jigsaw.show,
        microscope_jigsaw.steps,
    ),
    "Side information": View(
        "The same query, told another camera or view.",
        microscope_side.offered,
        microscope_side.show,
    ),
}


def offered(run: Run) -> list[str]:
    """The views that a run has. Raises BadInput."""
    probes = cached.probes(run.name, run.stamp())
    return [name for name, view in VIEWS.items() if view.offered(run, probes)]


def steps(run: Run) -> list[Step]:
    """Three places to look at: the first of each view, then the second."""
    lists = [VIEWS[name].steps(run) for name in offered(run)]
    return [step for step in chain(*zip_longest(*lists)) if step][:3]


def view(run: Run) -> str:
    """The view chosen on the page; a run without any ends it with a word on where there is one."""
    with explained():
        names = offered(run)
    if not names:
        _elsewhere(run)
        st.stop()
    pickers.linked(LENS, names, names[0])
    st.segmented_control("View", names, key=LENS, required=True)
    return st.session_state[LENS]


def _elsewhere(run: Run) -> None:
    """Say that a run has no such mechanism, and lead to those that do."""
    say("info", f"The model of run {run.name} has no attention that could be seen. Choose another:")
    row = st.container(horizontal=True)
    for other in _others(run):
        if _offers(other):
            with row:
                contents.link(other.name, "attention", "visibility", run=other.name)


def _others(run: Run) -> list[Run]:
    return [other for other in list_runs() if other.name != run.name and other.has_weights]


def _offers(run: Run) -> list[str]:
    """As `offered`; a damaged run offers nothing."""
    try:
        return offered(run)
    except BadInput:
        return []


def beside(run: Run, name: str) -> Run | None:
    """The run to stand beside this one, among those that have the view; None for none."""
    known = {other.name: other for other in _others(run) if name in _offers(other)}
    pickers.linked("beside", [ALONE, *known], ALONE)
    st.selectbox(
        "Beside another run",
        [ALONE, *known],
        key="beside",
        width=240,
        help="The same view of the same picture, by another run.",
    )
    return known.get(st.session_state["beside"])


def show(run: Run, name: str, picture: Picture, other: Run | None) -> None:
    """Draw a view, for one run or for two side by side."""
    if other is None:
        VIEWS[name].show(run, picture)
        return
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(f"**{run.name}**")
        VIEWS[name].show(run, picture)
    with right:
        st.markdown(f"**{other.name}**")
        try:
            there = picture.under(other)
        except BadInput as problem:
            say("info", str(problem))
            return
        VIEWS[name].show(open_run(other.name), there)
