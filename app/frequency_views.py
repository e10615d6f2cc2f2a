"""The page Frequency: which views there are, its preset and its three steps."""

from collections.abc import Callable

import numpy as np
import streamlit as st

from app import (
    address,
    cached,
    frequency,
    frequency_attention,
    frequency_contrast,
    frequency_lost,
    frequency_query,
    frequency_tokens,
    lessons,
    pickers,
)
from app.frequency_settings import asked_of
from app.lessons import Step
from app.notices import say
from reid_core.analysis.intervals import interval
from reid_core.errors import BadInput
from reid_core.runs import Run

# In the order of the page: name -> what draws it.
VIEWS: dict[str, Callable[[Run], None]] = {
    "Wavelets": frequency.show,
    "Through depth": frequency_tokens.show,
    "Attention": frequency_attention.show,
    "What is lost": frequency_lost.show,
    "One query": frequency_query.show,
}
PATCHES = "Patch contrast"  # of PHA alone
SEARCHED, MEASURED = 12, 64  # queries for the preset, images for the first step


def show(run: Run) -> None:
    """The chosen view; the others are not computed."""
    views = VIEWS | ({PATCHES: frequency_contrast.show} if frequency_contrast.offered(run) else {})
    if gone := pickers.missing("part", list(views), "Wavelets"):
        whose = "is PHA's alone" if gone == PATCHES else "is not on this page"
        say("info", f"The view {gone} {whose}.")
    st.segmented_control(
        "View", list(views), key="part", required=True, label_visibility="collapsed"
    )
    if not run.has_weights:
        say("info", str(run.lacks("weights.safetensors")))
        address.stop()
    views[st.session_state["part"]](run)


def lessons_of(run: Run) -> None:
    """The preset and the steps, measured on this run; where it can't be looked at, there are none."""
    if not (run.has_weights and run.has_embeddings):
        return
    stamp = run.stamp()
    try:
        cached.dataset(*cached.folder(run.experiment))
        broken = cached.collapse(run.name, stamp, SEARCHED)
        steps = [_patches(run, stamp), _depth(run)]
    except BadInput:
        return  # the view says what is missing
    if broken is not None:
        label = cached.labels(run.name, stamp)[broken.query]
        lessons.first(f"frequency {run.name}", dict(query=label, **_cut(broken)))
        steps.append(_break(broken, label))
    lessons.look_at(steps, "frequency")


def _cut(broken) -> dict[str, str]:
    return dict(band=broken.band, cutoff=frequency_query.nearest(broken.cutoff))


def _patches(run: Run, stamp: int) -> Step:
    asked = asked_of(run)
    shares = cached.held(run.name, stamp, asked.wavelet, asked.share, MEASURED)
    low, high = interval(shares)
    return Step(
        "Detail sits in few patches",
        f"The {asked.share:.0%} of the patches with most detail hold {np.mean(shares):.0%} of it "
        f"(as a sum of squares), 95 % interval {low:.0%} to {high:.0%} over {len(shares)} test images. See in the last "
        "row where they lie: on the person's edges and pattern, or on the background's?",
        dict(part="Wavelets", wavelet=asked.wavelet, share=f"{asked.share:g}"),
    )


def _depth(run: Run) -> Step:
    return Step(
        "High and low grow alike",
        frequency_tokens.depth_in_words(),
        frequency_tokens.usual_values(run),
    )


def _break(broken, label: str) -> Step:
    without = "above" if broken.band == "low-pass" else "below"
    return Step(
        "Where a list breaks",
        f"Query {label} without the frequencies {without} {broken.cutoff:g} of Nyquist's: its average "
        f"precision falls to {broken.after:.2f}, from {broken.before:.2f} at {broken.start:g}: the most "
        f"among {broken.searched} queries searched. Move the cut-off back and watch the list heal.",
        dict(part="One query", query=label, **_cut(broken)),
    )
