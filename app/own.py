"""A visitor's own query and gallery: they need no data set, and nobody knows who is on them."""

import numpy as np
import streamlit as st

from app import address, cached, galleries, upload_picker, uploads, verdict
from app.components import ranked_gallery
from app.notices import explained, say
from app.uploads import Upload
from reid_core.errors import BadInput
from reid_core.experiment import Experiment
from reid_core.retrieve import gallery_of, retrieve_encoded
from reid_core.runs import Run

KIND = "Your pictures"
MOST = 50


def show(run: Run, asked: Experiment) -> None:
    """Ask for the pictures, rank them and draw them."""
    query = upload_picker.ask(run, asked, "The query: a picture of one person", named=True)
    gallery = _gallery(asked)
    if not query or not gallery:
        address.stop()
    with explained():
        model = cached.model(run.name, run.stamp())
        refined = cached.refined(run.name, run.stamp())
    with st.spinner("The model looks at your pictures"):
        alone = _looked_at(run, query)
        seen = [(each, vector) for each in gallery if (vector := _looked_at(run, each)) is not None]
    if alone is None or not seen:
        address.stop()
    gallery = [each for each, _ in seen]
    with explained():
        found = gallery_of(
            model,
            np.concatenate([vector for _, vector in seen]),
            [each.name for each in gallery],
            [each.camera for each in gallery],
            refined,
        )
        ranking = retrieve_encoded(model, found, alone, query.camera)
    verdict.show(run, asked, ranking, own=True)
    st.caption(_said(asked, gallery, run.facts.cameras, refined))
    tiles = galleries.own(found, ranking, gallery)
    ranked_gallery(galleries.upload(query, query.image()), tiles, key="own")


def _gallery(asked: Experiment) -> list[Upload]:
    """The gallery's pictures; the page ends here with too many."""
    files = st.file_uploader(
        f"The gallery: up to {MOST} pictures, each of one person",
        uploads.TYPES,
        accept_multiple_files=True,
        max_upload_size=uploads.MEGABYTES,
        key="gallery pictures",
        help="Nothing is written to disk. What the model made of a picture stays in the memory of the "
        "machine that runs this app for a while.",
    )
    if len(files) > MOST:
        say("error", f"expected at most {MOST} pictures, got {len(files)}: take some out")
        address.stop()
    camera = upload_picker.named_camera if asked.knows_cameras else lambda name: None
    return [Upload(file.name, file.getvalue(), camera(file.name)) for file in files]


def _looked_at(run: Run, upload: Upload) -> np.ndarray | None:
    """A picture as the model sees it alone; a bad one is told and left out."""
    said = (upload.digest, upload.camera, upload.view)
    try:
        return cached.vector(run.name, run.stamp(), *said, upload.content)
    except BadInput as problem:
        say("error", f"left out {upload.name}: {problem}")
        return None


def _said(asked: Experiment, gallery: list[Upload], known: tuple[int, ...], refined: bool) -> str:
    """What the reader must know of the ranking."""
    words = ["Nobody knows who is on these pictures, so none is called right or wrong."]
    if asked.knows_cameras:
        count = sum(each.camera in known for each in gallery)
        words.append(
            f"A name such as 0002_c1s1_000451_03.jpg tells the camera: in the gallery {count} of "
            f"{len(gallery)} do so, and the others take the mean camera embedding."
        )
    if asked.knows_views:
        words.append("The gallery takes the mean view embedding.")
    if refined:
        words.append(
            "This model lets pictures look at one another: your query and your gallery are refined as "
            "one set (protocol `nformer-joint`), so each further picture may move every distance."
        )
    return " ".join(words)
