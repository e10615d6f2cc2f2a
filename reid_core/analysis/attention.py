"""What a transformer's tokens look at: rows of its maps, rollouts through its layers, its groups.

Shapes: H heads, L layers, N tokens (p prefix tokens, then the h x w positions), P groups of n
positions, D dimensions. All are of one image unless it is said otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from reid_core.analysis.orders import layers
from reid_core.analysis.parts import shares
from reid_core.embed import batch_of
from reid_core.errors import BadInput
from reid_core.experiment import Experiment
from reid_core.look import Looked, look_at
from reid_core.models.base import ReIDModel, Tokens

KINDS = ("attention",)


# Rows


def rows(attention: Tensor, token: int, received: bool = False) -> np.ndarray:
    """What a token attends to under each head: (H, N, N) -> (1 + H, N), the mean over heads first.

    A row sums to 1. received turns it round: how much each token attends to this one, a column,
    which does not.
    """
    chosen = attention[:, :, token] if received else attention[:, token]  # (H, N)
    return torch.cat([chosen.mean(dim=0, keepdim=True), chosen]).float().cpu().numpy()


def placed(row: np.ndarray, tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """A row (..., N) taken apart: what lies on the prefix tokens (..., p), and the map (..., h, w)."""
    prefix = len(tokens.prefix)
    return row[..., :prefix], row[..., prefix:].reshape(*row.shape[:-1], *tokens.grid)


def token_names(tokens: Tokens) -> list[str]:
    """The N tokens in their order: the prefix by name, positions by row and column, from 1."""
    height, width = tokens.grid
    places = [f"row {r + 1}, column {c + 1}" for r in range(height) for c in range(width)]
    return [*tokens.prefix, *places]


# Through the layers


def chain(looked: Looked) -> dict[str, Tensor]:
    """The maps (B, H, N, N), first to last, through which the class token's attention can be
    followed; empty where a model has no such token, as a CNN. High orders and parts of the grid are
    not among them."""
    found = {n: a for n, a in layers(looked).items() if looked.tokens[n].prefix}
    if len({each.shape[-1] for each in found.values()}) > 1:
        return {}
    return found


def rollout(maps: Sequence[Tensor]) -> np.ndarray:
    """Attention rollout (Abnar and Zuidema 2020): L maps (H, N, N) -> (N, N), rows sum to 1.

    The mean over heads A of each layer is mixed with the residual path, (A + I) / 2, and the layers
    are multiplied, the last one on the left. Raises BadInput for maps of other shapes.
    """
    _checked(maps)
    joint = torch.eye(maps[0].shape[-1], dtype=torch.float64)
    for attention in maps:
        mean = attention.double().mean(dim=0)
        joint = (mean + torch.eye(len(mean), dtype=torch.float64)) / 2 @ joint
    return joint.numpy()


def gradient_rollout(maps: Sequence[Tensor], gradients: Sequence[Tensor]) -> np.ndarray:
    """Gradient-weighted rollout (Chefer et al., ICCV 2021, eqs. 5 and 6): L maps and the target's
    gradients with respect to them, (H, N, N) each -> relevance (N, N), none negative.

    R starts as I; with A' the mean over heads of the positive part of gradient times attention, each
    layer adds A' R. The I is taken off again in the end.
    """
    _checked(maps)
    if [each.shape for each in maps] != [each.shape for each in gradients]:
        raise BadInput(
            f"expected a gradient of its shape for each of {len(maps)} maps, got {len(gradients)} of "
            f"{sorted({tuple(each.shape) for each in gradients})}"
        )
    start = torch.eye(maps[0].shape[-1], dtype=torch.float64)
    relevance = start
    for attention, gradient in zip(maps, gradients, strict=True):
        weighted = (attention.double() * gradient.double()).clamp(min=0).mean(dim=0)
        relevance = relevance + weighted @ relevance
    return (relevance - start).numpy()


def _checked(maps: Sequence[Tensor]) -> None:
    if not maps or len({each.shape[-1] for each in maps}) > 1:
        sizes = sorted({each.shape[-1] for each in maps})
        raise BadInput(
            f"expected maps over the same tokens in every layer, got {sizes or 'none'}: a rollout "
            "needs a transformer whose layers see all tokens"
        )
    if odd := [tuple(x.shape) for x in maps if x.dim() != 3 or x.shape[1] != x.shape[2]]:
        raise BadInput(f"expected maps (heads, tokens, tokens), got {odd[0]}")


@dataclass(frozen=True)
class Pulled:
    """A pass whose target was traced back: score is the target's value; gradients (H, N, N) are its
    derivatives with respect to each map of `chain`, by probe."""

    looked: Looked
    score: float
    gradients: dict[str, Tensor]

    @property
    def maps(self) -> list[Tensor]:
        return [self.looked.seen[name][0] for name in self.gradients]


def pulled(
    model: ReIDModel,
    experiment: Experiment,
    pixels: Tensor,
    camera: int | None,
    view: int | None,
    towards: np.ndarray | None = None,
) -> Pulled:
    """Trace a target back to the attention maps, for one image (1, 3, H, W) in 0..1.

    The target is the cosine between the image's embedding and towards (D,), or, without it, the
    squared L2 norm of the embedding. Weights get no gradient, so a shared model stays as it is.
    """
    with torch.enable_grad():
        batch = batch_of(model, experiment, pixels, [camera], [view])
        batch = replace(batch, image=batch.image.detach().requires_grad_())
        looked = look_at(model, batch, pixels, KINDS)
        score = _target(looked.embedding[0], towards)
        maps = chain(looked)
        found = torch.autograd.grad(score, list(maps.values())) if maps else ()
    gradients = {name: each[0] for name, each in zip(maps, found, strict=True)}
    seen = {name: tensor.detach() for name, tensor in looked.seen.items()}
    looked = replace(looked, embedding=looked.embedding.detach(), seen=seen)
    return Pulled(looked, float(score.detach()), gradients)


def _target(embedding: Tensor, towards: np.ndarray | None) -> Tensor:
    """A number to explain: the cosine with a vector, or the squared norm."""
    if towards is None:
        return embedding.square().sum()
    if towards.shape != embedding.shape:
        raise BadInput(
            f"expected a target of {len(embedding)} dimensions, got {towards.shape[-1]}: take an "
            "embedding of the same run"
        )
    other = torch.from_numpy(towards).to(embedding)
    return torch.nn.functional.cosine_similarity(embedding, other, dim=0)


# Groups


def in_groups(row: np.ndarray, tokens: Tokens) -> np.ndarray:
    """Rows over groups (..., P, p + n) drawn where their patches lie: (..., P, h, w).

    NaN where a group has no patch; a patch that a group has twice gets the sum.
    """
    height, width = tokens.grid
    drawn = np.full((*row.shape[:-1], height * width), np.nan)
    for group, positions in enumerate(tokens.groups):
        weights = row[..., group, len(tokens.prefix) :]
        for place, position in enumerate(positions):
            before = np.nan_to_num(drawn[..., group, position])
            drawn[..., group, position] = before + weights[..., place]
    return drawn.reshape(*row.shape[:-1], height, width)


def membership(tokens: Tokens) -> np.ndarray:
    """(P, h, w) how often each group holds each position."""
    height, width = tokens.grid
    counts = np.zeros((len(tokens.groups), height * width), int)
    for group, positions in enumerate(tokens.groups):
        np.add.at(counts[group], list(positions), 1)
    return counts.reshape(-1, height, width)


# Measures


def on_person(
    looked: Looked, masks: Sequence[np.ndarray], ids: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The share of the class token's attention to patches that lies on the person.

    masks are B part masks (H, W), ids those of the person. Returns (B, L, H), by layer of `chain`
    and head, and (B,) what even attention would give.
    """
    maps = chain(looked)
    tokens = looked.tokens[next(iter(maps))]
    measured, even = [], []
    for image, mask in enumerate(masks):
        row = np.stack([each[image, :, 0].float().cpu().numpy() for each in maps.values()])
        weights = placed(row, tokens)[1]  # (L, H, h, w)
        measured.append(shares(weights, tokens, mask, [ids])[..., 0])
        even.append(float(shares(np.ones(tokens.grid), tokens, mask, [ids])[0]))
    return np.array(measured), np.array(even)


def entropy(looked: Looked) -> np.ndarray:
    """How spread out the class token's attention to patches is: (B, L, H), in shares of the entropy
    of even attention; 0 is all on one patch, 1 is even."""
    found = []
    for name, each in chain(looked).items():
        row = each[:, :, 0, len(looked.tokens[name].prefix) :].double()  # (B, H, h * w)
        row = row / row.sum(dim=-1, keepdim=True)
        spread = torch.special.entr(row).sum(dim=-1) / np.log(row.shape[-1])
        found.append(spread.cpu().numpy())
    return np.stack(found, axis=1)
