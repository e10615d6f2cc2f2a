"""What the pages say of runs, models, data and scores."""

from pathlib import Path

import numpy as np
import streamlit as st

from app import address, cached, charts, contents, pickers
from app.live import badges
from app.notices import plain, say
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, Evaluation
from reid_core.experiment import Experiment
from reid_core.models import MODELS
from reid_core.runs import Run, damaged_runs

MOST = 24
# The model that has what a page shows, where not every model has it.
SHOWN_BEST = {
    "attention": "transreid",
    "divergence": "ohformer",
    "neighbours": "nformer",
    "frequency": "pha",
    "clusters": "nformer",
    "errors": "transreid",
}
PAPERS = (
    "**From the papers**\n"
    + "".join(
        f"\n- **{model.title}.** {model.idea} :gray[{model.paper}]" for model in MODELS.values()
    )
    + (
        "\n- **Recipe `paper`**: the authors' settings, as far as our sources tell them; each model says more.\n"
        "- **mAP, CMC** and what the protocol ignores: Market-1501 (Zheng et al., ICCV 2015). "
        "**mINP**: Ye et al., TPAMI 2021."
    )
)
OURS = (
    "**Ours**\n"
    "\n- **The pedestrians are drawn**, not photographed. Their truth is known, which makes attention "
    "measurable; scores on them say nothing about a public benchmark.\n"
    "- **Recipe `demo`**: small models from scratch, for a laptop.\n"
    "- **OH-Former has no public code.** What our sources leave open, its recipe `paper` included, is "
    "decided here.\n"
    "- **An unknown camera or view** takes the mean embedding.\n"
    "- **What else departs from a paper** or its code stands in each model's description on the page "
    "Train.\n"
    "- Bring your own data in Market-1501's layout on the page Train, and the official code's "
    "checkpoints with `python -m reid_core import`."
)


def tested() -> Run:
    """The run chosen in the sidebar; one without a tested split ends the page with a word on why."""
    run = pickers.run()
    if not run.has_embeddings:
        no_embeddings(run)
        address.stop()
    return run


def first_with_pictures(runs: list[Run]) -> Run | None:
    """The run to show: a shipped one before others; its arrays and its data set must be there."""
    order = list(MODELS)
    for run in sorted(runs, key=lambda run: (not run.shipped, order.index(run.experiment.model))):
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


def inside(runs: list[Run]) -> None:
    """A way into each page that looks inside, with a run that has what it shows."""
    usable = [run for run in runs if run.has_embeddings]
    with st.grid("auto", min_column_width=250, gap="medium"):
        for stem, (title, icon, about) in contents.CONTENTS["Look inside"].items():
            with st.container(border=True):
                st.markdown(f"{icon} **{title}**")
                st.caption(about)
                wanted = SHOWN_BEST.get(stem)
                best = [run for run in usable if run.experiment.model == wanted] or usable
                chosen = dict(run=best[0].name) if best else {}
                contents.link(
                    f"Open with {best[0].name}" if best else "Open", stem, "arrow_forward", **chosen
                )


def grid(runs: list[Run]) -> None:
    """A card for each run, the best first, and a word on those that can't be read."""
    for why in damaged_runs().values():
        say("warning", why)
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
    left.metric(
        "Rank-1", f"{scored.cmc[0]:.3f}", help="Share of the queries whose first image is right."
    )
    right.metric(
        "Rank-5", f"{scored.cmc[4]:.3f}", help="Share of the queries with a right one among five."
    )
    numbers.caption(
        f"{scored.valid_queries} of {scored.queries} queries have a true match among "
        f"{scored.gallery} gallery images of {asked.evaluated_on}; protocol: {scored.protocol}."
    )
    chart.plotly_chart(
        charts.cmc(scored.cmc, charts.colour(asked.model)),
        key="cmc",
        config=dict(displayModeBar=False),
        alt=f"Share of queries with a hit at each rank; {scored.cmc[0]:.3f} at rank 1",
    )


def no_embeddings(run: Run) -> None:
    """Say why a run has no ranked galleries of a test split, and how it gets them."""
    if run.imported:
        st.info(
            "This run was imported, and nothing is scored yet. It answers your own pictures below. To "
            "see a test split's galleries here, score it on a folder in Market-1501's layout:",
            icon=":material/info:",
        )
        st.code(evaluation(run), language=None)
        return
    meanwhile = " Meanwhile it answers your own pictures." if run.has_weights else ""
    lacks = run.lacks("embeddings.npz")
    say("info", f"{lacks}. Or choose another run on the left.{meanwhile}")


def evaluation(run: Run) -> str:
    """The command that scores an imported run."""
    return f"python -m reid_core evaluate {run.name} --data DIR"


def refined(found: Embeddings, asked: Experiment) -> None:
    """Say which images looked at one another, for a model that lets them."""
    if not MODELS[asked.model].refines:
        return
    if found.encoded is None:
        st.caption("So far only the encoder is trained: each image was embedded alone.")
    else:
        st.caption(
            "All queries and the gallery were refined as one set (protocol `nformer-joint`); an "
            "uploaded picture is refined as one set with the gallery."
        )


def _card(run: Run, scores: dict) -> None:
    asked = run.experiment
    dot = f"<span style='color:{charts.colour(asked.model)}'>●</span>"
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"{dot} **{plain(run.name)}**", unsafe_allow_html=True, width="content")
        badges(run, run.status().state)
    by = f"; protocol {scores['protocol']}" if scores.get("protocol") else ""
    st.caption(plain(_about(run, "mAP" in scores) + by))
    if "damage" in scores:
        say("warning", scores["damage"])
    elif run.imported and not scores:
        st.markdown("Not scored yet. On a folder in Market-1501's layout:")
        st.code(evaluation(run), language=None, wrap_lines=True)
    else:
        _numbers(scores)
    with st.container(horizontal=True, gap="medium"):
        scored, mute = run.has_embeddings, not (run.has_embeddings or run.has_weights)
        label = "Ranked galleries" if scored or mute else "Your pictures"
        contents.link(label, "retrieval", "image_search", mute, run=run.name)
        if not run.imported:
            contents.link("Training", "train", "show_chart", run=run.name, view="Watch")


def _numbers(scores: dict) -> None:
    names = {"mAP": "mAP", "mINP": "mINP", "rank-1": "rank1"}
    values = scores | {"rank1": scores.get("cmc", {}).get("1")}
    with st.container(horizontal=True):
        for name, key in names.items():
            value = values.get(key)
            st.metric(name, "–" if value is None else f"{value:.3f}", width=90)


def _about(run: Run, scored: bool) -> str:
    """What a run is, in a line."""
    asked = run.experiment
    title = MODELS[asked.model].title
    if run.imported:
        where = Path(asked.data).name if asked.data else asked.dataset
        return f"{title}, from {run.imported['file']}" + (f", scored on {where}" if scored else "")
    changed = f", {len(asked.changed)} changed" if asked.changed else ""
    over = f" over {asked.options.encoder}" if asked.encoder else ""
    return f"{title}{over}, recipe {asked.recipe}{changed}, {asked.dataset}"


def _metrics(run: Run) -> dict:
    try:
        return run.metrics()
    except BadInput as problem:
        return dict(damage=str(problem))
