"""What the page's address says. All that one run of the script writes goes there together, at its end:
Streamlit makes every single write a step of the browser's back button.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import streamlit as st

WAITING, SEEN = "waiting for the address", "address when it waited"
GONE = "gone from the address"


@contextmanager
def told(page: str) -> Iterator[None]:
    """A run of the script for a page; main.py puts all of it in here.

    What an interrupted run had to write waits for the next one, unless the visitor has gone elsewhere.
    """
    state, now = st.session_state, (page, st.query_params.to_dict())
    if (before := state.get(SEEN)) != now:
        state[WAITING] = {}
        state[GONE] = before[1].keys() - now[1].keys() if before and before[0] == page else set()
    state[SEEN] = now
    yield
    _tell()


def page() -> str:
    """The page that this run of the script is for."""
    return st.session_state[SEEN][0] if SEEN in st.session_state else ""


def stop() -> NoReturn:
    """Streamlit's stop, for a page that ends early; after it nothing could be told."""
    _tell()
    st.stop()


def _tell() -> None:
    waiting = st.session_state.get(WAITING, {})
    for key in [key for key, value in waiting.items() if value is None]:
        st.query_params.pop(key, None)
    if new := {key: value for key, value in waiting.items() if value is not None}:
        st.query_params.update(new)
    st.session_state[WAITING], st.session_state[GONE] = {}, set()
    page, _ = st.session_state[SEEN]
    st.session_state[SEEN] = (page, st.query_params.to_dict())


def get(key: str, default: str | None = None) -> str | None:
    """The value of a key, the last of several."""
    found = get_all(key)
    return found[-1] if found else default


def get_all(key: str) -> list[str]:
    """All values of a key."""
    waiting = st.session_state.get(WAITING, {})
    if key not in waiting:
        return st.query_params.get_all(key)
    value = waiting[key]
    return [value] if isinstance(value, str) else list(value or [])


def taken_out(key: str) -> bool:
    """Whether the visitor went back to an address of this page that had not yet got this key."""
    return key in st.session_state.get(GONE, ())


def names() -> set[str]:
    """The keys that it has."""
    waiting = st.session_state.get(WAITING, {})
    return (set(st.query_params) - set(waiting)) | {k for k, v in waiting.items() if v is not None}


def put(key: str, value: str | list[str] | None) -> None:
    """Write a value, or several; None takes the key out."""
    waiting = st.session_state.setdefault(WAITING, {})
    asked = [value] if isinstance(value, str) else value or []
    if asked == st.query_params.get_all(key):
        waiting.pop(key, None)
    else:
        waiting[key] = value or None
