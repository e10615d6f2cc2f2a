"""Figures of the page Clusters: arrays in, figures out."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.charts import QUIET, blank
from reid_core.analysis.projection import KINDS, median

# Okabe and Ito's, as in charts.COLOURS; each kind has its own dash too.
LINES = {KINDS[0]: ("#0072BC", "dot"), KINDS[1]: ("#E69500", "solid"), KINDS[2]: (QUIET, "dash")}
BINS = 80  # drawn, of the finer ones that medians are taken from


def drawn(counts: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts (3, n) between edges (n + 1,) in the BINS bins that are drawn."""
    step = counts.shape[1] // BINS
    return counts.reshape(len(counts), BINS, step).sum(axis=2), edges[::step]


def distances(
    sides: dict[str, tuple[np.ndarray, np.ndarray]], named: Sequence[str] = KINDS
) -> go.Figure:
    """Shares of pairs by distance, one row per set of embeddings: counts (3, n) between edges; what
    KINDS are named here."""
    figure = make_subplots(
        rows=len(sides),
        cols=1,
        shared_xaxes=False,
        vertical_spacing=0.26,
        subplot_titles=list(sides),
    )
    for row, (counts, edges) in enumerate(sides.values(), 1):
        coarse, ends = drawn(counts, edges)
        middle = (ends[:-1] + ends[1:]) / 2
        for kind, name, each, wide in zip(KINDS, named, counts, coarse, strict=True):
            if not each.sum():
                continue
            share = wide / each.sum()
            colour, dash = LINES[kind]
            line = dict(color=colour, dash=dash, width=2.2)
            figure.add_scatter(
                x=middle, y=share, line=line, name=name, legendgroup=kind, showlegend=row == 1,
                row=row, col=1, hovertemplate="%{y:.1%}",
            )  # fmt: skip
            figure.add_vline(
                median(each, edges), line=dict(color=colour, dash=dash, width=1), row=row, col=1
            )
    figure.update_layout(
        height=100 + 170 * len(sides), margin=dict(l=8, r=12, t=46, b=8), hovermode="x unified",
        legend=dict(orientation="h", y=1 + 0.2 / len(sides), yanchor="bottom", x=0),
    )  # fmt: skip
    figure.update_yaxes(tickformat=".0%", title="share of pairs", rangemode="tozero")
    figure.update_xaxes(title="distance", title_standoff=4, row=len(sides))
    return figure


def trust(sides: dict[str, np.ndarray], chance: float) -> go.Figure:
    """How many images keep which share of their neighbours on each map: (N,) shares."""
    figure = blank("share of its nearest neighbours that the map keeps", "images")
    dashes = ("solid", "dash")
    for (name, shares), dash in zip(sides.items(), dashes, strict=False):
        values, counts = np.unique(np.round(shares, 4), return_counts=True)
        figure.add_scatter(
            x=values, y=counts, name=name, mode="lines+markers", marker=dict(size=6),
            line=dict(color="#0072BC" if dash == "solid" else "#E69500", dash=dash, width=2),
        )  # fmt: skip
    figure.add_vline(
        chance, line=dict(color=QUIET, dash="dot"), annotation_text="by chance",
        annotation_position="top right",
    )  # fmt: skip
    figure.update_layout(showlegend=len(sides) > 1, height=230)
    figure.update_xaxes(tickformat=".0%", range=[-0.02, 1.02])
    figure.update_yaxes(rangemode="tozero")
    return figure
