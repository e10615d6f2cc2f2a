"""Parts of an image blanked, one by one or in an order, and what the embedding makes of it.

Works for every model alike: nothing of its interior is used. A blank has the image's mean colour. An
image is looked at alone, so for a model whose images look at one another this is its encoder.

Shapes: B images, H x W pixels, N = h * w positions of a grid, K ways to blank, D dimensions.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from reid_core.embed import batch_of
from reid_core.experiment import Experiment
from reid_core.models.base import ReIDModel, Tokens, Window

Embed = Callable[[Tensor], Tensor]  # (B, 3, H, W) in 0..1 -> (B, D)
MOST = 210  # positions: as many as a ViT with stride 12 has at 256x128
BATCH = 32


def alone(
    model: ReIDModel, experiment: Experiment, camera: int | None, view: int | None = None
) -> Embed:
    """How a model embeds versions of one picture: camera and view as in `embed_images`."""

    @torch.no_grad()
    def embed(pixels: Tensor) -> Tensor:
        count = len(pixels)
        batch = batch_of(model, experiment, pixels, [camera] * count, [view] * count)
        return model(batch).embedding.float()

    return embed


def positions_of(model: ReIDModel, most: int = MOST) -> Tokens:
    """The grid on which a model's images are blanked: its own, k x k positions as one where it has
    more than `most`."""
    (rows, columns), k = model.grid, 1
    while -(-rows // k) * -(-columns // k) > most:
        k += 1
    window = model.window
    if window is not None:
        window = Window(window.size + (k - 1) * window.stride, k * window.stride, window.start)
    return Tokens((-(-rows // k), -(-columns // k)), (), window)


def cells(tokens: Tokens, size: tuple[int, int]) -> Tensor:
    """(H, W) the position that each pixel belongs to: the one whose window's centre is nearest.

    Windows may overlap; these cells never do, and they cover the image.
    """
    (rows, columns), (height, width) = tokens.grid, size
    row = _nearest(rows, height, tokens.window)
    column = _nearest(columns, width, tokens.window)
    return row[:, None] * columns + column


def _nearest(count: int, length: int, window: Window | None) -> Tensor:
    """(length,) along one side: the number of the nearest of `count` centres."""
    step = window.stride if window else length / count
    first = window.start + window.size / 2 if window else step / 2
    pixel = torch.arange(length, dtype=torch.float64) + 0.5
    return ((pixel - first) / step + 0.5).floor().long().clamp(0, count - 1)


def blanked(pixels: Tensor, where: Tensor, gone: Tensor) -> Tensor:
    """pixels (3, H, W) without the positions that are gone (K, N) -> (K, 3, H, W).

    where (H, W) is from `cells`.
    """
    mean = pixels.mean(dim=(1, 2))[:, None, None]  # (3, 1, 1)
    return torch.where(gone[:, where][:, None], mean, pixels)


def embedded(embed: Embed, pixels: Tensor, where: Tensor, gone: Tensor) -> np.ndarray:
    """The embeddings (K, D) of `blanked` images, some at a time; float64, before L2 normalisation."""
    parts = [embed(blanked(pixels, where, some)).cpu() for some in gone.split(BATCH)]
    return torch.cat(parts).numpy().astype(np.float64)


def one_by_one(count: int) -> Tensor:
    """(2 + N, N) which positions are gone: none, all, then each alone."""
    none, every = torch.zeros(1, count), torch.ones(1, count)
    return torch.cat([none, every, torch.eye(count)]).bool()


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The cosine between vectors (..., D) along the last axis; 0 where one of them is zero."""
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return (a * b).sum(axis=-1) / np.maximum(lengths, 1e-12)
