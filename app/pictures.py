"""The picture that a page looks into, and what two of them side by side have in common."""

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import streamlit as st

from app import cached, pickers, projector
from app.uploads import Upload
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings
from reid_core.experiment import Experiment
from reid_core.look import Looked
from reid_core.models.base import Tokens
from reid_core.retrieve import RankedList
from reid_core.runs import Run, open_run

LARGE = 384  # pixels high


@dataclass(frozen=True)
class Picture:
    """One picture and the run that looks at it.

    row is its row in the run's Embeddings; upload is a visitor's. query is the position of the query
    that led here, whose list holds the true matches. beside: it stands in the second of two
    columns, so that its widgets need names of their own (`key`), and first is the other one. bar: a
    container above both columns for the widgets that two pictures share (`controls`).
    """

    run: str
    stamp: int
    row: int | None = None
    query: int | None = None
    upload: Upload | None = None
    beside: bool = False
    first: "Picture | None" = field(default=None, compare=False)
    bar: Any = field(default=None, compare=False)

    def key(self, name: str) -> str:
        """The name of a widget or figure of this picture, unique on the page."""
        return f"{name} beside" if self.beside else name

    def looked(self, kinds: tuple[str, ...]) -> Looked:
        """What is seen inside the model while it embeds this picture (cached). Raises BadInput."""
        return cached.looked_at(self.run, self.stamp, self.who, kinds, self.content)

    @property
    def who(self) -> tuple:
        """What names the picture in the caches."""
        if self.upload is None:
            return (self.row,)
        return self.upload.digest, self.upload.camera, self.upload.view

    @property
    def content(self) -> bytes | None:
        """An upload's bytes."""
        return self.upload.content if self.upload else None

    @property
    def experiment(self) -> Experiment:
        return cached.experiment(self.run, self.stamp)

    @property
    def found(self) -> Embeddings:
        """The run's test split. Raises BadInput where it has none."""
        return cached.embeddings(self.run, self.stamp)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the picture as the model sees it."""
        return self.experiment.training.size

    @property
    def src(self) -> str:
        """The picture as a data URL; it is drawn as the model sees it, in the proportions of `size`."""
        if self.upload is not None:
            return cached.thumbnail(self.upload.digest, LARGE, self.upload.content)
        return self.src_of(self.row)

    def src_of(self, row: int) -> str:
        """Another image of the test split as a data URL."""
        return cached.picture(*cached.folder(self.experiment), str(self.found.names[row]), LARGE)

    @property
    def label(self) -> str:
        if self.upload is not None:
            return self.upload.name
        return str(self.found.names[self.row]).rsplit("/", 1)[-1]

    @property
    def identity(self) -> int | None:
        """None where nobody knows."""
        return None if self.upload is not None else int(self.found.identities[self.row])

    @property
    def camera(self) -> int | None:
        """None where it is unknown."""
        camera = self.upload.camera if self.upload else int(self.found.cameras[self.row])
        return None if camera in (None, -1) else camera

    @property
    def is_query(self) -> bool:
        return self.query is not None and self.row == int(self.found.query_rows[self.query])

    @property
    def ranking(self) -> RankedList | None:
        """The gallery as the run ranks it for the query that led here, or for an upload; None for
        an upload where the run has no test split."""
        if self.upload is None:
            return cached.ranked(self.run, self.stamp, self.query)
        if not open_run(self.run).has_embeddings:
            return None
        return cached.ranked_upload(self.run, self.stamp, *self.who, self.content)

    @property
    def first_match(self) -> int | None:
        """The row of the first true match in that list; None without one."""
        ranking = self.ranking
        if ranking is None or not len(ranking.hits):
            return None
        right = ranking.match & ~ranking.ignored
        return int(ranking.rows[np.flatnonzero(right)[0]])

    @property
    def mask(self) -> np.ndarray | None:
        """The ids (H, W) of the parts that the pixels show; None where nobody knows."""
        return None if self.upload else cached.mask(self.run, self.stamp, self.row)

    def tile(self, label: str, tokens: Tokens, drawn: Any = None, **more: Any) -> dict[str, Any]:
        """A tile of this picture with a map (h, w) over it, for `figures.pictures`."""
        window = tuple(tokens.window) if tokens.window else None
        grid = None if drawn is not None else tokens.grid
        placed = dict(
            label=label, src=self.src, size=self.size, window=window, map=drawn, grid=grid
        )
        return placed | more

    def under(self, run: Run) -> "Picture":
        """The same picture for another run. Raises BadInput where that was tested on other
        images, or its data set is gone."""
        stamp = run.stamp()
        if self.upload is not None:
            return Picture(run.name, stamp, upload=self.upload, beside=True, first=self)
        there = Picture(run.name, stamp, beside=True, first=self)
        cached.dataset(*cached.folder(there.experiment))  # its pictures must be there
        row = _row(there.found, self.found, self.row)
        asked = _row(there.found, self.found, int(self.found.query_rows[self.query]))
        if row is None or asked is None:
            raise BadInput(
                f"run {run.name!r} was not tested on {self.label}: choose a run of the same data set, "
                "or upload the picture"
            )
        query = int(np.flatnonzero(there.found.query_rows == asked)[0])
        return present(replace(there, row=row, query=query))


def present(picture: Picture) -> Picture:
    """A picture of the test split. Raises BadInput where its file is gone: tiles do without it."""
    root = cached.dataset(*cached.folder(picture.experiment)).root
    file = root / str(picture.found.names[picture.row])
    if not file.is_file():
        raise BadInput(
            f"run {picture.run!r} was tested on {file}, which is gone: put the data set back, or "
            f"evaluate the run on it as it is now: python -m reid_core evaluate {picture.run}"
        )
    return picture


def _row(there: Embeddings, here: Embeddings, row: int) -> int | None:
    """Where the image of a row here stands there, by its path and its part."""
    same = (there.names == here.names[row]) & (there.is_query == here.is_query[row])
    rows = np.flatnonzero(same)
    return int(rows[0]) if len(rows) else None


def controls(picture: Picture) -> Any:
    """A row for widgets that two pictures side by side have in common; see `choice`."""
    with picture.bar or nullcontext():
        return st.container(horizontal=True, vertical_alignment="bottom")


def choice(
    picture: Picture,
    place: Any,
    label: str,
    options: list[str],
    default: str,
    key: str,
    **more: Any,
) -> str:
    """A linked selectbox, or segmented control with `segmented=True`, in a container.

    Of two pictures side by side the first one draws it and the other follows, where it can.
    """
    if picture.beside:
        chosen = st.session_state.get(key)
        return chosen if chosen in options else default
    pickers.linked(key, options, default)
    if more.pop("segmented", False):
        place.segmented_control(label, options, key=key, required=True, **more)
    else:
        more["width"] = projector.wide(more.get("width", 170))
        place.selectbox(label, options, key=key, **more)
    return st.session_state[key]
