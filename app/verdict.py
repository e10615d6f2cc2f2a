"""Match or no match: whether the nearest picture is near enough, by a run's own test split."""

import numpy as np
import streamlit as st

from app import cached
from app.notices import say
from app.scores import false_accepts
from reid_core.errors import BadInput
from reid_core.evaluate import JOINT
from reid_core.experiment import Experiment
from reid_core.retrieve import RankedList
from reid_core.runs import Run
from reid_core.scores.threshold import REFINED, Threshold, at

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
    st.caption(" ".join(_said(limit, asked, _protocol(run), len(there), own)))


def _threshold(run: Run) -> Threshold | None:
    """Ask for the share of false accepts; None, with a word, where nothing can be measured."""
    if not run.has_embeddings:
        st.caption(NOTHING)
        return None
    stamp = run.stamp()
    share = false_accepts()
    try:
        return at(cached.roc(run.name, stamp, _protocol(run)), share)
    except BadInput as problem:
        say("warning", f"no threshold: {problem}")
        return None


def _protocol(run: Run) -> str:
    """The run's usual one, by which the pairs are counted."""
    return cached.protocols(run.name, run.stamp())[0]


def _said(limit: Threshold, asked: Experiment, protocol: str, count: int, own: bool) -> list[str]:
    """What the threshold was measured on, and how far it carries."""
    words = [
        f"The threshold was measured on {asked.evaluated_on} of `{asked.dataset}`: of "
        f"{limit.strangers:,} pairs of two identities {limit.false_accepts:.2%} are nearer, of "
        f"{limit.same:,} pairs of one {limit.true_accepts:.1%}.",
        f"The share counts pairs: a query that meets {count:,} strangers would find about "
        f"{limit.false_accepts * count:,.1f} of them nearer.",
    ]
    if protocol == JOINT:
        words.append(REFINED)
    if own:
        words.append(
            "It was not measured on your pictures: nobody knows who is on them, and with another "
            "camera or another set of people the shares are others."
        )
    else:
        words.append("If your picture looks unlike those, the shares are others.")
    return words
