"""How much of each layer's map lies on the person, on each part of the body and on what hides it.

Measured on part masks, which the pedestrians bring; a data set of one's own has none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_core.analysis.maps import KINDS, LayerMap, maps_of
from reid_core.analysis.parts import chance, even_shares, points, shares
from reid_core.data import open_dataset
from reid_core.data.masks import IDS, PERSON, mask_of
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings
from reid_core.experiment import Experiment
from reid_core.knobs import knob
from reid_core.look import look
from reid_core.models.base import ReIDModel
from reid_core.runs import Run

GROUPS = {"person": PERSON} | {name: (name,) for name in (*PERSON, "occluder", "passer-by")}
GROUPS["background"] = ("background",)
PARTS = [[IDS[name] for name in names] for names in GROUPS.values()]
BATCH = 8  # a ViT-B's maps of one image take 25 MB

IMAGES = True


@dataclass(frozen=True)
class Options:
    images: int = knob(64, "How many images of the test split.", "Images", least=2)
    seed: int = knob(0, "Which images are drawn.", "Images", least=0)


@dataclass(frozen=True)
class Placed:
    """Where maps lie. Images n, layers L, parts P.

    probes (L,) and methods (L,) say what each layer's map is; share (n, L, P) of its weight on each
    part of GROUPS, even (n, L, P) what even weights would have there; hit (n, L) how far the map points at the person,
    chance (n, L) how often a random position does; rows (n,) of the run's embeddings.
    """

    probes: np.ndarray
    methods: np.ndarray
    share: np.ndarray
    even: np.ndarray
    hit: np.ndarray
    chance: np.ndarray
    rows: np.ndarray


def compute(run: Run, options: Options, progress) -> dict[str, np.ndarray]:
    """The arrays of `Placed`, and parts (P,) their names.

    share and even are NaN where an image does not show the part. Raises BadInput.
    """
    experiment, found = run.experiment, run.embeddings()
    root = open_dataset(experiment.dataset, experiment.data).root
    rows = drawn(found, options.images, options.seed)
    kept = measured(run.model(), experiment, found, root, rows, progress)
    absent = (kept.even == 0).all(axis=1, keepdims=True)  # (n, 1, P)
    return vars(kept) | dict(
        parts=np.array(list(GROUPS)),
        share=np.where(absent, np.nan, kept.share),
        even=np.where(absent, np.nan, kept.even),
    )


def measured(
    model: ReIDModel,
    experiment: Experiment,
    found: Embeddings,
    root: Path,
    rows: np.ndarray,
    progress: Callable[[int, int], None] | None = None,
) -> Placed:
    """Where every layer's map lies, for rows (n,) of the embeddings. Raises BadInput without masks."""
    size, kept = experiment.training.size, []
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        masks = [_mask(root, found, row, size) for row in some]
        said = found.cameras[some].tolist(), found.views[some].tolist()
        images = [root / str(name) for name in found.names[some]]
        maps = maps_of(look(model, experiment, images, *said, kinds=KINDS))
        kept += [_one(maps, place, mask) for place, mask in enumerate(masks)]
        if progress:
            progress(start + len(some), len(rows))
    probes, methods = (
        np.array([getattr(each, what) for each in maps]) for what in ("probe", "method")
    )
    return Placed(probes, methods, *(np.array(column) for column in zip(*kept, strict=True)), rows)


def drawn(found: Embeddings, count: int, seed: int) -> np.ndarray:
    """Rows of so many images of known people, in the order of the embeddings."""
    known = np.flatnonzero(found.identities > 0)
    random = np.random.default_rng(seed)
    return np.sort(random.choice(known, min(count, len(known)), replace=False))


def _mask(root, found: Embeddings, row: int, size) -> np.ndarray:
    mask = mask_of(root, str(found.names[row]), size)
    if mask is None:
        raise BadInput(
            f"no part mask of {found.names[row]} under {root / 'masks'}: only the pedestrians have "
            "masks; choose a run that was evaluated on them"
        )
    return mask


def _one(maps: list[LayerMap], place: int, mask: np.ndarray):
    """share (L, P), even (L, P), hit (L,), chance (L,) of one image."""
    person = PARTS[0]
    return (
        [shares(each.weights[place], each.tokens, mask, PARTS) for each in maps],
        [even_shares(each.tokens, mask, PARTS) for each in maps],
        [float(points(each.weights[place], each.tokens, mask, person)) for each in maps],
        [chance(each.tokens, mask, person) for each in maps],
    )
