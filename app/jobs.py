"""The queue as everybody sees it: what is trained, what waits in which order, what ended lately."""

from pathlib import Path

import streamlit as st

from app import actions, contents, live
from app.access import training_allowed
from app.notices import plain, say
from reid_core import jobs
from reid_core.errors import BadInput, from_system
from reid_core.jobs import queue, where
from reid_core.jobs.where import place_of
from reid_core.models import MODELS
from reid_core.run_folder import runs_folder
from reid_core.runs import Run

SHOWN = 40  # of those that wait
ENDED = 8
_revived: set[Path] = set()


def revive() -> None:
    """Once per server: what was queued when the machine went down goes on."""
    if (home := runs_folder()) not in _revived:
        _revived.add(home)
        _see_to_it()


def show() -> None:
    """The queue, read anew every two seconds."""
    st.fragment(_show, run_every=2)()


def _show() -> None:
    actions.leave()
    _see_to_it()
    actions.problem()
    _limits()
    found = queue.entries()
    going = [each for each in found if each.status.active]
    waiting = [each for each in found if each.status.queued]
    st.subheader("At work", anchor=False)
    for entry in going:
        _row(entry)
    if not going:
        st.caption("No training is under way.")
    st.subheader(f"Waiting ({len(waiting)})" if waiting else "Waiting", anchor=False)
    mine = [each.run.name for each in waiting if each.here]
    for entry in waiting[:SHOWN]:
        _row(entry, mine)
    if not waiting:
        st.caption("Nothing waits. A training that is started while a device is full waits here.")
    if len(waiting) > SHOWN:
        st.caption(f"And {len(waiting) - SHOWN} more behind them.")
    drawn = {each.run.name for each in found}  # one may have ended since
    if ended := [each for each in queue.ended(ENDED) if each.run.name not in drawn]:
        st.subheader("Ended lately", anchor=False)
        for entry in ended:
            _row(entry)


def _limits() -> None:
    """How many trainings at a time each device of this machine has room for."""
    limits = queue.limits()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for device in jobs.devices():
            key = f"limit-{device}"
            st.session_state[key] = limits[device]  # as it is now, whoever changed it
            st.number_input(
                f"At a time on {device}",
                0,
                64,
                key=key,
                width=180,
                disabled=not training_allowed(),
                on_change=_limit,
                args=(device,),
                help="Trainings that run at the same time; 0 holds the queue. Those that run go on.",
            )


def _limit(device: str) -> None:
    actions.act("limit", device, st.session_state[f"limit-{device}"])


def _row(entry: queue.Entry, line: list[str] | None = None) -> None:
    """A run, where it stands and what can be done with it. line are the names that wait here."""
    run, status = Run(entry.run.name, entry.run.folder), entry.status
    with st.container(
        border=True,
        horizontal=True,
        vertical_alignment="center",
        gap="small",
        key=f"job-{run.name}",
    ):
        colour, icon = live.STATES[status.state]
        st.badge(status.state, color=colour, icon=f":material/{icon}:")
        words = f"**{plain(run.name)}** :gray[{plain(_about(run, entry))}]"
        st.markdown(words, width="content")
        st.space("stretch")
        _buttons(run, entry, line or [])
        contents.link("Watch", "train", "show_chart", run=run.name, view="Watch")


def _buttons(run: Run, entry: queue.Entry, line: list[str]) -> None:
    status, name = entry.status, run.name
    if status.queued and name in line:
        _button("Up", "arrow_upward", name, actions.act, ("shift", name, -1), name == line[0])
        _button("Down", "arrow_downward", name, actions.act, ("shift", name, 1), name == line[-1])
    if status.queued and not entry.here and entry.job.get("where", "here") == "here":
        _button("Run here", "move_down", name, actions.act, ("resume", name))
    if status.queued:
        _button("Cancel", "close", name, actions.act, ("stop", name))
    elif status.active:
        _button("Stop", "stop", name, actions.act, ("stop", name), status.state == "stopping")
    elif run.resumable:
        _button("Resume", "play_arrow", name, actions.act, ("resume", name))
    _button("Clone", "content_copy", name, actions.clone, (name,))


def _button(label: str, icon: str, name: str, act, arguments: tuple, off: bool = False) -> None:
    st.button(
        label,
        icon=f":material/{icon}:",
        type="tertiary",
        key=f"{label.lower()}-{name}",
        on_click=act,
        args=arguments,
        disabled=off or not (training_allowed() or act is actions.clone),
    )


def _about(run: Run, entry: queue.Entry) -> str:
    """What it is, where it stands."""
    status, place = entry.status, place_of(entry.run)
    away = entry.job.get("where", "here") != "here"
    try:
        asked = run.experiment
        what = f"{MODELS[asked.model].title}, {asked.dataset}"
    except BadInput:
        what = "damaged"
    there = place.title if away else ""
    if status.queued:
        stand, there = place.describe(entry.run), ""
    elif status.active and status.steps:
        stand = f"epoch {status.epoch} of {status.epochs}"
        there = place.describe(entry.run) if away else ""
    else:
        stand = status.message
    return ", ".join(each for each in (what, there, stand) if each)


def _see_to_it() -> None:
    try:
        where.watch()
    except OSError as error:
        say("error", str(from_system(error)))
