"""Figures of the page Errors: arrays in, figures out."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.charts import QUIET, colour
from reid_core.analysis.cameras import Pairs
from reid_core.analysis.comparison import Difference, Pattern
from reid_core.analysis.errors import Slice

MARGIN = dict(l=8, r=12, t=30, b=8)
SEEN = dict(marker=dict(opacity=1))  # nothing fades when one thing is clicked
SHOWN = 16  # patterns
RIGHT, WRONG = "circle", "circle-open"


def cameras(pairs: Pairs, names: Sequence[Sequence[str]], rows: Sequence[float]) -> go.Figure:
    """Average precision, and rank of the first true match, by pair; names (A, B) of the pairs, rows
    (A,) the mAP of each query camera's whole lists."""
    across = [f"c{b}" for b in pairs.match_cameras]
    up = [f"c{a}: {mean:.2f}" for a, mean in zip(pairs.query_cameras, rows, strict=True)]
    titles = ("mAP of the pair", "median rank of the first true match")
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.1)
    values = (
        (pairs.precision, "%{text}", ".2f", "Cividis"),
        (pairs.rank, "%{text}", ".0f", "Cividis_r"),
    )
    for column, (drawn, shown, form, scale) in enumerate(values, 1):
        text = [["" if np.isnan(x) else f"{x:{form}}" for x in row] for row in drawn]
        figure.add_trace(
            go.Heatmap(
                z=drawn,
                x=across,
                y=up,
                text=text,
                texttemplate=shown,
                colorscale=scale,
                showscale=False,
                hoverinfo="skip",
                xgap=2,
                ygap=2,
            ),
            1,
            column,
        )
        figure.add_trace(_buttons(pairs, names, across, up), 1, column)
    bare = dict(type="category", fixedrange=True, showgrid=False)
    figure.update_xaxes(title="camera of the true matches", **bare)
    figure.update_yaxes(autorange="reversed", **bare)
    figure.update_yaxes(title="camera of the query: its mAP", col=1)
    figure.update_layout(
        height=110 + 34 * max(len(up), 3), margin=MARGIN, showlegend=False, hovermode="closest"
    )
    return figure


def _buttons(pairs: Pairs, names, across, up) -> go.Scatter:
    """Heat maps take no clicks, so each cell has an unseen mark above it."""
    cells = [(a, b) for a, b in np.ndindex(pairs.count.shape) if pairs.count[a, b]]
    said = [
        f"{names[a][b]}<br>mAP {pairs.precision[a, b]:.3f} ({pairs.low[a, b]:.3f} to "
        f"{pairs.high[a, b]:.3f})<br>{pairs.count[a, b]} queries"
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


def who_is_right(
    found: Sequence[Pattern], names: Sequence[str], codes: Sequence[str], chosen: str
) -> go.Figure:
    """How many queries each pattern has, above a dot for each run: filled where it is right.

    After UpSet (Lex et al. 2014). codes: what a click on a pattern gives; chosen is one of them.
    """
    kept = [place for place, pattern in enumerate(found) if len(pattern.queries)][:SHOWN]
    figure = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.6, 0.4], vertical_spacing=0.03)
    across = list(range(len(kept)))
    counts = [len(found[place].queries) for place in kept]
    picked = [codes[place] == chosen for place in kept]
    codes_kept = [codes[place] for place in kept]
    figure.add_bar(
        x=across,
        y=counts,
        text=counts,
        textposition="outside",
        cliponaxis=False,
        customdata=codes_kept,
        hovertext=[f"{found[place].says(names)}: {len(found[place].queries)}" for place in kept],
        hoverinfo="text",
        textfont=dict(size=13),
        marker=dict(color=[colour("transreid") if each else QUIET for each in picked]),
        selected=SEEN,
        unselected=SEEN,
    )
    for row, name in enumerate(names):
        yes = [found[place].right[row] for place in kept]
        figure.add_scatter(
            x=across,
            y=[name] * len(kept),
            customdata=codes_kept,
            mode="markers",
            marker=dict(
                size=13,
                symbol=[RIGHT if each else WRONG for each in yes],
                color=[colour("transreid") if each else QUIET for each in picked],
                line=dict(width=1.6),
            ),
            selected=SEEN,
            unselected=SEEN,
            hovertext=[f"{name}: {'right' if each else 'wrong'}" for each in yes],
            hoverinfo="text",
            row=2,
            col=1,
        )
    figure.update_xaxes(showticklabels=False, fixedrange=True, showgrid=False, zeroline=False)
    figure.update_yaxes(fixedrange=True)
    figure.update_yaxes(title="queries", row=1, col=1, range=[0, 1.15 * max(counts, default=1)])
    figure.update_yaxes(
        type="category", autorange="reversed", row=2, col=1, showgrid=False, zeroline=False
    )
    figure.update_layout(
        height=210 + 26 * len(names), margin=MARGIN, showlegend=False, hovermode="closest"
    )
    return figure


def query_by_query(
    precision: tuple[np.ndarray, np.ndarray],
    names: tuple[str, str],
    labels: Sequence[str],
    chosen: str,
) -> go.Figure:
    """Average precision (Q,) of two runs, a point for each query; above the line the second is
    better."""
    a, b = precision
    known = np.flatnonzero(np.isfinite(a) & np.isfinite(b))
    better = b[known] > a[known]
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line=dict(color=QUIET, width=1), hoverinfo="skip"
    )
    figure.add_scattergl(
        x=a[known],
        y=b[known],
        customdata=[labels[place] for place in known],
        text=[labels[place] for place in known],
        mode="markers",
        marker=dict(
            size=8,
            opacity=0.65,
            color=np.where(better, colour("transreid"), colour("pha")),
            symbol=np.where(better, "triangle-up", "triangle-down"),
        ),
        hovertemplate="%{text}<br>%{x:.3f} and %{y:.3f}<extra></extra>",
    )
    if chosen in labels:
        place = list(labels).index(chosen)
        figure.add_scatter(
            x=[a[place]],
            y=[b[place]],
            mode="markers",
            marker=dict(size=16, symbol="circle-open", line=dict(width=2.5), color="#CB4D17"),
            hoverinfo="skip",
        )
    figure.update_xaxes(title=f"AP of {names[0]}", range=[-0.02, 1.03])
    figure.update_yaxes(title=f"AP of {names[1]}", range=[-0.02, 1.03])
    figure.update_layout(height=380, margin=MARGIN, showlegend=False, hovermode="closest")
    return figure


def how_sure(found: Sequence[Difference]) -> go.Figure:
    """Each difference with its interval; filled where that leaves 0 out."""
    figure = go.Figure()
    figure.add_vline(x=0, line=dict(color=QUIET, dash="dash", width=1.5))
    figure.add_scatter(
        x=[each.difference for each in found],
        y=[f"{each.b} - {each.a}, {each.measure}" for each in found],
        error_x=dict(
            array=[each.high - each.difference for each in found],
            arrayminus=[each.difference - each.low for each in found],
            color=colour("transreid"),
        ),
        mode="markers",
        marker=dict(
            size=11,
            color=colour("transreid"),
            symbol=[RIGHT if each.clear else WRONG for each in found],
            line=dict(width=1.6),
        ),
        hovertemplate="%{y}: %{x:+.3f}<extra></extra>",
    )
    figure.update_xaxes(title="difference", tickformat="+.2f", fixedrange=True)
    figure.update_yaxes(autorange="reversed", type="category", fixedrange=True, dtick=1)
    figure.update_layout(height=90 + 26 * len(found), margin=MARGIN, hovermode="closest")
    return figure


def moved(before: np.ndarray, after: np.ndarray, line: str) -> go.Figure:
    """By how much each query's average precision (Q,) changed, as a histogram about 0."""
    change = (after - before)[np.isfinite(after - before)]
    edges = np.linspace(-1.025, 1.025, 42)
    counts, _ = np.histogram(change, edges)
    figure = go.Figure()
    centres = (edges[:-1] + edges[1:]) / 2
    figure.add_bar(
        x=centres,
        y=counts,
        marker=dict(color=np.where(np.abs(centres) < 0.025, QUIET, line)),
        hovertemplate="%{x:+.2f}: %{y} queries<extra></extra>",
    )
    widest = max(0.2, float(np.abs(change).max(initial=0)) + 0.05)
    figure.update_xaxes(title="change of AP", range=[-widest, widest], tickformat="+.1f")
    figure.update_yaxes(title="queries", type="log" if counts.max(initial=1) > 200 else "linear")
    figure.update_layout(height=230, margin=dict(MARGIN, t=8), bargap=0.08)
    return figure
