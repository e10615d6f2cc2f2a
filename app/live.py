"""A run as it goes. Everything is read from its folder, so a reload, a second browser and a restart
of the app all show the same."""

from typing import Any

import pandas as pd
import streamlit as st

from app import actions, charts, figures, projector
from app.access import training_allowed
from app.figures import Said
from app.notices import explained, plain, say
from reid_core.errors import BadInput
from reid_core.jobs import queue, where
from reid_core.jobs.clones import cloned_from
from reid_core.jobs.job import is_open
from reid_core.jobs.where import place_of
from reid_core.run_folder import Status
from reid_core.runs import Run

STATES = {  # state -> colour, icon
    "queued": ("gray", "schedule"),
    "starting": ("blue", "hourglass_top"),
    "running": ("blue", "play_arrow"),
    "stopping": ("orange", "hourglass_bottom"),
    "stopped": ("orange", "pause"),
    "finished": ("green", "check"),
    "failed": ("red", "error"),
    "interrupted": ("red", "power_off"),
}


def watch(run: Run) -> None:
    """The run's live view; asks the folder every two seconds for as long as there is news."""
    news = _news(run, run.status())
    st.fragment(_show, run_every=every([run], news))(run, news)


def every(runs: list[Run], news: bool) -> int | None:
    """How many seconds to wait before asking again. What has stopped may go on by another viewer."""
    return 2 if news else 5 if any(run.resumable for run in runs) else None


def badges(run: Run, state: str) -> None:
    """A run's state in a word, a colour and a sign, and where it is from if not from here."""
    if run.imported:
        st.badge("imported", color="violet", help=_imported(run))
        return
    colour, icon = STATES[state]
    st.badge(state, color=colour, icon=f":material/{icon}:")
    if run.shipped:
        st.badge("shipped", color="gray", help="Came with the product; regenerate it to change it.")


def _news(run: Run, status: Status) -> bool:
    return status.active or status.queued or is_open(run)


def _show(run: Run, news: bool) -> None:
    actions.leave()
    where.watch()
    with explained():
        status = run.status()
        run.record  # noqa: B018 - damage shows here
    if news != _news(run, status):
        st.rerun()  # it has just ended, or goes on: the whole page should know how often to ask
    _head(run, status)
    actions.problem()
    _origin(run)
    if status.queued:
        st.info(plain(f"Waits: {place_of(run).describe(run)}."), icon=":material/schedule:")
    elif status.active:
        _progress(status)
        if queue.job_of(run).get("where", "here") != "here":
            there = place_of(run).describe(run)
            st.caption(plain(f"{there[0].upper()}{there[1:]}."))
    elif status.message:
        say("warning" if status.state == "interrupted" else "error", status.message)
    _learned(run, status)
    if run.imported:
        return
    died = status.state in ("failed", "interrupted")
    with st.expander("Log", icon=":material/notes:", expanded=died):
        with st.container(height=260, border=False, autoscroll=True):  # its last lines
            st.code(run.log_tail(40) or "The log is empty.", language=None, wrap_lines=True)


def _origin(run: Run) -> None:
    """What it was cloned from."""
    try:
        if origin := cloned_from(run):
            st.caption(plain(f"Cloned from {origin['run']}. {differences(origin['changes'])}"))
    except BadInput as problem:  # it can be stopped and resumed all the same
        say("error", str(problem))


def _learned(run: Run, status: Status) -> None:
    """Its curves, or why there are none."""
    try:
        history = run.history()
    except BadInput as problem:  # what can be done with the run, still can
        say("error", str(problem))
        return
    if history:
        _curves(run, history)
    elif status.active or status.queued:
        st.caption("Curves appear after the first epoch.")
    elif run.imported:
        st.caption(_imported(run))
    else:
        st.caption("No epoch was finished, so there are no curves.")


def _head(run: Run, status: Status) -> None:
    """Its name and buttons: one of each for every run, so that none is pressed for another."""
    allowed = training_allowed()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(run.name, anchor=False, width="content")
        badges(run, status.state)
        st.space("stretch")
        if status.active:
            st.button(
                "Stop training",
                icon=":material/stop:",
                key=f"stop {run.name}",
                on_click=actions.act,
                args=("stop", run.name),
                disabled=not allowed or status.state == "stopping",
                help="Stops at the next step and keeps its state.",
            )
        if status.queued:
            st.button(
                "Cancel",
                icon=":material/close:",
                key=f"cancel {run.name}",
                on_click=actions.act,
                args=("stop", run.name),
                disabled=not allowed,
                help="Takes it out of the queue; it can be resumed later.",
            )
        if not run.imported:
            st.button(
                "Clone",
                icon=":material/content_copy:",
                key=f"clone {run.name}",
                on_click=actions.clone,
                args=(run.name,),
                help="Fills the form with what this run was asked, to be changed.",
            )
        if run.resumable:
            st.button(
                "Resume training",
                icon=":material/play_arrow:",
                type="primary",
                key=f"resume {run.name}",
                on_click=actions.act,
                args=("resume", run.name),
                disabled=not allowed,
            )


def differences(changes: dict[str, list[Any]]) -> str:
    """What a clone changes, in a sentence."""
    word = lambda value: "none" if value in ("", None) else str(value)  # noqa: E731
    words = [f"{name} {word(now)} (was {word(before)})" for name, (before, now) in changes.items()]
    return f"Changed: {', '.join(words)}." if words else "Nothing is changed."


def _imported(run: Run) -> str:
    """Where an imported run's weights are from."""
    file, digest = plain(run.imported["file"]), run.imported["sha256"]
    return (
        f"Imported from {file} (SHA-256 {digest[:16]}…). It was not trained here, so there are no "
        "curves."
    )


def _progress(status: Status) -> None:
    total, steps = max(status.epochs, 1), max(status.steps, 1)
    done = min(1.0, max(0.0, (status.epoch - 1 + status.step / steps) / total))
    words = f"Epoch {status.epoch} of {total}, step {status.step} of {status.steps}"
    if not status.steps:
        words = status.message.capitalize() or "Loading the libraries and the images"
    left = "unknown" if status.seconds_left is None else _clock(status.seconds_left)
    st.progress(done, words)
    if status.steps and status.message:
        st.caption(plain(f"{status.message[0].upper()}{status.message[1:]}."))
    speed, time_left = st.columns(2)
    speed.metric("Images per second", f"{status.images_per_second:.0f}")
    time_left.metric("Time left", left)


def _curves(run: Run, history: list[dict[str, Any]]) -> None:
    last, scored = history[-1], [entry for entry in history if "mAP" in entry]
    best = scored[-1] if scored else {}
    facts = {
        "Epochs done": str(last["epoch"]),
        "Loss": f"{last['loss']:.3f}",
        "mAP": f"{best['mAP']:.3f}" if best else "not yet",
        "Rank-1": f"{best['rank1']:.3f}" if best else "not yet",
        "mINP": f"{best['mINP']:.3f}" if best else "not yet",
    }
    for column, (name, value) in zip(st.columns(len(facts)), facts.items(), strict=True):
        column.metric(name, value)
    drawn = charts.history(history, run.experiment.model, run.experiment.evaluated_on)
    with st.grid(2, gap="medium"):
        for name, figure in drawn.items():
            with st.container(border=True):
                st.markdown(f"**{name}**")
                if not any(len(line.x) for line in figure.data):
                    st.caption("Nothing yet: the first evaluation is still to come.")
                    continue
                st.plotly_chart(
                    projector.enlarged(figure) if projector.on() else figure,
                    key=f"curve-{name}",
                    config=dict(displayModeBar=False),
                    alt=f"{name} per epoch of run {run.name}",
                )
    figures.about(
        Said("A point is an epoch: losses are means over its steps, scores those at its end."),
        key="history",
        table=pd.json_normalize(history),
    )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes}:{seconds:02} min"
