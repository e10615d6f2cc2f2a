"""The Order lab's views of one picture: between orders, between layers, between heads.

K maps are compared, of layers or of heads; n queries of the study "orders"; N tokens, h x w cells.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import streamlit as st

from app import address, cached, contents, order_figures, order_maps, pickers, projector, sharing
from app.notices import say
from app.order_figures import Grid, Lab
from app.order_steps import HEADS, LAYERS, MODES, ORDERS, SET_DRAWS
from reid_core.analysis import orders
from reid_core.analysis.orders import HIGH, Apart
from reid_core.divergence import pooled_map
from reid_core.errors import BadInput
from reid_core.models.base import Tokens
from reid_core.runs import Run, list_runs

MOST_LINES = 12
# Whose shuffles a baseline is the mean of. The study makes fewer, since it makes them of every query; where
# it has measured this very picture its number is shown, which the steps tell too.
OF_PAGE = "{} shuffles of this picture alone"
OF_STUDY = "the {} shuffles of this picture in the study over the set, as the steps tell"
OF_SET = "{} shuffles of each query"


def views(run: Run) -> list[str]:
    """What can be compared in a run, from the probes of its model. Raises BadInput."""
    probes = cached.probes(run.name, run.stamp())
    maps = {name: tokens for name, (kind, tokens) in probes.items() if kind == "attention"}
    whole = [t for name, t in maps.items() if not HIGH.fullmatch(name) and not t.groups]
    found = [ORDERS] if len(whole) < len([t for t in maps.values() if not t.groups]) else []
    if max((whole.count(each) for each in whole), default=0) > 1:
        found.append(LAYERS)
    if any(each.prefix for each in whole):  # a non-local block has one head
        found.append(HEADS)
    return found + ([MODES] if found and sharing.with_orders() else [])


def elsewhere(run: Run) -> None:
    """Say that a run has no two maps to compare, offer those that have, and end the page."""
    say(
        "info",
        f"Run {run.name} has no two attention maps over the same tokens: its model attends by gates, by "
        "relations, over images, or not at all. These runs have:",
    )
    for each in list_runs():
        with suppress(BadInput):
            if views(each):
                contents.link(each.name, "divergence", "arrow_forward", run=each.name)
    address.stop()


def switch(bar: Any, label: str, key: str, options: list[str], default: str) -> str:
    """A choice of a few, tied to the address."""
    pickers.linked(key, options, default)
    return bar.segmented_control(label, options, key=key, required=True)


def show_orders(lab: Lab, placed: Any) -> None:
    """Between the first and the high orders, layer by layer and head by head."""
    picture, found = lab.picture, lab.found
    pairs = cached.orders_apart(picture.run, picture.stamp, picture.who, picture.content)
    names = [f"layer {each.layer}, order {each.order}" for each in pairs]
    heads = [str(number) for number in range(1, len(pairs[0].js) + 1)]
    chosen = _choose(placed, dict(pair=("Layer and order", names), head=("Head", heads)))
    place, head = chosen
    pair = pairs[place]
    shuffled, whose = _shuffled_in_the_set(lab), OF_STUDY
    if shuffled is None:
        whose = OF_PAGE
        shuffled = np.stack([each.shuffled.mean(axis=2) for each in pairs], axis=1)  # (S, P, H)
    here = Grid(
        np.stack([each.js.mean(axis=-1) for each in pairs]),
        shuffled.mean(axis=0),
        tuple(np.stack([each.uniform[side].mean(axis=-1) for each in pairs]) for side in (0, 1)),
        whose.format(len(shuffled)),
    )
    whole = found and Grid(
        found["js"].mean(axis=0),
        found["shuffled"].mean(axis=(0, 1)),
        tuple(found["uniform"][..., side].mean(axis=0) for side in (0, 1)),
        OF_SET.format(found["shuffled"].shape[0]),
    )
    # One below the other in a narrow window.
    left, right = st.columns([2, 3], gap="medium")
    with left:
        order_figures.heat_map(
            lab, here, whole, names, [f"head {each}" for each in heads], chosen, ("", ""),
            "Between a layer's first-order map and its high-order map, each row of cells a "
            "distribution; mean over all rows.", ("pair", names), ("head", heads),
        )  # fmt: skip
    with right:
        maps = np.stack([pair.first[head], pair.high[head]])
        labels = ("Order 1", f"Order {pair.order}")
        over = None if not found else found["cells"][place, head].reshape(found["grid"])
        order_maps.show(lab, maps, pair.js[head], pair.tokens, labels, over, pooled_map)
    if found:
        shown = [(p, h) for p in range(len(pairs)) for h in range(len(heads))]
        if len(shown) > MOST_LINES:
            shown = [each for each in shown if each[0] == place]
        lines = [
            order_figures.line(lab, f"{names[p]}, head {h + 1}", found["js"][:, p, h], here.js[p, h], found["shuffled"][..., p, h], found["uniform"][:, p, h])
            for p, h in shown
        ]  # fmt: skip
        order_figures.ruler(lab, lines, "Means over rows, layer by layer and head by head")
        order_figures.rows(lab, chosen, f"{names[place]}, head {head + 1}", here, whole)


def _shuffled_in_the_set(lab: Lab) -> np.ndarray | None:
    """(S, P, H): what the study found of this very picture, as the steps tell it; None of another."""
    if not lab.found or not lab.picture.is_query:
        return None
    place = np.flatnonzero(lab.found["query"] == lab.picture.query)
    return lab.found["shuffled"][:, place[0]] if len(place) else None


def show_layers(lab: Lab, placed: Any, numbers: Sequence[int], tokens: Tokens) -> None:
    """Between any two layers, each the mean over its heads."""
    picture, found = lab.picture, lab.found
    apart = cached.layers_apart(picture.run, picture.stamp, picture.who, picture.content)
    labels = [str(number) for number in numbers]
    keys = dict(layer=("Layer", labels), against=("Against layer", labels))
    chosen = _choose_two(placed, keys, len(labels) - 1)
    whole = found and (found["between_layers"], found["layers_shuffled"], found["layers_uniform"])
    neighbours = [(place, place + 1) for place in range(len(labels) - 1)][:MOST_LINES]
    _square(lab, apart, whole, "layer", keys, chosen, tokens, neighbours)


def show_heads(lab: Lab, placed: Any, numbers: Sequence[int], tokens: Tokens) -> None:
    """Between any two heads of a layer."""
    picture, found = lab.picture, lab.found
    labels = [str(number) for number in numbers]
    (place,) = _choose(placed, dict(layer=("Layer", labels)))
    apart = cached.heads_apart(picture.run, picture.stamp, picture.who, place, picture.content)
    if len(apart.js) < 2:
        st.info("These maps have one head each: nothing to compare.", icon=":material/info:")
        return
    heads = [str(number) for number in range(1, len(apart.js) + 1)]
    # A key of its own: the head of the view Orders may be the one that it would be set against.
    keys = dict(one=("Head", heads), other=("Against head", heads))
    chosen = _choose_two(placed, keys, 1)
    names = ("between_heads", "heads_shuffled", "heads_uniform")
    whole = found and tuple(found[name][:, place] for name in names)
    all_pairs = [(a, b) for a in range(len(heads)) for b in range(a + 1, len(heads))]
    _square(lab, apart, whole, "head", keys, chosen, tokens, all_pairs[:MOST_LINES])


def _square(lab, apart: Apart, whole, what, keys, chosen, tokens, listed) -> None:
    """The heat map of K x K maps, the pair that was chosen, and the pairs listed over the set."""
    reduce = (lambda rows: rows[..., 0]) if lab.rows == 0 else (lambda rows: rows.mean(axis=-1))
    here = _grid(
        reduce(apart.js),
        reduce(apart.shuffled),
        reduce(apart.uniform),
        OF_PAGE.format(cached.DRAWS),
    )
    if whole:
        whole = tuple(each[..., lab.rows] for each in whole)  # (n, K, K) twice and (n, K)
    mean = whole and _grid(*(each.mean(axis=0) for each in whole), OF_SET.format(SET_DRAWS))
    (first, (_, labels)), (second, _) = keys.items()
    about = "each the mean over its heads, still a distribution" if what == "layer" else "one layer"
    rows = "mean over all rows" if lab.rows else "the row of the class token"
    # One below the other in a narrow window.
    left, right = st.columns([2, 3], gap="medium")
    with left:
        order_figures.heat_map(
            lab, here, mean, labels, labels, chosen, (what, what),
            f"Between {what}s, {about}; {rows}.",
            (first, labels), (second, labels),
        )  # fmt: skip
    a, b = chosen
    name = lambda place: f"{what} {labels[place]}"  # noqa: E731
    with right:
        both = (name(a).capitalize(), name(b).capitalize())
        order_maps.show(
            lab, apart.maps[[a, b]], apart.js[a, b], tokens, both, None, orders.over_heads
        )
    if whole:
        js, shuffled, uniform = whole
        shown = [*listed, *({(min(a, b), max(a, b))} - set(listed) if a != b else ())]
        lines = [
            order_figures.line(lab, f"{name(i)} and {labels[j]}", js[:, i, j], here.js[i, j], shuffled[:, i, j], uniform[:, [i, j]])
            for i, j in shown
        ]  # fmt: skip
        layers = "Neighbouring layers" + ", and the chosen pair" * (len(shown) > len(listed))
        order_figures.ruler(lab, lines, layers if what == "layer" else "Pairs of heads")


def _grid(js: np.ndarray, shuffled: np.ndarray, uniform: np.ndarray, draws: str) -> Grid:
    """js and shuffled (K, K), uniform (K,)."""
    return Grid(js, shuffled, tuple(np.broadcast_arrays(uniform[:, None], uniform[None])), draws)


def _choose(placed, keys: dict[str, tuple[str, list[str]]]) -> tuple[int, ...]:
    """A box for each key, tied to the address; returns the places that were chosen."""
    return tuple(_box(placed, key, *each) for key, each in keys.items())


def _choose_two(placed, keys: dict[str, tuple[str, list[str]]], usual: int) -> tuple[int, int]:
    """As `_choose` for two boxes of the same things, two different ones unless the reader or a link
    sets one against itself. usual: the place of the second, where nothing stands against it."""
    (one, first), (other, second) = keys.items()
    labels = second[1]
    here = _box(placed, one, *first, usual if address.get(other) == labels[0] else 0)
    # The first may have been set in another view since the second was chosen.
    start = usual if here != usual else 0
    return here, _box(placed, other, *second, start, unlike=labels[here])


def _box(placed, key: str, label: str, options: list[str], start: int = 0, unlike: str = "") -> int:
    """A box tied to the address; returns the place that was chosen."""
    pickers.linked(key, options, options[start], unlike)
    width = projector.wide(230 if key == "pair" else 110)
    placed.selectbox(label, options, key=key, width=width)
    return options.index(st.session_state[key])
