"""The page Errors."""

import numpy as np
import streamlit as st

from app.cached.base import dataset, embeddings, evaluation, experiment, folder, found
from reid_core.analysis.cameras import Pairs
from reid_core.analysis.cameras import camera_pairs as pairs_of
from reid_core.analysis.comparison import Difference, Pattern, differences, patterns, same_split
from reid_core.analysis.errors import Lists, Slice, binned, lists, numbers
from reid_core.analysis.errors import slices as slices_of
from reid_core.analysis.tags import Known, Tag
from reid_core.analysis.tags import tags as tags_of
from reid_core.data.attributes import attributes as read_attributes
from reid_core.data.attributes import sizes
from reid_core.evaluate import Embeddings
from reid_core.rerank import Reciprocal
from reid_core.rerank import ranked as ranked_by
from reid_core.retrieve import RankedList
from reid_core.runs import open_run
from reid_core.studies import Study
from reid_core.studies.rerank import distances_by, features


@st.cache_resource(max_entries=8, show_spinner="Ranking every query")
def ranked_lists(run: str, stamp: int) -> Lists:
    """What every query's list comes to. Raises BadInput."""
    return lists(embeddings(run, stamp))


@st.cache_resource(max_entries=8, show_spinner=False)
def camera_pairs(run: str, stamp: int) -> Pairs:
    """Query camera against camera of the true match. Raises BadInput."""
    found = embeddings(run, stamp)
    return pairs_of(ranked_lists(run, stamp), found.cameras[found.query_rows])


@st.cache_resource(max_entries=8, show_spinner="Reading the attributes")
def attributes(run: str, stamp: int) -> dict[str, np.ndarray]:
    """Columns (N,) of attributes.csv for the images of a run's test split. Raises BadInput."""
    root = dataset(*folder(experiment(run, stamp))).root
    return read_attributes(root, embeddings(run, stamp).names)


@st.cache_resource(max_entries=8, show_spinner="Judging every failure")
def tags(run: str, stamp: int) -> dict[str, Tag]:
    """Every failure's tags. Raises BadInput."""
    found, known = embeddings(run, stamp), attributes(run, stamp)
    root = dataset(*folder(experiment(run, stamp))).root
    pixels = sizes(root, found.names[found.query_rows])
    return tags_of(
        found,
        ranked_lists(run, stamp),
        camera_pairs(run, stamp),
        Known(
            known.get("lookalike_group"),
            numbers(known["occlusion"][found.query_rows]) if "occlusion" in known else None,
            np.where(pixels[:, 0] > 0, pixels[:, 0] * pixels[:, 1], -1),
        ),
    )


@st.cache_resource(max_entries=64, show_spinner=False)
def slices(run: str, stamp: int, attribute: str) -> list[Slice]:
    """Average precision by an attribute's values. Raises BadInput."""
    return slices_of(ranked_lists(run, stamp), attribute_values(run, stamp, attribute))


@st.cache_resource(max_entries=64, show_spinner=False)
def attribute_values(run: str, stamp: int, attribute: str) -> np.ndarray:
    """The queries' values (Q,) of an attribute as text, numbers in bins. Raises BadInput."""
    values = attributes(run, stamp)[attribute][embeddings(run, stamp).query_rows]
    return binned(values) if attribute == "occlusion" else values


@st.cache_resource(max_entries=16, show_spinner="Comparing the runs, query by query")
def runs_compared(runs: tuple[tuple[str, int], ...]) -> tuple[list[Pattern], list[Difference]]:
    """Who is right where, and how sure the differences are, for (run, stamp). Raises BadInput."""
    same_split({run: embeddings(run, stamp) for run, stamp in runs})
    scores = {run: evaluation(run, stamp) for run, stamp in runs}
    return patterns(list(scores.values())), differences(scores)


@st.cache_resource(max_entries=4, show_spinner=False)
def split_by(run: str, stamp: int, which: str) -> Embeddings:
    """A run's test split with the vectors that are asked for (study "rerank"). Raises BadInput."""
    return features(embeddings(run, stamp), which)


@st.cache_resource(max_entries=2, show_spinner=False)
def reciprocal(run: str, key: str, settings: tuple[tuple[str, object], ...]) -> Reciprocal:
    """The k-reciprocal codes that the study "rerank" of a key has kept. Raises BadInput."""
    return Reciprocal.from_arrays(found(run, "rerank", key, settings))


@st.cache_resource(max_entries=64, show_spinner=False)
def reranked(
    run: str, stamp: int, query: int, key: str, settings: tuple[tuple[str, object], ...]
) -> RankedList:
    """The gallery ranked for one query by a study's settings; key is that of the study whose codes
    it takes, "" where the method needs none. Raises BadInput."""
    options = Study.asked(open_run(run), "rerank", dict(settings)).options
    split = split_by(run, stamp, options.features)
    code = reciprocal(run, key, settings) if key else None
    away = distances_by(split, options, code)(split.query_rows[[query]])[0]
    return ranked_by(split, query, away)
