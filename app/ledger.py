"""Published numbers beside those of the runs: what is chosen, drawn and said."""

import pandas as pd
import streamlit as st

from app import cached, charts_scores, figures, pickers
from app.figures import Said
from app.notices import plain, say
from reid_core.models import MODELS
from reid_core.runs import list_runs
from reid_core.scores.ledger import Given, Ledger, Line, given_by, published
from reid_core.scores.published import METRICS, NOTES, SETS

TITLES = {name: model.title for name, model in MODELS.items()}


def read() -> Ledger:
    """The ledger with every run that there is."""
    return cached.ledger(tuple((run.name, run.stamp()) for run in list_runs()))


def show(found: Ledger) -> None:
    """Draw one data set and metric of it; then the runs for which nothing is published."""
    lines = found.compared()
    sets = [name for name in SETS if any(line.entry.dataset == name for line in lines)]
    bar = st.container(horizontal=True, vertical_alignment="center")
    pickers.linked("set", sets, sets[0])
    dataset = bar.selectbox(
        "Data set",
        sets,
        key="set",
        format_func=lambda name: SETS[name][0],
        width=260,
        label_visibility="collapsed",
    )
    here = [line for line in lines if line.entry.dataset == dataset]
    metrics = [name for name in METRICS if any(line.entry.metric == name for line in here)]
    pickers.linked("metric", metrics, metrics[0])
    metric = bar.segmented_control(
        "Metric", metrics, key="metric", required=True, label_visibility="collapsed"
    )
    here = [line for line in here if line.entry.metric == metric]
    _drawn(here, [run for run in found.runs if run.dataset == dataset], dataset, metric)
    _unpublished(found)


def _drawn(lines: list[Line], runs: list[Given], dataset: str, metric: str) -> None:
    title = SETS[dataset][0]
    told = (
        f"{len(runs)} of the runs here were evaluated on {title} (filled)."
        if runs
        else f"No run here was evaluated on {title}; python -m reid_core evaluate RUN --dataset "
        f"{SETS[dataset][1][0]} --data DIR adds an imported one."
    )
    table = pd.DataFrame([_row(line) for line in lines])
    figures.chart(
        charts_scores.ledger(lines, runs, metric, TITLES),
        Said(
            f"{metric} on {title} as others report it, by who reports it. {told} Only numbers whose "
            "source was read; sizes, weights and training sets differ, as the table says. Each "
            "network has a row of its own; its colour is its model's.",
            code=(Ledger.compared,),
        ),
        key="reported",
        alt=f"{metric} on {title}: {len({line.entry for line in lines})} reported numbers, "
        f"{len(runs)} runs",
        table=table,
    )
    figures.table(
        table,
        Said(
            "Difference: the run's minus the reported number, in points, where both are under the "
            "same protocol; empty without a run, or where the protocols differ (then the note says "
            "which). `market` and `cuhk03-np` are one rule.",
            code=(given_by, published),
        ),
        key="ledger",
    )
    about = dict.fromkeys([dataset, *(line.entry.model for line in lines), "pha", "ohformer"])
    st.markdown("\n".join(f"- :gray[{plain(NOTES[key])}]" for key in about if key in NOTES))


def _row(line: Line) -> dict:
    entry = line.entry
    return {
        "whose number": entry.name,
        "reported": f"{entry.value:.1%}",
        "by": entry.what,
        "run": line.run,
        "this run": "" if line.ours is None else f"{line.ours:.1%}",
        "difference": "" if line.difference is None else f"{100 * line.difference:+.1f}",
        "protocol": entry.protocol,
        "source": entry.source,
        "configuration": entry.configuration,
        "note": line.note,
    }


def _unpublished(found: Ledger) -> None:
    rest = [run for run in found.runs if run.dataset is None]
    for why in found.damaged:
        say("warning", why)
    if not found.runs and not found.damaged:
        say("info", "There is no evaluated run yet; the page Train starts one.")
    if not rest:
        return
    st.subheader("Runs without a published number", anchor=False)
    figures.table(
        pd.DataFrame(
            {
                "run": run.run,
                "model": TITLES[run.model],
                "evaluated on": run.evaluated_on,
                "queries": run.queries,
                "gallery": run.gallery,
                "protocol": protocol,
                **{name: f"{scores[name]:.1%}" for name in METRICS if name in scores},
                "why": run.why,
            }
            for run in rest
            for protocol, scores in run.scores.items()
        ),
        Said("What these runs gave in their last evaluation, and why nothing stands beside it."),
        key="unpublished",
    )
