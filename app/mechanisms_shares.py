"""The second half of the view On the person: the study "shares", the same over a set of images."""

from contextlib import suppress

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, figures, pictures, studies
from app import charts_mechanisms as charts
from app.charts_mechanisms import Line
from app.figures import Said
from app.passes import about
from app.pictures import Picture
from reid_core.analysis.intervals import band, interval
from reid_core.analysis.maps import LayerMap, place
from reid_core.analysis.parts import points, shares
from reid_core.errors import BadInput
from reid_core.runs import Run

COUNTS = ["32", "64", "128", "256"]
FORMULA = r"""share of part $P$: $\sum_{x \in P} m(x) \big/ \sum_x m(x)$, where $m$ spreads each position's
weight evenly over the pixels of its window; even weights: the same with $m$ from equal weights

pointing game: does the middle of the strongest position show the person?"""
SOURCE = (
    "Pointing game after Zhang et al., ECCV 2016, without a margin; shares and spreading are ours"
)
WORDS = {  # what is drawn -> its title, axis and baseline
    "share": ("Share of a map's weight on the person", "on the person", "even weights"),
    "hit": (
        "How often the strongest position is on the person",
        "pointing at the person",
        "a random position",
    ),
}


def show(run: Run, picture: Picture, chosen: LayerMap) -> None:
    """The study over a set: per layer, pointing, per part."""
    st.subheader("Over a set of images", anchor=False)
    count = int(
        pictures.choice(
            picture, st.container(), "Images", COUNTS, COUNTS[1], "share images", segmented=True
        )
    )
    arrays = studies.study(run, "shares", label=f"Measure {count} images", images=count)
    if arrays is None:
        with suppress(BadInput):  # what is missing is said once it is started
            st.caption(_cost(run, count))
        return
    left, right = st.columns(2, gap="medium")
    with left:
        _layers(run, picture, arrays, "share")
    with right:
        _layers(run, picture, arrays, "hit")
    _parts(run, picture, arrays, chosen)


def _cost(run: Run, count: int) -> str:
    """What the study takes: of a small model less than what comes before its passes."""
    seconds = count * cached.pass_seconds(run.name, run.stamp())
    return (
        f"{count} passes of this model take {about(seconds)} on this machine. Before them the libraries, the "
        "model and the data are loaded, and after each its maps are measured."
    )


def _layers(run: Run, picture: Picture, arrays: dict[str, np.ndarray], what: str) -> None:
    """A line per method over its layers, with its interval; below it the baseline."""
    title, axis, baseline = WORDS[what]
    lines, frame, count = _by_layer(arrays, what)
    best = frame.loc[frame[axis].idxmax()]
    figures.chart(
        charts.bands(lines, "", axis),
        Said(
            f"{title}, a mean over {count} test images of run {run.name}, by layer and kind of map; "
            f"bands are 95 % intervals over images. Most: {best[axis]:.0%} ({best['low']:.0%} to "
            f"{best['high']:.0%}) at {best['layer']}, {best['map']}; baseline {best[baseline]:.0%}.",
            FORMULA,
            SOURCE,
            (shares, points, band),
        ),
        key=picture.key(f"layers {what}"),
        alt=f"{title}, layer by layer; most {best[axis]:.0%} at {best['layer']}",
        table=frame,
    )


def _by_layer(arrays: dict[str, np.ndarray], what: str) -> tuple[list[Line], pd.DataFrame, int]:
    """The lines, their numbers, and how many images they are a mean of: those with a person."""
    seen = ~np.isnan(arrays["even"][:, 0, 0])
    values = (arrays["share"][:, :, 0] if what == "share" else arrays["hit"].astype(float))[seen]
    base = (arrays["even"][:, :, 0] if what == "share" else arrays["chance"])[seen].mean(axis=0)
    names, lines, rows = [place(probe) for probe in arrays["probes"]], [], []
    for method in dict.fromkeys(arrays["methods"]):
        layers = np.flatnonzero(arrays["methods"] == method)
        x, (low, high) = [names[layer] for layer in layers], band(values[:, layers])
        lines.append(Line(str(method), x, values[:, layers].mean(axis=0), low, high))
        rows += zip([method] * len(x), x, lines[-1].y, low, high, base[layers], strict=True)
    x = list(dict.fromkeys(names))
    _, axis, baseline = WORDS[what]
    lines.append(Line(baseline, x, base[[names.index(each) for each in x]], quiet=True))
    columns = ["map", "layer", axis, "low", "high", baseline]
    return lines, pd.DataFrame(rows, columns=columns), int(seen.sum())


def _parts(run: Run, picture: Picture, arrays, chosen: LayerMap) -> None:
    """The chosen map, part by part, over the images that show the part."""
    at = int(
        np.flatnonzero((arrays["probes"] == chosen.probe) & (arrays["methods"] == chosen.method))[0]
    )
    seen = ~np.isnan(arrays["even"][:, at])  # (n, P)
    shown = [p for p in range(seen.shape[1]) if seen[:, p].sum() > 1]
    names = [f"{arrays['parts'][p]} ({seen[:, p].sum()})" for p in shown]
    mean = np.array([np.nanmean(arrays["share"][:, at, p]) for p in shown])
    even = np.array([np.nanmean(arrays["even"][:, at, p]) for p in shown])
    low, high = np.array([interval(arrays["share"][:, at, p]) for p in shown]).T
    frame = pd.DataFrame(
        {
            "part (images)": names,
            "share of the map": mean,
            "low": low,
            "high": high,
            "share of even weights": even,
        }
    )
    figures.chart(
        charts.parts(names, mean, even, low=low, high=high),
        Said(
            f"The map chosen above ({place(chosen.probe)}: {chosen.method}), part by part, a mean over the "
            "images that show the part (their number in brackets) with its 95 % interval over images, beside "
            "what even weights on the same grid have there, in the same images.",
            FORMULA,
            SOURCE,
            (shares, interval),
        ),
        key=picture.key("parts of many"),
        alt="; ".join(
            f"{n} {a:.0%} of the map, {b:.0%} of even weights"
            for n, a, b in zip(names, mean, even, strict=True)
        ),
        table=frame,
    )
