"""A data set to look through: identities, cameras, sizes, and one identity under all its cameras."""

from os import fsencode

import numpy as np
import pandas as pd
import streamlit as st

from app import address, charts_data, components, figures, pickers, projector
from app.cached import data as kept
from app.doctor import Place
from app.figures import Said
from app.notices import readable, say
from reid_core.data import Dataset, Split

SPLITS = ("train", "query", "gallery")
TILE, MOST = 192, 120  # pixels high; pictures of one identity
STEPS = {"Previous": -1, "Next": 1}


def overview(place: Place, report: dict | None) -> None:
    """How images, identities and cameras are spread."""
    data = kept.images(place.name, place.home, place.stamp)
    with st.grid(2, gap="medium"):
        with st.container(border=True):
            st.markdown("**Images by camera**")
            _cameras(data)
        with st.container(border=True):
            st.markdown("**Images of an identity**")
            _per_identity(data, "images", _images)
        with st.container(border=True):
            st.markdown("**Cameras of an identity**")
            _per_identity(data, "cameras", _seen_by)
        with st.container(border=True):
            st.markdown("**Sizes**")
            _sizes(place, report)


def _cameras(data: Dataset) -> None:
    counts = {}
    for split in SPLITS:
        ids, often = np.unique(getattr(data, split).cameras, return_counts=True)
        counts[split] = dict(zip(ids.tolist(), often.tolist(), strict=True))
    said = Said("Images of each split by the camera that took them, as names or lists tell it.")
    rows = [(split, *each) for split, of in counts.items() for each in of.items()]
    figures.chart(
        charts_data.cameras(counts),
        said,
        key="data-cameras",
        alt="Images by camera and split",
        table=pd.DataFrame(rows, columns=["split", "camera", "images"]),
    )


def _images(split: Split) -> np.ndarray:
    return np.unique(split.identities[split.identities > 0], return_counts=True)[1]


def _seen_by(split: Split) -> np.ndarray:
    """(I,) how many known cameras saw each identity."""
    known = (split.cameras != -1) & (split.identities > 0)
    pairs = np.unique(np.stack([split.identities[known], split.cameras[known]], 1), axis=0)
    return np.unique(pairs[:, 0], return_counts=True)[1]


def _per_identity(data: Dataset, what: str, count) -> None:
    counts = {split: count(getattr(data, split)) for split in SPLITS}
    counts = {split: each for split, each in counts.items() if len(each)}
    if not counts:
        st.caption(f"Nobody knows any {what} here.")
        return
    means = ", ".join(f"{split} {each.mean():.1f}" for split, each in counts.items())
    said = Said(
        f"How many identities have that many {what}. Mean: {means}. Distractors are left out."
    )
    figures.chart(
        charts_data.per_identity(counts, what),
        said,
        key=f"data-{what}-of-identity",
        alt=f"Identities by their number of {what}",
        table=pd.DataFrame(
            [
                (split, number, often)
                for split, each in counts.items()
                for number, often in zip(*np.unique(each, return_counts=True), strict=True)
            ],
            columns=["split", what, "identities"],
        ),
    )


def _sizes(place: Place, report: dict | None) -> None:
    if report is None or place.name not in report["counts"]:
        st.caption("Known once every image was checked.")
        return
    rows = report["counts"][place.name]["sizes"]
    if not rows:
        st.caption("No image could be opened.")
        return
    height, width, often = rows[0]
    said = Said(
        f"Height and width of the images that could be opened; a mark's area is how many have that "
        f"size. The most frequent, {height} x {width} pixels, has {often:,} of "
        f"{sum(row[2] for row in rows):,}."
    )
    figures.chart(
        charts_data.sizes(rows),
        said,
        key="data-sizes",
        alt="Sizes of the images",
        table=pd.DataFrame(rows, columns=["height", "width", "images"]),
    )


def identity(place: Place) -> None:
    """One identity's images, camera by camera."""
    data = kept.images(place.name, place.home, place.stamp)
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    splits = [split for split in SPLITS if len(getattr(data, split))]
    pickers.linked("split", splits, splits[0])
    split: Split = getattr(data, bar.segmented_control("Split", splits, key="split", required=True))
    names = [str(each) for each in np.unique(split.identities)]
    if gone := pickers.missing("identity", names, names[0], of=(place.name, place.home)):
        say("warning", f"There is no identity {gone} in this split.")
    bar.selectbox(
        "Identity", names, key="identity", width=projector.wide(180), filter_mode="contains"
    )
    for label, step in STEPS.items():
        icon = f":material/arrow_{'back' if step < 0 else 'forward'}:"
        bar.button(label, key=f"{label} identity", icon=icon, on_click=_step, args=(names, step))
    rows = np.flatnonzero(split.identities == int(st.session_state["identity"]))
    rows = rows[np.argsort(split.cameras[rows], kind="stable")]
    seen = np.unique(split.cameras[rows])
    items = [_tile(place, split, row) for row in rows[:MOST]]
    components.query_strip(items, key="identity pictures", on_pick=lambda: None, wrap=True)
    known = ", ".join(f"camera {camera}" for camera in seen if camera != -1) or "no known camera"
    more = f" The first {MOST} are drawn." if len(rows) > MOST else ""
    st.caption(f"{len(rows)} images of this identity in this split, by {known}.{more}")


def _tile(place: Place, split: Split, row: int) -> dict:
    path, camera = split.paths[row], int(split.cameras[row])
    return dict(
        label=f"{row}",
        src=kept.tile(fsencode(path), place.stamp, TILE),
        title=readable(f"{path.name}, camera {camera if camera != -1 else 'unknown'}"),
        note=f"c{camera}" if camera != -1 else "c?",
        share=None,
        chosen=False,
    )


def _step(names: list[str], step: int) -> None:
    at = names.index(address.held("identity"))
    address.choose("identity", names[(at + step) % len(names)])
