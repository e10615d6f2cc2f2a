"""Figures of the views Gates, On the person and Deletion: arrays in, figures out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.charts import COLOURS, QUIET, blank

# Okabe and Ito's, apart from a model's own; a dash besides, so that no line rests on colour alone.
LINES = [
    ("#0072BC", "solid", "circle"),
    ("#E69500", "dash", "square"),
    ("#1BB581", "dot", "diamond"),
    ("#CB4D17", "dashdot", "cross"),
    ("#854DF4", "longdash", "triangle-up"),
    ("#9F4F3A", "longdashdot", "x"),
]


@dataclass(frozen=True)
class Line:
    """A line (N,) with its band, low and high (N,); None where there is no band."""

    name: str
    x: Sequence
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    quiet: bool = False


def faded(colour: str, share: float = 0.18) -> str:
    """A colour as a band's filling."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{share})"


def bands(lines: list[Line], across: str, up: str, percent: bool = True) -> go.Figure:
    """Lines with bands; a quiet one is the baseline. A single point gets an error bar instead."""
    figure, number = blank(across, up), 0
    for line in lines:
        shade, dash, symbol = (QUIET, "dash", "line-ew") if line.quiet else LINES[number % 6]
        number += not line.quiet
        bar = None
        if line.low is not None and len(line.y) > 1:
            around = dict(line=dict(width=0), hoverinfo="skip", showlegend=False, mode="lines")
            figure.add_scatter(x=line.x, y=line.high, **around)
            figure.add_scatter(
                x=line.x, y=line.low, fill="tonexty", fillcolor=faded(shade), **around
            )
        elif line.low is not None:
            bar = dict(array=line.high - line.y, arrayminus=line.y - line.low, symmetric=False)
        figure.add_scatter(
            x=line.x,
            y=line.y,
            error_y=bar,
            mode="lines+markers" if len(line.y) < 16 else "lines",
            line=dict(color=shade, width=2.2, dash=dash),
            marker=dict(symbol=symbol, size=7),
            name=line.name,
        )
    high = 280 + 18 * len(lines)  # in a narrow column the legend has a row for each line
    figure.update_layout(showlegend=True, hovermode="x unified", height=high)
    figure.update_layout(legend_traceorder="normal")
    figure.update_yaxes(tickformat=".0%" if percent else None)
    return figure


def parts(names: Sequence[str], drawn: np.ndarray, even: np.ndarray, **error) -> go.Figure:
    """Shares of a map beside those of even weights, part by part; error: low and high (P,)."""
    figure = blank("share", "")
    bar = None
    if error:
        above, below = error["high"] - drawn, drawn - error["low"]
        bar = dict(array=above, arrayminus=below, symmetric=False, thickness=1.5, color=QUIET)
    figure.add_bar(
        x=drawn,
        y=list(names),
        error_x=bar,
        orientation="h",
        name="of the map",
        marker_color=COLOURS["transreid"],
    )
    figure.add_bar(
        x=even,
        y=list(names),
        orientation="h",
        name="of even weights",
        marker_color=faded(QUIET, 0.45),
        marker_line=dict(color=QUIET, width=1.5),
    )
    figure.update_layout(showlegend=True, barmode="group", height=300, hovermode="y")
    figure.update_xaxes(tickformat=".0%", title_standoff=14)
    figure.update_yaxes(autorange="reversed")
    return figure


def pieces(names: Sequence[str], bars: dict[str, np.ndarray]) -> go.Figure:
    """What each piece (P,) adds to a squared distance, for some images side by side."""
    figure = blank("", "of the squared distance")
    fills = (COLOURS["transreid"], faded(QUIET, 0.45), faded(LINES[3][0], 0.45))
    for (title, values), fill in zip(bars.items(), fills, strict=False):
        figure.add_bar(x=list(names), y=values, name=title, marker_color=fill)
    return figure.update_layout(showlegend=True, barmode="group", height=280)


def gates(stages: Sequence[str], values: Sequence[np.ndarray]) -> go.Figure:
    """Channel gates (C,) of each stage as bars, largest first, on one scale."""
    figure = make_subplots(1, len(stages), subplot_titles=list(stages), shared_yaxes=True)
    for column, each in enumerate(values, 1):
        order = np.argsort(-each, kind="stable")
        figure.add_bar(
            x=np.arange(1, len(each) + 1),
            y=each[order],
            customdata=order + 1,
            hovertemplate="channel %{customdata}: %{y:.3f}<extra></extra>",
            marker=dict(color=COLOURS["rga"], line_width=0),
            row=1,
            col=column,
        )
    figure.update_layout(height=230, bargap=0, showlegend=False, margin=dict(l=8, r=12, t=28, b=8))
    figure.update_xaxes(title="channels", title_standoff=4)
    figure.update_yaxes(title="gate", range=[0, 1], col=1)
    return figure
