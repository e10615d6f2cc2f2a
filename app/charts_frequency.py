"""The Frequency lab's figures: arrays in, figures out. K cut-offs, L layers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.charts import DASHES, QUIET, blank

SIGNS = ("circle", "square", "diamond", "triangle-up", "x", "star")


@dataclass(frozen=True)
class Line:
    """One curve: values (K,) at `across` (K,), perhaps its band low and high (K,), and texts (K,)."""

    name: str
    colour: str
    across: Sequence[float]
    values: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    texts: Sequence[str] = ()
    quiet: bool = False  # a baseline


def lines(curves: Sequence[Line], across: str, up: str, **layout) -> go.Figure:
    """Curves with their bands. Runs differ in colour and sign; baselines are dotted."""
    figure = blank(across, up)
    strong = [curve.name for curve in curves if not curve.quiet]
    for curve in curves:
        if curve.low is not None:
            _band(figure, curve)
        number = strong.index(curve.name) if curve.name in strong else 0
        figure.add_scatter(
            x=list(curve.across),
            y=curve.values,
            mode="lines" if curve.quiet else "lines+markers",
            name=curve.name,
            line=dict(color=curve.colour, width=1.6 if curve.quiet else 2.4, dash=_dash(curve)),
            marker=dict(size=7, symbol=SIGNS[number % len(SIGNS)]),
            text=list(curve.texts) or None,
            hovertemplate="%{y:.3f}" + ("  %{text}" if curve.texts else ""),
        )
    figure.update_layout(height=300, showlegend=True, hovermode="x unified", **layout)
    figure.update_yaxes(title_standoff=14)
    return figure


def _dash(curve: Line) -> str:
    return DASHES[2] if curve.quiet else DASHES[0]


def _band(figure: go.Figure, curve: Line) -> None:
    across = list(curve.across)
    figure.add_scatter(
        x=across + across[::-1],
        y=np.concatenate([curve.high, curve.low[::-1]]),
        mode="lines",
        fill="toself",
        fillcolor=curve.colour,
        opacity=0.12 if curve.quiet else 0.2,
        line=dict(width=0),
        hoverinfo="skip",
        showlegend=False,
    )


def mark(figure: go.Figure, cutoff: float, words: str) -> go.Figure:
    """A line where the cut-off stands."""
    figure.add_vline(x=cutoff, line=dict(color=QUIET, width=1.5, dash="dash"))
    figure.add_annotation(
        x=cutoff,
        y=1,
        yref="paper",
        text=words,
        showarrow=False,
        yanchor="bottom",
        xanchor="left" if cutoff < 0.1 else "center",
    )
    figure.update_layout(legend=dict(x=1, xanchor="right", y=1.1), margin=dict(t=40))
    return figure


def parts(shares: np.ndarray, layers: Sequence[str], roles: Sequence[str]) -> go.Figure:
    """Stacked bars: shares (L, 3) of what attention takes from each group."""
    figure = blank("layer", "share of the lengths")
    colours, patterns = ("#CB4D17", "#0072BC", QUIET), ("/", "", "x")
    for place, role in enumerate(roles):
        figure.add_bar(
            x=list(layers),
            y=shares[:, place],
            name=role,
            marker=dict(color=colours[place], pattern=dict(shape=patterns[place], size=5)),
            hovertemplate="%{y:.1%}",
        )
    figure.update_layout(barmode="stack", height=300, showlegend=True, hovermode="x unified")
    figure.update_xaxes(type="category")
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    return figure


def versions(bars: Sequence[tuple[str, str, np.ndarray]], names: Sequence[str], up: str, chance):
    """Grouped bars with intervals. bars: run, colour, (V, 3) value, low and high; names (V,)."""
    figure = blank("", up)
    patterns = ("", "/", "x", ".", "\\", "+")
    for number, (run, colour, values) in enumerate(bars):
        value, low, high = values.T
        figure.add_bar(
            x=list(names),
            y=value,
            name=run,
            marker=dict(color=colour, pattern=dict(shape=patterns[number % 6], size=5)),
            error_y=dict(
                type="data",
                symmetric=False,
                array=high - value,
                arrayminus=value - low,
                width=4,
                thickness=2,
                color=QUIET,
            ),
            hovertemplate="%{y:.3f}",
        )
    figure.add_hline(y=chance, line=dict(color=QUIET, width=1.5, dash="dot"))
    figure.update_layout(barmode="group", height=300, showlegend=True, hovermode="x unified")
    figure.update_yaxes(rangemode="tozero")
    return figure


def pair(left: Sequence[Line], right: Sequence[Line], titles: Sequence[str], up: str) -> go.Figure:
    """Two charts of the same runs side by side, with one scale and one legend."""
    figure = make_subplots(1, 2, shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.05)
    for column, curves in enumerate((left, right), 1):
        drawn = lines(curves, "", "")
        for trace in drawn.data:
            trace.showlegend = bool(trace.showlegend is not False and column == 1)
            trace.legendgroup = trace.name
            figure.add_trace(trace, row=1, col=column)
    figure.update_layout(
        height=340,
        margin=dict(l=8, r=12, t=40, b=8),
        hovermode="x unified",
        legend=dict(orientation="h", y=-0.22, yanchor="top", x=0),
    )
    figure.update_xaxes(title="cut-off", rangemode="tozero")
    figure.update_yaxes(title=up, row=1, col=1)
    return figure


def contrast(values: np.ndarray, names: Sequence[str], same: np.ndarray) -> go.Figure:
    """Cosines (B, B) of tokens of whole images (rows) and of their K patches alone (columns); pairs of
    one identity, same (B, B) bool, are framed."""
    figure = blank("the K patches alone", "all patches")
    figure.add_heatmap(
        z=values,
        zmin=-1,
        zmax=1,
        colorscale="Cividis",
        xgap=2,
        ygap=2,
        texttemplate="%{z:.2f}",
        hoverinfo="skip",
        colorbar=dict(title=dict(text="cosine", side="right"), thickness=12),
    )
    for row, column in np.argwhere(same):
        at = dict(x0=column - 0.48, x1=column + 0.48, y0=row - 0.48, y1=row + 0.48)
        figure.add_shape(type="rect", line=dict(color="#CB4D17", width=3), **at)
    places = np.arange(len(names))
    figure.update_xaxes(tickvals=places, ticktext=list(names), rangemode=None, showgrid=False)
    figure.update_yaxes(tickvals=places, ticktext=list(names), autorange="reversed", showgrid=False)
    figure.update_xaxes(zeroline=False, range=[-0.5, len(names) - 0.5])
    figure.update_yaxes(zeroline=False)
    figure.update_yaxes(title_standoff=14)
    return figure.update_layout(height=190 + 32 * len(names))
