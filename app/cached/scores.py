"""The pages Scores and Ledger."""

import streamlit as st

from app.cached.base import embeddings
from reid_core.runs import open_run
from reid_core.scores.ledger import Ledger
from reid_core.scores.ledger import ledger as ledger_of
from reid_core.scores.protocols import PROTOCOLS, Scored
from reid_core.scores.protocols import score as score_by
from reid_core.scores.record import intervals as intervals_of
from reid_core.scores.verification import Roc
from reid_core.scores.verification import roc as roc_of


@st.cache_resource(max_entries=2, show_spinner="Collecting what the runs gave")
def ledger(runs: tuple[tuple[str, int], ...]) -> Ledger:
    """Published numbers beside those of some runs, given as (run, stamp)."""
    return ledger_of([open_run(name) for name, _ in runs])


def protocols(run: str, stamp: int) -> list[str]:
    """The protocols that a run's stored embeddings can be judged by, its own first. Raises
    BadInput."""
    refined = embeddings(run, stamp).encoded is not None
    return [k for k, each in PROTOCOLS.items() if each.refined == refined and not each.alone]


@st.cache_resource(max_entries=32, show_spinner="Ranking every query by the protocol")
def scored(run: str, stamp: int, protocol: str) -> Scored:
    """The scores of a run's stored embeddings by a protocol. Raises BadInput."""
    return score_by(embeddings(run, stamp), protocol)


@st.cache_resource(max_entries=32, show_spinner="Drawing the queries again and again")
def intervals(run: str, stamp: int, protocol: str, draws: int) -> dict:
    """Their 95 % intervals over the queries. Raises BadInput."""
    return intervals_of(scored(run, stamp, protocol), draws)


@st.cache_resource(max_entries=4, show_spinner="Counting pairs by their distance")
def roc(run: str, stamp: int, protocol: str) -> Roc:
    """The pairs that a protocol counts, by distance. Raises BadInput."""
    return roc_of(embeddings(run, stamp), protocol)
