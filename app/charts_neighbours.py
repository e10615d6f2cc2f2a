"""The Neighbour lab's figures but for the graph: arrays in, figures out. n numbers, k neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from app.charts import COLOURS, DASHES, QUIET, blank

# Okabe and Ito's green and vermilion; the signs say the same without colour.
STATES = {"right": ("#009E73", "✓"), "wrong": ("#D55E00", "✗"), "unknown": (QUIET, "")}
SHADES = (COLOURS["nformer"], COLOURS["transreid"], COLOURS["pha"], COLOURS["rga"])
SIGNS = ("circle", "square", "diamond", "x")
MOST_LABELS = 26  # ranks that find room one below the other in the slopes


@dataclass(frozen=True)
class Line:
    """One curve over n numbers: values (n, draws), of which the mean and the range are drawn, or (n,)
    with low and high (n,)."""

    name: str
    values: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    quiet: bool = False  # a baseline


def moves(before: Sequence[int], after: Sequence[int], states: Sequence[str], names: Sequence[str]):
    """Where images stood in the list before and after. Ranks count from 1."""
    figure = blank("", "rank")
    deepest = max([*before, *after, 10])
    bottom, top = _depth(deepest) + 0.7, 0.3
    gap = (bottom - top) / MOST_LABELS
    for first, second, state, name in zip(before, after, states, names, strict=True):
        colour = STATES[state][0]
        figure.add_scatter(
            x=[0, 1],
            y=[_depth(first), _depth(second)],
            mode="lines+markers",
            line=dict(color=colour, width=2, dash="solid" if state == "right" else "dot"),
            marker=dict(size=7, symbol="circle" if state == "right" else "x"),
            hovertemplate=f"{name}<br>{first} before, {second} after<extra></extra>",
        )
    for side, where, ranks in ((-1, "middle left", before), (1, "middle right", after)):
        _ranks(figure, side, where, ranks, states, gap, bottom)
    ticks = [rank for rank in (1, 5, 10, 20, 50, 100, 1000, 10000) if rank <= deepest]
    figure.update_yaxes(range=[bottom, top], tickvals=[_depth(r) for r in ticks], ticktext=ticks)
    figure.update_xaxes(range=[-0.42, 1.42], rangemode="normal")
    figure.update_xaxes(tickvals=[0, 1], ticktext=["encoder alone", "refined"])
    figure.update_layout(height=420, hovermode="closest")
    return figure


def _ranks(figure, side: int, where: str, ranks, states, gap: float, bottom: float) -> None:
    """The ranks beside one end of the lines, each joined to its mark, since some have to give way."""
    order = np.argsort(ranks, kind="stable")
    depths = np.array([_depth(ranks[each]) for each in order])
    written = _apart(depths, gap, bottom)
    end = (side + 1) / 2
    figure.add_scatter(
        x=np.full(len(order), end + 0.09 * side),
        y=written,
        mode="text",
        textposition=where,
        text=[f"{ranks[each]} {STATES[states[each]][1]}" for each in order],
        textfont=dict(size=11),
        hoverinfo="skip",
    )
    line = dict(color=QUIET, width=0.8)
    for depth, place in zip(depths, written, strict=True):
        span = dict(x0=end + 0.03 * side, x1=end + 0.09 * side, y0=depth, y1=place)
        figure.add_shape(type="line", **span, line=line)


def _apart(places: np.ndarray, gap: float, most: float) -> np.ndarray:
    """Rising places (n,) moved as little down, and at the end up, as keeps them gap apart."""
    steps = gap * np.arange(len(places))
    moved = np.maximum.accumulate(places - steps) + steps
    ends = most - gap / 2 - steps[::-1]  # where each may stand at the lowest
    return np.minimum(moved, ends)


def _depth(rank: int) -> float:
    """Where a rank is drawn: the first ten one by one, what lies deeper ever closer together."""
    return float(rank) if rank <= 10 else 10 + 9 * float(np.log10(rank / 10))


def against(numbers: Sequence[int], lines: Sequence[Line], across: str, up: str, marks: dict):
    """Curves over a logarithmic axis of numbers. marks: words to a number, such as the run's own."""
    figure = blank(across, up)
    strong = [line.name for line in lines if not line.quiet]
    for line in lines:
        number = strong.index(line.name) if not line.quiet else 0
        colour = QUIET if line.quiet else SHADES[number % len(SHADES)]
        values = line.values if line.values.ndim == 1 else line.values.mean(axis=1)
        low, high = line.low, line.high
        if line.values.ndim == 2:
            low, high = line.values.min(axis=1), line.values.max(axis=1)
        if low is not None:
            figure.add_scatter(
                x=[*numbers, *numbers[::-1]],
                y=np.concatenate([high, low[::-1]]),
                fill="toself",
                fillcolor=colour,
                opacity=0.2,
                line=dict(width=0),
                hoverinfo="skip",
                showlegend=False,
            )
        figure.add_scatter(
            x=list(numbers),
            y=values,
            mode="lines" if line.quiet else "lines+markers",
            name=line.name,
            line=dict(color=colour, width=1.6 if line.quiet else 2.3, dash=DASHES[2 * line.quiet]),
            marker=dict(size=6, symbol=SIGNS[number % len(SIGNS)]),
            hovertemplate="%{y:.4~g}",
        )
    for words, number in marks.items():
        apart = "right" if number == min(marks.values()) else "left"
        _mark(figure, words, number, apart if len(marks) > 1 else "center")
    figure.update_xaxes(type="log", rangemode="normal", dtick=1)
    figure.update_layout(height=290, showlegend=len(lines) > 1, hovermode="x unified")
    figure.update_layout(legend=dict(y=1.1), margin=dict(t=24))
    return figure


def _mark(figure: go.Figure, words: str, number: int, side: str) -> None:
    figure.add_vline(x=number, line=dict(color=QUIET, width=1.4, dash="dash"))
    figure.add_annotation(
        x=np.log10(number),  # of a logarithmic axis, unlike the line's
        y=1,
        yref="paper",
        text=words,
        showarrow=False,
        yanchor="bottom",
        xanchor=side,
        font=dict(size=11),
    )


def spread(names: Sequence[str], weights: np.ndarray, chosen: Sequence[float]) -> go.Figure:
    """Weights (draws, k) of a query's neighbours: the range over the draws, and those of one draw."""
    figure = blank("neighbour", "weight")
    mean = weights.mean(axis=0)
    figure.add_scatter(
        x=list(names),
        y=mean,
        mode="markers",
        marker=dict(color=SHADES[0], size=9),
        error_y=dict(array=weights.max(axis=0) - mean, arrayminus=mean - weights.min(axis=0)),
        name="mean and range of the draws",
        hovertemplate="%{y:.3f}",
    )
    figure.add_scatter(
        x=list(names),
        y=list(chosen),
        mode="markers",
        marker=dict(color=SHADES[2], size=12, symbol="line-ew-open", line=dict(width=3)),
        name="the draw shown",
        hovertemplate="%{y:.3f}",
    )
    figure.update_yaxes(rangemode="tozero")
    figure.update_xaxes(type="category")
    figure.update_layout(height=280, showlegend=True)
    return figure


def draws(seeds: Sequence[int], lines: dict[str, tuple[np.ndarray, float]]) -> go.Figure:
    """Scores of each draw by name, each with what the encoder alone scores, as a dotted line."""
    figure = blank("draw", "average precision")
    for number, (name, (values, before)) in enumerate(lines.items()):
        figure.add_scatter(
            x=[str(seed) for seed in seeds],
            y=values,
            mode="markers",
            name=name,
            marker=dict(color=SHADES[number], size=9, symbol=SIGNS[number]),
            hovertemplate="%{y:.4f}",
        )
        figure.add_hline(y=before, line=dict(color=SHADES[number], width=1.6, dash="dot"))
    figure.update_xaxes(type="category")
    figure.update_yaxes(range=[-0.02, 1.04])
    figure.update_layout(height=280, showlegend=True)
    return figure
