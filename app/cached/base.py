"""Runs, models, rankings and pictures: what every page asks for."""

import base64
import io

import numpy as np
import streamlit as st
from PIL import Image

from app import uploads
from reid_core.data import Dataset, default_root, open_dataset
from reid_core.data.depth import DAMAGED, plain, regular
from reid_core.embed import embed_images
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, Evaluation, evaluate
from reid_core.experiment import Experiment
from reid_core.look import Looked, look
from reid_core.models import ReIDModel
from reid_core.retrieve import RankedList, retrieve, retrieve_encoded
from reid_core.runs import open_run
from reid_core.studies import Arrays, Study

DRAWS = 50  # random orders of the keys: the mean of 5 differed visibly from draw to draw

# A quiet tile in place of a picture that is gone.
NO_PICTURE = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='64' height='128'%3E"
    "%3Crect width='64' height='128' fill='%2393a0ad' fill-opacity='.25'/%3E"
    "%3Cpath d='M20 52l24 24m0-24L20 76' stroke='%2393a0ad' stroke-width='3'/%3E%3C/svg%3E"
)


@st.cache_resource(max_entries=4, show_spinner="Reading the run's embeddings")
def embeddings(run: str, stamp: int) -> Embeddings:
    """The test split as the run's last evaluation saw it. Raises BadInput."""
    return open_run(run).embeddings()


@st.cache_resource(max_entries=16, show_spinner=False)
def refined(run: str, stamp: int) -> bool:
    """Whether a run's pictures look at one another. Raises BadInput."""
    return open_run(run).refined


@st.cache_resource(max_entries=8, show_spinner="Ranking every query")
def evaluation(run: str, stamp: int) -> Evaluation:
    """The scores, from the same arrays as every ranked list. Raises BadInput."""
    return evaluate(embeddings(run, stamp))


@st.cache_resource(max_entries=64, show_spinner=False)
def ranked(run: str, stamp: int, query: int) -> RankedList:
    """The gallery as the run ranks it for one query."""
    return retrieve(embeddings(run, stamp), query)


@st.cache_resource(max_entries=2, show_spinner="Loading the model")
def model(run: str, stamp: int) -> ReIDModel:
    """The run's model, ready to embed. Raises BadInput."""
    return open_run(run).model()


@st.cache_resource(max_entries=16, show_spinner=False)
def experiment(run: str, stamp: int) -> Experiment:
    """What the run was asked to do. Raises BadInput."""
    return open_run(run).experiment


@st.cache_resource(max_entries=512, show_spinner=False)
def vector(
    run: str, stamp: int, digest: str, camera: int | None, view: int | None, _content: bytes
) -> np.ndarray:
    """A visitor's picture (1, D) as the model sees it alone. Raises BadInput.

    One by one and kept, since a gallery grows by a file at a time.
    """
    asked, image = experiment(run, stamp), uploads.picture(_content)
    return embed_images(model(run, stamp), asked, [image], [camera], [view])


@st.cache_resource(max_entries=16, show_spinner="The model looks at your picture")
def ranked_upload(
    run: str, stamp: int, digest: str, camera: int | None, view: int | None, _content: bytes
) -> RankedList:
    """The test split's gallery ranked for a visitor's picture. Raises BadInput."""
    alone = vector(run, stamp, digest, camera, view, _content)
    return retrieve_encoded(model(run, stamp), embeddings(run, stamp), alone, camera)


@st.cache_resource(max_entries=12, show_spinner="The model looks at the picture")
def looked(run: str, stamp: int, row: int, kinds: tuple[str, ...]) -> Looked:
    """What is seen inside the model while it embeds one image of the test split. Raises BadInput."""
    found, asked = embeddings(run, stamp), experiment(run, stamp)
    image = dataset(*folder(asked)).root / str(found.names[row])
    said = [int(found.cameras[row])], [int(found.views[row])]
    return look(model(run, stamp), asked, [image], *said, kinds=kinds)


@st.cache_resource(max_entries=12, show_spinner="The model looks at your picture")
def looked_upload(
    run: str,
    stamp: int,
    digest: str,
    camera: int | None,
    view: int | None,
    kinds: tuple[str, ...],
    _content: bytes,
) -> Looked:
    """The same for a visitor's picture. Raises BadInput."""
    image, asked = uploads.picture(_content), experiment(run, stamp)
    return look(model(run, stamp), asked, [image], [camera], [view], kinds=kinds)


@st.cache_data(max_entries=512, show_spinner=False)
def thumbnail(digest: str, height: int, _content: bytes) -> str:
    """A visitor's picture as a data URL. Raises BadInput."""
    return data_url(uploads.picture(_content), height)


def folder(asked: Experiment) -> tuple[str, str]:
    """A run's data set and where it lies, as the names that `picture` takes."""
    return asked.dataset, asked.data or str(default_root(asked.dataset))


@st.cache_resource(max_entries=8, show_spinner="Looking through the data set", ttl=600)
def dataset(name: str, data: str) -> Dataset:
    """A data set's images. Raises BadInput where it is missing."""
    return open_dataset(name, data)


@st.cache_data(max_entries=20_000, show_spinner=False)
def picture(name: str, data: str, image: str, height: int) -> str:
    """One image of a data set as a data URL; image is its path below the data set's root."""
    try:
        return data_url(Image.open(regular(dataset(name, data).root / image)), height)
    except DAMAGED:
        return NO_PICTURE


def data_url(image: Image.Image, height: int) -> str:
    """An image, upright and at most `height` pixels high, as a JPEG that needs no request of its own."""
    image = plain(image).convert("RGB")
    image.thumbnail((2 * height, height), Image.Resampling.LANCZOS)
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode()


@st.cache_resource(max_entries=8, show_spinner=False)
def labels(run: str, stamp: int) -> list[str]:
    """What the queries are called in lists and links: file names, or paths where those repeat."""
    found = embeddings(run, stamp)
    paths = [str(name) for name in found.names[found.query_rows]]
    names = [path.rsplit("/", 1)[-1] for path in paths]
    return names if len(set(names)) == len(names) else paths


@st.cache_resource(max_entries=32, show_spinner=False)
def order(run: str, stamp: int, by: str) -> np.ndarray:
    """Positions of the queries: by "File name", or the "Worst first" or "Best first" lists.

    Queries without a true match have no average precision and come last.
    """
    precision = evaluation(run, stamp).average_precision
    if by == "File name":
        return np.arange(len(precision))
    return np.argsort(precision if by == "Worst first" else -precision, kind="stable")


@st.cache_resource(max_entries=24, show_spinner=False)
def found(run: str, study: str, key: str, settings: tuple[tuple[str, object], ...]) -> Arrays:
    """What a computed study found; the key changes with the files it came from. Raises BadInput."""
    asked = Study.asked(open_run(run), study, dict(settings))
    if (arrays := asked.found()) is None:
        raise BadInput(f"{study}: what was kept is gone or damaged; compute it again")
    return arrays
