"""The view On the person: how much of a map lies on whom, for this picture and over a set."""

from contextlib import suppress

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, figures, pictures, studies
from app import charts_mechanisms as charts
from app.charts_mechanisms import Line
from app.figures import Said
from app.lessons import Step
from app.mechanisms import here, place
from app.notices import explained, say
from app.passes import about
from app.pictures import Picture
from reid_core.analysis.intervals import band, interval
from reid_core.analysis.maps import KINDS, LayerMap, maps_of
from reid_core.analysis.parts import chance, even_shares, points, shares
from reid_core.data.masks import IDS, PERSON
from reid_core.errors import BadInput
from reid_core.runs import Run
from reid_core.studies.shares import GROUPS, PARTS

FIRST = (
    " Of the layers with a map of this kind it is the one with the largest share on the person in "
    "this picture: the view opens on it for that."
)
PERSON_IDS = tuple(IDS[name] for name in PERSON)
COUNTS = ["32", "64", "128", "256"]
NO_MASKS = (
    "Nobody has drawn which pixels of this picture are the person, so nothing can be measured here. "
    "The pedestrians bring such masks: choose a run that was evaluated on them, and an image of its "
    "test split."
)
FORMULA = r"""share of part $P$: $\sum_{x \in P} m(x) \big/ \sum_x m(x)$, where $m$ spreads each position's
weight evenly over the pixels of its window; even weights: the same with $m$ from equal weights

pointing game: does the middle of the strongest position show the person?"""
SOURCE = (
    "Pointing game after Zhang et al., ECCV 2016, without a margin; shares and spreading are ours"
)


def show(run: Run, picture: Picture) -> None:
    """The picture's maps on its mask, then the same over many images."""
    with explained():
        mask = picture.mask
    if mask is None:
        say("info", NO_MASKS)
        return
    found = {f"{place(each.probe)}: {each.method}": each for each in maps_of(picture.looked(KINDS))}
    first = _highest(found, mask)
    name = pictures.choice(picture, st.container(), "Map", list(found), first, "map", width=420)
    why = "" if name != first else FIRST
    _one(picture, name, found[name], mask, why)
    _many(run, picture, found[name])


def steps(run: Run) -> list[Step]:
    """The layer whose map lies most on the person compared with even weights, over a few queries."""
    queries, found = cached.placed(run.name, run.stamp())
    if found is None:
        return []
    layers = np.flatnonzero(found.methods == found.methods[0])
    person, even = found.share[:, :, 0], found.even[:, :, 0]
    layer = layers[person[:, layers].mean(axis=0).argmax()]
    even = even[:, layer]
    image = int((person[:, layer] - even).argmax())
    low, high = interval(person[:, layer])
    name = f"{place(found.probes[layer])}: {found.methods[layer]}"
    text = (
        f"Over {len(queries)} evenly spaced queries {person[:, layer].mean():.0%} ({low:.0%} to {high:.0%}) of the "
        f"map {name} lies on the person, more than of any other layer's; even weights have {even.mean():.0%} "
        f"there. Here it is {person[image, layer]:.0%} against {even[image]:.0%}."
    )
    return [
        Step(
            "Where the weight lies",
            text,
            here(run, queries[image], "On the person") | {"map": name},
        )
    ]


def _highest(found: dict[str, LayerMap], mask: np.ndarray) -> str:
    """The map of the first method with the largest share on the person, measured on this picture."""
    method = next(iter(found.values())).method
    same = {name: each for name, each in found.items() if each.method == method}
    return max(
        same,
        key=lambda name: shares(same[name].weights[0], same[name].tokens, mask, [PERSON_IDS])[0],
    )


def _one(picture: Picture, name: str, chosen: LayerMap, mask: np.ndarray, why: str) -> None:
    """One map on the person; why it is shown, where that needs saying."""
    weights = chosen.weights[0]
    drawn = shares(weights, chosen.tokens, mask, PARTS)
    even = even_shares(chosen.tokens, mask, PARTS)
    hit = float(points(weights, chosen.tokens, mask, PERSON_IDS))
    strongest = np.argwhere(weights == weights.max())
    luck = chance(chosen.tokens, mask, PERSON_IDS)
    # Half a page has no room for both beside one another.
    paired = picture.beside or picture.bar is not None
    left, right = (st.container(), st.container()) if paired else st.columns([2, 5], gap="medium")
    with left:
        src = cached.outlined(picture.run, picture.stamp, picture.row, PERSON_IDS)
        figures.pictures(
            [
                picture.tile(
                    name,
                    chosen.tokens,
                    weights,
                    src=src,
                    scale="own",
                    marks=[
                        dict(row=int(row), column=int(column), text="", tone="strong")
                        for row, column in strongest
                    ],
                    note=f"{drawn[0]:.0%} on the person, even weights {even[0]:.0%}",
                )
            ],
            Said(
                f"The map over the picture, the person outlined, {_where(len(strongest), hit)} the "
                f"person. A random position's is on it {luck:.0%} of the time.{why}"
            ),
            key=picture.key("on person"),
            alt=f"{name} over {picture.label}: {drawn[0]:.0%} on the person",
        )
    with right:
        shown = even > 0
        names = [name for name, each in zip(GROUPS, shown, strict=True) if each]
        frame = pd.DataFrame(
            {"part": names, "share of the map": drawn[shown], "share of even weights": even[shown]}
        )
        figures.chart(
            charts.parts(names, drawn[shown], even[shown]),
            Said(
                "How much of the map's weight lies on each part of this picture, beside what even "
                "weights on the same grid would have there. Parts overlap with person.",
                FORMULA,
                SOURCE,
                (shares, points),
            ),
            key=picture.key("parts of one"),
            alt="; ".join(
                f"{n} {a:.0%} of the map, {b:.0%} of even weights"
                for n, a, b in frame.itertuples(index=False)
            ),
            table=frame,
        )


def _many(run: Run, picture: Picture, chosen: LayerMap) -> None:
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


WORDS = {  # what is drawn -> its title, axis and baseline
    "share": ("Share of a map's weight on the person", "on the person", "even weights"),
    "hit": (
        "How often the strongest position is on the person",
        "pointing at the person",
        "a random position",
    ),
}


def _where(count: int, hit: float) -> str:
    """Where the strongest positions lie."""
    if count == 1:
        return f"the strongest position framed: its middle is {'on' if hit else 'off'}"
    return f"the {count} equally strong positions framed: the middles of {hit:.0%} are on"


def _cost(run: Run, count: int) -> str:
    """What the study takes: of a small model less than what comes before its passes."""
    seconds = count * cached.pass_seconds(run.name, run.stamp())
    took = about(seconds) if seconds >= 1 else "less than a second"
    return (
        f"{count} passes of this model take {took} on this machine. Before them the libraries, the "
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
