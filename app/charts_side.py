"""The figure of the view Side information: what moves with the coefficient."""

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from scipy.optimize import isotonic_regression

from app import charts

FACTORS = {"0": 0.0, "0.5 x": 0.5, "1 x": 1.0, "2 x": 2.0}
NAMED = 12  # lines of a panel that have room for their names


@dataclass(frozen=True)
class Asked:
    """The ways to tell a query by name; which one is true, and which one is looked at, at a factor."""

    names: list[str]
    true: int
    chosen: int
    factor: str


def curves(values: dict[str, np.ndarray], asked: Asked, line: str) -> go.Figure:
    """A panel for each measure (factors, ways), over the multiple of the coefficient."""
    figure = make_subplots(1, len(values), horizontal_spacing=0.09)
    styles = {place: (charts.QUIET, 1.2, "solid") for place in range(len(asked.names))}
    styles[asked.chosen] = (charts.QUIET, 3, "dash")
    styles[asked.true] = (line, 3, "solid")
    for panel, (title, each) in enumerate(values.items(), start=1):
        for place, (colour, width, dash) in styles.items():
            marked = place in (asked.true, asked.chosen)
            figure.add_scatter(
                x=list(FACTORS.values()),
                y=each[:, place],
                name=asked.names[place] + (" (true)" if place == asked.true else ""),
                mode="lines+markers",
                line=dict(color=colour, width=width, dash=dash),
                showlegend=marked and panel == 1,
                row=1,
                col=panel,
            )
        _name_ends(figure, panel, each, asked)
        figure.update_xaxes(title="multiple of the coefficient", row=1, col=panel)
        figure.update_yaxes(title=title, row=1, col=panel)
    return figure.update_layout(
        height=310,
        hoverlabel=dict(namelength=-1),
        margin=dict(l=8, r=12, t=8, b=8),
        hovermode="closest",
        legend=dict(orientation="h", y=1.02, yanchor="bottom", x=0),
    )


def _name_ends(figure: go.Figure, panel: int, values: np.ndarray, asked: Asked) -> None:
    """The name of each line (factors, ways) right of its end, moved as far as they need to stand apart;
    of too many only the extreme ones have one, and those of the legend."""
    ends = values[-1]
    order = np.argsort(ends, kind="stable")
    if len(order) > NAMED:
        kept = {asked.true, asked.chosen, order[0], order[-1]}
        order = np.array([place for place in order if place in kept])
    # The nearest heights that are a line of text apart.
    steps = 0.08 * (np.ptp(values) or 1) * np.arange(len(order))
    heights = isotonic_regression(ends[order] - steps).x + steps
    last = max(FACTORS.values())
    for place, height in zip(order, heights, strict=True):
        figure.add_scatter(
            x=[last, 1.06 * last, 1.09 * last],
            y=[ends[place], height, height],
            mode="lines+text",
            line=dict(color=charts.QUIET, width=0.7),
            text=["", "", asked.names[place]],
            textposition="middle right",
            textfont=dict(size=11),
            cliponaxis=False,
            hoverinfo="skip",
            showlegend=False,
            row=1,
            col=panel,
        )
    longest = max(len(asked.names[place]) for place in order)
    figure.update_xaxes(range=[-0.05, last * (1.12 + 0.024 * longest)], row=1, col=panel)


def named(asked: Asked) -> str:
    """Which lines have their names, where it is not all of them."""
    if len(asked.names) <= NAMED:
        return ""
    return "; named are the lowest, the highest and those of the legend"
