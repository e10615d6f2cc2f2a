"""How far two attention maps are apart, on what they have in common.

Shapes: B images, H heads, N = h * w patches of a grid, M = h' * w' cells of a coarser one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_core.errors import BadInput

# Below any probability that matters, above where float32 loses its logarithm's gradient.
TINY = 1e-30


def js_divergence(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence in nats of distributions along the last axis, (..., K) -> (...).

    JS = (KL(p | m) + KL(q | m)) / 2 with m = (p + q) / 2 (Lin 1991): 0 where p equals q, ln 2 where
    they share no support. Zeros are allowed and gradients finite there. In float32 at least. Raises
    BadInput for distributions over different numbers of things.
    """
    if p.shape[-1] != q.shape[-1]:
        raise BadInput(
            f"expected two distributions over as many things, got {p.shape[-1]} and {q.shape[-1]}: "
            "bring both to their common support first"
        )
    wide = torch.promote_types(torch.promote_types(p.dtype, q.dtype), torch.float32)
    p, q = p.to(wide), q.to(wide)
    middle = ((p + q) / 2).clamp(min=TINY).log()  # (..., K)
    apart = p * (p.clamp(min=TINY).log() - middle) + q * (q.clamp(min=TINY).log() - middle)
    return (apart.sum(dim=-1) / 2).clamp(min=0)


def pooled_map(attention: Tensor, grid: tuple[int, int], stride: int) -> Tensor:
    """A map between patches as a map between cells of stride x stride of them.

    attention (B, H, N, N) has no class token; the answer (B, H, M, M) is averaged over the keys and
    the queries of each cell, and its rows sum to 1 again. Cells at the lower and right edge hold
    fewer patches where the stride does not divide the grid. In float32 at least.
    """
    attention = attention.to(torch.promote_types(attention.dtype, torch.float32))
    # Over queries first: their keys lie side by side in memory, which halves the time.
    by_query = _over_cells(attention.transpose(-2, -1), grid, stride).transpose(-2, -1)
    by_both = _over_cells(by_query, grid, stride)  # (B, H, M, N) -> (B, H, M, M)
    return by_both / by_both.sum(dim=-1, keepdim=True).clamp(min=TINY)


def _over_cells(values: Tensor, grid: tuple[int, int], stride: int) -> Tensor:
    """(B, H, X, N) -> (B, H, X, M): the mean over each cell's patches."""
    maps = values.flatten(0, 1).unflatten(-1, grid)  # (B * H, X, h, w)
    cells = F.avg_pool2d(maps, stride, ceil_mode=True, count_include_pad=False)
    return cells.flatten(2).unflatten(0, values.shape[:2])  # (B, H, X, M)
