"""The Neighbour lab's graph: a query in the middle and whom it listens to around it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from app.charts import QUIET, blank
from app.charts_neighbours import SHADES, STATES

DRAWN = 24  # neighbours in the drawing; the list below it holds all of them


@dataclass(frozen=True)
class Node:
    """A neighbour: its picture, the weight that it is given and gives back, and who it is.

    state is "right" (the same identity), "wrong" or "unknown".
    """

    src: str
    title: str
    weight: float
    back: float
    mutual: bool
    state: str


def graph(centre: str, own: float, nodes: Sequence[Node], ties: Sequence[tuple[int, int]]):
    """The query in the middle, its neighbours around it, largest weight first, clockwise from the top.

    own is the weight of the query on itself; ties are pairs of neighbours that are mutual themselves.
    """
    nodes = nodes[:DRAWN]
    count = max(len(nodes), 1)
    angles = np.pi / 2 - 2 * np.pi * np.arange(count) / count
    x, y = 1.3 * np.cos(angles), 0.95 * np.sin(angles)
    figure = blank("", "")
    for a, b in ties:
        if max(a, b) < len(nodes):
            _edge(figure, (x[a], y[a]), (x[b], y[b]), dict(color=QUIET, width=1), 0.35)
    most = max([node.weight for node in nodes], default=0) or 1
    for place, node in enumerate(nodes):
        colour, width = STATES[node.state][0], 1 + 11 * node.weight / most
        line = dict(color=colour, width=width) if node.mutual else dict(color=QUIET, dash="dot")
        _edge(figure, (0, 0), (x[place], y[place]), line, 0.75)
    height = float(np.clip(4.6 / count, 0.26, 0.7))
    for place, node in enumerate(nodes):
        frame = dict(color=STATES[node.state][0], dash="solid" if node.mutual else "dot", width=2.5)
        _thumbnail(figure, node.src, x[place], y[place], height, frame)
    _thumbnail(figure, centre, 0, 0, 0.74, dict(color=SHADES[0], width=3))
    _words(figure, own, nodes, (x, y), height)
    figure.add_scatter(
        x=x,
        y=y,
        mode="markers",
        marker=dict(size=30, opacity=0),
        text=[_said(node) for node in nodes],
        hovertemplate="%{text}<extra></extra>",
    )
    figure.update_xaxes(range=[-1.75, 1.75], visible=False)
    figure.update_yaxes(range=[-1.46, 1.46], visible=False, scaleanchor="x")
    figure.update_layout(height=520, hovermode="closest", margin=dict(l=0, r=0, t=0, b=0))
    return figure


def _words(figure: go.Figure, own: float, nodes: Sequence[Node], places, height: float) -> None:
    """The weights: of the query below it, of each neighbour beside its picture at places (x, y)."""
    x, y = places
    signs = [STATES[node.state][1] for node in nodes]
    said = [f"{n.weight:.2f}" if n.mutual else "0" for n in nodes]
    # On the side that no line to the middle comes from, and no neighbour's picture.
    beside = np.abs(x) > 0.9
    upper = y > 0.05
    over = np.where(beside, 0, np.where(upper, 1, -1) * (height / 2 + 0.02))
    aside = np.where(beside, np.sign(x) * (height / 4 + 0.02), 0)
    sides = np.where(upper, "top center", "bottom center")
    sides = np.where(beside, np.where(x > 0, "middle right", "middle left"), sides)
    figure.add_scatter(
        x=[0, *(x + aside)],
        y=[-0.39, *(y + over)],
        mode="text",
        textposition=["bottom center", *sides],
        text=[f"itself {own:.2f}", *(f"{s} {t}" for s, t in zip(signs, said, strict=True))],
        textfont=dict(size=11),
        hoverinfo="skip",
    )


def _said(node: Node) -> str:
    weights = f"weight {node.weight:.3f}, gives back {node.back:.3f}"
    return f"{node.title}<br>{weights if node.mutual else 'one-sided: no weight'}"


def _edge(figure: go.Figure, start, end, line: dict, opacity: float) -> None:
    figure.add_scatter(
        x=[start[0], end[0]],
        y=[start[1], end[1]],
        mode="lines",
        line=line,
        opacity=opacity,
        hoverinfo="skip",
    )


def _thumbnail(figure: go.Figure, src: str, x: float, y: float, height: float, frame: dict) -> None:
    width = height / 2
    left, top = x - width / 2, y + height / 2
    placed = dict(x=left, y=top, sizex=width, sizey=height, xref="x", yref="y")
    figure.add_layout_image(source=src, **placed)
    box = dict(x0=left, x1=left + width, y0=top, y1=top - height)
    figure.add_shape(type="rect", **box, line=frame)
