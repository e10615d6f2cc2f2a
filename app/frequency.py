"""The Frequency lab's first view: an image's wavelet bands, and the patches that PHA would keep."""

import numpy as np
import streamlit as st

from app import figures, frequency_patches, picture_picker
from app.figures import Said
from app.frequency_settings import asked_of, choice, controls, url, with_own
from app.notices import explained
from reid_core import wavelets
from reid_core.analysis import filters
from reid_core.runs import Run

STEPS = ("1", "5", "20", "60", "120")
KEPT, ZEROED = "kept", "zeroed"
BANDS = {
    "LH": "edges that lie",
    "HL": "edges that stand",
    "HH": "corners and noise",
}


def show(run: Run) -> None:
    """The view: sub-bands, what the eye does not miss, and the patches with most detail."""
    picture = picture_picker.pick(run)
    asked = asked_of(run)
    size, row = picture.size, st.container(horizontal=True, vertical_alignment="bottom")
    wavelet, share = controls(run, row)
    most = [str(level) for level in range(1, min(4, filters.levels(size, wavelet)) + 1)]
    level = int(choice(row, "Levels", "level", most, "1"))
    steps = [KEPT, *with_own(STEPS, f"{asked.step:g}"), ZEROED]
    drop = choice(
        row,
        "Low frequencies",
        "drop",
        [step for step in steps if step != "0"],
        f"{asked.step:g}" if asked.step else KEPT,
        format_func=lambda step: f"in steps of {step}" if step[0].isdigit() else step,
        help="PHA rounds them to multiples of a step, of 255 levels.",
    )
    with explained():
        pixels = picture.looked(()).pixels
        image = pixels[0].numpy().astype(np.float64)
        split = filters.subbands(image, wavelet, level)
        chosen = frequency_patches.selection(run, pixels, wavelet, share)
    _sub_bands(image, split)
    _dropped(image, split, drop)
    frequency_patches.show(run, picture, image, chosen, share)


def _sub_bands(image: np.ndarray, split: filters.Subbands) -> None:
    level, energy = len(split.details), split.energy / max(split.energy.sum(), 1e-30)
    tiles = [
        dict(label="Image", src=url(image), size=split.size),
        dict(
            label=f"LL {level}",
            note=f"{energy[0]:.2%} of the energy",
            src=url(split.low / 2**level),
            size=split.size,
        ),
        dict(
            label="All details",
            note=f"{energy[1:].sum():.2%} of the energy",
            src=url(0.5 + split.dropped(None).image()),
            size=split.size,
        ),
    ]
    # One brightness for all details, so that pictures may be compared.
    most = max(float(np.abs(each).max()) / 2**n for n, each in enumerate(split.details, 1))
    gain = 0.5 / most if most else 1.0  # a picture of one colour has no detail
    for depth, details in enumerate(split.details, 1):
        for number, (name, about) in enumerate(BANDS.items()):
            share = energy[1 + 3 * (depth - 1) + number]
            tiles.append(
                dict(
                    label=f"{name} {depth}: {about}",
                    note=f"{share:.2%} of the energy",
                    src=url(0.5 + gain * details[number] / 2**depth),
                    size=split.size,
                )
            )
    figures.pictures(
        tiles,
        Said(
            f"The image as the model sees it and its wavelet bands ({split.wavelet}, "
            f"{level} level{'s' if level > 1 else ''}). Details are drawn about mid-gray: all together "
            f"as they are, the coefficients of level l over 2^l and {gain:.2g} times as strong; energy is "
            "the sum of squared coefficients.",
            r"$x = \sum_k LL_k\,\phi_k + \sum_{l=1}^{L}\sum_{b\in\{LH,HL,HH\}}\sum_k b_{l,k}\,\psi^b_{l,k}$"
            "\n\nLH: low frequencies along a row, high ones along a column.",
            "Discrete wavelet transform (Mallat 1989) by PyWavelets, zeros beyond the border.",
            (filters.subbands,),
        ),
        key="bands",
        alt=f"{len(tiles)} pictures: the image and the bands of its {split.wavelet} transform",
        columns=6,
    )


def _dropped(image: np.ndarray, split: filters.Subbands, drop: str) -> None:
    step = {KEPT: 0.0, ZEROED: None}.get(drop, drop)
    step = float(step) if step is not None else None
    again, without = split.image(), split.dropped(step).image()
    change = without - image
    note = f"changes up to {np.abs(change).max() * 255:.1f} of 255 levels"
    shift = 0.5 if step is None else 0.0
    gain = 0.5 / max(1e-12, float(np.abs(change).max()))
    how = "set to zero" if step is None else "as they are" if not step else f"in steps of {drop}"
    figures.pictures(
        [
            dict(
                label="All bands together",
                note=f"error at most {np.abs(again - image).max():.1e}",
                src=url(again),
                size=split.size,
            ),
            dict(label=f"LL {how}", note=note, src=url(without + shift), size=split.size),
            dict(
                label="What that changed",
                note=f"root mean square {np.sqrt(np.square(change).mean()) * 255:.2f} levels",
                src=url(0.5 + (gain * change if step != 0 else 0 * change)),
                size=split.size,
            ),
        ],
        Said(
            "From all bands the image comes back to rounding. In the second picture low frequencies "
            f"are {how}"
            + (" and mid-gray stands in for them. " if step is None else ". ")
            + "The third is the difference, stretched about mid-gray. PHA trains on a view whose LL of "
            "one level is rounded, in the official code in steps of 5 where there is most detail and of 1 "
            "elsewhere"
            + ("; here one step holds everywhere." if step else ", which an eye hardly sees."),
            r"$\widehat{LL} = \frac{s}{255}\,\mathrm{round}\!\left(\frac{255\,LL}{s}\right)$",
            "PHA (Zhang et al., CVPR 2023), section 3.2. Rounding instead of the official code's steep "
            "tanh is ours. A Haar LL coefficient of level l is 2^l times the mean of its pixels.",
            (filters.Subbands.dropped, wavelets.drop_low_frequency),
        ),
        key="dropped",
        alt=f"The image put together again; the image with its low frequencies {how}; {note}",
        columns=5,
    )
