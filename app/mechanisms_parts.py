"""The view On the person: how much of a map lies on whom."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, figures, mechanisms_shares, pictures
from app import charts_mechanisms as charts
from app.figures import Said
from app.lessons import Step
from app.mechanisms import here, otherwise
from app.mechanisms_shares import FORMULA, SOURCE
from app.notices import explained, say
from app.pictures import Picture
from reid_core.analysis.intervals import interval
from reid_core.analysis.maps import KINDS, LayerMap, maps_of, place
from reid_core.analysis.parts import chance, even_shares, points, shares
from reid_core.data.masks import IDS, PERSON
from reid_core.runs import Run
from reid_core.studies.shares import GROUPS, PARTS

FIRST = (
    " Of the layers with a map of this kind it is the one with the largest share on the person in "
    "this picture: the view opens on it for that."
)
WIDTH = 420  # pixels of the box with the maps
PERSON_IDS = tuple(IDS[name] for name in PERSON)
NO_MASKS = (
    "Nobody has drawn which pixels of this picture are the person, so nothing can be measured here. "
    "The pedestrians bring such masks: choose a run that was evaluated on them, and an image of its "
    "test split."
)


def show(run: Run, picture: Picture) -> None:
    """The picture's maps on its mask, then the same over many images."""
    with explained():
        mask = picture.mask
    if mask is None:
        say("info", NO_MASKS)
        return
    found = _maps(picture)
    first = _highest(found, mask)
    name = _chosen(picture, list(found), first)
    why = "" if name != first else FIRST
    _one(picture, name, found[name], mask, why)
    mechanisms_shares.show(run, picture, found[name])


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


def _maps(picture: Picture) -> dict[str, LayerMap]:
    """Every map of a picture by its name, such as "layer 2: attention received"."""
    return {f"{place(each.probe)}: {each.method}": each for each in maps_of(picture.looked(KINDS))}


def _chosen(picture: Picture, names: list[str], first: str) -> str:
    """The map that is shown. Two runs whose maps have the same names share one choice; otherwise
    the second has its own, in the address as well."""
    pick = partial(pictures.choice, label="Map", options=names, default=first, width=WIDTH)
    if not picture.beside or list(_maps(picture.first)) != names:
        return pick(replace(picture, beside=False), st.container(), key=picture.key("map"))
    name = pick(picture, st.container(), key="map")
    same = "Both runs have the same maps: choose on the left."
    st.selectbox("Map", [name], disabled=True, help=same, width=WIDTH)
    return name


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
    # Half a page has no room for both beside one another.
    paired = picture.beside or picture.bar is not None
    left, right = (st.container(), st.container()) if paired else st.columns([2, 5], gap="medium")
    below = left if paired else st.container()  # the left one is too narrow for what is said
    drawn = shares(chosen.weights[0], chosen.tokens, mask, PARTS)
    even = even_shares(chosen.tokens, mask, PARTS)
    with left:
        note = f"{drawn[0]:.0%} on the person, even weights {even[0]:.0%}"
        _over_picture(picture, name, chosen, mask, (note, why), below)
    with right:
        _by_part(picture, drawn, even)


def _over_picture(
    picture: Picture,
    name: str,
    chosen: LayerMap,
    mask: np.ndarray,
    words: tuple[str, str],
    below: Any,
) -> None:
    """The map on the outlined person, and where its strongest position is. words: its note, and why it
    is shown; below: where they are said."""
    note, why = words
    weights = chosen.weights[0]
    hit = float(points(weights, chosen.tokens, mask, PERSON_IDS))
    luck = chance(chosen.tokens, mask, PERSON_IDS)
    strongest = np.argwhere(weights == weights.max())
    marks = [
        dict(row=int(row), column=int(column), text="", tone="strong") for row, column in strongest
    ]
    src = cached.outlined(picture.run, picture.stamp, picture.row, PERSON_IDS)
    shown = dict(src=src, scale="own", marks=marks, note=note)
    figures.pictures(
        [picture.tile(name, chosen.tokens, weights, **shown)],
        Said(
            f"The map over the picture, the person outlined, {_where(len(strongest), hit)} the "
            f"person. A random position's is on it {luck:.0%} of the time.{why}"
            + otherwise([chosen.method])
        ),
        key=picture.key("on person"),
        alt=f"{name} over {picture.label}: {note}",
        below=below,
    )


def _where(count: int, hit: float) -> str:
    """Where the strongest positions lie."""
    if count == 1:
        return f"the strongest position framed: its middle is {'on' if hit else 'off'}"
    return f"the {count} equally strong positions framed: the middles of {hit:.0%} are on"


def _by_part(picture: Picture, drawn: np.ndarray, even: np.ndarray) -> None:
    """The shares of a map and of even weights (P,), for the parts that this picture shows."""
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
