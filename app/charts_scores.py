"""Figures of the pages Scores and Ledger: arrays in, figures out."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from app.charts import QUIET, blank, colour
from reid_core.scores.ledger import Given, Line
from reid_core.scores.published import KINDS
from reid_core.scores.verification import Point, Roc

COLUMNS = 80  # of the histogram
OTHER = "#E69500"  # pairs of two identities
PAIRS = ("one person", "two people")
SYMBOLS = dict(
    zip(KINDS, ("diamond-open", "square-open", "x-thin-open", "triangle-up-open"), strict=True)
)


def roc(found: Roc, point: Point, line: str) -> go.Figure:
    """True against false accepts, these by their logarithm, with the chosen threshold."""
    _, false, true = found.curve().T
    figure = blank("false accepts (pairs of two people)", "true accepts")
    shown = false > 0
    figure.add_scatter(
        x=false[shown],
        y=true[shown],
        customdata=found.curve()[shown, 0],
        mode="lines",
        line=dict(color=line, width=2.5, shape="hv"),
        hovertemplate="nearer than %{customdata:.3f}: %{y:.1%} of true pairs, %{x:.2%} of false"
        "<extra></extra>",
    )
    if point.false_accepts > 0:
        figure.add_scatter(
            x=[point.false_accepts],
            y=[point.true_accepts],
            mode="markers",
            marker=dict(color=line, size=11),
            hoverinfo="skip",
        )
    low = np.floor(np.log10(false[shown].min())) if shown.any() else -4
    figure.update_xaxes(type="log", range=[low, 0.02], tickformat="~%", dtick=1)
    figure.update_yaxes(range=[0, 1.03], tickformat=".0%")
    figure.update_layout(height=320, hovermode="closest")
    return figure


def columns(found: Roc) -> dict[str, np.ndarray]:
    """The middle of each column of `distances`, and the shares of both kinds of PAIRS in it."""
    used = np.flatnonzero(found.genuine + found.impostor)
    edges = np.linspace(used[0], used[-1] + 1, COLUMNS + 1).astype(int)
    both = zip(PAIRS, (found.genuine, found.impostor), strict=True)
    return {"distance": (edges[:-1] + edges[1:]) / 2 * found.width} | {
        name: np.add.reduceat(counts, edges[:-1]) / counts.sum() for name, counts in both
    }


def distances(found: Roc, point: Point, line: str) -> go.Figure:
    """How far pairs of one and of two people are apart, as shares of their kind."""
    shares = columns(found)
    figure = blank("distance", "share of the pairs")
    for name, shade in zip(PAIRS, (line, QUIET), strict=True):
        figure.add_scatter(
            x=shares["distance"],
            y=shares[name],
            name=name,
            mode="lines",
            fill="tozeroy",
            line=dict(color=shade, width=1.8, shape="hvh"),
            hovertemplate="%{y:.1%}",
        )
    figure.add_vline(x=point.threshold, line=dict(color=OTHER, width=2, dash="dash"))
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    figure.update_xaxes(rangemode="normal")
    figure.update_layout(height=320, showlegend=True, hovermode="x unified")
    return figure


def ledger(
    lines: Sequence[Line], runs: Sequence[Given], metric: str, titles: dict[str, str]
) -> go.Figure:
    """What others report of a metric on one data set, a row for each network; below those of a model
    its runs (filled)."""
    models = dict.fromkeys([each.entry.model for each in lines] + [r.model for r in runs])
    rows = []
    for model in models:
        rows += dict.fromkeys(e.entry.name for e in lines if e.entry.model == model)
        rows += [f"{titles[model]}, runs here"] * any(run.model == model for run in runs)
    figure = blank(metric, "")
    for kind, symbol in SYMBOLS.items():
        own = list(dict.fromkeys(each.entry for each in lines if each.entry.what == kind))
        if own:
            _marked(
                figure,
                kind,
                [(each.value, each.name, each.model) for each in own],
                [f"{e.value:.1%}, {e.protocol}<br>{e.source}<br>{e.configuration}" for e in own],
                dict(symbol=symbol, size=12, line=dict(width=2)),
            )
    given = [(r, p, s[metric]) for r in runs for p, s in r.scores.items() if metric in s]
    if given:
        _marked(
            figure,
            "runs here",
            [(value, f"{titles[run.model]}, runs here", run.model) for run, _, value in given],
            [f"{run.run}: {value:.1%}, {protocol}" for run, protocol, value in given],
            dict(symbol="circle", size=11),
        )
    figure.update_xaxes(tickformat=".1%", rangemode="normal", title_standoff=16)
    figure.update_yaxes(categoryorder="array", categoryarray=rows[::-1])
    figure.update_layout(height=130 + 34 * len(rows), showlegend=True, hovermode="closest")
    return figure


def _marked(
    figure: go.Figure, name: str, points: list[tuple], hover: list[str], sign: dict
) -> None:
    """Points (value, row, model) in their models' colours; in the legend their sign alone, which has
    the first one's colour if plotly draws it."""
    x, y, models = zip(*points, strict=True)
    figure.add_scatter(
        x=x,
        y=y,
        mode="markers",
        marker=sign | dict(color=[colour(model) for model in models]),
        hovertext=hover,
        hoverinfo="text",
        legendgroup=name,
        showlegend=False,
    )
    figure.add_scatter(
        x=[None],
        y=[None],
        name=name,
        mode="markers",
        marker=sign | dict(color=QUIET),
        legendgroup=name,
    )
