"""Whether a map points at what the model uses: deletion and insertion against random order.

After RISE (Petsiuk et al., BMVC 2018), adapted by us: the score is the cosine between the embedding
of the altered image and that of the original, since re-identification has no class at test; what is
gone takes the image's mean colour, in both directions.

Shapes: N = h * w positions, S steps, H x W pixels.
"""

import numpy as np
import torch
from torch import Tensor

from reid_core.analysis.attention import Pulled, chain, gradient_rollout, placed, rollout
from reid_core.analysis.maps import LayerMap, last_maps, on_grid
from reid_core.analysis.occlusion import Embed, cells, cosine, embedded
from reid_core.analysis.similarity import LeftOut
from reid_core.errors import BadInput
from reid_core.look import Looked
from reid_core.models.base import Tokens

STEPS = 20
LEFT_OUT, ROLLOUT, GRADIENT = "leave-one-out", "rollout", "gradient-weighted rollout"


def candidates(
    looked: Looked, tokens: Tokens, image: LeftOut, traced: Pulled | None = None
) -> dict[str, np.ndarray]:
    """Every map (h, w) of the first image that can be put to the test, by the method's name.

    tokens is the grid on which the image is altered (`occlusion.positions_of`), image what leaving
    out a position does; traced brings gradients of the squared embedding.
    """
    size = looked.pixels.shape[-2:]
    maps = {name: each[0] for name, each in last_maps(looked, tokens, size).items()}
    if through := chain(looked):
        own = looked.tokens[next(iter(through))]
        ways = {ROLLOUT: rollout([each[0] for each in through.values()])}
        if traced:
            ways[GRADIENT] = gradient_rollout(traced.maps, list(traced.gradients.values()))
        for name, joint in ways.items():
            row = placed(joint[0], own)[1][None]  # (1, h, w): the class token's
            maps[name] = on_grid(LayerMap(name, name, row, own), tokens, size)[0]
    return maps | {LEFT_OUT: own_drop(image).reshape(tokens.grid)}


def own_drop(image: LeftOut) -> np.ndarray:
    """(N,) by how much each position's absence turns the embedding away from the original's."""
    return 1 - cosine(image.without, image.embedding)


def ticks(count: int, steps: int = STEPS) -> np.ndarray:
    """(S + 1,) how many of N positions are altered at each step, from 0 to N."""
    return np.unique(np.linspace(0, count, steps + 1).round().astype(int))


def order_of(weights: np.ndarray) -> np.ndarray:
    """(N,) the positions of a map (h, w) or (N,), strongest first, ties from the top left."""
    return np.argsort(-np.ravel(weights), kind="stable")


def random_orders(count: int, draws: int, seed: int = 0) -> np.ndarray:
    """(draws, N) orders without any map."""
    return np.random.default_rng(seed).permuted(np.tile(np.arange(count), (draws, 1)), axis=1)


def gone_along(order: np.ndarray, altered: np.ndarray, insertion: bool) -> Tensor:
    """(S + 1, N) which positions are gone at each step: the first of the order are deleted from the
    image, or inserted into a blank one."""
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order))
    first = place[None] < altered[:, None]
    return torch.from_numpy(~first if insertion else first)


def curve(
    embed: Embed,
    pixels: Tensor,
    tokens: Tokens,
    order: np.ndarray,
    insertion: bool = False,
    steps: int = STEPS,
) -> np.ndarray:
    """(S + 1,) the cosine with the original after each step; S and the steps are those of `ticks`.

    pixels (3, H, W) in 0..1. Raises BadInput for an order over another number of positions.
    """
    count = tokens.grid[0] * tokens.grid[1]
    if sorted(order) != list(range(count)):
        raise BadInput(f"expected an order of the {count} positions, got {len(order)} numbers")
    gone = gone_along(order, ticks(count, steps), insertion)
    where = cells(tokens, pixels.shape[-2:])
    vectors = embedded(embed, pixels, where, gone)
    return cosine(vectors, vectors[-1 if insertion else 0])


def curves(
    embed: Embed, pixels: Tensor, tokens: Tokens, orders: list[np.ndarray], steps: int = STEPS
) -> np.ndarray:
    """(2, K, S + 1) the curves of K orders: deletion, then insertion."""
    return np.array(
        [
            [curve(embed, pixels, tokens, order, insertion, steps) for order in orders]
            for insertion in (False, True)
        ]
    )


def area(altered: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The area under curves (..., S + 1) over the share of positions altered, by trapezoids.

    Small is good for deletion, large for insertion.
    """
    return np.trapezoid(scores, altered / altered[-1], axis=-1)
