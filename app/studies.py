"""Long analyses on a page: started, followed and cancelled there, computed in their own processes."""

from threading import Lock
from typing import Any

import numpy as np
import streamlit as st

from app import cached
from app.notices import explained, say
from reid_core import jobs
from reid_core.errors import BadInput
from reid_core.runs import Run
from reid_core.studies import Standing, Study

AT_ONCE = 2  # per server: a laptop has to stay usable
_started: list[Study] = []
_turn = Lock()


def study(
    run: Run, name: str, *, label: str, start: bool = False, **settings: Any
) -> dict[str, np.ndarray] | None:
    """What a study found; until then a button, a progress bar or a failure, and None.

    start: begin without being asked. Not to be called in a fragment, since it brings one of its own.
    """
    with explained():
        asked = Study.asked(run, name, settings)
        standing = asked.standing()
    if standing.state == "done":
        try:
            return cached.found(run.name, name, asked.key, tuple(sorted(settings.items())))
        except BadInput:
            standing = Standing("none")  # it was damaged and is gone: offer to compute it anew
    key = f"study {asked.file('npz')}"
    if start and standing.state == "none":
        st.session_state.setdefault(key, True)
    if st.session_state.get(key) and standing.state != "running":
        standing = _begin(asked, key, standing)
    busy = standing.state == "running" or bool(st.session_state.get(key))
    st.fragment(_follow, run_every=1 if busy else None)(asked, key, label, standing.state)
    return None


def _follow(asked: Study, key: str, label: str, before: str) -> None:
    """Where the study stands, again every second for as long as it is under way."""
    standing = asked.standing()
    wanted = st.session_state.get(key)
    if wanted and standing.state != "running" and len(_running()) < AT_ONCE:
        st.rerun()  # its turn has come
    if standing.state != before:
        st.rerun()  # it has just begun or ended: the whole page should know
    with st.container(border=True, key=f"study-{asked.name}-{asked.key}"):
        if standing.state == "running":
            _progress(asked, label, standing)
        elif wanted:
            st.progress(0.0, f"{label}: waits until one of {AT_ONCE} running analyses is done")
            st.button("Cancel", key=f"cancel {key}", on_click=_want, args=(key, False))
        else:
            _offer(asked, key, label, standing)


def _progress(asked: Study, label: str, standing: Standing) -> None:
    done, total = standing.done, standing.total
    stopping = (asked.run.folder / asked.file("stop")).exists()
    words = f"{done} of {total}" if total else "loading the libraries and the data"
    row = st.container(horizontal=True, vertical_alignment="center")
    row.progress(
        min(1.0, done / total) if total else 0.0,
        f"{label}: {'stopping at the next step' if stopping else words}",
    )
    row.button(
        "Cancel",
        key=f"cancel {asked.key}",
        icon=":material/close:",
        on_click=asked.stop,
        disabled=stopping,
    )


def _offer(asked: Study, key: str, label: str, standing: Standing) -> None:
    """A button, and what went wrong the last time."""
    failed = standing.state == "failed"
    if failed:
        say("error", standing.message)
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
    if failed and (log := _log(asked)):
        with st.expander("Log", icon=":material/notes:"):
            st.code(log, language=None, wrap_lines=True, height=200)


def _begin(asked: Study, key: str, standing: Standing) -> Standing:
    """Start a wanted study if there is room, else leave it waiting; returns where it stands then."""
    with _turn, explained():
        if len(_running()) >= AT_ONCE:
            return standing
        st.session_state[key] = False
        jobs.start_study(asked)
        _started.append(asked)
        return asked.standing()


def _running() -> list[Study]:
    """What this server has started and still computes."""
    _started[:] = [each for each in _started if each.standing().state == "running"]
    return _started


def _want(key: str, wanted: bool) -> None:
    st.session_state[key] = wanted


def _log(asked: Study) -> str:
    try:
        text = (asked.run.folder / asked.file("log")).read_text("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-20:])
