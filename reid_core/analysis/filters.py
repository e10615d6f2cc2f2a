"""Images without some of their frequencies, and what a model makes of them.

Shapes: B images of C colours and H x W pixels. A frequency's radius is sqrt(fx^2 + fy^2) as a
fraction of Nyquist's, half a period per pixel: 1 is the finest stripe along an axis, sqrt(2) the
finest checkerboard.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from reid_core.analysis.intervals import paired
from reid_core.errors import BadInput
from reid_core.wavelets import high_frequency, known

GRAY = 0.5  # stands in for the mean colour where the low frequencies are gone
ALL = 2**0.5
LOW, HIGH = "low-pass", "high-pass"
BANDS = (LOW, HIGH)


# Fourier


def radius(size: tuple[int, int]) -> Tensor:
    """(H, W // 2 + 1) the radius of each frequency of `torch.fft.rfft2`, 0 to sqrt(2)."""
    rows, columns = torch.fft.fftfreq(size[0]) * 2, torch.fft.rfftfreq(size[1]) * 2
    return (rows[:, None].square() + columns.square()).sqrt()


def low_pass(image: Tensor, cutoff: float) -> Tensor:
    """(B, C, H, W): the frequencies of a radius up to the cut-off, the mean colour among them."""
    size = image.shape[-2:]
    kept = torch.fft.rfft2(image.float()) * (radius(size) <= cutoff + 1e-6)
    return torch.fft.irfft2(kept, s=size)


def high_pass(image: Tensor, cutoff: float) -> Tensor:
    """(B, C, H, W): the frequencies beyond the cut-off, around 0; with `low_pass` it is the image."""
    return image - low_pass(image, cutoff)


def filtered(image: Tensor, band: str, cutoff: float) -> Tensor:
    """(B, C, H, W) in 0..1 -> what a model gets: not clipped and not rounded.

    High-pass: the detail on mid-gray, the same for every image, in place of its mean colour.
    """
    if band not in BANDS:
        raise BadInput(f"band: expected one of {', '.join(BANDS)}, got {band!r}")
    return low_pass(image, cutoff) if band == LOW else high_pass(image, cutoff) + GRAY


def energy_below(image: Tensor, cutoffs: Sequence[float]) -> np.ndarray:
    """(K,) share of the energy of an image (C, H, W) that `low_pass` keeps at each cut-off.

    Energy is the sum of squared differences from the mean colour, the same in pixels and, by
    Parseval's theorem, in frequencies. An image of one colour has none: NaN.
    """
    size = image.shape[-2:]
    power = torch.fft.rfft2(image.double()).abs().square().sum(dim=0)  # (H, W // 2 + 1)
    power[:, 1 : (size[1] + 1) // 2] *= 2  # the half of the plane that rfft2 leaves out
    power[0, 0] = 0
    where = radius(size)
    below = [float(power[where <= cutoff + 1e-6].sum()) for cutoff in cutoffs]
    total = float(power.sum())
    return np.array(below) / (total if total > 1e-9 else np.nan)


# Wavelets


def wavelet_low(image: Tensor, wavelet: str) -> Tensor:
    """(B, C, H, W) in 0..1: without the details of one wavelet level."""
    return image - high_frequency(image, wavelet)


def wavelet_detail(image: Tensor, wavelet: str) -> Tensor:
    """(B, C, H, W): the details of one wavelet level alone, on mid-gray."""
    return high_frequency(image, wavelet) + GRAY


@dataclass(frozen=True)
class Subbands:
    """A discrete wavelet transform of one image by PyWavelets, zeros beyond the border.

    low (C, h, w) of the last level; details, finest first, (3, C, h', w') each: LH (edges that lie),
    HL (edges that stand), HH (both at once). size (H, W) of the image.
    """

    low: np.ndarray
    details: tuple[np.ndarray, ...]
    wavelet: str
    size: tuple[int, int]

    @property
    def energy(self) -> np.ndarray:
        """(1 + 3 * levels,) sums of squares: LL, then LH, HL, HH of each level, finest first."""
        return np.array(
            [
                np.square(self.low).sum(),
                *(np.square(b).sum() for each in self.details for b in each),
            ]
        )

    def image(self) -> np.ndarray:
        """(C, H, W): the inverse transform."""
        import pywt

        bands = [self.low, *(tuple(each) for each in reversed(self.details))]
        image = pywt.waverec2(bands, known(self.wavelet), mode="zero", axes=(-2, -1))
        return image[..., : self.size[0], : self.size[1]]

    def dropped(self, step: float | None) -> "Subbands":
        """Low frequencies rounded to multiples of `step` of 255 levels, in the coefficients' own
        scale as PHA does it (section 3.2); 0 leaves them, None sets them to zero."""
        if step is None:
            return replace(self, low=np.zeros_like(self.low))
        return replace(self, low=np.round(self.low * 255 / step) * step / 255) if step else self


def subbands(image: np.ndarray, wavelet: str, level: int) -> Subbands:
    """The transform of an image (C, H, W). Raises BadInput for too many levels."""
    import pywt

    size = image.shape[-2:]
    if not 1 <= level <= (most := levels(size, wavelet)):
        raise BadInput(
            f"level: expected 1 to {most} for images of {size[0]}x{size[1]}, got {level}"
        )
    low, *details = pywt.wavedec2(
        image.astype(np.float64), known(wavelet), mode="zero", level=level, axes=(-2, -1)
    )
    return Subbands(low, tuple(map(np.stack, reversed(details))), wavelet, tuple(size))


def levels(size: tuple[int, int], wavelet: str) -> int:
    """How many levels leave something to filter in an image of size (H, W); 1 at least."""
    import pywt

    return max(1, pywt.dwt_max_level(min(size), known(wavelet).dec_len))


# Who loses more


@dataclass(frozen=True)
class Comparison:
    """How much better one model is than another over the same queries, with its 95 % interval."""

    difference: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the interval leaves zero out, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    @property
    def verdict(self) -> str:
        """On the claim that the first one is better."""
        return {1: "agrees", -1: "disagrees", 0: "not significant"}[self.sign]


def compared(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Comparison:
    """Average precisions (Q,) of two models over the same queries, by a paired bootstrap."""
    return Comparison(*paired(first, second, seed=seed))


def collapse(cutoffs: np.ndarray, precision: np.ndarray) -> int:
    """Where a curve (K,) falls most from one cut-off to the next: the position after the fall."""
    falls = precision[:-1] - precision[1:]
    if len(cutoffs) != len(precision) or not len(falls):
        raise BadInput("expected a value for each of two or more cut-offs")
    return int(np.nanargmax(falls)) + 1


def chance_precision(matches: np.ndarray, ranked: np.ndarray) -> np.ndarray:
    """(Q,) what average precision is to be expected of a random order, with so many true matches
    among so many ranked images: (H_n + (m - 1) / (n - 1) (n - H_n)) / n, H_n the harmonic number."""
    matches, ranked = np.asarray(matches, float), np.asarray(ranked, float)
    harmonic = np.array([(1 / np.arange(1, int(count) + 1)).sum() for count in ranked])
    more = (matches - 1) / np.maximum(ranked - 1, 1)
    return np.where(matches > 0, (harmonic + more * (ranked - harmonic)) / ranked, np.nan)
