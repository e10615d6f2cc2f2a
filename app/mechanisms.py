"""What the views Gates, Orders, Why similar, On the person and Deletion have in common."""

import re
import time

import streamlit as st

from app import cached
from app.cached import Who
from app.pictures import Picture
from reid_core.analysis.occlusion import BATCH
from reid_core.analysis.similarity import LeftOut
from reid_core.models.base import Tokens

PLACES = (  # in a probe's name, where it is in words
    (r"\bblocks\.(\d+)\b", "layer {}", 1),
    (r"\blayer(\d+)\b", "stage {}", 0),
    (r"\borders\.(\d+)\b", "order {}", 0),
    (r"\b(global|local)_layer\.", "last layer ({} branch)", None),
)


def place(probe: str) -> str:
    """Where a probe sits, in words: trunk.blocks.1.orders.2.attention is "layer 2, order 2"."""
    found = []
    for pattern, words, first in PLACES:
        if match := re.search(pattern, probe):
            number = match[1] if first is None else int(match[1]) + first
            found.append(words.format(number))
    return ", ".join(found) or probe.replace("_", " ")


def who(picture: Picture) -> tuple[Who, bytes | None]:
    """What names a picture in the caches, and its content where it is a visitor's."""
    if picture.upload is None:
        return (picture.row,), None
    upload = picture.upload
    return (upload.digest, upload.camera, upload.view), upload.content


class Progress:
    """A bar that shows only if the work takes long enough to be seen; finished, it is gone."""

    def __init__(self, words: str, total: int):
        self.words, self.total, self.done = words, total, 0
        self.place, self.start = st.empty(), time.monotonic()

    def step(self) -> None:
        self.done += 1
        if time.monotonic() - self.start > 0.3:
            self.place.progress(
                self.done / self.total, f"{self.words}: {self.done} of {self.total}"
            )

    def end(self) -> None:
        self.place.empty()


def left_out(picture: Picture, row: int | None = None) -> LeftOut:
    """A picture, or the test image of a row, without each of its positions, with progress."""
    name, content = ((row,), None) if row is not None else who(picture)
    rows, columns = cached.positions(picture.run, picture.stamp).grid
    parts = -(-(2 + rows * columns) // BATCH)
    bar = Progress("Passes without a position, in batches", parts)
    for part in range(parts):
        cached.blanked(picture.run, picture.stamp, name, part, content)
        bar.step()
    bar.end()
    return cached.left_out(picture.run, picture.stamp, name, content)


def tile(picture: Picture, tokens: Tokens, label: str, drawn=None, **more) -> dict:
    """A tile of a picture with a map (h, w) of these positions."""
    window = tokens.window and tuple(tokens.window)
    base = dict(label=label, src=picture.src, size=picture.size, window=window)
    return base | dict(map=drawn, grid=tokens.grid) | more


def clicked(key: str, state: str, names: dict[int, str] | None = None):
    """What a figure of that key calls when a position is clicked: the position, counted from 1, is
    put where the widget of another key keeps its own, as "row-column"."""

    def take() -> None:
        if picked := st.session_state[key]["picked"]:
            place = f"{picked['row'] + 1}-{picked['column'] + 1}"
            st.session_state[state] = (names or {}).get(picked["tile"], "") + place

    return take


def places(tokens: Tokens) -> list[str]:
    """The positions as a linked widget names them: "row-column", counted from 1."""
    rows, columns = tokens.grid
    return [f"{row + 1}-{column + 1}" for row in range(rows) for column in range(columns)]


def at(place: str) -> tuple[int, int]:
    """Row and column from 0 of such a name."""
    row, column = place.split("-")
    return int(row) - 1, int(column) - 1
