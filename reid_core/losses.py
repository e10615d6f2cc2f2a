"""The objective of a training step: identity and triplet loss over a model's branches."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_core.distributed import alone
from reid_core.models.base import Output


def objective(
    output: Output,
    identities: Tensor,
    *,
    margin: float | None,
    label_smoothing: float,
    gather: Callable[[Tensor], Tensor] = alone,
) -> dict[str, Tensor]:
    """The named terms of a step's loss; their sum is what is minimised.

    identities (B,) are class numbers. Each branch gives cross-entropy on its logits and a
    batch-hard triplet loss on its feature before BNNeck, by its weight; a mechanism's own losses
    come along by name. Triplets are mined over what `gather` makes of the batch. Everything in
    float32, whatever the model ran in: distances in half precision made official scores depend on the
    GPU.
    """
    branches = output.branches
    identity = [
        b.weight * F.cross_entropy(b.logits.float(), identities, label_smoothing=label_smoothing)
        for b in branches
    ]
    features, weights = [b.feature for b in branches], [b.weight for b in branches]
    triplet = triplets(features, weights, identities, margin, gather)
    return {"identity": sum(identity), "triplet": triplet, **output.losses}


def triplets(
    features: Sequence[Tensor],
    weights: Sequence[float],
    identities: Tensor,
    margin: float | None,
    gather: Callable[[Tensor], Tensor] = alone,
) -> Tensor:
    """The batch-hard triplet loss of each branch's feature (B, D), by its weight, summed."""
    everyone = gather(identities)
    return sum(
        weight * batch_hard_triplet(gather(feature), everyone, margin)
        for feature, weight in zip(features, weights, strict=True)
    )


def batch_hard_triplet(features: Tensor, identities: Tensor, margin: float | None) -> Tensor:
    """Mean over the batch of the triplet of each image, its farthest positive and nearest negative.

    features (B, D), identities (B,). With a margin max(0, margin + d_p - d_n); with None the soft
    margin log(1 + exp(d_p - d_n)) (Hermans et al. 2017). d is Euclidean, as in the official codes;
    TransReID's paper writes its square. Without a second identity in the batch the nearest negative
    is infinitely far and the loss is 0.
    """
    features = features.float()
    square = features.square().sum(dim=1)  # (B,)
    distances = square[:, None] + square[None] - 2 * features @ features.T  # (B, B)
    distances = distances.clamp(min=1e-12).sqrt()
    same = identities[:, None] == identities[None]
    positive = distances.masked_fill(~same, 0).amax(dim=1)  # (B,)
    negative = distances.masked_fill(same, torch.inf).amin(dim=1)  # (B,)
    if margin is None:
        return F.softplus(positive - negative).mean()
    return F.relu(margin + positive - negative).mean()
