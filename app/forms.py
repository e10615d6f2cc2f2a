"""A form out of knobs: every field's kind, limits and help come from where the knob is declared."""

from itertools import groupby
from typing import Any

import streamlit as st

from reid_core.experiment import knobs, recipe_values
from reid_core.knobs import Knob


def settings(model: str, name: str) -> dict[str, Any]:
    """Draw the knobs of a model, grouped; returns those that the visitor set apart from the recipe."""
    usual = recipe_values(model, name)
    groups = [(group, list(rows)) for group, rows in groupby(knobs(model), lambda knob: knob.group)]
    key = f"{model}-{name}"
    changed: dict[str, Any] = {}
    for tab, (_, rows) in zip(st.tabs([group for group, _ in groups]), groups, strict=True):
        with tab, st.grid("auto", min_column_width=210, vertical_alignment="bottom"):
            for knob in rows:
                given = _field(knob, usual[knob.name], f"knob-{key}-{knob.name}")
                if given != _shown(usual[knob.name]):
                    changed[knob.name] = given
    _summary(changed, usual, key)
    return changed


def _field(knob: Knob, usual: Any, key: str) -> Any:
    """One field, its label marked when its value is not the recipe's."""
    usual = _shown(usual)
    changed = st.session_state.get(key, usual) != usual
    label = f":orange[**{knob.name}**] :orange-badge[changed]" if changed else knob.name
    state = dict(key=key, help=knob.help, persist_state="session")
    if knob.kind == "bool":
        return st.toggle(label, usual, **state)
    if knob.kind == "choice":
        return st.selectbox(label, knob.choices, knob.choices.index(usual), **state)
    if knob.kind == "int":
        least = None if knob.least is None else int(knob.least)
        return st.number_input(label, least, None, usual, 1, **state)
    return st.text_input(label, usual, **state)


def _shown(value: Any) -> Any:
    """A value as its field holds it: numbers with a point and sizes are typed as text."""
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else value


def _summary(changed: dict[str, Any], usual: dict[str, Any], key: str) -> None:
    if not changed:
        st.caption("Every setting is the recipe's.")
        return
    words = ", ".join(f"{k} {v} (recipe: {_shown(usual[k])})" for k, v in changed.items())
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f":orange[**Changed:**] {words}", width="stretch")
        st.button(
            "Back to the recipe",
            icon=":material/undo:",
            key=f"reset-{key}",
            on_click=_reset,
            args=(key, usual),
        )


def _reset(key: str, usual: dict[str, Any]) -> None:
    for name, value in usual.items():
        st.session_state[f"knob-{key}-{name}"] = _shown(value)
