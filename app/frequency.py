"""The Frequency lab's first view: an image's wavelet bands, and the patches that PHA would keep."""

import base64
import io
from dataclasses import dataclass

import numpy as np
import streamlit as st
from PIL import Image

from app import cached, figures, pickers, pictures
from app.figures import Said
from app.notices import explained
from app.pictures import Picture
from reid_core import wavelets
from reid_core.analysis import filters, frequency
from reid_core.models.base import Tokens
from reid_core.runs import Run

WAVELETS = ("haar", "db2", "db4", "sym4", "coif1", "bior2.2")
SHARES = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.8")
STEPS = ("1", "5", "20", "60", "120")
KEPT, ZEROED = "kept", "zeroed"
BANDS = {
    "LH": "edges that lie",
    "HL": "edges that stand",
    "HH": "corners and noise",
}
TALL = 256  # pixels on the way to the screen, so that a small band keeps its squares


@dataclass(frozen=True)
class Asked:
    """How high frequencies are found; trained says whether the run itself was trained with it."""

    wavelet: str
    share: float
    step: float
    variant: str
    trained: bool


def asked_of(run: Run) -> Asked:
    """A PHA run's own settings, or PHA's defaults for a run of another model."""
    options = run.experiment.options
    known = hasattr(options, "high_frequency_share")
    if not known:
        return Asked("haar", 0.4, 5.0, "paper", False)
    share, step = options.high_frequency_share, options.low_frequency_step
    return Asked(options.wavelet, share, step, options.variant, True)


def controls(run: Run, row) -> tuple[str, float]:
    """The wavelet and the share of the patches: for every view that splits high from low."""
    asked = asked_of(run)
    wavelet = _choice(row, "Wavelet", "wavelet", with_own(WAVELETS, asked.wavelet), asked.wavelet)
    own = f"{asked.share:g}"
    share = _choice(row, "Share of the patches", "share", with_own(SHARES, own), own)
    return wavelet, float(share)


def with_own(options: tuple[str, ...], own: str) -> list[str]:
    """The options, with the run's own one among them."""
    numbers = all(each.replace(".", "").isdigit() for each in options)
    return sorted({*options, own}, key=float) if numbers else list(dict.fromkeys((*options, own)))


def _choice(row, label: str, key: str, options: list[str], default: str, **more) -> str:
    pickers.linked(key, options, default)
    return row.selectbox(label, options, key=key, width=170, **more)


def bands(run: Run) -> None:
    """The view: sub-bands, what the eye does not miss, and the patches with most detail."""
    picture = pictures.pick(run)
    asked = asked_of(run)
    size, row = picture.size, st.container(horizontal=True, vertical_alignment="bottom")
    wavelet, share = controls(run, row)
    most = [str(level) for level in range(1, min(4, filters.levels(size, wavelet)) + 1)]
    level = int(_choice(row, "Levels", "level", most, "1"))
    steps = [KEPT, *with_own(STEPS, f"{asked.step:g}"), ZEROED]
    drop = _choice(
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
        chosen = selection(run, pixels, wavelet, share)
    _sub_bands(image, split)
    _dropped(image, split, drop)
    _patches(run, picture, image, chosen, share)


def _sub_bands(image: np.ndarray, split: filters.Subbands) -> None:
    level, energy = len(split.details), split.energy / split.energy.sum()
    tiles = [
        dict(label="Image", src=url(image), size=split.size),
        dict(
            label=f"LL {level}",
            note=f"{energy[0]:.2%} of the energy",
            src=url(split.low / 2**level),
            size=split.size,
        ),
    ]
    # One brightness for all details, so that pictures may be compared.
    gain = 0.5 / max(float(np.abs(each).max()) for each in split.details)
    for depth, details in enumerate(split.details, 1):
        for number, (name, about) in enumerate(BANDS.items()):
            share = energy[1 + 3 * (depth - 1) + number]
            tiles.append(
                dict(
                    label=f"{name} {depth}: {about}",
                    note=f"{share:.2%} of the energy",
                    src=url(0.5 + gain * details[number]),
                    size=split.size,
                )
            )
    figures.pictures(
        tiles,
        Said(
            f"The image as the model sees it and its wavelet bands ({split.wavelet}, "
            f"{level} level{'s' if level > 1 else ''}). Details are drawn about mid-gray, all "
            f"{gain:.2g} times as strong as they are; energy is the sum of squared coefficients.",
            r"$x = \sum_k LL_k\,\phi_k + \sum_{l=1}^{L}\sum_{b\in\{LH,HL,HH\}}\sum_k b_{l,k}\,\psi^b_{l,k}$"
            "\n\nLH: low frequencies along a row, high ones along a column.",
            "Discrete wavelet transform (Mallat 1989) by PyWavelets, zeros beyond the border.",
            (filters.subbands,),
        ),
        key="bands",
        alt=f"{len(tiles)} pictures: the image and the bands of its {split.wavelet} transform",
        columns=5,
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
            "one level is rounded (in steps of 5 in the official code): an eye hardly sees it.",
            r"$\widehat{LL} = \frac{s}{255}\,\mathrm{round}\!\left(\frac{255\,LL}{s}\right)$",
            "PHA (Zhang et al., CVPR 2023), section 3.2. Rounding instead of the official code's steep "
            "tanh is ours. A Haar LL coefficient of level l is 2^l times the mean of its pixels.",
            (filters.Subbands.dropped, wavelets.drop_low_frequency),
        ),
        key="dropped",
        alt=f"The image put together again; the image with its low frequencies {how}; {note}",
        columns=5,
    )


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


def _patches(
    run: Run, picture: Picture, image: np.ndarray, chosen: Selection, share: float
) -> None:
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
                note=f"{chosen.held:.0%} of the energy",
                map=np.where(chosen.kept, 1.0, np.nan),
                palette="mask",
            ),
        ],
        Said(
            f"PHA keeps the {share:.0%} of the patches with most detail: {of}, which hold "
            f"{chosen.held:.0%} of the energy. {trained} Computed from pixels in 0..1, as in training.",
            r"$e_p = \left\|\,(x - x_{LL})_p\right\|_2,\qquad K = \lfloor \mathrm{share}\cdot N\rfloor$",
            "PHA, section 3.1. That a patch's energy is that of its own window, overlapping or not, is "
            "ours (variant paper); the official variant takes the first K marked patches of the grid.",
            (wavelets.high_frequency, wavelets.patch_energy, wavelets.top_patches),
        ),
        key="patches",
        alt=f"Energy of the detail on the {net.grid[0]} x {net.grid[1]} grid; {of} positions are kept",
        columns=5,
    )


def url(image: np.ndarray) -> str:
    """(3, H, W) in 0..1, clipped there, as a data URL without loss; small ones keep their squares."""
    pixels = (np.clip(image, 0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    times = max(1, TALL // pixels.shape[0])
    packed = io.BytesIO()
    Image.fromarray(pixels.repeat(times, axis=0).repeat(times, axis=1)).save(packed, "PNG")
    return "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode()
