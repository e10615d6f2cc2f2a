"""How much of each layer's map lies on the person, on each part of the body and on what hides it.

Measured on part masks, which the pedestrians bring; a data set of one's own has none.
"""

from dataclasses import dataclass

import numpy as np

from reid_core.analysis.maps import KINDS, maps_of
from reid_core.analysis.parts import chance, pixel_shares, points, shares
from reid_core.data import open_dataset
from reid_core.data.masks import IDS, PERSON, mask_of
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings
from reid_core.knobs import knob
from reid_core.look import look
from reid_core.runs import Run

GROUPS = {"person": PERSON} | {name: (name,) for name in (*PERSON, "occluder", "passer-by")}
GROUPS["background"] = ("background",)
PARTS = [[IDS[name] for name in names] for names in GROUPS.values()]
BATCH = 8  # a ViT-B's maps of one image take 25 MB


@dataclass(frozen=True)
class Options:
    images: int = knob(64, "How many images of the test split.", "Images", least=2)
    seed: int = knob(0, "Which images are drawn.", "Images", least=0)


def compute(run: Run, options: Options, progress) -> dict[str, np.ndarray]:
    """Images n, layers L, parts P.

    probes (L,) and methods (L,) say what each layer's map is, parts (P,) the names of the parts;
    share (n, L, P) of the map's weight; pixels (n, P) share of the image; hit (n, L) whether the map
    points at the person, chance (n, L) how often a random position does; rows (n,) of the run's
    embeddings. share and pixels are NaN where an image does not show the part. Raises BadInput.
    """
    experiment, model, found = run.experiment, run.model(), run.embeddings()
    root = open_dataset(experiment.dataset, experiment.data).root
    rows = drawn(found, options.images, options.seed)
    size, kept = experiment.training.size, []
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        masks = [_mask(root, found, row, size) for row in some]
        said = found.cameras[some].tolist(), found.views[some].tolist()
        seen = look(
            model, experiment, [root / found.names[row] for row in some], *said, kinds=KINDS
        )
        maps = maps_of(seen)
        kept += [_measured(maps, place, mask) for place, mask in enumerate(masks)]
        progress(start + len(some), len(rows))
    share, pixels, hit, luck = (np.array(column) for column in zip(*kept, strict=True))
    absent = pixels == 0  # (n, P)
    return dict(
        probes=np.array([each.probe for each in maps]),
        methods=np.array([each.method for each in maps]),
        parts=np.array(list(GROUPS)),
        share=np.where(absent[:, None], np.nan, share),
        pixels=np.where(absent, np.nan, pixels),
        hit=hit,
        chance=luck,
        rows=rows,
    )


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


def _measured(maps, place: int, mask: np.ndarray):
    """share (L, P), pixels (P,), hit (L,), chance (L,) of one image."""
    person = PARTS[0]
    return (
        [shares(each.weights[place], each.tokens, mask, PARTS) for each in maps],
        pixel_shares(mask, PARTS),
        [bool(points(each.weights[place], each.tokens, mask, person)) for each in maps],
        [chance(each.tokens, mask, person) for each in maps],
    )
