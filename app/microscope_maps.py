"""The view Layers and heads: one token's row in every attention map, as small multiples."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import streamlit as st

from app import cached, figures, picture_picker, pictures
from app.figures import Said
from app.lessons import Step
from app.notices import explained
from app.pictures import Picture
from reid_core.analysis import attention
from reid_core.analysis.orders import layers
from reid_core.models.base import Tokens
from reid_core.runs import Run

ALL, MEAN = "all", "mean"
GIVES, GETS = "attends to", "is attended by"
OWN, SHARED = "each its own", "one for all"
WIDE = 7  # columns where a layer's heads have the page for themselves

ABOUT = (
    "In each layer a head lets every token look at every other: a row of its map says how it divides "
    "its attention. Pick a token and see its row in every layer and head at once."
)
FORMULA = r"""
$$A_h = \mathrm{softmax}\!\left(\frac{Q_h K_h^\top}{\sqrt{d_h}}\right), \qquad
\sum_j A_h[i, j] = 1, \qquad \bar A = \frac1H \sum_h A_h$$

Drawn is row $i$, what token $i$ attends to, or column $i$, who attends to it.
"""
SOURCE = "Vaswani et al., NeurIPS 2017, eq. 1; Dosovitskiy et al., ICLR 2021, eqs. 6 to 8."


@dataclass(frozen=True)
class Asked:
    """What is drawn: a token by name, the direction, layers and heads by name, the colour range."""

    token: str
    received: bool
    layer: str
    head: str
    scale: str


def show(run: Run, picture: Picture) -> None:
    """Draw the maps of every layer and head for the chosen token."""
    with explained():
        looked = picture.looked(attention.KINDS)
    found = {name: each[0] for name, each in layers(looked).items()}  # (H, N, N) each
    tokens = [looked.tokens[name] for name in found]
    heads = max(maps.shape[0] for maps in found.values())
    asked = controls(picture, tokens, heads)
    grid = [
        [(tile, own) for tile in _layer(picture, asked, number, maps, own, tokens[0])]
        for number, (maps, own) in enumerate(zip(found.values(), tokens, strict=True), start=1)
        if asked.layer in (ALL, str(number))
    ]
    if len(grid) > len(grid[0]) > 0:  # layers go along the longer side, across the page
        grid = [list(row) for row in zip(*grid, strict=False)]
    tiles, places = zip(*(each for row in grid for each in row), strict=True)
    key = picture.key("maps")
    figures.pictures(
        list(tiles),
        said(run, picture, asked, tokens[0], any(each.groups for each in looked.tokens.values())),
        key=key,
        alt=f"Attention of {picture.label}, token {asked.token}: {_summary(tiles)}",
        columns=len(grid[0]) if len(grid) > 1 else min(len(tiles), WIDE),
        on_pick=partial(_take, key, places, tokens[0]),
        unit="of the row" if not asked.received else "of each row",
    )


def controls(picture: Picture, tokens: list[Tokens], heads: int) -> Asked:
    """Ask what to draw; tokens are those of the layers."""
    row = pictures.controls(picture)
    pick = partial(pictures.choice, picture, row)
    first = tokens[0].prefix[0] if tokens[0].prefix else middle(tokens[0])
    names = attention.token_names(tokens[0])
    token = pick("Token", names, first, "token", width=150, help="Or click a patch in any picture.")
    if picture.first:
        token = _followed(picture.first, tokens[0]) or first
    towards = pick("Direction", [GIVES, GETS], GIVES, "direction", segmented=True)
    layer = pick("Layer", [ALL, *map(str, range(1, len(tokens) + 1))], ALL, "layer", width=84)
    head = pick("Head", [ALL, MEAN, *map(str, range(1, heads + 1))], ALL, "head", width=84)
    scale = pick("Colours", [OWN, SHARED], OWN, "scale", segmented=True)
    if not picture.beside and tokens[0].prefix and token != first:
        row.button(f"Back to {first}", on_click=lambda: st.session_state.update(token=first))
    return Asked(token, towards == GETS, layer, head, scale)


def _followed(first: Picture, tokens: Tokens) -> str:
    """The token of the first of two pictures, by its name on the second one's grid: the same place
    may have another name there. Empty where it has none."""
    looked, name = first.looked(attention.KINDS), st.session_state["token"]
    theirs = looked.tokens[next(iter(layers(looked)))]
    if name in theirs.prefix and name not in tokens.prefix:
        return ""
    return attention.token_names(tokens)[same_place(name, theirs, tokens)]


def middle(tokens: Tokens) -> str:
    """The name of the position in the middle of the grid."""
    return f"row {(tokens.grid[0] + 1) // 2}, column {(tokens.grid[1] + 1) // 2}"


def _layer(
    picture: Picture, asked: Asked, number: int, maps: Any, tokens: Tokens, first: Tokens
) -> list[dict[str, Any]]:
    """The tiles of one layer: the mean over heads, then each head."""
    token = same_place(asked.token, first, tokens)
    drawn = attention.rows(maps, token, asked.received)  # (1 + H, N)
    spent, weights = attention.placed(drawn, tokens)
    names = [MEAN, *map(str, range(1, len(drawn)))]
    place = token - len(tokens.prefix)
    picked = list(divmod(place, tokens.grid[1])) if place >= 0 else None
    return [
        picture.tile(
            f"layer {number}, {name if name == MEAN else f'head {name}'}",
            tokens,
            weights[head],
            note=", ".join(
                f"{prefix} {share:.3f}"
                for prefix, share in zip(tokens.prefix, spent[head], strict=True)
            ),
            scale="own" if asked.scale == OWN else "shared",
            picked=picked,
        )
        for head, name in enumerate(names)
        if asked.head in (ALL, name)
    ]


def same_place(name: str, first: Tokens, tokens: Tokens) -> int:
    """The number of a token, named on the first layer's grid, among another layer's tokens: the
    position whose relative place is the nearest."""
    number = attention.token_names(first).index(name)
    if tokens.grid == first.grid or number < len(first.prefix):
        return number
    at = divmod(number - len(first.prefix), first.grid[1])
    there = [
        int((each + 0.5) / old * new)
        for each, old, new in zip(at, first.grid, tokens.grid, strict=True)
    ]
    return len(tokens.prefix) + there[0] * tokens.grid[1] + there[1]


def said(run: Run, picture: Picture, asked: Asked, tokens: Tokens, local: bool) -> Said:
    """What the figure says of itself."""
    words = (
        f"How much the token {asked.token} attends to each patch: a row of each map"
        if not asked.received
        else f"How much each patch attends to the token {asked.token}: a column of each map, which "
        "need not sum to 1"
    )
    below = ""
    if tokens.prefix:
        below = (
            " The number below is what the row spends on the class token itself; with the patches it "
            "sums to 1."
            if not asked.received
            else " The number below is how much the class token attends to it."
        )
    further = (
        " The last layer is the one that ends in the global feature; its copy over groups of patches "
        "has a view of its own, Jigsaw."
        if local
        else ""
    )
    told = f"{words}. {run.name}, {picture.label}, from the pass that made the embedding."
    return Said(told + below + further, FORMULA, SOURCE, (attention.rows, attention.placed))


def _summary(tiles: Sequence[dict[str, Any]]) -> str:
    """The strongest position of the first map, in words."""
    if not tiles:
        return "no map"
    weights = np.asarray(tiles[0]["map"])
    row, column = np.unravel_index(weights.argmax(), weights.shape)
    return (
        f"{len(tiles)} maps; in {tiles[0]['label']} row {row + 1}, column {column + 1} has most, "
        f"{weights.max():.3f}"
    )


def _take(key: str, places: Sequence[Tokens], first: Tokens) -> None:
    """Take the patch that was clicked as the token."""
    picked = st.session_state[key]["picked"]
    if not picked or picked["row"] is None:
        return
    tokens = places[picked["tile"]]
    names = attention.token_names(tokens)
    name = names[len(tokens.prefix) + picked["row"] * tokens.grid[1] + picked["column"]]
    st.session_state["token"] = attention.token_names(first)[same_place(name, tokens, first)]


def steps(run: Run) -> list[Step]:
    """What was measured over a few queries, as places to look at."""
    queries, found = cached.surveyed(run.name, run.stamp())
    if found is None:
        return []
    labels = cached.labels(run.name, run.stamp())
    image, layer, head = found.strongest
    if found.has_masks:
        text = (
            f"Of {found.person.size} maps of {len(queries)} evenly spaced queries, head {head + 1} of "
            f"layer {layer + 1} here gains most over even attention: "
            f"{found.person[image, layer, head]:.0%} of what the class token spends on patches lies on "
            f"the person, where even attention gives {found.even[image]:.0%}. Over all of them the mean "
            f"is {found.person.mean():.0%} against {found.even.mean():.0%}."
        )
    else:
        text = (
            f"Of {found.entropy.size} maps of {len(queries)} evenly spaced queries, head {head + 1} of "
            f"layer {layer + 1} here is the most concentrated: its entropy is "
            f"{found.entropy[image, layer, head]:.0%} of that of even attention. The mean is "
            f"{found.entropy.mean():.0%}."
        )
    here = {
        "query": labels[queries[image]],
        "image": picture_picker.ITSELF,
        picture_picker.SOURCE: picture_picker.TEST,
    }
    everything = {"lens": "Layers and heads", "layer": ALL, "head": ALL, "direction": GIVES}
    distances = found.distance.mean(axis=0)  # (L, H)
    near, far = (
        np.unravel_index(pick(distances), distances.shape) for pick in (np.argmin, np.argmax)
    )
    reach = (
        f"Layer {near[0] + 1}, head {near[1] + 1} stays near: its patches look "
        f"{distances[near]:.0f} pixels far on average; layer {far[0] + 1}, head {far[1] + 1} looks "
        f"{distances[far]:.0f}, and even attention would look {found.even_distance:.0f} "
        f"(mean over {len(queries)} queries). Click patches and see whether their rows stay around them."
    )
    tokens = next(t for k, t in cached.probes(run.name, run.stamp()).values() if k == "attention")
    return [
        Step("A head on the person", text, here | everything | {"token": tokens.prefix[0]}),
        Step("A near and a far head", reach, here | everything | {"token": middle(tokens)}),
    ]
