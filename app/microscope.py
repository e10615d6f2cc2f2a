"""The page Attention: which views there are, and one or two runs side by side."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Any

import streamlit as st

from app import (
    cached,
    contents,
    mechanisms_deletion,
    mechanisms_gates,
    mechanisms_orders,
    mechanisms_parts,
    mechanisms_pieces,
    mechanisms_similar,
    microscope_jigsaw,
    microscope_maps,
    microscope_positions,
    microscope_rollout,
    microscope_side,
    pickers,
    projector,
)
from app.lessons import Step
from app.notices import explained, plain, say
from app.pictures import Picture
from reid_core.errors import BadInput
from reid_core.models import MODELS
from reid_core.models.base import Tokens
from reid_core.runs import Run, list_runs, open_run

Probes = dict[str, tuple[str, Tokens]]  # name -> kind and tokens
LENS, ALONE = "lens", "none"
INSIDE = ("Layers and heads", "Gates")  # the views of attention itself


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
        microscope_maps.ABOUT,
        has("attention"),
        microscope_maps.show,
        microscope_maps.steps,
    ),
    "Rollout": View(
        microscope_rollout.ABOUT,
        microscope_rollout.offered,
        microscope_rollout.show,
        microscope_rollout.steps,
    ),
    "Jigsaw": View(
        microscope_jigsaw.ABOUT,
        microscope_jigsaw.offered,
        microscope_jigsaw.show,
        microscope_jigsaw.steps,
    ),
    "Side information": View(
        microscope_side.ABOUT,
        microscope_side.offered,
        microscope_side.show,
    ),
    "Positions": View(
        microscope_positions.ABOUT,
        microscope_positions.offered,
        microscope_positions.show,
    ),
    "Gates": View(
        "What a CNN's attention lets through, and what a position relates to.",
        mechanisms_gates.offered,
        mechanisms_gates.show,
        mechanisms_gates.steps,
    ),
    "Orders": View(
        "First-order and high-order maps side by side, and where local perception looks.",
        has("offsets"),
        mechanisms_orders.show,
        mechanisms_orders.steps,
    ),
    "Why similar": View(
        "What makes two images alike, position by position.",
        lambda run, probes: True,
        mechanisms_similar.show,
        mechanisms_similar.steps,
    ),
    "Global and local": View(
        mechanisms_pieces.ABOUT,
        mechanisms_pieces.offered,
        mechanisms_pieces.show,
    ),
    "On the person": View(
        "How much of a map lies on the person, and on each part.",
        lambda run, probes: True,
        mechanisms_parts.show,
        mechanisms_parts.steps,
    ),
    "Deletion": View(
        "Whether a heat map points at what the model uses.",
        lambda run, probes: True,
        mechanisms_deletion.show,
    ),
}


def offered(run: Run) -> list[str]:
    """The views that a run has. Raises BadInput."""
    probes = cached.probes(run.name, run.stamp())
    return [name for name, view in VIEWS.items() if view.offered(run, probes)]


def steps(run: Run) -> list[Step]:
    """Three places to look at: the first of each view, then the second. None where they can't be
    measured; picking a picture then says what is missing."""
    try:
        lists = [VIEWS[name].steps(run) for name in offered(run)]
    except BadInput:
        return []
    return [step for step in chain(*zip_longest(*lists)) if step][:3]


def choose(run: Run, bar: Any) -> tuple[str, Run | None]:
    """The view chosen on the page, and the run to stand beside this one, chosen in the bar, or None."""
    with explained():
        names = offered(run)
    _without(run)
    if gone := pickers.missing(LENS, names, names[0]):
        say("info", f"Run {run.name} has no view {gone}.")
    # Not in a row with others: there it would scroll sideways in a narrow window, here it wraps.
    st.segmented_control("View", names, key=LENS, required=True, label_visibility="collapsed")
    name = st.session_state[LENS]
    other = _beside(run, name, bar)
    st.caption(VIEWS[name].about)
    return name, other


def _without(run: Run) -> None:
    """Say that a model has no attention inside an image; where its images look at one another, lead
    there."""
    if not any(VIEWS[name].offered(run, cached.probes(run.name, run.stamp())) for name in INSIDE):
        st.caption(
            f"The model of run {plain(run.name)} has no attention inside an image; the views below "
            "work for every model alike."
        )
    if MODELS[run.experiment.model].refines:
        contents.link("Its images attend to one another", "neighbours", "hub", run=run.name)


def _others(run: Run) -> list[Run]:
    return [other for other in list_runs() if other.name != run.name and other.has_weights]


def _offers(run: Run) -> list[str]:
    """As `offered`; a damaged run offers nothing."""
    try:
        return offered(run)
    except BadInput:
        return []


def _beside(run: Run, name: str, bar: Any) -> Run | None:
    """The run to stand beside this one, among those that have the view; None for none."""
    known = {other.name: other for other in _others(run) if name in _offers(other)}
    if gone := pickers.missing("beside", [ALONE, *known], ALONE):
        say("warning", f"There is no run {gone} that could stand beside this one.")
    bar.selectbox(
        "Beside another run: the same view of the same picture",
        [ALONE, *known],
        key="beside",
        width=projector.wide(290),
        format_func=lambda other: f"Beside {'no other run' if other == ALONE else other}",
        label_visibility="collapsed",
    )
    return known.get(st.session_state["beside"])


def show(run: Run, name: str, picture: Picture, other: Run | None) -> None:
    """Draw a view, for one run or for two side by side."""
    if other is None:
        VIEWS[name].show(run, picture)
        return
    bar = st.container()
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(f"**{plain(run.name)}**")
        VIEWS[name].show(run, replace(picture, bar=bar))
    with right:
        st.markdown(f"**{plain(other.name)}**")
        try:
            there = picture.under(other)
        except BadInput as problem:
            say("info", str(problem))
            return
        VIEWS[name].show(open_run(other.name), there)
