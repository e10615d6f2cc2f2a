"""The Frequency lab's last view: one query loses frequencies, and its ranked list follows."""

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, charts, charts_frequency, figures, galleries, pickers
from app.charts_frequency import Line
from app.components import ranked_gallery
from app.figures import Said
from app.frequency_settings import picked_query, url
from app.notices import explained
from reid_core.analysis import filters
from reid_core.analysis.cutoffs import FINE, precisions, swept
from reid_core.runs import Run

CUTOFFS = [f"{cutoff:g}" for cutoff in FINE]
SHOWN = 20


def nearest(cutoff: float) -> str:
    """The slider's stop that is nearest to a cut-off."""
    return CUTOFFS[int(np.abs(np.array(FINE) - cutoff).argmin())]


def show(run: Run) -> None:
    """The view: query, cut-off, curve, list."""
    stamp, position = run.stamp(), picked_query(run)
    band, place = _controls()
    with explained():
        precision = cached.swept(run.name, stamp, position, band)[1]
        ranking = cached.ranked_cut(run.name, stamp, position, band, place)
        whole = cached.ranked(run.name, stamp, position).average_precision
    found = cached.embeddings(run.name, stamp)
    row = int(found.query_rows[position])
    pixels = cached.looked(run.name, stamp, row, ()).pixels
    seen = filters.filtered(pixels, band, FINE[place])[0].numpy()
    below = filters.energy_below(pixels[0], FINE)

    refined = found.encoded is not None
    source, label = cached.folder(run.experiment), cached.labels(run.name, stamp)[position]
    places = galleries.shown(ranking, SHOWN, False)
    tiles = galleries.tiles(source, found, ranking, places)
    query = galleries.query(source, found, ranking, label, row) | dict(src=url(seen))
    ranked_gallery(query, tiles, key="filtered gallery", compact=True)
    st.caption(
        "The query is filtered, the gallery is not. Each list comes from the embedding of exactly the "
        "picture in front of it."
        + (
            " The query and the gallery are refined as one set, without the other queries."
            if refined
            else ""
        )
    )
    left, right = st.columns([2, 3], gap="medium")
    with left:
        _pictures(pixels[0].numpy(), seen, band, place, below)
    with right:
        _curve(run, band, place, precision, below, whole, refined)


def _controls() -> tuple[str, int]:
    row = st.container(horizontal=True, vertical_alignment="bottom")
    pickers.linked("band", list(filters.BANDS), filters.LOW)
    row.segmented_control(
        "Kept",
        list(filters.BANDS),
        key="band",
        required=True,
        help="Low-pass keeps the frequencies up to the cut-off, high-pass those beyond it.",
    )
    pickers.linked("cutoff", CUTOFFS, "0.3")
    row.select_slider(
        "Cut-off, as a fraction of Nyquist's frequency",
        CUTOFFS,
        key="cutoff",
        help="1 is the finest stripe that pixels can hold along an axis, 1.42 keeps every diagonal too.",
    )
    return st.session_state["band"], CUTOFFS.index(st.session_state["cutoff"])


def _pictures(image, seen, band: str, place: int, below: np.ndarray) -> None:
    size, low = image.shape[1:], band == filters.LOW
    share = below[place] if low else 1 - below[place]
    outside = float(((seen < 0) | (seen > 1)).mean())
    figures.pictures(
        [
            dict(label="Query", src=url(image), size=size),
            dict(
                label=f"{band} at {FINE[place]:g}",
                note=f"{share:.1%} of the energy",
                src=url(seen),
                size=size,
            ),
        ],
        Said(
            "What the model gets: "
            + (
                "the image without the frequencies above the cut-off. "
                if low
                else "the frequencies beyond the cut-off on mid-gray (0.5). The image's mean colour is gone; "
                "colours that change faster than the cut-off stay. "
            )
            + f"Neither rounded nor clipped; {outside:.1%} of the numbers lie outside of what a screen "
            "shows.",
            r"$\hat{x}_c(f) = \hat{x}(f)\;[\,r(f) \le c\,],\qquad r(f) = 2\sqrt{f_x^2 + f_y^2}$"
            "\n\nwith frequencies in periods per pixel; high-pass is $x - x_c + 0.5$.",
            "A sharp radial filter; ours. The image repeats beyond its border, as in every discrete "
            "Fourier transform.",
            (filters.low_pass, filters.filtered),
        ),
        key="filtered",
        alt=f"The query, and the same {band} filtered at {FINE[place]:g} of Nyquist's frequency",
        columns=2,
    )


def _curve(run: Run, band: str, place: int, precision, below, whole: float, refined: bool) -> None:
    kept = below if band == filters.LOW else 1 - below
    colour = charts.colour(run.experiment.model)
    lines = [Line("energy kept", charts.QUIET, FINE, kept, quiet=True)]
    if matched := not np.isnan(whole):
        lines.append(Line("average precision", colour, FINE, precision))
    here = f"AP {precision[place]:.2f}" if matched else "no true match"
    figure = charts_frequency.lines(
        lines,
        "cut-off, as a fraction of Nyquist's frequency",
        "AP, and share of the energy",
    )
    figure.update_yaxes(range=[0, 1.05])
    charts_frequency.mark(figure, FINE[place], here)
    others = ", with all queries in the refined set," if refined else ""
    figures.chart(
        figure,
        Said(
            (
                f"Average precision of this query at each cut-off; unfiltered{others} it is {whole:.2f}. "
                if matched
                else "The gallery has no true match for this query, and so its list no average precision. "
            )
            + "Dotted: how much of the image's energy, its mean colour apart, is left.",
            r"$AP = \frac{1}{m}\sum_{i=1}^{m} \frac{i}{\mathrm{rank}_i}$",
            "Energy by Parseval's theorem; AP by Market-1501's protocol.",
            (swept, precisions, filters.energy_below),
        ),
        key="query curve",
        alt=f"Average precision over the cut-off; {here} at {FINE[place]:g}",
        table=pd.DataFrame(
            dict(cutoff=FINE, average_precision=precision, energy_kept=kept, band=band)
        ),
    )
