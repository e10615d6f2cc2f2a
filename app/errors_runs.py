"""Two to five runs on one test split: who is right where, how sure the difference is, what differs."""

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app import address, cached, charts_runs, errors_others, figures, galleries, pickers
from app.components import query_strip, ranked_gallery
from app.errors import Case
from app.errors_walk import walk
from app.figures import Said
from app.notices import explained, plain, say
from reid_core.analysis.comparison import (
    DRAWS,
    MOST,
    SEED,
    Pattern,
    differences,
    knobs_that_differ,
    patterns,
)
from reid_core.runs import Run, open_run

AGAINST = "against"
BOOTSTRAP = r"""
With $\Delta_q$ the difference of two runs on query $q$ (of AP, or of being right at rank 1), a draw is
the mean of as many $\Delta_q$, drawn with replacement; the interval holds the middle 95 % of
DRAWS draws (seed SEED). Queries of one person are taken as independent, which they are not quite.
""".replace("DRAWS", f"{DRAWS:,}").replace("SEED", f"{SEED}")


def show(run: Run, case: Case, bar) -> None:
    """Draw it; ends the page where there is nothing to compare."""
    runs = _chosen(run, bar)
    stamps = tuple((name, open_run(name).stamp()) for name in runs)
    with explained():
        found, sure = cached.runs_compared(stamps)
        asked = {name: cached.experiment(name, stamp) for name, stamp in stamps}
    order = _patterns(case, runs, found, stamps)
    _lists(case, stamps, asked, order)
    left, right = st.columns(2, gap="large")
    with left:
        _scatter(case, stamps, found)
    with right:
        figures.chart(
            charts_runs.how_sure(sure),
            Said(
                "Differences over the same queries with their 95 % interval (paired bootstrap); filled "
                "where 0 lies outside. Intervals are not corrected for their number.",
                BOOTSTRAP,
                "Efron 1979.",
                (differences,),
            ),
            key="differences",
            alt="; ".join(f"{s.b} - {s.a}, {s.measure}: {s.difference:+.3f}" for s in sure),
            table=pd.DataFrame([vars(each) for each in sure]),
        )
    _side_by_side(stamps, asked)


def _chosen(run: Run, bar) -> list[str]:
    """The names of the runs, the sidebar's first."""
    others = errors_others.candidates(run)
    if not others:
        say(
            "info", "No other run was evaluated on this test split: train or evaluate a second one."
        )
        address.stop()
    _linked(run, others)
    picked = bar.multiselect(
        "Against",
        others,
        key=AGAINST,
        max_selections=MOST - 1,
        label_visibility="collapsed",
        placeholder="Choose one to four runs",
        width="stretch",
    )
    if not picked:
        say("info", "Choose one to four runs to compare with.")
        address.stop()
    return [run.name, *picked]


def _linked(run: Run, others: list[str]) -> None:
    """Tie the chosen runs to the address, as `pickers.linked` does one choice; at first the run that
    differs most."""
    state = st.session_state
    asked, last = address.get_all(AGAINST), address.tied(AGAINST)
    if asked and asked != last:
        state[AGAINST] = list(dict.fromkeys(asked))  # an address may name a run twice
    kept = [name for name in state.get(AGAINST, []) if name in others][: MOST - 1]
    if not kept and state.get(AGAINST) != []:  # nothing was chosen yet, or nothing that is there
        best = errors_others.most_different(run)
        kept = [best[0] if best else others[0]]
    state[AGAINST] = kept
    if gone := " and ".join(name for name in dict.fromkeys(asked) if name not in others):
        say("warning", f"There is no run {gone} to compare with; shown is {', '.join(kept)}.")
    address.tie(AGAINST, kept)


def _patterns(case: Case, runs: list[str], found: list[Pattern], stamps) -> np.ndarray:
    """The chart of who is right; returns the chosen queries, those of the largest spread first."""
    codes = [errors_others.code(pattern) for pattern in found]
    kept = [each for each, pattern in zip(codes, found, strict=True) if len(pattern.queries)]
    first = errors_others.code(errors_others.disagreement(found))
    pickers.linked("pattern", kept, first if first in kept else kept[0])
    said = {
        each: f"{pattern.says(runs)}: {len(pattern.queries)}"
        for each, pattern in zip(codes, found, strict=True)
    }
    figures.chart(
        charts_runs.who_is_right(found, runs, codes, st.session_state["pattern"]),
        Said(
            "Queries by which runs have rank 1 right (filled) or wrong (hollow). Each of the "
            f"{sum(len(pattern.queries) for pattern in found)} queries with a true match is in one "
            f"column{charts_runs.drawn(len(kept))}. Click one to walk through its queries.",
            code=(patterns,),
        ),
        key="who",
        alt="; ".join(said[each] for each in kept),
        table=figures.beside(
            dict(queries=[len(pattern.queries) for pattern in found]),
            dict(zip(runs, np.array([pattern.right for pattern in found]).T, strict=True)),
        ),
        on_select=lambda: _take("who", "pattern"),
    )
    pickers.labelled("pattern", said)
    st.selectbox(
        "Queries where",
        kept,
        key="pattern",
        format_func=said.get,
        label_visibility="collapsed",
    )
    queries = found[codes.index(st.session_state["pattern"])].queries
    precision = np.stack([cached.evaluation(*each).average_precision[queries] for each in stamps])
    return queries[np.argsort(-np.ptp(precision, axis=0), kind="stable")]


def _lists(case: Case, stamps, asked, order: np.ndarray) -> None:
    """Every run's list of one query."""
    row = st.container(horizontal=True, vertical_alignment="center", gap="small")
    query = walk(case.run, case.stamp, order, row)
    labels = cached.labels(case.run, case.stamp)
    source = cached.folder(asked[case.run])
    items = galleries.strip(source, case.found, case.lists, labels, order, query)
    query_strip(items, key="queue", on_pick=lambda: pickers.pick_query("queue"))
    st.caption(
        f"These queries, those first whose AP differs most between the runs; below each its AP in {plain(case.run)}."
    )
    for name, stamp in stamps:
        with explained():
            found, ranking = cached.embeddings(name, stamp), cached.ranked(name, stamp, query)
        st.markdown(f"**{plain(name)}**")
        places = galleries.shown(ranking, 12, ghosts=False)
        facts = galleries.query(source, found, ranking, labels[query], found.query_rows[query])
        tiles = galleries.tiles(source, found, ranking, places)
        ranked_gallery(facts, tiles, key=f"list of {name}", compact=True)


def _scatter(case: Case, stamps, found: list[Pattern]) -> None:
    """AP per query of the sidebar's run and another."""
    others = dict(stamps[1:])
    pickers.linked("versus", list(others), stamps[1][0])
    if len(others) > 1:
        st.selectbox("Beside", list(others), key="versus", label_visibility="collapsed")
    name = st.session_state["versus"]
    pair = (case.run, case.stamp), (name, others[name])
    a, b = (cached.evaluation(*each).average_precision for each in pair)
    labels = cached.labels(case.run, case.stamp)
    figures.chart(
        charts_runs.query_by_query(
            (a, b), (case.run, name), labels, st.session_state.get("query", "")
        ),
        Said(
            f"A point is a query: average precision in both runs, triangles up where {name} is "
            f"better ({int((b > a).sum())}), down where it is worse ({int((a > b).sum())}), grey dots "
            f"where neither is ({int((a == b).sum())}). The ring is the query above; click a point to "
            "open it.",
        ),
        key="scatter",
        alt=f"Average precision of each query in {case.run} and {name}",
        table=figures.beside(dict(query=labels), {case.run: a, name: b}),
        on_select=lambda: _open(case, found),
    )


def _open(case: Case, found: list[Pattern]) -> None:
    """Take the clicked query, and the pattern that it is in."""
    if (label := _clicked("scatter")) is None:
        return
    query = cached.labels(case.run, case.stamp).index(label)
    inside = next((pattern for pattern in found if query in pattern.queries), None)
    if inside:
        st.session_state.update({"query": label, "pattern": errors_others.code(inside)})


def _take(key: str, name: str) -> None:
    if (said := _clicked(key)) is not None:
        st.session_state[name] = said


def _clicked(key: str) -> str | None:
    points = st.session_state[key]["selection"]["points"]
    said = points[0].get("customdata") if points else None
    return said[0] if isinstance(said, list | tuple) else said


def _side_by_side(stamps, asked) -> None:
    """Scores, and the knobs that are not alike."""
    st.subheader("Side by side", anchor=False)
    rows = {}
    for name, stamp in stamps:
        scored = cached.evaluation(name, stamp)
        cmc = {f"rank-{rank}": scored.cmc[rank - 1] for rank in (1, 5, 10)}
        scores = dict(mAP=scored.mAP, mINP=scored.mINP) | cmc
        rows[name] = [*(f"{value:.3f}" for value in scores.values()), scored.protocol]
    figures.table(
        figures.beside(dict(score=[*scores, "protocol"]), rows),
        Said(
            "Scores over the same queries, from the stored embeddings. Under another protocol than "
            "market a run has seen the other test images too before it ranks."
        ),
        key="scores",
    )
    differ = knobs_that_differ({name: each.as_dict() for name, each in asked.items()})
    shared = sorted(differ, key=lambda knob: any(value is None for value in differ[knob]))
    figures.table(
        figures.beside(
            dict(knob=shared),
            {n: [_text(differ[knob][at]) for knob in shared] for at, n in enumerate(asked)},
        ),
        Said(
            "What the runs were asked for and not alike; those that not every run has come last "
            "(a dash: this run has no such knob).",
            code=(knobs_that_differ,),
        ),
        key="knobs",
    )


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)
