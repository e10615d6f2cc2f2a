"""Figures of a sweep: arrays in, figures out."""

import plotly.graph_objects as go

from app.charts import COLOURS, DASHES, blank, whole_steps
from reid_core.jobs.sweeps import Band


def bands(found: dict[str, Band], title: str) -> go.Figure:
    """A line per value, the mean over its seeds, in a band from the smallest to the largest."""
    figure = blank("epoch", title)
    shades = list(COLOURS.values())
    for number, (name, each) in enumerate(found.items()):
        again, place = divmod(number, len(shades))
        shade = shades[place]
        edge = dict(
            mode="lines", line=dict(width=0), hoverinfo="skip", showlegend=False, legendgroup=name
        )
        figure.add_scatter(x=each.epochs, y=each.high, **edge)
        fill = dict(fill="tonexty", fillcolor=_pale(shade))
        figure.add_scatter(x=each.epochs, y=each.low, **edge, **fill)
        spread = list(zip(each.low, each.high, each.seeds, strict=True))
        figure.add_scatter(
            x=each.epochs,
            y=each.mean,
            customdata=spread,
            mode="lines+markers" if len(each.epochs) < 40 else "lines",
            line=dict(color=shade, width=2.2, dash=DASHES[again % len(DASHES)]),
            marker=dict(size=5),
            error_y=_bar(each, shade),
            name=name,
            legendgroup=name,
            hovertemplate="%{y:.3f} (%{customdata[0]:.3f} to %{customdata[1]:.3f}, "
            "%{customdata[2]} seeds)",
        )
    longest = max((len(each.epochs) for each in found.values()), default=1)
    whole_steps(figure, longest)
    figure.update_layout(showlegend=len(found) > 1, hovermode="x unified")
    return figure


def _bar(band: Band, shade: str) -> dict | None:
    """A band of a single epoch has no width: a bar instead."""
    if len(band.epochs) != 1:
        return None
    more, less = band.high - band.mean, band.mean - band.low
    return dict(array=more, arrayminus=less, symmetric=False, color=shade, thickness=1.5, width=8)


def _pale(shade: str) -> str:
    red, green, blue = (int(shade[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"
