"""The Order lab's two maps: the rows of one token, their difference, and where the maps differ.

N tokens, the first of them of no position, the others of an h x w grid; numbers come in nats.
"""

from functools import partial
from typing import Any

import numpy as np
import streamlit as st

from app import figures, pickers, projector
from app.charts import fine
from app.order_figures import Lab
from reid_core.models.base import Tokens

AUTOMATIC, CLASS = "automatic", "class token"


def show(lab: Lab, maps, js, tokens: Tokens, labels, over, made) -> None:
    """Two maps (2, N, N) from one token, their difference, and how far each row is apart, js (N,);
    over (h, w), where they differ over the set, or None. made: what made the maps, for their code."""
    skip, width = len(tokens.prefix), tokens.grid[1]
    cells = [f"row {r + 1}, column {c + 1}" for r in range(tokens.grid[0]) for c in range(width)]
    token = _token(lab, _asked(skip, cells), js, skip, cells)
    name = CLASS if token < skip else cells[token - skip]
    each = dict(
        src=lab.picture.src,
        size=lab.picture.size,
        window=tuple(tokens.window) if tokens.window else None,
        picked=None if token < skip else list(divmod(token - skip, width)),
    )
    tiles = [each | tile for tile in _tiles(lab, maps[:, token], js, token, tokens, labels, name)]
    if over is not None:
        tiles.append(
            each
            | dict(label="Where, over the set", src="", map=over * lab.factor, scale="own", note=f"mean of {len(lab.found['query'])} queries")
        )  # fmt: skip
    figures.pictures(
        tiles,
        lab.said(
            f"{labels[0]} and {labels[1].lower()} of {lab.picture.label}, the rows of attention from "
            f"{name}. JS of this row is that of these two rows{', class token included' if skip else ''}; "
            "where they differ shows it for the rows from every position.",
            made,
        ),
        key="divergence-maps",
        alt=f"{labels[0]} and {labels[1]} of one picture and their difference",
        columns=len(tiles),
        on_pick=partial(_take_token, cells),
    )


def _tiles(
    lab: Lab, rows, js, token: int, tokens: Tokens, labels, name: str
) -> list[dict[str, Any]]:
    """What the pictures differ in: a token's row of each map, rows (2, N), and what sets them apart."""
    skip = len(tokens.prefix)
    grid = lambda row: row[skip:].reshape(tokens.grid)  # noqa: E731
    kept = lambda row: f", {row[:skip].sum():.0%} on the {CLASS}" if skip else ""  # noqa: E731
    one, two = rows
    row_js, mean = js[token] * lab.factor, js.mean() * lab.factor
    return [
        dict(label="Where they differ", map=grid(js * lab.factor), scale="own", note=f"JS of each row, mean {fine(mean)} {lab.unit}"),
        dict(label=labels[0], map=grid(one), scale="shared", note=f"from {name}{kept(one)}"),
        dict(label=labels[1], map=grid(two), scale="shared", note=f"from {name}{kept(two)}"),
        dict(label="Second minus first", map=grid(two - one), palette="diverging", scale="own", note=f"JS of this row {fine(row_js)} {lab.unit}"),
    ]  # fmt: skip


def _asked(skip: int, cells: list[str]) -> str:
    """The token that the reader asks for, by name."""
    options = [AUTOMATIC, *([CLASS] if skip else []), *cells]
    pickers.linked("token", options, AUTOMATIC)
    return st.selectbox(
        "Rows from",
        options,
        key="token",
        width=projector.wide(240),
        help=f"Or click a position of a map. {AUTOMATIC.capitalize()}: the class token where the heat map is "
        "about it, else the position whose two rows differ most.",
    )


def _token(lab: Lab, asked: str, js: np.ndarray, skip: int, cells: list[str]) -> int:
    """The row that is asked for, by its place among the tokens."""
    if asked == CLASS or (asked == AUTOMATIC and skip and lab.rows == 0):
        return 0
    return skip + (int(js[skip:].argmax()) if asked == AUTOMATIC else cells.index(asked))


def _take_token(cells: list[str]) -> None:
    """Draw the rows of the position that was clicked."""
    if picked := st.session_state["divergence-maps"]["picked"]:
        width = int(cells[-1].rsplit(" ", 1)[1])
        st.session_state["token"] = cells[int(picked["row"]) * width + int(picked["column"])]
