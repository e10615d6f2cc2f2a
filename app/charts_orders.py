"""The Order lab's figures: arrays in, figures out. n images, in the unit that the reader chose."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import plotly.graph_objects as go

from app.charts import COLOURS, QUIET, blank, fine, numbered

SHADES = "Cividis"  # made for colour blindness, and even in grey
CROWDED = 0.15  # of the ruler: where all images lie below it, they can't be told apart
NUMBERS = 7  # more cells in a line have no room for a number
SHUFFLED, UNIFORM = COLOURS["pha"], COLOURS["rga"]


def matrix(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    texts: np.ndarray,
    *,
    axes: tuple[str, str],
    limit: float,
    chosen: tuple[int, int] | None,
    unit: str,
) -> go.Figure:
    """Cells (R, C) on a scale from 0 to limit, each with its number and a text to hover over.

    Every cell has an unseen point with customdata [row, column], since plotly selects points only.
    """
    figure = blank(axes[1], axes[0])
    small = max(values.shape) <= NUMBERS
    digits = 3 if values.max() > 0.1 else 4
    said = lambda x: fine(x, digits).removeprefix("0") if small else ""  # noqa: E731
    maps = numbered(values, said, SHADES, (0, limit), size=11)
    # Plotly leaves out the colour bar of a map without cells.
    max(maps, key=lambda each: np.isfinite(each.z).sum()).update(
        showscale=True,
        colorbar=dict(
            title=dict(text=unit, side="right"),
            thickness=12,
            tickformat="~g" if limit >= 0.001 else ".1~e",
        ),
    )
    figure.add_traces(maps)
    _to_select(figure, texts, 30 if small else 12)
    if chosen is not None:
        y, x = chosen
        at = dict(x0=x - 0.48, x1=x + 0.48, y0=y - 0.48, y1=y + 0.48)
        figure.add_shape(type="rect", line=dict(color=COLOURS["ohformer"], width=3), **at)
    figure.update_xaxes(tickvals=np.arange(len(columns)), ticktext=list(columns), rangemode=None)
    figure.update_yaxes(tickvals=np.arange(len(rows)), ticktext=list(rows), autorange="reversed")
    figure.update_layout(height=96 + 46 * max(3, min(len(rows), 9)), hovermode="closest")
    figure.update_xaxes(showgrid=False, zeroline=False, range=[-0.5, len(columns) - 0.5])
    figure.update_yaxes(showgrid=False, zeroline=False)
    return figure


def _to_select(figure: go.Figure, texts: np.ndarray, size: int) -> None:
    """An unseen point on every cell, with its text (R, C) to hover over."""
    row, column = (each.ravel() for each in np.indices(texts.shape))
    unseen = dict(marker=dict(opacity=0))
    figure.add_scatter(
        x=column,
        y=row,
        mode="markers",
        customdata=np.stack([row, column], axis=1).tolist(),  # the browser makes objects of arrays
        text=texts.ravel(),
        hovertemplate="%{text}<extra></extra>",
        marker=dict(size=size, symbol="square", opacity=0),
        selected=unseen,
        unselected=unseen,
    )


@dataclass(frozen=True)
class Line:
    """One row of a ruler: values (n,) of images, the band of their mean, one image's own value, and
    what it is compared with, each a mean: shuffled, and uniform for each map of the pair."""

    name: str
    values: np.ndarray
    band: tuple[float, float] | None
    here: float | None
    shuffled: float
    uniform: Sequence[float] = field(default_factory=tuple)


def ruler(
    lines: Sequence[Line],
    queries: Sequence[int],
    *,
    bound: float,
    unit: str,
    colour: str,
    full: bool = False,
) -> go.Figure:
    """Divergences on a ruler, as far as they reach; full: up to what two maps without anything in
    common have.

    A point is an image, with customdata [its position among the queries].
    """
    figure = blank("", "")
    places = np.arange(len(lines))
    for place, line in zip(places, lines, strict=True):
        _images(figure, line, int(place), queries, colour)
    means = [line.values.mean() if len(line.values) else np.nan for line in lines]
    bands = np.array([line.band or (np.nan, np.nan) for line in lines])
    _sign(figure, means, places, "mean, 95 % band", "line-ns", colour, 20, bands)
    _sign(figure, [line.shuffled for line in lines], places, "shuffled tokens", "x", SHUFFLED, 10)
    sides = [
        (value, place) for place, line in zip(places, lines, strict=True) for value in line.uniform
    ]
    _sign(
        figure,
        *zip(*sides, strict=True),
        "uniform map, to each of the two",
        "square-open",
        UNIFORM,
        10,
    )
    here = [np.nan if line.here is None else line.here for line in lines]
    if np.isfinite(here).any():
        _sign(figure, here, places, "this picture", "diamond-open", COLOURS["transreid"], 13)
    if full:
        figure.add_vline(bound, line=dict(color=QUIET, dash="dash"))
    _reach(figure, lines, bound, unit, full)
    figure.update_yaxes(
        tickvals=places, ticktext=[line.name for line in lines], range=[len(lines) - 0.5, -0.5]
    )
    figure.update_layout(
        height=120 + 34 * len(lines),
        showlegend=True,
        hovermode="closest",
        margin=dict(t=40),
    )
    return figure


def _images(figure: go.Figure, line: Line, place: int, queries: Sequence[int], colour: str) -> None:
    """A point for each image of a line, lifted at random so that equal ones can be told apart."""
    lift = np.random.default_rng(0).uniform(-0.26, 0.26, len(line.values))
    figure.add_scatter(
        x=line.values,
        y=place + lift,
        mode="markers",
        marker=dict(color=colour, size=6, opacity=0.6),
        selected=dict(marker=dict(opacity=1)),
        unselected=dict(marker=dict(opacity=0.6)),
        customdata=[[int(query)] for query in queries],
        hovertemplate="%{x:.4~g}<extra>" + line.name + ", click to open</extra>",
        name="an image",
        showlegend=place == 0,
    )


def _reach(figure: go.Figure, lines: Sequence[Line], bound: float, unit: str, full: bool) -> None:
    """The ruler's axis: to the bound or to what is drawn; logarithmic where the images would else be
    one blob far below what they are compared with."""
    images = np.concatenate([line.values for line in lines])
    others = [
        value
        for line in lines
        for value in (line.shuffled, *line.uniform, *(line.band or ()), line.here)
        if value is not None and np.isfinite(value)
    ]
    drawn = np.concatenate([images, others])
    title = (
        f"JS divergence ({unit}; nothing in common: {'ln 2 = 0.693' if unit == 'nats' else '1'})"
    )
    top = bound if full else float(drawn.max()) or bound
    if not full and drawn.min() > 0 and images.max() < CROWDED * top:
        title += ", logarithmic"
        low, high = np.log10(0.8 * drawn.min()), np.log10(1.25 * top)
        figure.update_xaxes(type="log", dtick="D2", range=[low, high])
    else:
        figure.update_xaxes(range=[-0.01 * top, 1.02 * top])
    figure.update_xaxes(title=title)


def _sign(figure, x, y, name: str, symbol: str, colour: str, size: int, bands=None) -> None:
    """Marks of one kind; bands (n, 2) from low to high."""
    error = None
    if bands is not None:
        above, below = bands[:, 1] - np.array(x), np.array(x) - bands[:, 0]
        error = dict(array=above, arrayminus=below, color=colour, thickness=3, width=6)
    figure.add_scatter(
        x=list(x),
        y=list(y),
        mode="markers",
        name=name,
        error_x=error,
        marker=dict(symbol=symbol, color=colour, size=size, line=dict(color=colour, width=2.5)),
        hovertemplate="%{x:.4~g}<extra>" + name + "</extra>",
    )


def histogram(
    counts: np.ndarray,
    bound: float,
    marks: dict[str, tuple[float, str]],
    *,
    unit: str,
    colour: str,
    full: bool = False,
) -> go.Figure:
    """How often a row's divergence lies where: counts (BINS,) from 0 to bound; marks name -> value, colour.

    The axis ends a bin behind the rows (a single one would seem to spread over all of it), or with full
    at the bound; a mark beyond it is told in words.
    """
    figure = blank(f"JS divergence of one row ({unit})", "share of all rows")
    edges = np.linspace(0, bound, len(counts) + 1)
    figure.add_bar(
        x=(edges[:-1] + edges[1:]) / 2,
        y=counts / max(1, counts.sum()),
        width=edges[1],
        marker=dict(color=colour, line=dict(width=0)),
        name="rows",
        hovertemplate="%{x:.3f}: %{y:.1%}<extra></extra>",
    )
    last = int(np.flatnonzero(counts)[-1]) if counts.any() else len(counts) - 1
    top = bound if full else edges[min(last + 2, len(counts))]
    for (name, (value, line)), dash in zip(marks.items(), ("dash", "dot", "dashdot"), strict=False):
        figure.add_scatter(
            x=[value, value],
            y=[0, float((counts / max(1, counts.sum())).max())],
            mode="lines",
            name=name if value <= top else f"{name}: {value:.3f}, beyond the axis",
            line=dict(color=line, dash=dash, width=2.5),
            hovertemplate=f"{name}: {fine(value)}<extra></extra>",
        )
    figure.update_xaxes(range=[-0.01 * top, 1.02 * top])
    figure.update_yaxes(tickformat=".0%")
    figure.update_layout(showlegend=True, bargap=0, hovermode="closest")
    return figure
