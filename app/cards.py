"""What the pages say of runs, models, data and scores."""

import numpy as np
import streamlit as st

from app import cached, charts, contents
from app.live import badge
from app.notices import plain
from reid_core.errors import BadInput
from reid_core.evaluate import Evaluation
from reid_core.experiment import Experiment
from reid_core.models import MODELS
from reid_core.runs import Run

MOST = 12
PAPERS = (
    "**From the papers**\n"
    + "".join(
        f"\n- **{model.title}.** {model.idea} :gray[{model.paper}]" for model in MODELS.values()
    )
    + (
        "\n- **Recipe `paper`**: the settings that the authors publish.\n"
        "- **mAP, CMC** and what the protocol ignores: Market-1501 (Zheng et al., ICCV 2015). "
        "**mINP**: Ye et al., TPAMI 2021."
    )
)
OURS = (
    "**Ours**\n"
    "\n- **The pedestrians are drawn**, not photographed. Their truth is known, which makes attention "
    "measurable; scores on them say nothing about a public benchmark.\n"
    "- **Recipe `demo`**: small models from scratch, for a laptop.\n"
    "- **An unknown camera** takes the mean camera embedding.\n"
    "- Bring your own data in Market-1501's layout on the page Train."
)


def first_with_pictures(runs: list[Run]) -> Run | None:
    """The run to show: a shipped one before others; its arrays and its data set must be there."""
    for run in sorted(runs, key=lambda run: not run.shipped):
        try:
            if run.has_embeddings:
                cached.evaluation(run.name, run.stamp())
                cached.dataset(*cached.folder(run.experiment))
                return run
        except BadInput:
            continue  # its card says what is wrong
    return None


def typical(scored: Evaluation) -> int:
    """The query whose average precision is nearest to the mean."""
    return int(np.nanargmin(np.abs(scored.average_precision - scored.mAP)))


def grid(runs: list[Run]) -> None:
    """A card for each run, the best first."""
    scores = {run.name: _metrics(run) for run in runs}
    best = sorted(runs, key=lambda run: -scores[run.name].get("mAP", -1))
    with st.grid("auto", min_column_width=330, gap="medium"):
        for run in best[:MOST]:
            with st.container(border=True):
                _card(run, scores[run.name])
    if len(runs) > MOST:
        st.caption(f"And {len(runs) - MOST} more: choose them on the left.")


def scores(scored: Evaluation, asked: Experiment) -> None:
    """The scores over all queries, and their CMC curve in the model's colour."""
    st.subheader(f"All {scored.queries} queries", anchor=False)
    numbers, chart = st.columns([2, 3], gap="large", vertical_alignment="center")
    left, right = numbers.columns(2)
    left.metric(
        "mAP", f"{scored.mAP:.3f}", help="Mean over the queries of their average precision."
    )
    right.metric("mINP", f"{scored.mINP:.3f}", help="How early the hardest true match is found.")
    left.metric("Rank-1", f"{scored.cmc[0]:.1%}", help="Queries whose first image is right.")
    right.metric("Rank-5", f"{scored.cmc[4]:.1%}", help="Queries with a right one among five.")
    numbers.caption(
        f"{scored.valid_queries} of {scored.queries} queries have a true match among "
        f"{scored.gallery} gallery images of {asked.evaluated_on}; protocol: {scored.protocol}."
    )
    chart.plotly_chart(
        charts.cmc(scored.cmc, charts.colour(asked.model)),
        key="cmc",
        config=dict(displayModeBar=False),
        alt=f"Share of queries with a hit at each rank; {scored.cmc[0]:.0%} at rank 1",
    )


def _card(run: Run, scores: dict) -> None:
    asked = run.experiment
    dot = f"<span style='color:{charts.colour(asked.model)}'>●</span>"
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"{dot} **{plain(run.name)}**", unsafe_allow_html=True, width="content")
        badge(run.status().state)
        if run.shipped:
            st.badge("shipped", color="gray", help="Came with the product.")
    changed = f", {len(asked.changed)} changed" if asked.changed else ""
    st.caption(f"{MODELS[asked.model].title}, recipe {asked.recipe}{changed}, {asked.dataset}")
    names = {"mAP": "mAP", "mINP": "mINP", "rank-1": "rank1"}
    values = scores | {"rank1": scores.get("cmc", {}).get("1")}
    for column, (name, key) in zip(st.columns(3), names.items(), strict=True):
        value = values.get(key)
        column.metric(name, "–" if value is None else f"{value:.3f}")
    with st.container(horizontal=True, gap="medium"):
        pictures = run.has_embeddings
        contents.link("Ranked galleries", "retrieval", "image_search", not pictures, run=run.name)
        contents.link("Training", "train", "show_chart", run=run.name, view="Watch")


def _metrics(run: Run) -> dict:
    try:
        return run.metrics()
    except BadInput:
        return {}
