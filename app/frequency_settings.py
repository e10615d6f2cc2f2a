"""What the Frequency lab's views share: how high frequencies are found, and pictures from arrays."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from app import address, cached, cards, pickers, projector
from app.notices import explained
from reid_core.runs import Run
from reid_core.studies import filters

WAVELETS = ("haar", "db2", "db4", "sym4", "coif1", "bior2.2")
SHARES = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.8")
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
    wavelet = choice(row, "Wavelet", "wavelet", with_own(WAVELETS, asked.wavelet), asked.wavelet)
    own = f"{asked.share:g}"
    share = choice(row, "Share of the patches", "share", with_own(SHARES, own), own)
    return wavelet, float(share)


def picked_query(run: Run) -> int:
    """The query that the visitor picks, as a position; the page ends where the run has none to show."""
    if not run.has_embeddings:
        cards.no_embeddings(run)
        address.stop()
    with explained("info"):
        cached.dataset(*cached.folder(run.experiment))
    with explained():
        return pickers.query(run.name, run.stamp())


def with_own(options: tuple[str, ...], own: str) -> list[str]:
    """The options, with the run's own one among them."""
    numbers = all(each.replace(".", "").isdigit() for each in options)
    return sorted({*options, own}, key=float) if numbers else list(dict.fromkeys((*options, own)))


def choice(row, label: str, key: str, options: list[str], default: str, **more) -> str:
    pickers.linked(key, options, default)
    return row.selectbox(label, options, key=key, width=projector.wide(170), **more)


def url(image: np.ndarray) -> str:
    """(3, H, W) in 0..1, clipped there, as a data URL without loss; small ones keep their squares."""
    pixels = (np.clip(image, 0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    times = max(1, TALL // pixels.shape[0])
    packed = io.BytesIO()
    Image.fromarray(pixels.repeat(times, axis=0).repeat(times, axis=1)).save(packed, "PNG")
    return "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode()


def filter_passes(run: Run, identities: int) -> int:
    """How many images the study "filters" embeds. Raises BadInput where the data set is gone."""
    test = filters.subset(cached.dataset(*cached.folder(run.experiment)), identities)
    ways = len(list(filters.filters_of(filters.Options().wavelet)))
    return ways * (len(test.query) + len(test.gallery))
