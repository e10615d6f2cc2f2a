"""Which images, which feature and which protocol an evaluation means; what it keeps with a run."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reid_core.data import Dataset, prepare
from reid_core.embed import embed_test, per_query_distances, read_view_table, views_of
from reid_core.evaluate import Embeddings
from reid_core.extraction.flip import Flipped
from reid_core.feed import prepared
from reid_core.models import ReIDModel
from reid_core.ranking.nearer import SMALL
from reid_core.ranking.ranks import warm
from reid_core.runs import Run
from reid_core.scores.protocols import PROTOCOLS, named
from reid_core.scores.record import Wish, record

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Features:
    """What of a run is compared: its model, as prepared by whoever asks; stage "encoder" or
    "refined"; neck where it is not the run's own; a table of views; how it is computed."""

    run: Run
    model: ReIDModel
    stage: str | None = None
    neck: str | None = None
    views: Path | None = None
    precision: str = "fp32"
    batch_size: int | None = None

    @property
    def refined(self) -> bool:
        return self.model.refines and self.stage != "encoder"

    @property
    def own(self) -> bool:
        """Whether it is the feature that the run's pages show."""
        own_neck = self.run.experiment.training.neck
        own = self.stage != "encoder" and self.precision == "fp32"
        return own and self.neck in (None, own_neck)

    @property
    def asked(self) -> bool:
        """Whether it was asked for, be it the run's own or not: the record then says which it is."""
        usual = (self.stage, self.neck, self.views, self.precision) == (None, None, None, "fp32")
        return not usual

    @property
    def said(self) -> dict[str, Any]:
        """Which it is, for JSON."""
        stage = dict(stage=self.stage or "refined") if self.model.refines else {}
        views = dict(views=str(self.views)) if self.views else {}
        return dict(neck=self.neck_used, precision=self.precision, **stage, **views)

    @property
    def neck_used(self) -> str:
        """BNNeck before or after, of the part of the model that gives the feature."""
        inner = self.model.encoder if self.stage == "encoder" and self.model.refines else self.model
        return inner.neck


def evaluate_run(
    features: Features,
    wish: Wish,
    dataset: str | None = None,
    data: str | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], Embeddings]:
    """Embed a test split with a run and score it: the record, and the embeddings.

    dataset and data are the run's own where they are not given; an imported run with a folder is
    evaluated on it in Market-1501's layout. An imported run keeps the usual scores of its own
    feature, so that every page shows them, as does one that has lost those of its training. Raises
    BadInput.
    """
    run, experiment = features.run, features.run.experiment
    name = named(wish.protocol, features.refined)  # a mistake is told before images are read
    own_layout = "market1501" if run.imported and data is not None else experiment.dataset
    asked = dataset or own_layout
    if data is None and asked == experiment.dataset:
        data = experiment.data
    split = _with_views(prepared(experiment, prepare(asked, data, progress)), features.views)
    if len(split.query) * len(split.gallery) > SMALL:
        warm()
    model = Flipped(features.model).eval() if wish.flip else features.model
    how = dict(precision=features.precision, batch_size=features.batch_size, progress=progress)
    stage = features.stage or "refined"
    embeddings = embed_test(model, experiment, split, stage=stage, **how)
    away = per_query_distances(model, embeddings) if PROTOCOLS[name].alone else None
    conditions = {}
    if wish.says_more or features.asked:
        conditions = dict(run=run.name, data_set=asked, **features.said)
    found = record(embeddings, wish, conditions, away)
    own_split = (asked, data) == (experiment.dataset, experiment.data)
    if (run.imported or (own_split and run.lost)) and features.own and wish.usual:
        kept = {key: value for key, value in found.items() if key in USUAL_KEYS}
        run.keep_evaluation(embeddings, kept, asked, data)
    return found, embeddings


USUAL_KEYS = ("mAP", "mINP", "cmc", "queries", "valid_queries", "gallery", "protocol")


def _with_views(split: Dataset, table: Path | None) -> Dataset:
    if table is None:
        return split
    views = read_view_table(table)
    parts = {name: getattr(split, name) for name in ("query", "gallery")}
    told = {
        name: replace(part, views=np.array(views_of(part.paths, views)))
        for name, part in parts.items()
    }
    return replace(split, **told)
