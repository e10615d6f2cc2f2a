"""What a gate lets through, and what a position relates to.

Shapes: N = h * w positions or N channels, as the probe says.
"""

import numpy as np
from torch import Tensor

from reid_core.errors import BadInput


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
