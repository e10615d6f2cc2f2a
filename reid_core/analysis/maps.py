"""The maps that a pass leaves behind, one per layer, by what they mean; none is a model's own idea.

Shapes: B images, H heads, N = h * w positions, D width.
"""

import re
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from reid_core.analysis.occlusion import cells
from reid_core.analysis.positions import spread
from reid_core.look import Looked
from reid_core.models.base import Tokens

KINDS = ("attention", "spatial", "pooling", "high frequency", "features", "tokens")
CLASS, RECEIVED = "class token's attention to patches", "attention received"
GATE, POOLING, MASK, NORM = "spatial gate", "pooling map", "high-frequency patches", "feature norm"
PLACES = (  # in a probe's name, where it is in words
    (r"\bblocks\.(\d+)\b", "layer {}", 1),
    (r"\blayer(\d+)\b", "stage {}", 0),
    (r"\borders\.(\d+)\b", "order {}", 0),
    (r"\b(global)_layer\.", "last layer", None),  # the branch that ends in the global feature
)
PLAIN = {"spatial": GATE, "pooling": POOLING, "high frequency": MASK}  # the layer's map as it is


@dataclass(frozen=True)
class LayerMap:
    """What a layer weighs positions by: weights (B, h, w), none negative; method says what they are.

    probe names where they were seen.
    """

    probe: str
    method: str
    weights: np.ndarray
    tokens: Tokens


def maps_of(looked: Looked) -> list[LayerMap]:
    """Every layer's map, in the order of the model's modules.

    Attention is a mean over heads: the class token's row over the patches, made to sum to 1; where
    no token stands before the grid, the mean of all rows, which is what a position receives. A gate,
    a map that averages positions or a choice of patches is itself; features and tokens are taken by their length (L2).
    Layers that see parts of the grid are left out, since their rows are distributions over other
    things.
    """
    found = []
    for name, seen in looked.seen.items():
        tokens = looked.tokens[name]
        if tokens.groups or looked.kinds[name] not in KINDS:
            continue
        method, weights = _weights(looked.kinds[name], seen.float(), len(tokens.prefix))
        found.append(
            LayerMap(name, method, weights.unflatten(1, tokens.grid).cpu().numpy(), tokens)
        )
    return found


def _weights(kind: str, seen: Tensor, prefix: int) -> tuple[str, Tensor]:
    """What the weights (B, N) are, and they."""
    if kind == "attention":
        mean = seen.mean(dim=1)  # (B, T, T)
        if not prefix:
            return RECEIVED, mean.mean(dim=1)
        row = mean[:, 0, prefix:]
        return CLASS, row / row.sum(dim=1, keepdim=True).clamp(min=1e-12)
    if kind in PLAIN:
        return PLAIN[kind], seen.flatten(1)
    if kind == "features":
        return NORM, seen.norm(dim=1).flatten(1)
    return NORM, seen[:, prefix:].norm(dim=2)


def on_grid(each: LayerMap, tokens: Tokens, size: tuple[int, int]) -> np.ndarray:
    """A layer's map (B, h, w) on another grid of the same images: (B, h', w').

    The same grid stays as it is. Else weights are spread over their pixels, and a position has the
    mean of the pixels that are its own (`occlusion.cells`).
    """
    if (each.tokens.grid, each.tokens.window) == (tokens.grid, tokens.window):
        return each.weights
    where = cells(tokens, size).numpy().ravel()
    pixels = spread(each.weights, each.tokens, size).reshape(len(each.weights), -1)
    sums = np.stack([np.bincount(where, row, tokens.grid[0] * tokens.grid[1]) for row in pixels])
    area = np.maximum(np.bincount(where, minlength=sums.shape[1]), 1)
    return (sums / area).reshape(-1, *tokens.grid)


def last_maps(looked: Looked, tokens: Tokens, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """For each method the map of the last layer that has it, on one grid: (B, h, w) by the method and
    where that is."""
    last = {each.method: each for each in maps_of(looked)}
    return {
        ", ".join([method, *_places(each.probe)]): on_grid(each, tokens, size)
        for method, each in last.items()
    }


def place(probe: str) -> str:
    """Where a probe sits, in words: trunk.blocks.1.orders.2.attention is "layer 2, order 2"."""
    return ", ".join(_places(probe)) or probe.replace("_", " ")


def _places(probe: str) -> list[str]:
    found = []
    for pattern, words, first in PLACES:
        if match := re.search(pattern, probe):
            number = match[1] if first is None else int(match[1]) + first
            found.append(words.format(number))
    return found
