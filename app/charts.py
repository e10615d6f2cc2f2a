"""Arrays in, figures out. Text and background follow Streamlit's light or dark theme."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

# One colour per model, after Okabe and Ito (2008), moved so that all seven hold on light and on dark
# and stay apart under each kind of colour blindness.
COLOURS = {
    "transreid": "#0072BC",
    "pha": "#E69500",
    "nformer": "#1BB581",
    "rga": "#B37CA7",
    "ohformer": "#CB4D17",
    "vit-bot": "#854DF4",
    "resnet-bot": "#9F4F3A",
}
QUIET = "#8A97A5"
SAME = 0.179  # luminance that black and white differ from alike, by 4.6 : 1
DASHES = ("solid", "dash", "dot")  # where one chart has more lines than there are colours


def colour(model: str) -> str:
    """A model's colour on every page."""
    return COLOURS.get(model, QUIET)


def fine(value: float, digits: int = 4) -> str:
    """A number with so many decimals; one that they would leave nothing of, by its power of ten."""
    if value == 0 or abs(value) >= max(0.001, 0.5 * 10**-digits) or not np.isfinite(value):
        return f"{value:.{digits}f}"
    return re.sub("e-0?", "e-", f"{value:.1e}")


def cmc(shares: np.ndarray, line: str) -> go.Figure:
    """Cumulative match characteristic: shares (R,) of queries with a hit at rank r or before."""
    ranks = np.arange(1, len(shares) + 1)
    marks = [1, 5, 10]
    figure = blank("rank", "share of queries with a hit")
    figure.add_scatter(
        x=ranks, y=shares, mode="lines", line=dict(color=line, width=2.5, shape="hv"), name="CMC"
    )
    figure.add_scatter(
        x=marks,
        y=shares[np.array(marks) - 1],
        mode="markers+text",
        marker=dict(color=line, size=8),
        text=[f"{shares[rank - 1]:.3f}" for rank in marks],
        textposition="bottom right",
        hoverinfo="skip",
    )
    low = max(0.0, float(np.floor(shares[0] * 10 - 1.5) / 10))
    figure.update_yaxes(range=[low, 1.03])
    figure.update_xaxes(range=[0, min(len(shares), 30) + 0.5])
    return figure


def curves(
    epochs: Sequence[int],
    lines: dict[str, Sequence[float | None]],
    title: str,
    first: str,
    **layout,
) -> go.Figure:
    """One value per epoch and line; None where there is none. The first line is the model's colour."""
    figure = blank("epoch", title)
    shades = [first, *(shade for shade in COLOURS.values() if shade != first)]
    for number, (name, values) in enumerate(lines.items()):
        again, place = divmod(number, len(shades))
        kept = [(x, y) for x, y in zip(epochs, values, strict=True) if y is not None]
        figure.add_scatter(
            x=[x for x, _ in kept],
            y=[y for _, y in kept],
            mode="lines+markers" if len(kept) < 40 else "lines",
            line=dict(color=shades[place], width=2.2, dash=DASHES[again % len(DASHES)]),
            marker=dict(size=5),
            name=name,
        )
    whole_steps(figure, len(epochs))
    figure.update_layout(showlegend=len(lines) > 1, hovermode="x unified", **layout)
    return figure


def whole_steps(figure: go.Figure, most: int, ticks: int = 8) -> None:
    """Ticks of what is counted, up to `most`: 1, 2, 5, 10, ... apart, however near one looks."""
    steps = (step * 10**power for power in range(9) for step in (1, 2, 5))
    figure.update_xaxes(dtick=next(step for step in steps if most <= ticks * step))


def history(entries: list[dict[str, Any]], model: str, split: str) -> dict[str, go.Figure]:
    """The live page's charts from a run's finished epochs, by what they show.

    split says what the scores are measured on.
    """
    epochs, first = [entry["epoch"] for entry in entries], colour(model)
    column = lambda name: [entry.get(name) for entry in entries]  # noqa: E731
    terms = sorted({name for entry in entries for name in entry if name.startswith("loss_")})
    losses = {"total": column("loss")} | {name[5:]: column(name) for name in terms}
    scores = {"mAP": column("mAP"), "rank-1": column("rank1"), "mINP": column("mINP")}
    return {
        "Loss": curves(epochs, losses, "loss", first),
        f"Retrieval on {split}": curves(
            epochs, scores, "score", first, yaxis=dict(range=[0, 1.02])
        ),
        "Learning rate": curves(
            epochs,
            {"rate": column("learning_rate")},
            "learning rate",
            first,
            yaxis=dict(tickformat="~g"),
        ),
        "Speed": curves(
            epochs,
            {"images/s": column("images_per_second")},
            "images or features/s",
            first,
            yaxis=dict(rangemode="tozero"),
        ),
    }


def blank(across: str, up: str) -> go.Figure:
    """An empty figure with titled axes, to be drawn on."""
    figure = go.Figure()
    figure.update_layout(
        height=250,
        margin=dict(l=8, r=12, t=8, b=8),
        showlegend=False,
        legend=dict(orientation="h", y=1.02, yanchor="bottom", x=0),
        hovermode="x",
    )
    figure.update_xaxes(title=across, title_standoff=6, rangemode="tozero")
    figure.update_yaxes(title=up, title_standoff=6)
    return figure


def numbered(
    drawn: np.ndarray,
    said: Callable[[float], str],
    scale: str,
    range: tuple[float, float] | None = None,
    size: int | None = None,
    **more: Any,
) -> list[go.Heatmap]:
    """A heat map (R, C) that says its numbers, in two: cells with white figures, and those with
    black ones. A map has one colour for all its figures, and plotly's own choice is too pale on middle
    tones. range: what the ends of the scale stand for, by default the lowest and the highest."""
    known = np.isfinite(drawn)
    low, high = range or ((drawn[known].min(), drawn[known].max()) if known.any() else (0.0, 1.0))
    share = np.where(known, (drawn - low) / max(high - low, 1e-12), 0).clip(0, 1)
    shades = sample_colorscale(scale, share.ravel(), colortype="tuple")
    texts = np.array([["" if np.isnan(x) else said(x) for x in row] for row in drawn])
    dark = np.array([luminance(shade) < SAME for shade in shades]).reshape(drawn.shape)
    return [
        go.Heatmap(
            z=np.where(here, drawn, np.nan),
            zmin=low,
            zmax=max(high, low + 1e-12),
            text=np.where(here, texts, ""),
            texttemplate="%{text}",
            textfont=dict(color=colour, size=size),
            colorscale=scale,
            showscale=False,
            hoverinfo="skip",
            xgap=2,
            ygap=2,
            **more,
        )
        for here, colour in ((dark, "#ffffff"), (~dark, "#000000"))
    ]


def luminance(shade: Sequence[float]) -> float:
    """Relative luminance of a colour (red, green, blue in 0..1), as WCAG 2 defines it."""
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in shade)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
