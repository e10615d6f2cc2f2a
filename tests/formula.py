"""Weights by a formula from their names: the same here and in the official code, without a download."""

import json
import re
import zlib

import numpy as np
import torch


def filled(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A float32 tensor that follows from its name and shape alone.

    Matrices and kernels are normal with deviation 1/sqrt(fan in); running variances lie between 0.5
    and 1.5; the weights of norms (one dimension, "weight" or "g") around 1; tokens and their embeddings
    have a deviation of 0.5; all else is around 0.
    """
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.long)
    # The legacy generator's stream is frozen by numpy's policy.
    draw = np.random.RandomState(zlib.crc32(name.encode()))
    values = draw.standard_normal(shape)
    if name.endswith("running_var"):
        values = draw.uniform(0.5, 1.5, shape)
    elif name.endswith(("_embed", "_token")):
        values = 0.5 * values
    elif len(shape) > 1:
        values = values / np.sqrt(np.prod(shape[1:]))
    elif name.endswith(("weight", ".g")):
        values = 1 + 0.1 * values
    else:
        values = 0.1 * values
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def images(count: int, size: tuple[int, int]) -> torch.Tensor:
    """(B, 3, H, W) float32 standard normal, the same everywhere."""
    draw = np.random.RandomState(0)
    return torch.from_numpy(draw.standard_normal((count, 3, *size)).astype(np.float32))


def renamed(keys: str, names: dict[str, str]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """An official state dict's keys and shapes, as JSON -> what `filled` needs, under our names.

    names are patterns and what stands in their place, as in `reid_core.official.NAMES`; keys that none
    of them matches keep their name.
    """
    ours = {}
    for key, shape in json.loads(keys).items():
        pattern = next((each for each in names if re.match(each, key)), "$")
        ours[re.sub(pattern, names.get(pattern, ""), key, count=1)] = (key, tuple(shape))
    return ours
