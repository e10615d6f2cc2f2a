"""Every figure with its furniture: a caption, the formula, the code that computed it, downloads."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app import components, projector
from app.tables import alike, csv_of

ROOT = Path(__file__).resolve().parents[1]
QUIET_BUTTON = dict(type="tertiary", width="content")
LARGE = 10_000  # cells, which take 0.02 s: a larger table is only written when it is asked for
BARE = dict(displayModeBar=False)  # plotly's own bar would offer a second, other download


@dataclass(frozen=True)
class Said:
    """What is said of a figure.

    caption: what is drawn and from what. formula: in LaTeX or Markdown, with its source. code:
    functions that computed it, whose text is shown.
    """

    caption: str
    formula: str = ""
    source: str = ""
    code: tuple[Callable[..., Any], ...] = ()


def chart(
    figure: go.Figure,
    said: Said,
    *,
    key: str,
    alt: str,
    table: pd.DataFrame | None = None,
    on_select: Any = "ignore",
    selection_mode: Iterable[str] = ("points",),
    height: int | None = None,
) -> Any:
    """A chart and its furniture; returns its selection, as `st.plotly_chart` does.

    table: the drawn numbers, downloaded as CSV. height in pixels, by default the figure's own.
    """
    if projector.on():
        figure = projector.enlarged(figure, height)
        height = None
    drawn = st.plotly_chart(
        figure,
        key=key,
        alt=alt,
        on_select=on_select,
        selection_mode=selection_mode,
        height=height or "content",
        config=BARE,
    )
    row = _furniture(said, key)
    with _popover(row, "Download", "download"):
        components.downloads(key, alt)
        _csv(table, key, width="stretch")
    return drawn


def table(
    frame: pd.DataFrame,
    said: Said,
    *,
    key: str,
    on_select: Any = "ignore",
    column_config: dict[str, Any] | None = None,
    written: pd.DataFrame | None = None,
) -> Any:
    """A table and its furniture; returns its selection (of one row), as `st.dataframe` does.

    written: the same in Markdown, of few rows, to be shown instead: its cells wrap, where those of a
    data frame are cut.
    """
    if written is not None:
        drawn = st.table(written, border="horizontal", hide_index=True)
    else:
        drawn = st.dataframe(
            frame,
            key=key,
            on_select=on_select,
            selection_mode="single-row",
            column_config=alike(frame) | (column_config or {}),
            hide_index=True,
            placeholder="–",
            row_height=48 if projector.on() else None,
        )
    with _furniture(said, key):
        _csv(frame, key, type="tertiary")
    return drawn


def pictures(
    tiles: list[dict[str, Any]],
    said: Said,
    *,
    key: str,
    alt: str,
    columns: int | None = None,
    links: Sequence[dict[str, Any]] = (),
    table: pd.DataFrame | None = None,
    on_pick: Callable[[], None] | None = None,
    unit: str = "",
    below: Any = None,
) -> None:
    """Images with maps over them, and their furniture.

    A tile is a dictionary: label, note (small, below), src (a data URL), size (H, W) of the
    coordinates in pixels, map (h, w) of numbers where None or nan stays blank, window (size, stride,
    start) of overlapping positions in pixels, scale ("shared" by the tiles of a palette, "own" or
    [low, high]), palette ("heat", "diverging" about zero, "mask"), picked [row, column], marks
    (row, column, text, tone "quiet" or "strong") and arrows [x0, y0, x1, y1] in pixels. All but size
    may be left out; without a map, grid (h, w) says what rows and columns there are to mark or pick.

    links are lines between tiles: from and to [tile, row, column], weight (0 to 1), text.
    on_pick is called after a click; it finds {tile, row, column}, counted from 0, in
    st.session_state[key]["picked"]. On screen and in the CSV rows and columns count from 1. unit says
    what the maps' numbers are; table replaces the maps as what the CSV holds.
    below: a container for what is said, where they stand in a narrow one.
    """
    components.pictures(
        _packed(tiles),
        key=key,
        alt=alt,
        columns=columns,
        links=[_plain(link) for link in links],
        csv=None if table is None else csv_of(table),
        on_pick=on_pick,
        unit=unit,
    )
    with below or nullcontext():
        _furniture(said, key)  # without downloads: the component brings its own


def beside(own: Mapping[str, Any], runs: Mapping[str, Any]) -> pd.DataFrame:
    """A table of columns of its own and one for each run; "run NAME" where a run is called like one."""
    return pd.DataFrame(
        dict(own) | {f"run {name}" if name in own else name: of for name, of in runs.items()}
    )


def about(said: Said, *, key: str, table: pd.DataFrame | None = None) -> None:
    """The furniture alone, below something that a page draws with a component of its own."""
    with _furniture(said, key):
        _csv(table, key, **QUIET_BUTTON)


def _packed(tiles: list[dict[str, Any]]) -> dict[str, Any]:
    """Tiles as JSON holds them; a picture that many of them show is sent once."""
    images: dict[str, int] = {}
    packed = []
    for tile in tiles:
        src = tile.get("src") or ""
        place = images.setdefault(src, len(images)) if src else None
        packed.append(_plain(tile) | dict(src=place, map=_numbers(tile.get("map"))))
    return dict(images=list(images), tiles=packed)


def _numbers(drawn: Any) -> list[list[float | None]] | None:
    """A map (h, w) as lists, to five digits; None where it has no number."""
    if drawn is None:
        return None
    values = np.array(drawn, dtype=float)
    known = np.isfinite(values)
    size = np.abs(np.where(known & (values != 0), values, 1.0))
    scale = 10.0 ** (4 - np.floor(np.log10(size)))
    short = np.round(np.where(known, values, 0) * scale) / scale
    return np.where(known, short.astype(object), None).tolist()


def _plain(tile: dict[str, Any]) -> dict[str, Any]:
    """NumPy's numbers as Python's, since JSON knows no others."""
    plain = lambda value: (  # noqa: E731
        value.tolist()
        if isinstance(value, np.ndarray | np.generic)
        else {name: plain(each) for name, each in value.items()}
        if isinstance(value, dict)
        else [plain(each) for each in value]
        if isinstance(value, list | tuple)
        else value
    )
    return {name: plain(value) for name, value in tile.items() if name not in ("src", "map")}


def _furniture(said: Said, key: str):
    """The caption with, to its right, what can be unfolded; returns the row they stand in."""
    with st.container(key=f"about {key}", gap=None):
        st.caption(said.caption)
        row = st.container(horizontal=True, gap="small")
    if said.formula:
        with _popover(row, "Formula", "function"):
            st.markdown(set_apart(said.formula))
            if said.source:
                st.caption(said.source)
    if said.code:
        with _popover(row, "Code", "code"):
            for function in said.code:
                _source(function)
    return row


def set_apart(formula: str) -> str:
    """Markdown whose displayed formulas stand on lines of their own: with text beside it, $$ would open
    a block that swallows the line."""
    return re.sub(r"\$\$(.+?)\$\$", r"\n\n$$\n\1\n$$\n\n", formula, flags=re.DOTALL)


def _popover(row: Any, label: str, icon: str) -> Any:
    return row.popover(label, icon=f":material/{icon}:", **QUIET_BUTTON)


def _source(function: Callable[..., Any]) -> None:
    function = inspect.unwrap(function)
    lines, first = inspect.getsourcelines(function)
    file = Path(inspect.getfile(function))
    where = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file.name
    st.caption(f"`{where}`, line {first}")
    st.code(dedent("".join(lines)), language="python", wrap_lines=True)


def _csv(frame: pd.DataFrame | None, key: str, **look: str) -> None:
    if frame is None:
        return
    # What is written only when it is asked for may be gone before a busy page has sent it.
    late = frame.size > LARGE
    st.download_button(
        "CSV",
        (lambda: csv_of(frame)) if late else csv_of(frame),
        file_name=f"{components.file_name(key)}.csv",
        mime="text/csv",
        key=f"{key} csv",
        icon=":material/table:",
        on_click="ignore",
        **look,
    )
