"""Wavelets and the patches that hold most detail, as PHA uses them (Zhang et al., CVPR 2023).

Shapes: B images of C colours and H x W pixels, h x w patches, K of them of high frequency; sub-bands
are (H', W'), half of the image for Haar. All are one level of the transform, zeros beyond the border.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_core.errors import BadInput
from reid_core.knobs import unknown


def split(image: Tensor, wavelet: str) -> tuple[Tensor, Tensor]:
    """One level of the wavelet transform, zeros beyond the border.

    (B, C, H, W) -> low frequencies LL (B, C, H', W') and details LH, HL, HH (B, C, 3, H', W').
    Raises BadInput for an unknown wavelet.
    """
    import ptwt

    with torch.autocast(image.device.type, enabled=False):
        low, details = ptwt.wavedec2(
            image.float(), _filters(wavelet, image.device), mode="zero", level=1
        )
    return low, torch.stack(tuple(details), dim=2)


def join(low: Tensor, details: Tensor, wavelet: str, size: tuple[int, int]) -> Tensor:
    """The inverse of `split`: an image (B, C, H, W) of size = (H, W)."""
    import ptwt

    bands = ptwt.constants.WaveletDetailTuple2d(*details.unbind(2))
    with torch.autocast(low.device.type, enabled=False):
        image = ptwt.waverec2((low, bands), _filters(wavelet, low.device))
    return image[..., : size[0], : size[1]]  # one row or column more where the size is odd


def known(wavelet: str):
    """A discrete wavelet by name. Raises BadInput."""
    import pywt

    names = pywt.wavelist(kind="discrete")
    if wavelet not in names:
        raise BadInput(f"wavelet: {unknown('wavelet', wavelet, names)}")
    return pywt.Wavelet(wavelet)


@lru_cache
def _filters(wavelet: str, device: torch.device):
    """A wavelet's filters, brought to a device once: a GPU that is sent something makes the host wait
    for all that it was given before."""
    import ptwt

    filters = ptwt.constants.WaveletTensorTuple.from_wavelet(known(wavelet), torch.float32)
    return type(filters)(*(each.to(device) for each in filters))


def high_frequency(image: Tensor, wavelet: str) -> Tensor:
    """(B, C, H, W): the image without its low frequencies (section 3.1), around 0."""
    low, details = split(image, wavelet)
    return join(torch.zeros_like(low), details, wavelet, image.shape[-2:])


def drop_low_frequency(image: Tensor, wavelet: str, step: float) -> Tensor:
    """(B, C, H, W) in 0..1 -> the same with its low frequencies rounded to steps of 255 levels, its
    high ones untouched (section 3.2). To the eye nothing changes; with step 0 nothing does."""
    low, details = split(image, wavelet)
    if step:
        low = (low * 255 / step).round() * step / 255
    return join(low, details, wavelet, image.shape[-2:])


# Which patches


def patch_energy(detail: Tensor, patch: int, stride: int) -> Tensor:
    """(B, h, w): the L2 norm of `high_frequency` within each patch's own window.

    For an orthogonal wavelet whose blocks the window does not cut (Haar, even stride and patch) it
    is the norm of the patch's coefficients in the three detail sub-bands.
    """
    square = detail.square().sum(dim=1, keepdim=True)  # (B, 1, H, W)
    return (F.avg_pool2d(square, patch, stride)[:, 0] * patch**2).sqrt()


def top_patches(energy: Tensor, share: float) -> Tensor:
    """(B, h, w) -> the positions (B, K) of the strongest patches, in the order of the grid."""
    flat = energy.flatten(1)  # (B, N)
    count = max(1, int(share * flat.shape[1]))
    return flat.topk(count, dim=1).indices.sort(dim=1).values


def official_marks(image: Tensor, wavelet: str, share: float) -> Tensor:
    """(B, H', W') bool: the strongest coefficients as the official code finds them, the three
    sub-bands added with their signs before the norm over the colours."""
    norm = split(image, wavelet)[1].sum(dim=2).norm(dim=1)  # (B, H', W')
    flat = norm.flatten(1)
    strongest = flat.topk(int(share * flat.shape[1]), dim=1).indices
    return torch.zeros_like(flat).scatter(1, strongest, 1).bool().view_as(norm)


def official_patches(marks: Tensor, grid: tuple[int, int], share: float) -> Tensor:
    """(B, H', W') -> positions (B, K): the first marked patches after resizing to the nearest pixel,
    then the first unmarked ones if there are too few."""
    marked = F.interpolate(marks[None].float(), size=grid)[0].flatten(1)  # (B, N)
    count = max(1, int(share * marked.shape[1]))
    return (-marked).argsort(dim=1, stable=True)[:, :count]


def official_enhanced(image: Tensor, marks: Tensor, wavelet: str, step: float) -> Tensor:
    """(B, C, H, W): `drop_low_frequency` as the official code does it: coarse where a coefficient is
    marked, to whole levels elsewhere, each rounded by a steep tanh."""
    low, details = split(image, wavelet)
    steps = torch.where(marks, step, 1.0)[:, None] / 255  # (B, 1, H', W')
    whole = (low / steps).floor()
    alpha = 0.1  # at 0 this would be plain rounding
    rounded = torch.tanh((low / steps - whole - 0.5) * math.log(2 / alpha - 1)) / (1 - alpha)
    low = (whole + (rounded + 1) / 2) * steps
    return join(low, details, wavelet, image.shape[-2:])
