"""High- and low-frequency tokens: which they are, how alike they become, what attention takes from each.

PHA (Zhang et al., CVPR 2023, section 3.1) measures both on one transformer; the measures here are
ours wherever a docstring names no other source, and are always to be read beside random splits.

Shapes: B images, H x W pixels, N = h * w positions, K of them of high frequency, D width, A heads.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reid_core.errors import BadInput
from reid_core.models.base import Tokens
from reid_core.wavelets import high_frequency, patch_energy, top_patches

ROLES = ("high frequency", "low frequency", "class token")


# Which positions


def energies(pixels: Tensor, tokens: Tokens, wavelet: str) -> Tensor:
    """(B, 3, H, W) -> (B, h, w): the L2 norm of the image's detail within each position's pixels.

    Detail is what is left without the low frequencies of one wavelet level (PHA, section 3.1). Where
    positions have no window of their own, as in a CNN, the grid's cells tile the image.
    """
    detail = high_frequency(pixels, wavelet)
    if tokens.window is None:
        return cell_energy(detail, tokens.grid)
    size, stride, start = tokens.window
    height, width = detail.shape[-2:]
    ends = [start + (count - 1) * stride + size for count in tokens.grid]
    outside = (-start, max(0, ends[1] - width), -start, max(0, ends[0] - height))
    energy = patch_energy(F.pad(detail, outside), size, stride)  # nothing lies beyond the border
    return energy[:, : tokens.grid[0], : tokens.grid[1]]


def cell_energy(detail: Tensor, grid: tuple[int, int]) -> Tensor:
    """The same over the cells of a grid: a pixel belongs to the cell that its centre lies in."""
    square = detail.square().sum(dim=1)  # (B, H, W)
    rows, columns = (
        ((torch.arange(length) + 0.5) * cells / length).long()
        for length, cells in zip(square.shape[1:], grid, strict=True)
    )
    where = rows[:, None] * grid[1] + columns  # (H, W)
    sums = square.new_zeros(len(square), grid[0] * grid[1])
    sums.index_add_(1, where.flatten(), square.flatten(1))
    return sums.unflatten(1, grid).sqrt()


def strongest(energy: Tensor, share: float) -> Tensor:
    """(B, h, w) -> (B, N) bool: the K = floor(share * N) positions with the most energy, as PHA
    chooses them; one at least."""
    places = top_patches(energy, share)  # (B, K)
    return torch.zeros(len(energy), energy[0].numel(), dtype=torch.bool).scatter(1, places, True)


def shuffled(high: Tensor, draws: int, seed: int = 0) -> Tensor:
    """(B, N) bool -> (R, B, N) bool: random splits, each with as many high positions per image."""
    picks = torch.Generator().manual_seed(seed)
    order = torch.rand(draws, *high.shape, generator=picks).argsort(dim=2)
    return high.expand(draws, -1, -1).gather(2, order)


def held(pixels: Tensor, tokens: Tokens, wavelet: str, share: float) -> np.ndarray:
    """(B,) share of all positions' squared energy that lies in the `strongest` ones: the energy is a
    norm, and only squares add up. A pixel in two windows counts in both."""
    energy = energies(pixels, tokens, wavelet)
    square = energy.flatten(1).square().double()
    chosen = square * strongest(energy, share)
    return (chosen.sum(dim=1) / square.sum(dim=1).clamp(min=1e-30)).numpy()


# How alike the groups are


def positions(tensor: Tensor, tokens: Tokens) -> Tensor:
    """A probe's tensor, of kind "tokens" or "features", as (B, N, D) without its prefix."""
    if tensor.ndim == 4:
        return tensor.flatten(2).transpose(1, 2)
    return tensor[:, len(tokens.prefix) :]


def group_means(tensor: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """(B, N, D), (B, N) bool -> each image's mean high- and low-frequency token, (B, D) each. Raises
    BadInput where one of the two groups is empty."""
    count = int(high[0].sum())
    if not 0 < count < high.shape[1]:
        raise BadInput(
            f"share: {count} of {high.shape[1]} positions are high-frequency, which leaves one group "
            "empty; give another share"
        )
    weight = high.to(tensor.dtype)[:, None]  # (B, 1, N)
    total = tensor.sum(dim=1)
    chosen = (weight @ tensor)[:, 0]  # (B, D)
    count = weight.sum(dim=2)
    return chosen / count, (total - chosen) / (tensor.shape[1] - count)


def mean_cosine(high: Tensor, low: Tensor) -> np.ndarray:
    """(B, D) twice -> (B,) the cosine of an image's two mean tokens."""
    return F.cosine_similarity(high, low, dim=1).double().numpy()


def linear_cka(first: Tensor, second: Tensor) -> float:
    """Linear centred kernel alignment of (B, D) and (B, D'), rows are images: 0 to 1.

    ||Y'X||^2 / (||X'X|| ||Y'Y||) with centred columns (Kornblith et al., ICML 2019, eq. 4 and
    section 3). It rises towards 1 as B falls below D, for any two representations. Raises BadInput
    for fewer than three images.
    """
    return float(_alignment(_gram(first), _gram(second)))


def cka_band(first: Tensor, second: Tensor) -> tuple[float, float]:
    """The 95 % interval of `linear_cka` by the jackknife (Efron and Stein 1981): low, high.

    Not by the bootstrap: images drawn twice make any two representations more alike.
    """
    grams, count = (_gram(first), _gram(second)), len(first)
    each = []
    for left in range(count):
        rest = torch.arange(count) != left
        each.append(float(_alignment(*(_centred(gram[rest][:, rest]) for gram in grams))))
    value = float(_alignment(*grams))
    wide = 1.96 * float(np.sqrt((count - 1) * np.var(each)))
    return max(0.0, value - wide), min(1.0, value + wide)


def _gram(rows: Tensor) -> Tensor:
    """(B, D) -> (B, B) inner products of centred columns."""
    if len(rows) < 3:
        raise BadInput(f"CKA compares over images: expected 3 or more, got {len(rows)}")
    rows = rows.double()
    rows = rows - rows.mean(dim=0)
    return rows @ rows.T


def _centred(gram: Tensor) -> Tensor:
    return gram - gram.mean(dim=0) - gram.mean(dim=1, keepdim=True) + gram.mean()


def _alignment(first: Tensor, second: Tensor) -> Tensor:
    own = (first.square().sum() * second.square().sum()).sqrt()
    return (first * second).sum() / own.clamp(min=1e-30)


# What attention takes from each group


def attention_parts(
    attention: Tensor, values: Tensor, weight: Tensor, high: Tensor, prefix: int
) -> Tensor:
    """How long the three sums are that make a token's attention output: norms (B, P + N, 3).

    output_i - bias = W sum_j a_ij v_j, heads joined, and the sum over j falls apart into positions of
    high frequency, of low frequency, and the prefix (PHA, section 3.1, as our notes tell it). The
    order is that of ROLES. attention (B, A, P + N, P + N), values (B, A, P + N, D/A), weight (D, D)
    of the output projection, high (B, N) bool, prefix P.
    """
    return split_outputs(attention, values, weight, high, prefix).norm(dim=3).permute(1, 2, 0)


def split_outputs(
    attention: Tensor, values: Tensor, weight: Tensor, high: Tensor, prefix: int
) -> Tensor:
    """The three sums themselves, (3, B, P + N, D); together the attention's output without bias."""
    outputs = []
    for group in _groups(high, prefix):  # (B, P + N) bool each
        kept = values * group[:, None, :, None]  # (B, A, P + N, D/A)
        joined = (attention @ kept).transpose(1, 2).flatten(2)  # (B, P + N, D)
        outputs.append(joined @ weight.T)
    return torch.stack(outputs)


def _groups(high: Tensor, prefix: int) -> tuple[Tensor, Tensor, Tensor]:
    before = high.new_zeros(len(high), prefix)
    return (
        torch.cat([before, high], dim=1),
        torch.cat([before, ~high], dim=1),
        torch.cat([~before, torch.zeros_like(high)], dim=1),
    )


def attention_shares(norms: Tensor, high: Tensor) -> np.ndarray:
    """norms (B, P + N, 3) of `attention_parts` -> (B, 2, 3) shares that add to 1.

    Norms are averaged over all tokens of an image (row 0), or over its high-frequency ones (row 1),
    and divided by the sum of the three. Norms of parts do not add to the norm of the whole, so these
    are shares of lengths, not of the output itself.
    """
    chosen = high.to(norms.dtype)
    some = norms[:, norms.shape[1] - high.shape[1] :]  # (B, N, 3)
    some = (chosen[:, :, None] * some).sum(dim=1) / chosen.sum(dim=1, keepdim=True)
    means = torch.stack([norms.mean(dim=1), some], dim=1)  # (B, 2, 3)
    return (means / means.sum(dim=2, keepdim=True)).double().numpy()
