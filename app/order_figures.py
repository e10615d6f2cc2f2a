"""The Order lab's figures with what is said of them: heat map, ruler, all rows; the two maps are
drawn by `order_maps`.

n queries of the study "orders", R x C cells; numbers come in nats.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, charts, charts_orders, figures
from app.charts import fine
from app.charts_orders import Line
from app.figures import Said
from app.order_steps import SET_DRAWS
from app.pictures import Picture
from reid_core.analysis import orders
from reid_core.analysis.intervals import interval
from reid_core.analysis.orders import BOUND, UNITS
from reid_core.divergence import js_divergence

HERE, SET = "This picture", "Mean of the set"
TO_BOUND, TO_LARGEST = "Up to the bound", "Up to the largest"
FORMULA = (
    "$$\\mathrm{JS}(p, q) = \\tfrac12 \\mathrm{KL}(p \\,\\|\\, m) + \\tfrac12 \\mathrm{KL}(q \\,\\|\\, m),"
    "\\qquad m = \\tfrac12 (p + q)$$\n\n"
    "0 where two rows are equal, ln 2 = 0.693 nats = 1 bit where they share no token.  \n"
    "**Uniform**: JS to a row that attends to all tokens alike.  \n"
    "**Shuffled tokens**: JS after the keys of the second map are put in a random order, the same "
    f"for all rows; over the set {SET_DRAWS} times for each query. As peaked as before, but about other tokens.  \n"
    "**Band**: 95 % percentile bootstrap of the mean, images drawn with replacement 1,000 times."
)
SOURCE = (
    "Lin, Divergence measures based on the Shannon entropy, IEEE Transactions on Information Theory, "
    "1991. Bootstrap: Efron, Annals of Statistics, 1979. Both baselines are ours."
)


@dataclass(frozen=True)
class Lab:
    """What all views share. found is the study of the run, or None where it has none (yet)."""

    picture: Picture
    found: dict[str, np.ndarray] | None
    unit: str
    rows: int  # 0: the class token's row, 1: the mean over all rows
    of: str
    full: bool

    @property
    def factor(self) -> float:
        return UNITS[self.unit]

    @property
    def colour(self) -> str:
        return charts.colour(self.picture.experiment.model)

    def said(self, caption: str, *code) -> Said:
        return Said(caption, FORMULA, SOURCE, (js_divergence, *code))


@dataclass(frozen=True)
class Grid:
    """A heat map's numbers in nats: js and its baselines (R, C). draws: over which shuffles, in words."""

    js: np.ndarray
    shuffled: np.ndarray
    uniform: tuple[np.ndarray, ...]
    draws: str


def heat_map(lab, here, whole, rows, columns, chosen, axes, about, down, across) -> None:
    shown = whole if whole and lab.of == SET else here
    js = shown.js * lab.factor
    texts = np.empty(js.shape, object)
    for place in np.ndindex(js.shape):
        sides = " and ".join(fine(side[place] * lab.factor) for side in shown.uniform)
        texts[place] = (
            f"{rows[place[0]]} / {columns[place[1]]}: {fine(js[place])} {lab.unit}<br>shuffled tokens "
            f"{fine(shown.shuffled[place] * lab.factor)}<br>to uniform {sides}"
        )
    figure = charts_orders.matrix(
        js, rows, columns, texts, axes=axes, unit=lab.unit, chosen=chosen,
        limit=lab.factor * BOUND if lab.full or js.max() == 0 else float(js.max()),
    )  # fmt: skip
    count = "one picture" if shown is here else f"mean of {len(lab.found['query'])} queries"
    baseline = (
        f" Chosen cell: {fine(js[chosen])} {lab.unit}; shuffled tokens "
        f"{fine(shown.shuffled[chosen] * lab.factor)} (mean of {shown.draws}), to uniform "
        + " and ".join(fine(side[chosen] * lab.factor) for side in shown.uniform)
    )
    code = (orders.between, orders.between_shuffled, orders.to_uniform)
    table = pd.DataFrame(js, index=list(rows), columns=list(columns)).reset_index(
        names=f"JS in {lab.unit}"
    )
    figures.chart(
        figure,
        lab.said(f"{about} {count.capitalize()}. Click a cell to open its maps.{baseline}.", *code),
        key="divergence-matrix",
        alt=f"JS divergence in {lab.unit}. {about} {count}",
        table=table,
        on_select=partial(_take_cell, down, across),
    )


def _take_cell(down: tuple[str, list[str]], across: tuple[str, list[str]]) -> None:
    """Open the cell that was clicked."""
    points = st.session_state["divergence-matrix"]["selection"]["points"]
    if points and points[0].get("customdata") is not None:
        for (key, options), place in zip((down, across), points[0]["customdata"], strict=True):
            st.session_state[key] = options[int(place)]


def line(lab: Lab, name: str, values, here, shuffled, uniform) -> Line:
    """values (n,), here, shuffled (..., n), uniform (n, 2), all in nats."""
    factor = lab.factor
    low, high = interval(values)
    sides = tuple(float(side) * factor for side in uniform.mean(axis=0))
    return Line(
        name, values * factor, (low * factor, high * factor), float(here) * factor,
        float(shuffled.mean()) * factor, sides,
    )  # fmt: skip


def ruler(lab: Lab, lines: list[Line], what: str) -> None:
    queries = lab.found["query"]
    figure = charts_orders.ruler(
        lines, queries, bound=BOUND * lab.factor, unit=lab.unit, colour=lab.colour, full=lab.full
    )
    labels = cached.labels(lab.picture.run, lab.picture.stamp)
    table = pd.DataFrame(
        [
            dict(pair=line.name, query=labels[int(query)], js=value, shuffled_mean=line.shuffled,
                 uniform_first_mean=line.uniform[0], uniform_second_mean=line.uniform[1], unit=lab.unit)
            for line in lines for query, value in zip(queries, line.values, strict=True)
        ]
    )  # fmt: skip
    figures.chart(
        figure,
        lab.said(
            f"{what}: a point is one of {len(queries)} queries, evenly through the test split; a bar "
            "is their mean with its 95 % bootstrap band. Left of the crosses, two maps agree more than "
            "their sharpness alone would make them. Click a point to open that query.",
            orders.shuffled,
            interval,
        ),
        key="divergence-ruler",
        alt=f"JS divergence over {len(queries)} queries, with its baselines and its bound",
        table=table,
        on_select=partial(_take_query, lab.picture.run, lab.picture.stamp),
    )


def _take_query(run: str, stamp: int) -> None:
    """Open the query whose point was clicked."""
    for point in st.session_state["divergence-ruler"]["selection"]["points"]:
        if point.get("customdata") is not None:
            st.session_state["query"] = cached.labels(run, stamp)[int(point["customdata"][0])]
            return


def rows(lab: Lab, chosen, name: str, here: Grid, whole: Grid) -> None:
    """The distribution over every row of every image, for the chosen layer and head."""
    counts, factor = lab.found["histogram"][chosen], lab.factor
    marks = {
        "mean": (whole.js[chosen] * factor, charts.QUIET),
        "shuffled tokens": (whole.shuffled[chosen] * factor, charts_orders.SHUFFLED),
        "first order to uniform": (whole.uniform[0][chosen] * factor, charts_orders.UNIFORM),
    }
    figure = charts_orders.histogram(
        counts, BOUND * factor, marks, unit=lab.unit, colour=lab.colour, full=lab.full
    )
    edges = np.linspace(0, BOUND * factor, len(counts) + 1)
    figures.chart(
        figure,
        lab.said(
            f"All {int(counts.sum()):,} rows of {len(lab.found['query'])} queries: {name}; in bins of {edges[1]:.3f}.",
            orders.Pair.js,
        ),
        key="divergence-rows",
        alt=f"Distribution of the JS divergence over rows, {name}",
        table=pd.DataFrame(dict(low=edges[:-1], high=edges[1:], unit=lab.unit, rows=counts)),
    )
