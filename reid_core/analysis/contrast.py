"""PHA's patch-wise contrastive loss on a few images, as training would compute it.

Shapes: B images, K places of high frequency in each, h x w grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from reid_core.data.images import normalise
from reid_core.embed import batch_of
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings
from reid_core.experiment import Experiment
from reid_core.models.pha import PHA, pulls
from reid_core.probe import observe
from reid_core.retrieve import RankedList


@dataclass(frozen=True)
class Contrast:
    """What the loss is made of.

    cosines (K, B, B): [k, a, b] of image a's token at its k-th place, all patches passed, and image
    b's at its own k-th place, the K patches alone passed (with the class token; of the view with
    quantised low frequencies in variant paper, of the image itself in variant official). places (B, K)
    of the grid; positive, negative (K, B) their means over the same identity and over others, the
    latter NaN where there are no others; loss as training adds it, and second, variant official's loss
    between its two views of the K patches, as training adds that.
    """

    cosines: np.ndarray
    places: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    loss: float
    second: float | None


@torch.no_grad()
def contrasted(
    model: PHA,
    experiment: Experiment,
    pixels: Tensor,
    cameras: Sequence[int | None],
    views: Sequence[int | None],
    identities: Sequence[int],
) -> Contrast:
    """The loss between images (B, 3, H, W) in 0..1, as they are: no flip, crop or erasing, no dropped
    paths, statistics as at test. Raises BadInput for a model of another kind."""
    if not isinstance(model, PHA):
        raise BadInput(f"the patch-wise contrastive loss is PHA's, got a {type(model).__name__}")
    numbers = torch.tensor(np.unique(identities, return_inverse=True)[1])  # classes from 0
    batch = batch_of(model, experiment, pixels, cameras, views)
    style = experiment.training.normalisation
    batch = replace(
        batch,
        identity=numbers.to(batch.image.device),
        progress=1,
        plain=batch.clean,
        finish=lambda images, erase=None: normalise(images, style),
    )
    with observe(model, "cosines") as seen:
        output = model(batch)
    cosines = seen["cosines"]
    positive, negative = pulls(cosines, batch.identity)
    if len(set(identities)) == 1:
        negative = negative.fill_(torch.nan)  # what the loss has as 0 is no measured cosine
    return Contrast(
        cosines.cpu().numpy(),
        model.places(batch.clean).cpu().numpy(),  # as both variants find them in training
        *(each.cpu().numpy() for each in (positive, negative)),
        float(output.losses["contrastive"]),
        float(output.losses["contrastive_views"]) if "contrastive_views" in output.losses else None,
    )


def small_batch(found: Embeddings, ranking: RankedList, query: int, others: int) -> np.ndarray:
    """Rows of a query, of its first true match, and of two images of each of so many identities: the
    nearest that are wrong. An identity with one image in the list brings that one."""
    judged = ranking.rows[~ranking.ignored]
    right = ranking.rows[~ranking.ignored & ranking.match][:1]
    who = found.identities[judged]
    wrong = judged[(who != found.identities[query]) & (who > 0)]  # distractors are nobody's
    _, first = np.unique(found.identities[wrong], return_index=True)
    nearest = found.identities[wrong][np.sort(first)][:others]
    two = [wrong[found.identities[wrong] == identity][:2] for identity in nearest]
    return np.concatenate([[query], right, *two])
