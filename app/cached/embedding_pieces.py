"""The pieces that an embedding joins."""

import numpy as np
import streamlit as st

from app.cached.base import embeddings, experiment
from app.cached.inbox import ranked_lists
from reid_core.analysis import pieces as analysis
from reid_core.look import pieces_of
from reid_core.runs import open_run

ENOUGH = 1000  # queries that are ranked once for each piece


@st.cache_resource(max_entries=32, show_spinner=False)
def pieces(run: str, stamp: int) -> dict[str, np.ndarray | None]:
    """What a run's embedding joins. Raises BadInput."""
    return pieces_of(experiment(run, stamp), open_run(run).facts)


@st.cache_resource(max_entries=8, show_spinner="Ranking by each piece alone")
def pieces_scored(run: str, stamp: int) -> analysis.Scores:
    """How well each piece ranks a run's test split. Raises BadInput."""
    return analysis.scores(embeddings(run, stamp), len(pieces(run, stamp)), ENOUGH)


@st.cache_resource(max_entries=8, show_spinner=False)
def culprit(run: str, stamp: int) -> analysis.Culprit | None:
    """The mistake that one piece decides. Raises BadInput."""
    lists, count = ranked_lists(run, stamp), len(pieces(run, stamp))
    ends = lists.failed, lists.wrong, lists.right
    return analysis.culprit(embeddings(run, stamp), *ends, count)
