"""What a press asks of trainings: start, stop, resume, clone; and what it could not do."""

import time
from typing import Any

import streamlit as st

from app import address
from app.access import training_allowed
from app.notices import say
from reid_core import jobs
from reid_core.errors import BadInput

WHILE = 30  # seconds that a message stays: what it says may be over by then


def act(action: str, *arguments: Any, **keywords: Any) -> None:
    """A callback that starts, stops or resumes; what goes wrong is told on the next page."""
    if not training_allowed():  # the button is grey, but a message can be forged
        return
    st.session_state.pop("problem", None)
    try:
        name = getattr(jobs, action)(*arguments, **keywords)
    except BadInput as problem:
        st.session_state["problem"] = str(problem), _place(), time.monotonic()
        return
    if action == "start":
        address.choose("run", name)
        address.choose("view", "Watch")
    if action == "start_sweep":
        address.choose("view", "Queue")
    if action in ("start", "start_sweep"):
        address.put("clone", None)


def act_next(action: str, **keywords: Any) -> None:
    """Do it at the head of the app's next run (`acted`), which may then choose another run and view."""
    st.session_state["asked to act"] = action, keywords
    st.rerun()


def acted() -> None:
    """At the head of the app, before any widget: what its run before was asked to do."""
    if address.page() != "train":
        st.session_state.pop("problem", None)
    if asked := st.session_state.pop("asked to act", None):
        # A moment, unless they lie in one file, which is unpacked once.
        with st.spinner("Looking at the images"):
            act(asked[0], **asked[1])


def problem(once: bool = False) -> None:
    """Say what the last press could not do: once, or, where a view redraws itself, for a while, until
    the next press or another view or run."""
    message, place, when = st.session_state.get("problem", ("", None, 0))
    if said := message and place == _place() and time.monotonic() < when + WHILE:
        say("error", message)
    if once or not said:
        st.session_state.pop("problem", None)


def _place() -> tuple[str | None, str | None]:
    """The view and the run that are looked at."""
    return st.session_state.get("view"), st.session_state.get("run")


def clone(name: str) -> None:
    """A callback that opens the form with a run's experiment in it."""
    st.session_state["view"] = "New training"
    st.session_state.pop("cloned", None)  # the one that the form was filled from
    address.put("clone", name)
    st.session_state["leaves"] = True


def leave() -> None:
    """At the head of a fragment: a button in it has chosen another view, which is the page's to draw."""
    if st.session_state.pop("leaves", False):
        st.rerun()
