"""What a model still recognises without an image's high or low frequencies.

Queries and gallery are filtered alike and embedded anew: by one wavelet level, then over a range of
Fourier cut-offs. High-pass images stand on mid-gray and are neither clipped nor rounded.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from torch import Tensor

from reid_core.analysis import filters
from reid_core.analysis.cutoffs import COARSE
from reid_core.data import Dataset, open_dataset
from reid_core.data.images import Images
from reid_core.data.matches import UNKNOWN
from reid_core.data.spaced import spaced
from reid_core.embed import embed_test
from reid_core.errors import BadInput
from reid_core.evaluate import evaluate
from reid_core.knobs import knob
from reid_core.probe import probes
from reid_core.runs import Run

GROUP = "Filters"
ORIGINAL, WAVELET_LOW, WAVELET_DETAIL = "original", "wavelet low", "wavelet detail"
Filter = Callable[[Tensor], Tensor]

IMAGES = True


@dataclass(frozen=True)
class Options:
    identities: int = knob(
        0, "Test identities, evenly spread; 0 takes them all, distractors too.", GROUP, least=0
    )
    wavelet: str = knob("haar", "A discrete wavelet by its PyWavelets name.", GROUP)


class Filtered(Images):
    """The same images, filtered: `images[rows]` is (B, 3, H, W) float, 0..255 and beyond."""

    def __init__(self, images: Images, keep: Filter):
        self.images, self.keep = images, keep

    def __len__(self) -> int:
        return len(self.images)

    def name(self, row: int):
        return self.images.name(row)

    def readable(self, rows) -> tuple[list[int], Tensor, dict[int, BadInput]]:
        rows, pixels, problems = self.images.readable(rows)
        return rows, self.keep(pixels.float() / 255) * 255, problems


def compute(run: Run, options: Options, progress: Callable[[int, int], None]) -> dict:
    """V ways to filter, Q queries.

    ways (V,) "original", "wavelet low", "wavelet detail", "low-pass" or "high-pass"; cutoffs (V,) NaN
    where there is none; precision (V, Q) average precision and first (V, Q) rank of the first true
    match, as in `Evaluation`; chance (2, Q) expected average precision and share of rank-1 of a random
    order; names (Q,) paths below the data set's root; gallery () its size; family
    () "CNN" where the model shows features, else "ViT".
    """
    asked, model = run.experiment, run.model()
    dataset = subset(open_dataset(asked.dataset, asked.data), options.identities)
    paths = [*dataset.query.paths, *dataset.gallery.paths]
    images = Images(paths, asked.training.size, cache=2.0)
    stage = "refined" if run.refined else "encoder"
    ways, scores = list(filters_of(options.wavelet)), []
    for number, (_, _, keep) in enumerate(ways):
        told = lambda done, total, number=number: progress(  # noqa: E731
            number * total + done, len(ways) * total
        )
        found = embed_test(
            model, asked, dataset, stage, images=Filtered(images, keep), progress=told
        )
        scores.append(evaluate(found))
    kinds = {probe.kind for probe in probes(model).values()}
    return dict(
        ways=np.array([name for name, _, _ in ways]),
        cutoffs=np.array([cutoff for _, cutoff, _ in ways]),
        precision=np.stack([each.average_precision for each in scores]),
        first=np.stack([each.first_hit for each in scores]),
        chance=chance(dataset),
        names=found.names[found.query_rows],
        gallery=np.array(len(dataset.gallery)),
        family=np.array("CNN" if "features" in kinds else "ViT"),
    )


def filters_of(wavelet: str):
    """Each way to filter: its name, its cut-off or NaN, and the function."""
    yield ORIGINAL, np.nan, lambda image: image
    yield WAVELET_LOW, np.nan, partial(filters.wavelet_low, wavelet=wavelet)
    yield WAVELET_DETAIL, np.nan, partial(filters.wavelet_detail, wavelet=wavelet)
    for band in filters.BANDS:
        for cutoff in COARSE:
            yield band, cutoff, partial(filters.filtered, band=band, cutoff=cutoff)


def chance(dataset: Dataset) -> np.ndarray:
    """(2, Q) what a random order would reach: average precision, and rank-1."""
    query, gallery = dataset.query, dataset.gallery
    same = query.identities[:, None] == gallery.identities  # (Q, G)
    known = query.cameras[:, None] != UNKNOWN  # an unknown camera leaves nothing out
    near = known & (query.cameras[:, None] == gallery.cameras)
    matches, ranked = (same & ~near).sum(axis=1), (~(same & near)).sum(axis=1)
    first = np.where(matches > 0, matches / np.maximum(ranked, 1), np.nan)
    return np.stack([filters.chance_precision(matches, ranked), first])


def subset(dataset: Dataset, count: int) -> Dataset:
    """The test split of some identities alone, evenly spread over those of the queries."""
    known = np.unique(dataset.query.identities)
    if not count or count >= len(known):
        return dataset
    chosen = known[spaced(len(known), count)]
    parts = {
        name: getattr(dataset, name).take(np.isin(getattr(dataset, name).identities, chosen))
        for name in ("query", "gallery")
    }
    return replace(dataset, **parts)
