"""Look at this: a page's preset and the three steps that set its widgets and say what to see."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from app import address, pickers

ADDRESS = "look"
# What is remembered: the page and step last seen, what came with a step's address, what it sets next.
SEEN, CAME, TO_SET = "look seen", "look came with", "look sets"


@dataclass(frozen=True)
class Step:
    """One thing to see: set holds values by widget key, text says in two sentences what to see."""

    title: str
    text: str
    set: dict[str, Any] = field(default_factory=dict)


def begin(page: str) -> None:
    """Before any widget: set what a step asked for in the run before, and note what an address with
    a step says itself, before widgets write themselves into it; main.py calls it for all pages."""
    state, look = st.session_state, address.get(ADDRESS)
    for name, value in state.pop(TO_SET, {}).items():
        state[name] = value
    if state.get(SEEN) != (page, look):
        state[SEEN] = (page, look)
        state[CAME] = address.names() if look else None


def look_at(steps: Sequence[Step], key: str) -> None:
    """The row of steps; the one that was pressed says what to see, for as long as the widgets are
    what it set. A link that names only the step has it set them too."""
    chosen = address.get(ADDRESS, "")
    shown = steps[int(chosen) - 1] if chosen in map(str, range(1, len(steps) + 1)) else None
    if shown and _arrived(shown):
        st.rerun()  # some of the widgets may stand already
    if shown and _changed(shown):
        shown, chosen = None, ""
        _address(None)
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
        if shown:
            st.container(key=f"lesson said {key}").markdown(shown.text)


def _arrived(step: Step) -> bool:
    """Whether an address brought a step that has values to set which it does not name itself."""
    came = st.session_state.pop(CAME, None)
    if came is None:
        return False
    values = {name: value for name, value in step.set.items() if name not in came}
    st.session_state[TO_SET] = values
    return bool(values)


def _changed(step: Step) -> bool:
    """Whether the reader has gone on from what a step showed; what is not drawn has no value."""
    state = st.session_state
    return any(name in state and state[name] != value for name, value in step.set.items())


def _address(look: str | None) -> None:
    """Put a step into the address, or none: it is not one that just came with it."""
    address.put(ADDRESS, look)
    page, _ = st.session_state.get(SEEN, ("", None))
    st.session_state[SEEN] = (page, look)


def first(key: str, values: dict[str, Any]) -> None:
    """A page's preset, once per session and key; what the address asks for goes first, and what the
    visitor has chosen on another page.

    Call it before the widgets. values: by widget key, of widgets that are linked or bound.
    """
    seen = st.session_state.setdefault("presets", set())
    if key in seen:
        return
    seen.add(key)
    for name, value in values.items():
        if name not in address.names() and not pickers.chosen(name):
            pickers.preset(name, value)


def _take(number: int, step: Step) -> None:
    for name, value in step.set.items():
        st.session_state[name] = value
    _address(str(number))
