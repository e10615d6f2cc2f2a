"""Figures of the page Data: counts in, figures out."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from app.charts import blank, whole_steps

# Okabe and Ito's, as in charts.COLOURS.
SHADES = {"train": "#0072BC", "query": "#CB4D17", "gallery": "#1BB581"}
WIDTHS = (0.9, 0.6, 0.3)  # of the bars of each split


def cameras(counts: dict[str, dict[int, int]]) -> go.Figure:
    """Images per camera, a bar for each split; -1 is the unknown camera."""
    known = sorted({camera for each in counts.values() for camera in each})
    words = ["unknown" if camera == -1 else f"c{camera}" for camera in known]
    figure = blank("camera", "images")
    for split, each in counts.items():
        figure.add_bar(
            x=words,
            y=[each.get(camera, 0) for camera in known],
            name=split,
            marker_color=SHADES[split],
            hovertemplate="%{y:,} images",
        )
    figure.update_layout(barmode="group", showlegend=True, hovermode="x unified")
    figure.update_xaxes(type="category")
    return figure


def per_identity(counts: dict[str, np.ndarray], what: str) -> go.Figure:
    """How many identities have how many images or cameras: (I,) a number for each identity."""
    figure = blank(f"{what} of an identity", "identities")
    highest = max(each.max() for each in counts.values())
    numbers = np.arange(1, highest + 1)
    # One over the other, each at its own number (beside one another they would stand next to it), the
    # later ones narrower, so that none hides another or makes a third colour with it.
    for width, (split, each) in zip(WIDTHS, counts.items(), strict=False):
        figure.add_bar(
            x=numbers,
            y=np.bincount(each, minlength=highest + 1)[1:],
            name=split,
            marker_color=SHADES[split],
            width=width,
            hovertemplate="%{y:,} identities",
        )
    whole_steps(figure, highest, ticks=12)
    figure.update_layout(barmode="overlay", showlegend=True, hovermode="x unified")
    return figure


def sizes(rows: Sequence[Sequence[int]]) -> go.Figure:
    """Sizes of images: rows (height, width, images); a mark's area is the number of images."""
    height, width, often = np.array(rows).T
    figure = blank("width in pixels", "height in pixels")
    figure.add_scatter(
        x=width,
        y=height,
        mode="markers",
        marker=dict(
            size=8 + 32 * np.sqrt(often / often.max()),
            sizemode="diameter",
            color=SHADES["train"],
            opacity=0.65,
        ),
        customdata=often,
        hovertemplate="%{y} x %{x} pixels: %{customdata:,} images<extra></extra>",
    )
    figure.update_layout(hovermode="closest")
    figure.update_yaxes(range=[0, 1.15 * height.max()])
    figure.update_xaxes(range=[0, 1.15 * width.max()])
    return figure
