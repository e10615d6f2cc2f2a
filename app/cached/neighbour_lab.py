"""The page Neighbours."""

from dataclasses import replace

import numpy as np
import streamlit as st

from app.cached.base import embeddings, evaluation, model
from reid_core.analysis import (
    neighbours,
)
from reid_core.evaluate import Embeddings, evaluate
from reid_core.retrieve import RankedList, retrieve


@st.cache_resource(max_entries=2, show_spinner=False)
def alone(run: str, stamp: int) -> Embeddings:
    """A refined test split before its images looked at one another. Raises BadInput."""
    return neighbours.alone(embeddings(run, stamp))


@st.cache_resource(max_entries=4, show_spinner="The images look at one another")
def attention(run: str, stamp: int, seed: int) -> neighbours.Attention:
    """Who attends to whom in a run's test split, its landmarks drawn from a seed. Raises BadInput."""
    return neighbours.attend(model(run, stamp), alone(run, stamp).vectors, seed=seed)


@st.cache_resource(max_entries=16, show_spinner=False)
def weights(
    run: str, stamp: int, seed: int, layer: int | None = None, head: int | None = None
) -> np.ndarray:
    """(N, k) what each image gives its neighbours; None is the mean over layers or heads."""
    return attention(run, stamp, seed).mean(layer, head)


@st.cache_resource(max_entries=4, show_spinner=False)
def effective(run: str, stamp: int, seed: int) -> np.ndarray:
    """(L,) how many neighbours count in each layer, mean over images and heads."""
    seen = attention(run, stamp, seed)
    return neighbours.effective_neighbours(seen.weights).mean(axis=(1, 2))


@st.cache_resource(max_entries=2, show_spinner=False)
def redrawn(run: str, stamp: int, seed: int) -> Embeddings:
    """A run's test split refined with landmarks drawn from a seed. Raises BadInput."""
    return replace(embeddings(run, stamp), vectors=attention(run, stamp, seed).refined)


@st.cache_resource(max_entries=4, show_spinner="Ranking every query twice")
def gains(run: str, stamp: int) -> tuple[np.ndarray, np.ndarray]:
    """Average precision (Q,) before and after a run's images looked at one another. Raises BadInput."""
    before = evaluate(alone(run, stamp)).average_precision
    return before, evaluation(run, stamp).average_precision


@st.cache_resource(max_entries=64, show_spinner=False)
def ranked_before(run: str, stamp: int, query: int) -> RankedList:
    """The gallery ranked for one query by what each image was alone."""
    return retrieve(alone(run, stamp), query)


@st.cache_resource(max_entries=64, show_spinner=False)
def ranked_redrawn(run: str, stamp: int, query: int, seed: int) -> RankedList:
    """The gallery ranked for one query, with landmarks drawn from a seed."""
    return retrieve(redrawn(run, stamp, seed), query)


@st.cache_resource(max_entries=4, show_spinner=False)
def repeated(run: str, stamp: int, seed: int) -> float:
    """How far a pass with a seed is from the stored features, relative to their length."""
    return neighbours.difference(redrawn(run, stamp, seed).vectors, embeddings(run, stamp).vectors)
