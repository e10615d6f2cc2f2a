"""The Frequency lab's last row of wavelets: which patches PHA would keep, on the run's own grid."""

from dataclasses import dataclass

import numpy as np

from app import cached, figures
from app.figures import Said
from app.frequency_settings import asked_of, url
from app.pictures import Picture
from reid_core import wavelets
from reid_core.analysis import frequency
from reid_core.models.base import Tokens
from reid_core.runs import Run


@dataclass(frozen=True)
class Selection:
    """detail (3, H, W) without low frequencies; energy (h, w) of it in each position; kept (h, w) bool, those that PHA keeps; held their share of
    the energy."""

    detail: np.ndarray
    energy: np.ndarray
    kept: np.ndarray
    held: float


def selection(run: Run, pixels, wavelet: str, share: float) -> Selection:
    """PHA's own choice of patches for an image (1, 3, H, W) in 0..1, on the run's grid."""
    net = cached.model(run.name, run.stamp())
    energy = frequency.energies(pixels, Tokens(net.grid, (), net.window), wavelet)
    if asked_of(run).variant == "official":
        marks = wavelets.official_marks(pixels, wavelet, share)
        places = wavelets.official_patches(marks, net.grid, share)
    else:
        places = wavelets.top_patches(energy, share)
    kept = np.zeros(net.grid, bool)
    kept.flat[places[0].numpy()] = True
    square = np.square(energy[0].numpy().astype(np.float64))
    detail = wavelets.high_frequency(pixels, wavelet)[0].numpy()
    return Selection(
        detail, energy[0].numpy(), kept, float(square[kept].sum() / max(square.sum(), 1e-30))
    )


def show(run: Run, picture: Picture, image: np.ndarray, chosen: Selection, share: float) -> None:
    asked, count = asked_of(run), int(chosen.kept.sum())
    net = cached.model(run.name, run.stamp())
    plain = dict(src=url(image), size=picture.size, window=net.window and tuple(net.window))
    of = f"{count} of {chosen.kept.size}"
    trained = (
        f"This run was trained with {asked.wavelet} and a share of {asked.share:g}, variant "
        f"{asked.variant}."
        if asked.trained
        else "This run was not trained so: these are the patches that PHA would keep on its grid."
    )
    figures.pictures(
        [
            dict(
                label="Detail alone",
                note="on mid-gray, twice as strong",
                src=url(0.5 + 2 * chosen.detail),
                size=picture.size,
            ),
            plain
            | dict(label="Energy of the detail", map=chosen.energy, palette="heat", scale="own"),
            plain
            | dict(
                label=f"Kept: {of}",
                note=f"{chosen.held:.0%} of the sum of e²",
                map=np.where(chosen.kept, 1.0, np.nan),
                palette="mask",
            ),
        ],
        Said(
            f"PHA keeps the {share:.0%} of the patches with most detail: {of}, which hold "
            f"{chosen.held:.0%} of the sum of all $e_p^2$ (a pixel in two windows counts in both). "
            f"{trained} Computed from pixels in 0..1, as in training.",
            r"$e_p = \left\|\,(x - x_{LL})_p\right\|_2,\qquad K = \lfloor \mathrm{share}\cdot N\rfloor$",
            "PHA, section 3.1. That a patch's energy is that of its own window, overlapping or not, is "
            "ours (variant paper); the official variant takes the first K marked patches of the grid.",
            (wavelets.high_frequency, wavelets.patch_energy, wavelets.top_patches),
        ),
        key="patches",
        alt=f"Energy of the detail on the {net.grid[0]} x {net.grid[1]} grid; {of} positions are kept",
        columns=5,
    )
