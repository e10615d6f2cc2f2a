"""What a gate lets through, and what a position relates to.

Shapes: N = h * w positions or N channels, as the probe says.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reid_core.errors import BadInput
from reid_core.models.rga import RelationAware


def relations(seen: Tensor, position: int, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A position's relation vector as two maps (h, w): to every position, and from every position.

    seen (2N, N) is one image of a probe of kind "relation": column i holds theta_i . phi_j for all j,
    then theta_j . phi_i (Zhang et al. 2020, eq. 1 and section 3.2). They are products of learned
    embeddings before any normalisation: their scale is the layer's own, and no probability. Raises
    BadInput for a position outside the grid.
    """
    count = grid[0] * grid[1]
    if seen.shape != (2 * count, count) or not 0 <= position < count:
        raise BadInput(
            f"expected relations of {count} positions and one of them, got {tuple(seen.shape)} and "
            f"position {position}"
        )
    column = seen[:, position].float().cpu().numpy()
    return column[:count].reshape(grid), column[count:].reshape(grid)


def summary(gate: np.ndarray) -> dict[str, float]:
    """How a gate (...) is spread: mean, least, most."""
    return dict(mean=float(gate.mean()), least=float(gate.min()), most=float(gate.max()))


@dataclass(frozen=True)
class Made:
    """What one image's attention (N,) is made of.

    own: the mean of each node's own embedded feature; gate: the attention; of_own, of_relations: the
    attention where the other input is the same everywhere, its mean over the nodes.
    """

    own: np.ndarray
    gate: np.ndarray
    of_own: np.ndarray
    of_relations: np.ndarray


@torch.no_grad()
def made_of(module: RelationAware, both: Tensor) -> Made:
    """The attention from its two inputs together, and from each alone.

    both (1, 1 + N/8, N) is what was seen at the module's probe `both`, in the same pass as the gate.
    """
    own, related = both.split([1, both.shape[1] - 1], dim=1)
    even = [each.mean(dim=2, keepdim=True).expand_as(each) for each in (own, related)]
    maps = [module.weighed(*pair) for pair in ((own, related), (own, even[1]), (even[0], related))]
    return Made(*(each[0, 0].float().cpu().numpy() for each in (own, *maps)))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's r of two maps of the same nodes; NaN where one of them is the same everywhere."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
