"""Figures that compare runs: arrays in, figures out."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.charts import QUIET, colour
from app.charts_errors import MARGIN, SEEN
from reid_core.analysis.comparison import Difference, Pattern

SHOWN = 16  # patterns
RIGHT, WRONG = "circle", "circle-open"


def who_is_right(
    found: Sequence[Pattern], names: Sequence[str], codes: Sequence[str], chosen: str
) -> go.Figure:
    """How many queries each pattern has, above a dot for each run: filled where it is right.

    After UpSet (Lex et al. 2014). codes: what a click on a pattern gives; chosen is one of them.
    """
    kept = [place for place, pattern in enumerate(found) if len(pattern.queries)][:SHOWN]
    shown, codes = [found[place] for place in kept], [codes[place] for place in kept]
    shades = [colour("transreid") if code == chosen else QUIET for code in codes]
    figure = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.6, 0.4], vertical_spacing=0.03)
    figure.add_trace(_counts(shown, names, codes, shades), 1, 1)
    for row, name in enumerate(names):
        right = [pattern.right[row] for pattern in shown]
        figure.add_trace(_dots(name, right, codes, shades), 2, 1)
    most = max((len(pattern.queries) for pattern in shown), default=1)
    figure.update_xaxes(showticklabels=False, fixedrange=True, showgrid=False, zeroline=False)
    figure.update_yaxes(fixedrange=True)
    figure.update_yaxes(title="queries", row=1, col=1, range=[0, 1.15 * most])
    figure.update_yaxes(
        type="category", autorange="reversed", row=2, col=1, showgrid=False, zeroline=False
    )
    figure.update_layout(
        height=210 + 26 * len(names), margin=MARGIN, showlegend=False, hovermode="closest"
    )
    return figure


def _counts(shown: Sequence[Pattern], names, codes, shades) -> go.Bar:
    counts = [len(pattern.queries) for pattern in shown]
    said = [f"{pattern.says(names)}: {len(pattern.queries)}" for pattern in shown]
    return go.Bar(
        x=list(range(len(shown))),
        y=counts,
        text=counts,
        textposition="outside",
        cliponaxis=False,
        customdata=codes,
        hovertext=said,
        hoverinfo="text",
        textfont=dict(size=13),
        marker=dict(color=shades),
        selected=SEEN,
        unselected=SEEN,
    )


def _dots(name: str, right: list[bool], codes, shades) -> go.Scatter:
    """A run's row: filled where it is right."""
    symbols = [RIGHT if each else WRONG for each in right]
    return go.Scatter(
        x=list(range(len(right))),
        y=[name] * len(right),
        customdata=codes,
        mode="markers",
        marker=dict(size=13, symbol=symbols, color=shades, line=dict(width=1.6)),
        selected=SEEN,
        unselected=SEEN,
        hovertext=[f"{name}: {'right' if each else 'wrong'}" for each in right],
        hoverinfo="text",
    )


def drawn(count: int) -> str:
    """Which of so many patterns are drawn, where it is not all of them."""
    return "" if count <= SHOWN else f" (drawn: the {SHOWN} largest of {count})"


def query_by_query(
    precision: tuple[np.ndarray, np.ndarray],
    names: tuple[str, str],
    labels: Sequence[str],
    chosen: str,
) -> go.Figure:
    """Average precision (Q,) of two runs, a point for each query; above the line the second is
    better, on it neither."""
    a, b = precision
    known = np.flatnonzero(np.isfinite(a) & np.isfinite(b))
    order = np.sign(b - a)[known].astype(int) + 1  # worse, alike, better
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
            color=np.array([colour("pha"), QUIET, colour("transreid")])[order],
            symbol=np.array(["triangle-down", "circle", "triangle-up"])[order],
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
        y=[f"{each.b} -<br>{each.a}, {each.measure}" for each in found],
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
    figure.update_layout(height=90 + 36 * len(found), margin=MARGIN, hovermode="closest")
    return figure
