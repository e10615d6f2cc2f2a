"""What the page Clusters shows: a run's map, what is true behind it, and what is picked on it."""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, galleries, pickers
from reid_core.analysis import outliers
from reid_core.analysis.projection import KINDS, TRUSTED, median
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings
from reid_core.runs import Run, list_runs, open_run
from reid_core.studies import Arrays, Study

NOTHING, ENCODER = "nothing", "its encoder"  # no run's name holds a space
METHODS = {"UMAP": "umap", "PCA": "pca", "t-SNE": "tsne"}
LINES = 10  # places of a ranked list that are drawn as lines
PAGE, LISTED = 24, 200  # crops on a page of the lasso's gallery; rows of the table of outliers
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
    flat = np.zeros((*layouts.shape[:2], 3), np.float32)
    low, high = layouts.min(axis=(0, 1)), layouts.max(axis=(0, 1))
    flat[:, :, : layouts.shape[2]] = (
        (layouts - (low + high) / 2) * 2 / max((high - low).max(), 1e-9)
    )
    fact = lambda label, values, **more: dict(label=label, values=packed(values, "f4"), **more)  # noqa: E731
    facts = [
        fact("identity", found.identities, words={"0": "distractor"}),
        fact("", found.is_query, words={"1": "query", "0": "gallery"}),
        fact("camera", np.where(found.cameras > 0, found.cameras, np.nan)),
    ]
    for side, lie in enumerate(view.lies):
        kept = np.round(view.maps["trust"][side] * view.near)
        facts.append(fact("AP", lie["precision"], digits=2, side=side))
        facts.append(fact("keeps", kept, unit=f" of {view.near} neighbours", side=side))
    return dict(
        id=f"{view.run} {view.key}",
        dimensions=int(layouts.shape[2]),
        names=list(view.names),
        places=[packed(each, "f4") for each in flat],
        query=packed(found.is_query, "u1"),
        facts=facts,
        sheet=cached.crops(view.run, view.stamp),
    )


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
    pickers.linked("image", labels, str(rows[query]))
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
            note=f"{found.identities[row]} c{max(found.cameras[row], 0)}",
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


def kept_table(view: Shown) -> pd.DataFrame:
    """What the maps keep of the embeddings, and how identities lie in both."""
    count, k = len(view.found.names), view.near
    # The mean of max(0, rank - k) over ranks 1 to N - 1 that all are as likely.
    lost = (count - 1 - k) * (count - k) / (2 * (count - 1))
    random = {
        "Neighbours kept": k / (count - 1),
        "Trustworthiness": 1 - 2 * lost / (2 * count - 3 * k - 1),
    }
    columns = {}
    for side, name in enumerate(view.names):
        lie, trust = view.lies[side], view.maps["trust"][side]
        middle = [median(each, lie["edges"]) for each in lie["counts"]]
        columns[name] = {
            "Neighbours kept": trust.mean(),
            "Neighbours kept, lowest tenth of images": np.quantile(trust, 0.1),
            "Trustworthiness": float(view.maps["trustworthiness"][side]),
            "Silhouette of the embeddings": np.nanmean(lie["silhouette"]),
            "Silhouette of the map": np.nanmean(view.maps["silhouette"][side]),
            **{
                f"Median distance, {kind}": value for kind, value in zip(KINDS, middle, strict=True)
            },
        }
    frame = pd.DataFrame(columns).round(3)
    frame.insert(0, "measure", frame.index)
    frame["by chance"] = pd.Series(random).round(3).reindex(frame.index)
    return frame.reset_index(drop=True)


def outlier_table(view: Shown) -> tuple[list[int], pd.DataFrame]:
    """Rows of the worst outliers, worst first, and what is known of each."""
    found, lie = view.found, view.lies[0]
    rows = outliers.worst(lie["silhouette"], found.identities)[:LISTED]
    why = cached.why_apart(view.run, view.stamp, view.settings["metric"])
    known = cached.attributes_if_any(view.run, view.stamp)
    frame = pd.DataFrame(
        dict(
            image=[str(found.names[row]).rsplit("/", 1)[-1] for row in rows],
            identity=found.identities[rows],
            camera=found.cameras[rows],
            silhouette=lie["silhouette"][rows].round(3),
            own=lie["own"][rows].round(3),
            other=lie["other"][rows].round(3),
            nearest=lie["rival"][rows],
            reason=[_reason(row, why, known, lie) for row in rows],
        )
    )
    return rows.tolist(), frame


def _reason(row: int, why: outliers.Reasons, known: dict[str, np.ndarray], lie: Arrays) -> str:
    """What goes together with an image's place, with its evidence."""
    said = lambda column: str(known[column][row])  # noqa: E731
    words = {
        "occluded": lambda: f"occluded: {float(said('occlusion')):.0%} by {said('occluder')}",
        "look-alike": lambda: f"look-alike of {lie['rival'][row]}, group {said('lookalike_group')}",
        "box error": lambda: f"box error: {said('box_error')}",
        "one camera": lambda: (
            f"camera: {why.nearest[row]:.0%} of its nearest are from {why.camera[row]}"
        ),
        "unknown": lambda: "unknown",
    }
    holds = why.holds[:, row]
    return "; ".join(
        words[name]() for name, is_so in zip(outliers.NAMES, holds, strict=True) if is_so
    )


def shares_of_reasons(view: Shown, rows: list[int]) -> str:
    """How often each reason holds among the outliers, and among all images."""
    why = cached.why_apart(view.run, view.stamp, view.settings["metric"])
    return ", ".join(
        f"{name} {why.holds[place, rows].mean():.0%} ({why.share[place]:.0%} of all)"
        for place, name in enumerate(outliers.NAMES)
        if rows
    )
