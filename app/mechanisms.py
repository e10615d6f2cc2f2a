"""What the views Gates, Orders, Why similar, On the person and Deletion have in common."""

from collections.abc import Collection

import streamlit as st

from app import cached, pickers, picture_picker
from app.passes import Passes
from app.pictures import Picture
from reid_core.analysis.faithfulness import GRADIENT
from reid_core.analysis.maps import CLASS
from reid_core.analysis.occlusion import BATCH
from reid_core.analysis.similarity import LeftOut
from reid_core.models.base import Tokens
from reid_core.runs import Run

# Of maps that other views draw in another way.
TARGET = (
    " The gradient-weighted rollout is that of the squared norm of the embedding, so that no other image "
    "is needed; in Rollout its target is chosen, at first another image."
)
DIVIDED = (
    " The class token's attention is its row over the patches, divided by what they have of it, so that it "
    "sums to 1 (Rollout's head mean and Layers and heads leave it undivided)."
)


def here(run: Run, query: int, view: str) -> dict[str, str]:
    """What a step sets to show a query's own picture in a view."""
    label = cached.labels(run.name, run.stamp())[query]
    return {
        "lens": view,
        "query": label,
        "image": picture_picker.ITSELF,
        picture_picker.SOURCE: picture_picker.TEST,
    }


def blanks(picture: Picture) -> dict[str, int]:
    """The passes that `left_out` makes, for `Passes`."""
    rows, columns = cached.positions(picture.run, picture.stamp).grid
    return {str(picture.who): 2 + rows * columns}


def left_out(picture: Picture, passes: Passes) -> LeftOut:
    """A picture without each of its positions."""
    asked = picture.run, picture.stamp, picture.who
    (count,) = blanks(picture).values()
    for part in range(-(-count // BATCH)):
        cached.blanked(*asked, part, picture.content)
        passes.step(min(BATCH, count - part * BATCH))
    return cached.left_out(*asked, picture.content)


def otherwise(methods: Collection[str]) -> str:
    """What is said of these methods' maps where Rollout draws them in another way."""
    divided = any(method.startswith(CLASS) for method in methods)
    return TARGET * (GRADIENT in methods) + DIVIDED * divided


def kept(picture: Picture, key: str, options: list[str], default: str) -> str:
    """A choice without a widget of its own, kept in the address; as in `pictures.choice` the second
    of two pictures follows the first one."""
    if picture.beside:
        chosen = st.session_state.get(key)
        return chosen if chosen in options else default
    pickers.linked(key, options, default)
    return st.session_state[key]


def take(figure: str, key: str) -> None:
    """Keep the position that was clicked in a figure, counted from 1, as "row-column"."""
    picked = st.session_state[figure]["picked"]
    if picked and picked["row"] is not None:
        st.session_state[key] = f"{picked['row'] + 1}-{picked['column'] + 1}"


def places(tokens: Tokens) -> list[str]:
    """The positions as a linked widget names them: "row-column", counted from 1."""
    rows, columns = tokens.grid
    return [f"{row + 1}-{column + 1}" for row in range(rows) for column in range(columns)]


def at(place: str) -> tuple[int, int]:
    """Row and column from 0 of such a name."""
    row, column = place.split("-")
    return int(row) - 1, int(column) - 1
