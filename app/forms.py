"""A form out of knobs: every field's kind, limits and help come from where the knob is declared."""

from typing import Any

import streamlit as st

from app.notices import plain
from reid_core.experiment import Experiment, Training, recipe_values
from reid_core.jobs.where import WHERE
from reid_core.knobs import Knob, knobs_of
from reid_core.models import MODELS
from reid_core.runs import list_runs

OWN = "trains its own"


def settings(model: str, name: str) -> dict[str, Any]:
    """Draw the knobs of a model, its own first; returns those set apart from the recipe."""
    usual, key = recipe_values(model, name), f"{model}-{name}"
    own = {f"{MODELS[model].title}'s own settings": knobs_of(MODELS[model].Options)}
    given: dict[str, Any] = {}
    for title, knobs in (own | {"Settings of every model": knobs_of(Training)}).items():
        st.markdown(f"**{title}**")
        given |= _tabs(knobs, usual, key)
    changed = {name: value for name, value in given.items() if value != _shown(usual[name])}
    _summary(changed, usual, key)
    return changed


def fill(experiment: Experiment) -> None:
    """Put an experiment's knobs into their fields: call it before they are drawn."""
    key = f"{experiment.model}-{experiment.recipe}"
    for name, value in experiment.values.items():
        st.session_state[f"knob-{key}-{name}"] = _shown(value)


def place(where: str) -> dict[str, Any]:
    """Draw what a place wants to know of a training; returns it."""
    if lacks := WHERE[where].missing():
        st.warning(plain(lacks), icon=":material/warning:")
    knobs = WHERE[where].knobs
    return _tabs(knobs, WHERE[where].usual(where), f"where-{where}") if knobs else {}


def _tabs(knobs: list[Knob], usual: dict[str, Any], key: str) -> dict[str, Any]:
    """A tab for each group of knobs; returns the value of each."""
    groups: dict[str, list[Knob]] = {}
    for knob in knobs:
        groups.setdefault(knob.group, []).append(knob)
    given: dict[str, Any] = {}
    for tab, rows in zip(st.tabs(list(groups)), groups.values(), strict=True):
        with tab, st.grid("auto", min_column_width=210, vertical_alignment="bottom"):
            for knob in rows:
                given[knob.name] = _field(knob, usual[knob.name], f"knob-{key}-{knob.name}")
    return given


def _field(knob: Knob, usual: Any, key: str) -> Any:
    """One field, its label marked when its value is not the recipe's."""
    usual = _shown(usual)
    changed = st.session_state.get(key, usual) != usual
    label = f":orange[**{knob.name}**] :orange-badge[changed]" if changed else knob.name
    label += f" :small[:gray[{knob.unit}]]" if knob.unit else ""
    state = dict(key=key, help=knob.help, persist_state="session")
    if knob.kind == "bool":
        return st.toggle(label, usual, **state)
    if knob.kind == "choice":
        return st.selectbox(label, knob.choices, knob.choices.index(usual), **state)
    if knob.kind == "run":
        names = ["", *_encoders()]
        return st.selectbox(label, names, format_func=lambda name: name or OWN, **state)
    if knob.kind == "int":
        least = None if knob.least is None else int(knob.least)
        return st.number_input(label, least, None, usual, 1, **state)
    return st.text_input(label, usual, **state)


def _encoders() -> list[str]:
    """The runs whose embeddings another model may refine."""
    runs = [run for run in list_runs() if run.has_weights]
    return [run.name for run in runs if not MODELS[run.experiment.model].refines]


def _shown(value: Any) -> Any:
    """A value as its field holds it: numbers with a point and sizes are typed as text."""
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    if isinstance(value, float):
        return short if float(short := f"{value:g}") == value else repr(value)
    return value


def _summary(changed: dict[str, Any], usual: dict[str, Any], key: str) -> None:
    if not changed:
        st.caption("Every setting is the recipe's.")
        return
    recipe = {name: _shown(usual[name]) for name in changed}
    words = ", ".join(
        f"{k} {plain(_word(v))} (recipe: {plain(_word(recipe[k]))})" for k, v in changed.items()
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f":orange[**Changed:**] {words}", width="stretch")
        st.button(
            "Back to the recipe",
            icon=":material/undo:",
            key=f"reset-{key}",
            on_click=_reset,
            args=(key, usual),
        )


def _word(value: Any) -> str:
    """A value in a sentence."""
    return "none" if value == "" else str(value)


def _reset(key: str, usual: dict[str, Any]) -> None:
    for name, value in usual.items():
        st.session_state[f"knob-{key}-{name}"] = _shown(value)
