"""Look at this: a page's preset and the three steps that set its widgets and say what to see."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

ADDRESS = "look"


@dataclass(frozen=True)
class Step:
    """One thing to see: set holds values by widget key, text says in two sentences what to see."""

    title: str
    text: str
    set: dict[str, Any] = field(default_factory=dict)


def look_at(steps: Sequence[Step], key: str) -> None:
    """The row of steps; the one that was pressed says what to see. Call it before the widgets."""
    chosen = st.query_params.get(ADDRESS, "")
    with st.container(key=f"lesson {key}", gap="xsmall"):
        row = st.container(horizontal=True, vertical_alignment="center", gap="small")
        row.markdown(":small[:gray[Look at this]]", width="content")
        for number, step in enumerate(steps, 1):
            row.button(
                step.title,
                key=f"{key} step {number}",
                icon=f":material/counter_{number}:",
                type="primary" if chosen == str(number) else "secondary",
                on_click=_take,
                args=(number, step),
            )
        if chosen.isdecimal() and 1 <= int(chosen) <= len(steps):
            st.markdown(steps[int(chosen) - 1].text)


def first(key: str, values: dict[str, Any]) -> None:
    """A page's preset, once per session and key; what the address asks for goes first.

    Call it before the widgets. values: by widget key, of widgets that are linked or bound.
    """
    seen = st.session_state.setdefault("presets", set())
    if key in seen:
        return
    seen.add(key)
    for name, value in values.items():
        if name not in st.query_params:
            st.session_state[name] = value


def _take(number: int, step: Step) -> None:
    for name, value in step.set.items():
        st.session_state[name] = value
    st.query_params[ADDRESS] = str(number)
