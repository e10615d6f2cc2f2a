"""One list with and without re-ranking, and what all queries gain or lose by it."""

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, charts, charts_errors, figures, galleries, pickers, studies
from app.components import ranked_gallery
from app.errors import Case
from app.figures import Said
from app.notices import explained
from reid_core import rerank
from reid_core.analysis.intervals import paired
from reid_core.experiment import Experiment
from reid_core.retrieve import RankedList
from reid_core.runs import Run
from reid_core.studies import Study

METHODS = {
    "none": "As the run ranks",
    "k-reciprocal": "k-reciprocal",
    "average": "Average expansion",
    "alpha": "Alpha expansion",
}
SMALL = 5000  # images: up to here all queries are re-ranked without being asked
COUNT = 20
RECIPROCAL = r"""
$\mathcal{R}(p, k)$: images that are among each other's $k$ nearest (eq. 3), $\mathcal{R}^*(p, k_1)$ with
those added that $\mathcal{R}(q, \frac{1}{2}k_1)$ of a $q \in \mathcal{R}(p, k_1)$ brings, where two
thirds of it lie in $\mathcal{R}(p, k_1)$ (eq. 5).

$$\mathcal{V}_{p,g} \propto e^{-d(p,g)}\ \text{for}\ g \in \mathcal{R}^*(p, k_1),\ \text{else}\ 0
\quad(7),\qquad \mathcal{V}_p \leftarrow \tfrac{1}{k_2}\sum_{q \in N(p, k_2)} \mathcal{V}_q\quad(11)$$

$$d_J(p,g) = 1 - \frac{\sum_i \min(\mathcal{V}_{p,i}, \mathcal{V}_{g,i})}
{\sum_i \max(\mathcal{V}_{p,i}, \mathcal{V}_{g,i})}\quad(10),\qquad
d^* = (1-\lambda)\, d_J + \lambda\, d\quad(12)$$

with $(k_1, k_2, \lambda) = (20, 6, 0.3)$.
"""
EXPANSION = r"""
$$q \leftarrow \frac{q + \sum_{i=1}^{n} (q^\top x_i)^\alpha\, x_i}{\lVert\cdot\rVert}$$

over the $n = 5$ nearest gallery images $x_i$, all of length 1; $\alpha = 3$, and $\alpha = 0$ for average
expansion. The gallery images that the protocol ignores count too: the method knows nobody's identity.
"""
SAID = {
    "none": Said(""),
    "k-reciprocal": Said(
        "",
        RECIPROCAL,
        "Zhong et al., CVPR 2017. As in the authors' code, d is the squared distance divided by the "
        "row's largest, rows of V sum to 1, and eq. 5 asks for more than two thirds.",
        (rerank.Reciprocal.of, rerank.Reciprocal.jaccard),
    ),
    "average": Said("", EXPANSION, "Chum et al., ICCV 2007. n is ours.", (rerank.expand,)),
    "alpha": Said("", EXPANSION, "Radenovic et al., TPAMI 2018. n is ours.", (rerank.expand,)),
}


def show(run: Run, case: Case, asked: Experiment, source: tuple[str, str]) -> None:
    """Draw both lists of a query, and the change over all queries."""
    pickers.order(run.name, case.stamp)
    query = pickers.query(run.name, case.stamp)
    settings = _switches(case)
    before = cached.ranked(run.name, case.stamp, query)
    label, row = cached.labels(run.name, case.stamp)[query], case.queries[query]
    if settings == dict(method="none", features="as the run"):
        _list(case, source, before, before, label, row)
        st.caption("The list as the run ranks it. Choose a method above to see what moves.")
        return
    with explained():
        key = Study.asked(run, "rerank", settings).key
    found = studies.study(
        run,
        "rerank",
        label=f"Re-rank all {len(case.queries)} queries",
        start=len(case.found.names) <= SMALL,
        **settings,
    )
    needs = key if settings["method"] == "k-reciprocal" else ""
    if found is None and needs:
        _list(case, source, before, before, label, row)
        st.caption("The list as the run ranks it: k-reciprocal needs all images' codes first.")
        return
    with explained():
        chosen = tuple(sorted(settings.items()))
        after = cached.reranked(run.name, case.stamp, query, needs, chosen)
    _list(case, source, before, after, label, row)
    if found is not None:
        _all(case, found, settings, charts.colour(asked.model))


def _switches(case: Case) -> dict[str, Any]:
    """What is asked for, as settings of the study "rerank"."""
    pickers.linked("method", list(METHODS), "k-reciprocal")
    row = st.container(horizontal=True, vertical_alignment="center")
    row.segmented_control(
        "Method",
        list(METHODS),
        key="method",
        required=True,
        format_func=METHODS.get,
        label_visibility="collapsed",
    )
    refined = True
    if case.found.encoded is not None:
        pickers.linked("nformer", ["with", "without"], "with")
        row.segmented_control(
            "NFormer",
            ["with", "without"],
            key="nformer",
            required=True,
            format_func=lambda which: f"{which} NFormer",
            label_visibility="collapsed",
        )
        refined = st.session_state["nformer"] == "with"
    return dict(method=st.session_state["method"], features="as the run" if refined else "encoder")


def _list(case: Case, source, before: RankedList, after: RankedList, label: str, row: int) -> None:
    """The list after re-ranking, each image with the rank that it had."""
    was = np.zeros(len(case.found.names), int)
    was[before.rows] = before.ranks
    places = galleries.shown(after, COUNT, ghosts=False)
    tiles = galleries.tiles(source, case.found, after, places)
    if after is not before:
        for tile, place in zip(tiles, places, strict=True):
            tile["note"] = moved(int(was[after.rows[place]]), int(after.ranks[place]))
    query = galleries.query(source, case.found, after, label, row)
    if after is not before and len(before.hits):
        query["facts"] += [["AP before", f"{before.average_precision:.3f}"]]
    ranked_gallery(query, tiles, key="reranked")


def moved(was: int, now: int) -> str:
    """What is said of an image whose rank changed."""
    if was == now:
        return "stays"
    return f"{'▲' if now < was else '▼'} was {was}"


def _all(case: Case, found: dict[str, np.ndarray], settings: dict, line: str) -> None:
    """The scores of all queries before and after."""
    scored = cached.evaluation(case.run, case.stamp)
    before, after = scored.average_precision, found["average_precision"]
    mean, low, high = paired(after, before)
    first = found["first_hit"][found["first_hit"] > 0]
    matched = int((np.isfinite(before) & np.isfinite(after)).sum())
    every = f"All {len(after)} queries"
    some = f"The {matched} of {len(after)} queries that have a match"
    st.subheader(every if matched == len(after) else some, anchor=False)
    numbers, chart = st.columns([2, 3], gap="large", vertical_alignment="center")
    left, right = numbers.columns(2)
    old, new = round(scored.mAP, 4), round(float(np.nanmean(after)), 4)
    old_first, new_first = round(float(scored.cmc[0]), 3), round(float((first == 1).mean()), 3)
    # To a digit less than the numbers, with which it then adds up.
    left.metric("mAP", f"{new:.4f}", f"{mean:+.3f}")
    right.metric("Rank-1", f"{new_first:.3f}", f"{new_first - old_first:+.3f}")
    better, worse = int((after > before).sum()), int((after < before).sum())
    same = int((after == before).sum())
    numbers.caption(
        f"As the run ranks: mAP {old:.4f}, rank-1 {old_first:.3f}. {better} lists are better, {worse} "
        f"worse, {same} unchanged."
    )
    counts, edges = charts_errors.changes(before, after)
    middle = len(counts) // 2
    said = SAID[settings["method"]]
    with chart:
        figures.chart(
            charts_errors.moved(before, after, line),
            Said(
                f"Change of AP by query against the run's own lists: mean {mean:+.3f} (95 % paired "
                f"bootstrap {low:+.3f} to {high:+.3f}). Grey: the {counts[middle]} lists that change by "
                f"less than {edges[middle + 1]:.3f} either way, the unchanged among them. Distances on "
                "the tiles are those of the method.",
                said.formula,
                said.source,
                said.code,
            ),
            key="moved",
            alt=f"Histogram of the change of average precision; mean {mean:+.3f}",
            table=pd.DataFrame(
                dict(query=cached.labels(case.run, case.stamp), before=before, after=after)
            ),
        )
