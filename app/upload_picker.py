"""The widget for a visitor's picture, and what a model is told of it."""

import streamlit as st

from app import uploads
from app.uploads import Upload
from reid_core.data import family_of
from reid_core.data.market import parse_name
from reid_core.experiment import Experiment
from reid_core.runs import Run

BY_NAME = "as its name says"


def ask(run: Run, asked: Experiment, label: str, named: bool = False) -> Upload | None:
    """A visitor's picture, and which camera took it from which side, where the model is told.

    named: unless the visitor says otherwise, the camera is the one that the picture's name tells.
    """
    cameras = run.facts.cameras if asked.knows_cameras else ()
    views = run.facts.views if asked.knows_views else ()
    unsaid = BY_NAME if named and cameras else "unknown"
    spots = st.columns([3, 1, 1] if views else [3, 1])
    file = spots[0].file_uploader(
        label, uploads.TYPES, max_upload_size=uploads.MEGABYTES, key="picture"
    )
    camera = spots[1].selectbox(
        "Taken by camera",
        [None, *cameras],
        format_func=lambda number: unsaid if number is None else str(number),
        required=True,
        key="camera",
        disabled=not cameras,
    )
    if named and file and camera is None:
        found = named_camera(file.name)
        camera = found if found in cameras else None
    view = None
    if views:
        side = lambda row: "unknown" if row is None else _side(run, row)  # noqa: E731
        view = spots[2].selectbox(
            "Seen from", [None, *views], format_func=side, required=True, key="view of it"
        )
    told = [_told("camera", cameras, "" if camera is None else str(camera))]
    told += [_told("view", views, "" if view is None else _side(run, view))] if views else []
    st.caption(" ".join(told))
    return Upload(file.name, file.getvalue(), camera, view) if file else None


def named_camera(name: str) -> int | None:
    """The camera that a file's name tells, as in Market-1501's names."""
    found = parse_name(name)
    return found[1] if found else None


def _told(what: str, known: tuple[int, ...], given: str) -> str:
    """What a model makes of what is said, or not said, of a picture."""
    if not known:
        return f"This model is not told which {what} took a picture."
    if given:
        return f"{what.capitalize()} {given}: the picture takes that {what}'s embedding."
    return f"Unknown {what}: the picture takes the mean {what} embedding."


def _side(run: Run, row: int) -> str:
    """A row of a model's view embedding, in words where it was trained here."""
    return str(row) if run.imported else family_of(run.experiment.dataset).views[row]
