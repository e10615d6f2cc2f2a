"""The Order lab's preset and its three steps, from what the study "orders" measured."""

import numpy as np
import streamlit as st

from app import address, pickers
from app.charts import fine
from app.lessons import Step
from reid_core.analysis.orders import BOUND, UNITS
from reid_core.studies.orders import ROWS, Options

ORDERS, LAYERS, HEADS, MODES = "Orders", "Layers", "Heads", "Sharing modes"
SET_DRAWS = Options().draws  # the page measures the set with the defaults
DIVERGENCES = {"js", "shuffled", "between_layers", "layers_shuffled", "between_heads"}
DIVERGENCES |= {"heads_shuffled", "diversity"}
TOKEN = dict(token="automatic", of="This picture")


def steps(found: dict[str, np.ndarray], labels: list[str], unit: str) -> list[Step]:
    """Three things to see in a run; the first is the page's preset. labels: the queries' names; unit:
    of UNITS, that in which the page shows divergences."""
    found = found | {name: UNITS[unit] * found[name] for name in DIVERGENCES & found.keys()}
    if "js" in found:
        return [_orders(found, labels, unit), _heads(found, labels, unit), _modes(found, unit)]
    several = found["between_layers"].shape[1] > 1
    chosen = [_layers(found, labels, unit, most) for most in (True, False)] if several else []
    return chosen + ([_heads(found, labels, unit)] if found["between_heads"].shape[2] > 1 else [])


def untouched(name: str, values: dict[str, str]) -> None:
    """Take a preset unless the address or the reader has already chosen something for this run."""
    state = st.session_state
    asked = state.setdefault(f"divergence asked {name}", address.names())
    if not values or state.get(f"divergence set {name}"):
        return
    state[f"divergence set {name}"] = True
    for key, value in values.items():
        if key not in asked and not pickers.chosen(key):
            pickers.preset(key, value)


def _orders(found, labels, unit) -> Step:
    js = found["js"]
    image, place, head = np.unravel_index(js.argmax(), js.shape)
    layer, order = found["pair"][place]
    value, draws = js[image, place, head], found["shuffled"][:, image, place, head]  # (S,)
    chance = draws.mean()
    label = labels[found["query"][image]]
    if js.max() == 0:
        said = (
            "Every high-order map of this run is its layer's first-order map: JS is 0 in every row, by "
            "construction. Compare it with the other sharing modes, where it is measured."
        )
    else:
        said = (
            f"Layer {layer}, head {head + 1}: {_said(value, unit)} between order 1 and order {order} on "
            f"{label}, the largest of {js.size} maps measured ({len(js)} queries), where their mean is "
            f"{fine(js.mean())}. With shuffled tokens the same two maps are {fine(chance, 3)} apart "
            f"(mean of {len(draws)} shuffles, from {fine(draws.min(), 2)} to {fine(draws.max(), 2)}): "
            + (
                f"about {_times(chance / value)} times as far."
                if chance > value
                else "here two orders agree no better than equally sharp maps of other tokens."
            )
        )
    keys = dict(pair=f"layer {layer}, order {order}", head=str(head + 1), query=label)
    return Step("Largest gap between orders", said, dict(between=ORDERS) | keys | TOKEN)


def _layers(found, labels, unit, most: bool) -> Step:
    """The two layers that differ most, or least, in all their rows."""
    mean = found["between_layers"][..., 1].mean(axis=0)
    one, other = np.triu_indices(len(mean), 1)
    place = int(mean[one, other].argmax() if most else mean[one, other].argmin())
    a, b = int(one[place]), int(other[place])
    values = found["between_layers"][:, a, b, 1]
    image = int(values.argmax() if most else values.argmin())
    chance = found["layers_shuffled"][:, a, b, 1].mean()
    numbers = [int(found["layer"][each]) for each in (a, b)]
    said = (
        f"Layers {numbers[0]} and {numbers[1]} are {_said(mean[a, b], unit)} apart in the mean over "
        f"{len(values)} queries, the {'most' if most else 'least'} of all pairs of layers; shuffled "
        f"tokens give {fine(chance, 2)}. {labels[found['query'][image]]} is the query where they differ "
        f"{'most' if most else 'least'}, {fine(values[image])}: compare the two rows of one position."
    )
    keys = dict(layer=str(numbers[0]), against=str(numbers[1]), query=labels[found["query"][image]])
    title = "Layers furthest apart" if most else "Layers most alike"
    return Step(title, said, dict(between=LAYERS, rows=ROWS[1]) | keys | TOKEN)


def _heads(found, labels, unit) -> Step:
    """The two heads of one layer that differ most."""
    mean = found["between_heads"][..., 1].mean(axis=0)  # (L, H, H)
    place, a, b = (int(each) for each in np.unravel_index(mean.argmax(), mean.shape))
    values = found["between_heads"][:, place, a, b, 1]
    chance = found["heads_shuffled"][:, place, a, b, 1].mean()
    image, layer = int(values.argmax()), int(found["layer"][place])
    said = (
        f"In layer {layer}, heads {a + 1} and {b + 1} are {_said(mean[place, a, b], unit)} apart in the mean "
        f"over {len(values)} queries, the most of any two heads of a layer; shuffled tokens give "
        f"{fine(chance, 2)}. On {labels[found['query'][image]]} it is {fine(values[image])}: the two rows of "
        "one position lie on other parts of the image."
    )
    keys = dict(layer=str(layer), one=str(a + 1), other=str(b + 1))
    keys["query"] = labels[found["query"][image]]
    step = dict(between=HEADS, rows=ROWS[1]) | keys | TOKEN
    return Step("Heads furthest apart", said, step)


def _modes(found, unit) -> Step:
    first, high = found["diversity"].mean(axis=(0, 1))
    said = (
        f"This run's orders are {_said(found['js'].mean(), unit)} apart, and its heads differ by {fine(high)} "
        f"in the high order against {fine(first)} in the first. The other sharing modes stand beside it: "
        "see where a map of its own moves JS, and whether mAP follows within its interval."
    )
    return Step("What sharing changes", said, dict(between=MODES))


def _times(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def _said(value: float, unit: str) -> str:
    return f"{fine(value)} {unit} ({value / (BOUND * UNITS[unit]):.1%} of the bound)"
