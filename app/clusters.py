"""What the page Clusters shows: a run's map, what is true behind it, and what is picked on it."""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, galleries, pickers
from app.notices import say
from reid_core.analysis.projection import TRUSTED
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings
from reid_core.runs import Run, list_runs, open_run
from reid_core.studies import Arrays, Study

NOTHING, ENCODER = "nothing", "its encoder"  # no run's name holds a space
METHODS = {"UMAP": "umap", "PCA": "pca", "t-SNE": "tsne"}
LINES = 10  # places of a ranked list that are drawn as lines
PAGE = 24  # crops on a page of the lasso's gallery
BY_ITSELF = 5000  # images up to which a map is computed without being asked for
CROP = 96  # pixels high, of the gallery's crops


@dataclass(frozen=True)
class Shown:
    """One or two maps of the same images, side 0 being the run's own embeddings.

    names of the sides; maps as in `studies.projection`; lies (per side) as in `studies.spread`, in the
    order of the run's rows.
    """

    run: str
    stamp: int
    found: Embeddings
    settings: dict[str, Any]
    names: tuple[str, ...]
    maps: Arrays
    lies: tuple[Arrays, ...]

    @property
    def key(self) -> str:
        """Changes with the map: a new one starts with its own view and selection."""
        return Study.asked(open_run(self.run), "projection", self.settings).key

    @property
    def near(self) -> int:
        """Neighbours that trust counts: 15, or what few images allow."""
        return min(TRUSTED, (len(self.found.names) - 1) // 2)


def second_maps(run: Run, found: Embeddings) -> list[str]:
    """What may stand beside a run's map: its encoder, or another run on the same data."""
    asked = run.experiment
    others = [
        each.name
        for each in list_runs()
        if each.name != run.name and each.has_embeddings
        if (each.experiment.dataset, each.experiment.data) == (asked.dataset, asked.data)
    ]
    return [NOTHING, *([ENCODER] if found.encoded is not None else []), *others]


def shown(run: Run, found: Embeddings, settings: dict[str, Any], maps: Arrays) -> Shown:
    """Gather a computed map and what belongs to it. Raises BadInput."""
    stamp, metric, other = run.stamp(), settings["metric"], settings["other"]
    names = [run.name]
    lies = [cached.lie(run.name, stamp, metric, "final", "", 0)]
    if settings["encoder"]:
        names.append(f"{run.name}, encoder alone")
        lies.append(cached.lie(run.name, stamp, metric, "encoder", "", 0))
    if other:
        names.append(other)
        lies.append(cached.lie(run.name, stamp, metric, "final", other, open_run(other).stamp()))
    return Shown(run.name, stamp, found, settings, tuple(names), maps, tuple(lies))


def drawn(view: Shown) -> dict[str, Any]:
    """The points and what hovering tells, as the component `embedding_map` takes them."""
    found, layouts = view.found, view.maps["layouts"]
    fact = lambda label, values, **more: dict(label=label, values=packed(values, "f4"), **more)  # noqa: E731
    facts = [
        fact("identity", found.identities, words={"0": "distractor"}),
        fact("", found.is_query, words={"1": "query", "0": "gallery"}),
        fact("camera", np.where(found.cameras != -1, found.cameras, np.nan)),
    ]
    for side, lie in enumerate(view.lies):
        kept = np.round(view.maps["trust"][side] * view.near)
        facts.append(fact("AP", lie["precision"], digits=2, side=side))
        facts.append(fact("keeps", kept, unit=f" of {view.near} neighbours", side=side))
    return dict(
        id=f"{view.run} {view.key}",
        dimensions=int(layouts.shape[2]),
        names=list(view.names),
        places=[packed(each, "f4") for each in within_one(layouts)],
        query=packed(found.is_query, "u1"),
        facts=facts,
        sheet=cached.crops(view.run, view.stamp),
    )


def within_one(layouts: np.ndarray) -> np.ndarray:
    """Layouts (sides, N, d) as they are drawn: (sides, N, 3), the longest way across from -1 to 1."""
    flat = np.zeros((*layouts.shape[:2], 3), np.float32)
    low, high = layouts.min(axis=(0, 1)), layouts.max(axis=(0, 1))
    middle, across = (low + high) / 2, max((high - low).max(), 1e-9)
    flat[:, :, : layouts.shape[2]] = (layouts - middle) * 2 / across
    return flat


def places(view: Shown) -> pd.DataFrame:
    """Where each image lies, for the CSV."""
    found = view.found
    frame = dict(image=found.names, identity=found.identities, camera=found.cameras)
    for name, layout, trust in zip(
        view.names, view.maps["layouts"], view.maps["trust"], strict=True
    ):
        frame |= {f"{name} {axis}": each for axis, each in zip("xyz", layout.T, strict=False)}
        frame[f"{name} neighbours kept"] = trust
    return pd.DataFrame(frame)


def packed(values: np.ndarray, kind: str) -> str:
    """Numbers as the component reads them: little-endian, base64."""
    return base64.b64encode(np.ascontiguousarray(values).astype(f"<{kind}").tobytes()).decode()


def picked_row(view: Shown, query: int) -> int:
    """The picked image's row: what was clicked, and the query after another one was chosen."""
    state, rows, label = st.session_state, view.found.query_rows, st.session_state["query"]
    labels = [str(row) for row in range(len(view.found.names))]
    before = state.get("image and query")
    if before is not None and before != [view.run, label]:
        state["image"] = str(rows[query])
    state["image and query"] = [view.run, label]
    if gone := pickers.missing("image", labels, str(rows[query])):
        say("warning", f"This map has no image number {gone}; picked is number {state['image']}.")
    return int(state["image"])


def pick(view: Shown, row: int) -> None:
    """Take an image as the picked one, and a query as the query everywhere."""
    state = st.session_state
    if not 0 <= row < len(view.found.names):
        return
    state["image"] = str(row)
    if view.found.is_query[row]:
        label = cached.labels(view.run, view.stamp)[np.searchsorted(view.found.query_rows, row)]
        state["query"] = label
    state["image and query"] = [view.run, state["query"]]


def lines(view: Shown, row: int) -> list[list[list[int]]]:
    """From a query to the first ten of its ranked list on each map, as [row, row, right]."""
    if not view.found.is_query[row]:
        return [[] for _ in view.names]
    query, other = int(np.searchsorted(view.found.query_rows, row)), view.settings["other"]
    first = cached.top(view.run, view.stamp, query, "final", "", 0, LINES)
    sides = [first]
    if view.settings["encoder"]:
        sides.append(cached.top(view.run, view.stamp, query, "encoder", "", 0, LINES))
    if other:
        stamp = open_run(other).stamp()
        sides.append(cached.top(view.run, view.stamp, query, "final", other, stamp, LINES))
    return [[[row, there, int(right)] for there, right in side] for side in sides]


def items(view: Shown, source: tuple[str, str], rows: list[int], picked: int) -> list[dict]:
    """Images as the items of a strip: their identity and camera below."""
    found = view.found
    return [
        dict(
            label=str(row),
            src=picture(source, str(found.names[row])),
            title=galleries.title(found, row),
            note=f"{found.identities[row] if found.identities[row] > 0 else 'other'}, {galleries.short(found, row)}",
            share=None,
            chosen=row == picked,
        )
        for row in rows
    ]


def picture(source: tuple[str, str], name: str, height: int = CROP) -> str:
    try:
        return cached.picture(*source, name, height)
    except BadInput:  # the data set is gone
        return cached.NO_PICTURE
