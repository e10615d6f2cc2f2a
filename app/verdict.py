"""Match or no match: whether the nearest picture is near enough, by a run's own test split."""

import numpy as np
import streamlit as st

from app import cached, pickers
from app.notices import say
from app.scores import RATES
from reid_core.errors import BadInput
from reid_core.experiment import Experiment
from reid_core.retrieve import RankedList
from reid_core.runs import Run
from reid_core.threshold import Threshold, at

NOTHING = (
    "No threshold: this run has no evaluated test split to measure one on, so nothing is called a "
    "match or no match."
)


def show(run: Run, asked: Experiment, ranking: RankedList, own: bool) -> None:
    """Ask for a share of false accepts; say whether the nearest is a match, and what that rests on.

    own: the gallery is the visitor's too, and nothing is known of the people on it.
    """
    limit, there = _threshold(run), ranking.distances[~ranking.ignored]
    if limit is None or not len(there):
        return
    nearest, near = float(there[0]), int(np.count_nonzero(there < limit.distance))
    words = f"the nearest is at {nearest:.3f}, and a match is nearer than {limit.distance:.3f}."
    if limit.accepts(nearest):
        say("info", f"Match by the threshold: {words} So near: {near} of {len(there):,}.")
    else:
        say("info", f"No match: {words}")
    st.caption(" ".join(_said(limit, asked, len(there), own)))


def _threshold(run: Run) -> Threshold | None:
    """Ask for the share of false accepts; None, with a word, where nothing can be measured."""
    if not run.has_embeddings:
        st.caption(NOTHING)
        return None
    stamp = run.stamp()
    pickers.linked("far", list(RATES), "1 %")
    rate = st.segmented_control(
        "False accepts",
        RATES,
        key="far",
        required=True,
        help="The share of pairs of two people, on the run's test split, that may be taken for one. "
        "It decides the distance from which on there is no match.",
    )
    try:
        pairs = cached.roc(run.name, stamp, cached.protocols(run.name, stamp)[0])
        return at(pairs, float(rate.removesuffix(" %")) / 100)
    except BadInput as problem:
        say("warning", f"no threshold: {problem}")
        return None


def _said(limit: Threshold, asked: Experiment, count: int, own: bool) -> list[str]:
    """What the threshold was measured on, and how far it carries."""
    words = [
        f"The threshold was measured on {asked.evaluated_on} of `{asked.dataset}`: of "
        f"{limit.strangers:,} pairs of two identities {limit.false_accepts:.2%} are nearer, of "
        f"{limit.same:,} pairs of one {limit.true_accepts:.1%}.",
        f"The share counts pairs: a query that meets {count:,} strangers would find about "
        f"{limit.false_accepts * count:,.1f} of them nearer.",
    ]
    if own:
        words.append(
            "It was not measured on your pictures: nobody knows who is on them, and with another "
            "camera or another set of people the shares are others."
        )
    else:
        words.append("If your picture looks unlike those, the shares are others.")
    return words
