"""Figures of the page Errors: arrays in, figures out."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.charts import COLOURS, QUIET, numbered
from reid_core.analysis.cameras import Pairs, costliest
from reid_core.analysis.errors import Slice

MARGIN = dict(l=8, r=12, t=30, b=8)
SEEN = dict(marker=dict(opacity=1))  # nothing fades when one thing is clicked


def cameras(pairs: Pairs, names: Sequence[Sequence[str]], rows: Sequence[float]) -> go.Figure:
    """Average precision, and rank of the first true match, by pair; names (A, B) of the pairs, rows
    (A,) the mAP of each query camera's whole lists."""
    across = [f"c{b}" for b in pairs.match_cameras]
    up = [f"c{a}: {mean:.2f}" for a, mean in zip(pairs.query_cameras, rows, strict=True)]
    titles = ("mAP of the pair", "median rank of<br>the first true match")
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.05, shared_yaxes=True)
    values = (
        (pairs.precision, "{:.2f}".format, "Cividis"),
        (pairs.rank, "{:g}".format, "Cividis_r"),
    )
    for column, (drawn, said, scale) in enumerate(values, 1):
        for each in numbered(drawn, said, scale, x=across, y=up):
            figure.add_trace(each, 1, column)
        figure.add_trace(_buttons(pairs, names, across, up), 1, column)
    row, column = costliest(pairs)
    frame = dict(type="rect", line=dict(color=COLOURS["ohformer"], width=3))
    at = dict(x0=column - 0.48, x1=column + 0.48, y0=row - 0.48, y1=row + 0.48)
    figure.add_shape(**frame, **at, row=1, col=1)
    bare = dict(type="category", fixedrange=True, showgrid=False)
    figure.update_xaxes(title="camera of the true matches", **bare)
    figure.update_yaxes(autorange="reversed", **bare)
    figure.update_yaxes(title="camera of the query: its mAP", col=1)
    figure.update_layout(
        height=130 + 34 * max(len(up), 3),
        margin=MARGIN | dict(t=44),
        showlegend=False,
        hovermode="closest",
    )
    figure.update_annotations(font_size=13)
    return figure


def _buttons(pairs: Pairs, names, across, up) -> go.Scatter:
    """Heat maps take no clicks, so each cell has an unseen mark above it."""
    cells = [(a, b) for a, b in np.ndindex(pairs.count.shape) if pairs.count[a, b]]
    said = [
        f"{names[a][b]}<br>mAP {pairs.precision[a, b]:.3f} ({pairs.low[a, b]:.3f} to "
        f"{pairs.high[a, b]:.3f})<br>median rank of the first true match {pairs.rank[a, b]:g}"
        f"<br>{pairs.count[a, b]} queries"
        for a, b in cells
    ]
    unseen = dict(marker=dict(opacity=0))
    return go.Scatter(
        x=[across[b] for _, b in cells],
        y=[up[a] for a, _ in cells],
        customdata=[names[a][b] for a, b in cells],
        hovertext=said,
        hoverinfo="text",
        mode="markers",
        marker=dict(size=30, symbol="square", opacity=0),
        selected=unseen,
        unselected=unseen,
    )


def by_value(slices: Sequence[Slice], names: Sequence[str], mean: float, line: str) -> go.Figure:
    """Mean average precision with its interval by value; a dashed line at that of all queries."""
    figure = go.Figure()
    figure.add_vline(x=mean, line=dict(color=QUIET, dash="dash", width=1.5))
    figure.add_scatter(
        x=[each.precision for each in slices],
        y=[f"{each.value} ({each.count})" for each in slices],
        customdata=list(names),
        error_x=dict(
            array=[each.high - each.precision for each in slices],
            arrayminus=[each.precision - each.low for each in slices],
            color=line,
            thickness=1.6,
        ),
        mode="markers",
        marker=dict(size=11, color=line),
        selected=SEEN,
        unselected=SEEN,
        hovertemplate="%{y}<br>mAP %{x:.3f}<extra></extra>",
    )
    figure.update_xaxes(title="mAP", range=[0, 1.02], fixedrange=True)
    figure.update_yaxes(autorange="reversed", type="category", fixedrange=True, dtick=1)
    figure.update_layout(height=90 + 26 * len(slices), margin=MARGIN, hovermode="closest")
    return figure


def changes(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many queries' average precision (Q,) changed by how much: counts (n,) between edges
    (n + 1,). The middle one is about 0 and holds what hardly changed too."""
    change = (after - before)[np.isfinite(after - before)]
    counts, edges = np.histogram(change, np.linspace(-1.025, 1.025, 42))
    return counts, edges


def moved(before: np.ndarray, after: np.ndarray, line: str) -> go.Figure:
    """By how much each query's average precision (Q,) changed, as a histogram about 0."""
    change = (after - before)[np.isfinite(after - before)]
    counts, edges = changes(before, after)
    figure = go.Figure()
    centres = (edges[:-1] + edges[1:]) / 2
    figure.add_bar(
        x=centres,
        y=counts,
        marker=dict(color=np.where(np.abs(centres) < 0.025, QUIET, line)),
        customdata=np.stack([edges[:-1], edges[1:]], axis=1),
        hovertemplate="%{customdata[0]:+.3f} to %{customdata[1]:+.3f}: %{y} queries<extra></extra>",
    )
    widest = max(0.2, float(np.abs(change).max(initial=0)) + 0.05)
    figure.update_xaxes(title="change of AP", range=[-widest, widest], tickformat="+.1f")
    figure.update_yaxes(title="queries", type="log" if counts.max(initial=1) > 200 else "linear")
    figure.update_layout(height=230, margin=dict(MARGIN, t=8), bargap=0.08)
    return figure
