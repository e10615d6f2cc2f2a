"""The sharing modes' figure: arrays in, figure out. R runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.charts import QUIET


@dataclass(frozen=True)
class Measure:
    """One measure of several runs: values (R,) and, where it has any, their 95 % interval (R, 2)."""

    title: str
    values: np.ndarray
    interval: np.ndarray | None
    format: str
    most: float | None = None


def modes(names: Sequence[str], measures: Sequence[Measure], colours: Sequence[str]) -> go.Figure:
    """Runs down, measures across: a point with its interval each, every scale from 0."""
    # Two short lines: five titles stand beside one another.
    titles = [each.title.replace(" (", "<br>(").replace(" an ", "<br>an ") for each in measures]
    figure = make_subplots(1, len(measures), shared_yaxes=True, subplot_titles=titles)
    places = np.arange(len(names))
    for number, each in enumerate(measures, start=1):
        error = None
        if each.interval is not None:
            above = each.interval[:, 1] - each.values
            error = dict(
                array=above,
                arrayminus=each.values - each.interval[:, 0],
                color=QUIET,
                width=7,
                thickness=2,
            )
        figure.add_scatter(
            x=each.values,
            y=places,
            mode="markers+text",
            error_x=error,
            marker=dict(size=9, color=list(colours)),
            text=[format(value, each.format) for value in each.values],
            textposition="top center",
            cliponaxis=False,
            hovertemplate="%{text}<extra>" + each.title + "</extra>",
            row=1,
            col=number,
        )
        top = each.most or 1.25 * float(np.nanmax(each.values, initial=0)) or 1
        figure.update_xaxes(range=[-0.08 * top, 1.1 * top], nticks=3, row=1, col=number)
    figure.update_yaxes(tickvals=places, ticktext=list(names), range=[len(names) - 0.5, -0.7])
    figure.update_xaxes(tickangle=0)
    figure.update_annotations(font_size=13)
    figure.update_layout(
        height=138 + 44 * len(names), margin=dict(l=8, r=12, t=48, b=8), showlegend=False
    )
    return figure
