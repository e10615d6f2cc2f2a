"""Orders, layers, heads: how far attention maps are apart, and what a distance is compared with.

Shapes: B images, K maps, H heads, N tokens, M = h' * w' cells of a coarse grid, S draws. All
divergences are in nats, from 0 to ln 2.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import torch
from torch import Tensor

from reid_core.divergence import js_divergence, pooled_map
from reid_core.look import Looked
from reid_core.models.base import Tokens

BOUND = math.log(2)
UNITS = {"nats": 1.0, "bits": 1 / math.log(2)}
HIGH = re.compile(r"(?P<layer>.+)\.orders\.(?P<order>\d+)\.attention")


@dataclass(frozen=True)
class Pair:
    """A layer's first-order map and one of its high-order maps, on the cells they have in common.

    first and high (B, H, M, M); layer counts from 1; tokens says what a cell is. prior (H, M, M) is
    the learned part that the layer adds to the logarithm of the first-order map, where it has one.
    """

    layer: int
    order: int
    first: Tensor
    high: Tensor
    tokens: Tokens
    prior: Tensor | None = None

    def js(self) -> Tensor:
        """(B, H, M): how far the two maps are apart in each row."""
        return js_divergence(self.first, self.high)

    def reweighted_js(self) -> Tensor | None:
        """(B, H, M): the same from softmax(log first + prior), or None without a prior."""
        if self.prior is None:
            return None
        return js_divergence(reweighted(self.first, self.prior), self.high)


def layers(looked: Looked) -> dict[str, Tensor]:
    """The first-order maps (B, H, N, N) that tile the whole grid, by probe, from the first layer on.

    High orders are left out, and parts of the grid (TransReID's local groups): their rows are
    distributions over other things.
    """
    whole = looked.of("attention").items()
    return {n: a for n, a in whole if not HIGH.fullmatch(n) and not looked.tokens[n].groups}


def numbered(looked: Looked) -> dict[str, int]:
    """The number from 1 of each of those layers."""
    return {name: number for number, name in enumerate(layers(looked), start=1)}


def comparable(looked: Looked) -> dict[str, Tensor]:
    """Those of `layers` whose rows are distributions over the same tokens: the largest such group."""
    groups: dict[tuple, dict[str, Tensor]] = {}
    for name, attention in layers(looked).items():
        groups.setdefault((looked.tokens[name], attention.shape), {})[name] = attention
    return max(groups.values(), key=len, default={})


def pairs(looked: Looked) -> list[Pair]:
    """Each layer's first-order map beside each of its high-order maps; empty without high orders.

    The first-order map loses its class token and is averaged to the high order's cells by
    `pooled_map`, as OH-Former's training loss does it.
    """
    found, numbers = [], numbered(looked)
    for name, high in looked.of("attention").items():
        match = HIGH.fullmatch(name)
        if not match:
            continue
        first = next(each for each in numbers if each.startswith(match["layer"] + "."))
        fine, coarse = looked.tokens[first], looked.tokens[name]
        stride = -(-fine.grid[0] // coarse.grid[0])
        if fine.window and coarse.window:
            stride = coarse.window.stride // fine.window.stride
        skip = len(fine.prefix)
        pooled = pooled_map(looked.seen[first][:, :, skip:, skip:], fine.grid, stride)
        prior = looked.seen.get(name.removesuffix("attention") + "prior")
        found.append(Pair(numbers[first], int(match["order"]), pooled, high, coarse, prior))
    return found


def reweighted(first: Tensor, prior: Tensor) -> Tensor:
    """softmax(log A + P): the first-order map (B, H, M, M) times the learned weights exp(P)."""
    return (first.clamp(min=1e-30).log() + prior).softmax(dim=-1)


# What a divergence is compared with


def to_uniform(maps: Tensor) -> Tensor:
    """(..., N, N) -> (..., N): how far each row is from attending to all tokens alike."""
    return js_divergence(maps, torch.full_like(maps, 1 / maps.shape[-1]))


def permutations(tokens: int, draws: int, seed: int = 0) -> list[Tensor]:
    """Random orders of the keys, (N,) each."""
    source = torch.Generator().manual_seed(seed)
    return [torch.randperm(tokens, generator=source) for _ in range(draws)]


def shuffled(a: Tensor, b: Tensor, draws: int, seed: int = 0) -> Tensor:
    """(B, H, M, M) twice -> (S, B, H, M): the divergence with the keys of b in random orders.

    As peaked as before, but no longer about the same tokens: what two maps would show that agree in
    nothing but their sharpness.
    """
    orders = permutations(a.shape[-1], draws, seed)
    return torch.stack([js_divergence(a, b[..., order]) for order in orders])


# Between maps of one kind


def between(maps: Tensor, others: Tensor | None = None) -> Tensor:
    """The divergence of each two of K maps in each row: (B, K, N, N) -> (B, K, K, N), symmetrical.

    others, of the same shape, takes the place of the second map of a pair; each pair is computed
    once, so the diagonal is 0 without others. As H((p + q) / 2) - (H(p) + H(q)) / 2, Lin's own form,
    which takes a tenth of the time over many pairs and is exact to 1e-6.
    """
    maps = maps.float()
    others = maps if others is None else others.float()
    one, other = _entropy(maps), _entropy(others)  # (B, K, N)
    found = one.new_zeros(*one.shape[:2], *one.shape[1:])
    for a, b in combinations_with_replacement(range(maps.shape[1]), 2):
        middle = _entropy((maps[:, a] + others[:, b]) / 2)
        found[:, a, b] = found[:, b, a] = middle - (one[:, a] + other[:, b]) / 2
    return found.clamp(min=0)


def _entropy(maps: Tensor) -> Tensor:
    """(..., N) -> (...), in nats."""
    return -(maps * maps.clamp(min=1e-30).log()).sum(dim=-1)


def between_shuffled(maps: Tensor, draws: int, seed: int = 0) -> Tensor:
    """(B, K, N, N) -> (B, K, K, N): the same with the second map's keys in random orders, a mean
    over draws."""
    orders = permutations(maps.shape[-1], draws, seed)
    return torch.stack([between(maps, maps[..., order]) for order in orders]).mean(dim=0)


def diversity(maps: Tensor) -> Tensor:
    """How much the heads of a layer differ: (B, H, N, N) -> (B,), the mean divergence over all pairs
    of heads and all rows; NaN for a single head."""
    heads = maps.shape[1]
    one, other = torch.triu_indices(heads, heads, offset=1)
    return between(maps)[:, one, other].mean(dim=(1, 2))


def over_heads(maps: Sequence[Tensor]) -> Tensor:
    """Layers' maps (B, H, N, N) -> (B, L, N, N), each the mean over its heads: still distributions."""
    return torch.stack([each.float().mean(dim=1) for each in maps], dim=1)


# One image


@dataclass(frozen=True)
class Apart:
    """K maps of one image and how far each two of them are apart, in nats.

    maps (K, N, N); js (K, K, N) in each row; shuffled (K, K, N) the same with the second map's keys
    in random orders, a mean over draws; uniform (K, N) from attending to all tokens alike.
    """

    maps: np.ndarray
    js: np.ndarray
    shuffled: np.ndarray
    uniform: np.ndarray


def apart(maps: Tensor, draws: int, seed: int = 0) -> Apart:
    """Compare K maps of one image, (K, N, N)."""
    one = maps[None].float()
    found = between(one), between_shuffled(one, draws, seed), to_uniform(one)
    return Apart(_array(maps), *(_array(each[0]) for each in found))


@dataclass(frozen=True)
class OrdersApart:
    """A pair of orders of one image: first and high (H, M, M), and in nats js (H, M) in each row,
    uniform (2, H, M) from attending to all cells alike, shuffled (S, H, M) by draw."""

    layer: int
    order: int
    tokens: Tokens
    first: np.ndarray
    high: np.ndarray
    js: np.ndarray
    uniform: np.ndarray
    shuffled: np.ndarray


def orders_apart(pair: Pair, draws: int, seed: int = 0) -> OrdersApart:
    """Compare a pair of which the first image is taken."""
    sides = torch.stack([pair.first[:1], pair.high[:1]])  # (2, 1, H, M, M)
    chance = shuffled(*sides, draws, seed)[:, 0]  # (S, H, M)
    found = *sides[:, 0], pair.js()[0], to_uniform(sides)[:, 0], chance
    return OrdersApart(pair.layer, pair.order, pair.tokens, *map(_array, found))


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()
