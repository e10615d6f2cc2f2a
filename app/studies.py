"""Long analyses on a page: started, followed and cancelled there, computed in their own processes."""

from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Any

import numpy as np
import streamlit as st

from app import cached
from app.notices import explained, plain, say
from app.passes import about
from reid_core import jobs
from reid_core.errors import BadInput
from reid_core.runs import Run
from reid_core.studies import Standing, Study

AT_ONCE = 2  # per server: a laptop has to stay usable
_started: dict[tuple[str, str], Study] = {}  # by run and file: what this server has started
_turn = Lock()


def study(
    run: Run,
    name: str,
    *,
    label: str,
    start: bool = False,
    passes: Callable[[], float] | None = None,
    **settings: Any,
) -> dict[str, np.ndarray] | None:
    """What a study found; until then a button, a progress bar or a failure, and None.

    start: begin without being asked. passes: about how many images the model will be given, so that
    the button can say how long that takes. Not to be called in a fragment, since it brings one of its own.
    """
    with explained():
        asked = Study.asked(run, name, settings)
        standing = asked.standing()
    if standing.state == "done":
        try:
            return cached.found(run.name, name, asked.key, tuple(sorted(settings.items())))
        except BadInput:
            standing = Standing("none")  # it was damaged and is gone: offer to compute it anew
    key = f"study {run.name} {asked.file('npz')}"
    if start and standing.state == "none":
        st.session_state.setdefault(key, True)
    if st.session_state.get(key):
        standing = _begin(asked, key)
    waiting = bool(st.session_state.get(key))
    busy = waiting or standing.state == "running"
    follow = st.fragment(_follow, run_every=1 if busy else None)
    follow(asked, key, label, (standing.state, waiting), passes)
    return None


def _follow(asked: Study, key: str, label: str, before: tuple[str, bool], passes) -> None:
    """Where the study stands, again every second for as long as it is under way."""
    standing, waiting = asked.standing(), bool(st.session_state.get(key))
    if before != (standing.state, waiting) or (waiting and _room()):
        st.rerun()  # it has just begun or ended, or its turn has come: the whole page should know
    with st.container(border=True, key=f"study-{asked.name}-{asked.key}"):
        if standing.state == "running":
            _progress(asked, label, standing)
        elif waiting:
            _wait(key, label)
        else:
            _offer(asked, key, label, standing, passes)


def _wait(key: str, label: str) -> None:
    """It waits; whose turn it is may have been asked for on a page that the visitor has left."""
    row = st.container(horizontal=True, vertical_alignment="center")
    row.progress(0.0, f"{label}: waits, since {AT_ONCE} analyses are running already")
    row.button(
        "Cancel", key=f"cancel {key}", icon=":material/close:", on_click=_want, args=(key, False)
    )
    row = st.container(horizontal=True, vertical_alignment="center", gap="small")
    row.caption("Running:", width="content")
    for other in _going():
        row.button(
            f"{other.name} of {plain(other.run.name)}",
            key=f"make way for {key} {other.run.name} {other.file('npz')}",
            icon=":material/stop_circle:",
            type="tertiary",
            on_click=other.stop,
            help="Stop it at its next step. It can be started again on its own page.",
        )


def _progress(asked: Study, label: str, standing: Standing) -> None:
    done, total = standing.done, standing.total
    stopping = (asked.run.folder / asked.file("stop")).exists()
    words = f"{done} of {total}" if total else "loading the libraries and the data"
    if done:
        left = (standing.time - standing.since) * (total / done - 1)
        words += f", {about(left)} left"
    row = st.container(horizontal=True, vertical_alignment="center")
    row.progress(
        min(1.0, max(0.0, done / total)) if total else 0.0,
        f"{label}: {'stopping at the next step' if stopping else words}",
    )
    row.button(
        "Cancel",
        key=f"cancel {asked.run.name} {asked.file('npz')}",
        icon=":material/close:",
        on_click=asked.stop,
        disabled=stopping,
    )


def _offer(asked: Study, key: str, label: str, standing: Standing, passes) -> None:
    """A button, and what went wrong the last time."""
    problem = st.session_state.get(f"{key} problem") or standing.message
    failed = standing.state == "failed" or bool(problem)
    if failed:
        say("error", problem or "it failed without a word")
    elif standing.state == "stopped":
        st.caption("Cancelled before it was done.")
    st.button(
        "Try again" if failed else label,
        key=f"start {key}",
        icon=":material/refresh:" if failed else ":material/play_arrow:",
        on_click=_want,
        args=(key, True),
        help="Computed in a process of its own and kept with the run.",
    )
    with suppress(BadInput):  # what is missing is said once it is started
        if passes and (count := passes()):
            seconds = count * cached.pass_seconds(asked.run.name, asked.run.stamp())
            st.caption(
                f"About {count:,.0f} passes of this model, {about(seconds)} on this machine."
            )
    if failed and (log := _log(asked)):
        with st.expander("Log", icon=":material/notes:"):
            st.code(log, language=None, wrap_lines=True, height=200)


def _begin(asked: Study, key: str) -> Standing:
    """Start a wanted study if there is room, else leave it waiting; returns where it stands then."""
    with _turn:
        standing = asked.standing()
        if standing.state != "running" and not _room():
            return standing
        st.session_state[key], st.session_state[f"{key} problem"] = False, ""
        try:
            jobs.start_study(asked)
        except BadInput as problem:
            st.session_state[f"{key} problem"] = str(problem)
            return standing
        _started[asked.run.name, asked.file("npz")] = asked
        return asked.standing()


def _room() -> bool:
    """Whether this server may start another one."""
    return len(_going()) < AT_ONCE


def _going() -> list[Study]:
    """What this server has started and is still computed."""
    return [each for each in list(_started.values()) if each.standing().state == "running"]


def _want(key: str, wanted: bool) -> None:
    st.session_state[key] = wanted


def _log(asked: Study) -> str:
    try:
        text = (asked.run.folder / asked.file("log")).read_text("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-20:])
