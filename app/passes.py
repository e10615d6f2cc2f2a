"""Many passes of a model behind one figure: at once where they are quick, else asked for first; with
progress, and to be cancelled."""

import time

import streamlit as st

from app import cached
from app.pictures import Picture

PATIENCE = 5  # seconds of passes that begin without being asked for
SEEN = 0.3  # seconds before progress shows
DONE = "passes done"  # in this session, by name


class Passes:
    """The passes of one figure, by what they are for: those that were made in this session are kept
    and cost nothing."""

    def __init__(self, picture: Picture, parts: dict[str, int]):
        self.picture, self.total, self.made = picture, sum(parts.values()), 0
        self.names = {f"{picture.run} {picture.stamp} {name}" for name in parts}
        done = st.session_state.setdefault(DONE, set())
        new = {name for name in parts if f"{picture.run} {picture.stamp} {name}" not in done}
        self.left = sum(parts[name] for name in new)
        self.key = f"passes {sorted(self.names)}"
        self.place, self.bar, self.start = st.empty(), None, time.monotonic()

    def wanted(self) -> bool:
        """Whether they may begin; if not, a button stands in their place."""
        if not self.left or st.session_state.get(self.key):
            return True
        seconds = self.left * cached.pass_seconds(self.picture.run, self.picture.stamp)
        if seconds <= PATIENCE:
            return True
        row = self.place.container(horizontal=True, vertical_alignment="center")
        row.button(
            "Start",
            key=self.picture.key("start passes"),
            icon=":material/play_arrow:",
            on_click=self._want,
            args=(True,),
        )
        row.markdown(f"{self.left} passes of this model, {about(seconds)} on this machine.")
        return False

    def step(self, count: int) -> None:
        """So many more are made."""
        self.made += count
        if time.monotonic() - self.start < SEEN:
            return
        if self.bar is None:
            row = self.place.container(horizontal=True, vertical_alignment="center")
            self.bar = row.empty()
            if st.session_state.get(self.key):  # was asked for: may be taken back
                row.button(
                    "Cancel",
                    key=self.picture.key("cancel passes"),
                    icon=":material/close:",
                    on_click=self._want,
                    args=(False,),
                )
        self.bar.progress(min(1.0, self.made / self.total), f"{self.made} of {self.total} passes")

    def end(self) -> None:
        """All are made."""
        st.session_state[DONE] |= self.names
        self.place.empty()

    def _want(self, wanted: bool) -> None:
        st.session_state[self.key] = wanted


def about(seconds: float) -> str:
    """A time to wait, in words."""
    if seconds < 1:
        return "less than a second"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.0f} h"
