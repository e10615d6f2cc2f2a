"""One query without some of its frequencies, against a gallery that keeps all of its own.

Shapes: K cut-offs, G gallery images, D dimensions, H x W pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reid_core.analysis.filters import BANDS, collapse, filtered
from reid_core.analysis.occlusion import Embed
from reid_core.evaluate import Embeddings, directions, distances, judge

# Of Nyquist's frequency: finest where images have most of their energy. The last one is everything.
FINE = (*(round(0.025 * step, 3) for step in range(1, 21)), 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.42)
COARSE = (0.05, 0.1, 0.15, 0.25, 0.35, 0.5, 0.7, 1.0)
BATCH = 32


def swept(embed: Embed, pixels: Tensor, band: str, cutoffs: tuple[float, ...]) -> np.ndarray:
    """(K, D) the embedding of an image (3, H, W) in 0..1 at each cut-off of a band."""
    images = torch.cat([filtered(pixels[None], band, cutoff) for cutoff in cutoffs])
    return torch.cat([embed(some) for some in images.split(BATCH)]).numpy()


def precisions(found: Embeddings, vectors: np.ndarray, row: int) -> np.ndarray:
    """(K,) average precision of vectors (K, D) that stand in for the query at a row of `found`."""
    gallery = found.gallery_rows
    matrix = distances(directions(vectors), found.directions[gallery])  # (K, G)
    identities, cameras = found.identities[gallery], found.cameras[gallery]
    asked = int(found.identities[row]), int(found.cameras[row])
    return np.array([judge(each, identities, cameras, *asked).average_precision for each in matrix])


@dataclass(frozen=True)
class Collapse:
    """Where a ranked list breaks most: average precision before and after one step of the cut-off.

    query is the position among the queries; of its images the band `band` was kept; cutoff is the
    one after the step and start the one before; before and after are average precisions. searched
    queries were tried.
    """

    query: int
    band: str
    start: float
    cutoff: float
    before: float
    after: float
    searched: int


def steepest(curves: dict[tuple[int, str], np.ndarray], cutoffs: tuple[float, ...]) -> Collapse:
    """The largest fall of average precision (K,) from one cut-off to the next one that keeps less.

    curves: by query and band. What is kept shrinks with a falling cut-off for low-pass, with a rising
    one for high-pass.
    """
    best = None
    for (query, band), precision in curves.items():
        towards = slice(None, None, -1) if band == BANDS[0] else slice(None)
        line, values = np.array(cutoffs)[towards], precision[towards]
        if np.isnan(values).any():
            continue  # no true match
        place = collapse(line, values)
        fall = values[place - 1] - values[place]
        if best is None or fall > best.before - best.after:
            searched = len({each for each, _ in curves})
            best = Collapse(
                query,
                band,
                float(line[place - 1]),
                float(line[place]),
                float(values[place - 1]),
                float(values[place]),
                searched,
            )
    return best
