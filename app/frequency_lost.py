"""The Frequency lab's view of what is lost: scores without low or high frequencies, run by run."""

from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, charts_frequency, figures, frequency_claim, pickers
from app.charts_frequency import Line
from app.figures import Said
from app.frequency_settings import filter_passes, url
from app.frequency_tokens import Found, chosen_runs, colours
from app.notices import plain
from app.studies import study
from reid_core.analysis import filters
from reid_core.analysis.intervals import band
from reid_core.errors import BadInput
from reid_core.runs import Run
from reid_core.studies import filters as filter_study

STUDY = "filters"
USUAL = ("transreid-demo", "resnet-bot-demo")
MEAN, FIRST = "mAP", "rank-1"
SHOWN = 0.25  # cut-off of the pictures
MANY = 100  # identities of a large test split, unless the visitor wants them all
WAYS = {
    filter_study.ORIGINAL: "original",
    filter_study.WAVELET_LOW: "low frequencies only",
    filter_study.WAVELET_DETAIL: "details only",
}


def show(run: Run) -> None:
    """The view: bars for one wavelet level, curves over cut-offs, and the claim of the notes."""
    row = st.container(horizontal=True, vertical_alignment="bottom")
    runs = chosen_runs(run, "against", USUAL, row)
    pickers.linked("score", [MEAN, FIRST], MEAN)
    row.segmented_control("Score", [MEAN, FIRST], key="score", required=True)
    pickers.linked("identities", ["all", str(MANY)], "all")
    row.segmented_control(
        "Test identities",
        ["all", str(MANY)],
        key="identities",
        required=True,
        help="Every image is embedded 19 times: take some of a large test split. Fewer make an easier "
        "gallery, so compare only runs on equally many.",
    )
    asked = st.session_state["identities"]
    count = 0 if asked == "all" else int(asked)
    results = {
        each.name: found
        for each in runs
        if (
            found := study(
                each,
                STUDY,
                label=f"Filter the test split of {plain(each.name)}",
                passes=partial(filter_passes, each, count),
                identities=count,
            )
        )
        is not None
    }
    if not results:
        return
    _examples(run)
    table = _table(results)
    _bars(runs, results, table)
    _curves(runs, results, table)
    frequency_claim.show(results)


def _examples(run: Run) -> None:
    """The notes' figure: one query as the models get it."""
    stamp = run.stamp()
    try:
        cached.dataset(*cached.folder(run.experiment))
        found, labels = cached.embeddings(run.name, stamp), cached.labels(run.name, stamp)
        pickers.linked_query(run.name, labels)
        position = labels.index(st.session_state["query"])
        pixels = cached.looked(run.name, stamp, int(found.query_rows[position]), ()).pixels
    except BadInput:
        return  # the scores were measured when the images were still there
    versions = {
        "original": pixels,
        "low frequencies only": filters.wavelet_low(pixels, "haar"),
        "details only": filters.wavelet_detail(pixels, "haar"),
        f"low-pass at {SHOWN:g}": filters.filtered(pixels, filters.LOW, SHOWN),
        f"high-pass at {SHOWN:g}": filters.filtered(pixels, filters.HIGH, SHOWN),
    }
    figures.pictures(
        [
            dict(label=label, src=url(image[0].numpy()), size=tuple(image.shape[-2:]))
            for label, image in versions.items()
        ],
        Said(
            f"Query {plain(labels[position])} as the models get it, but for what a screen clips. Details "
            "stand on mid-gray (0.5), in place of low frequencies; colours that change quickly stay.",
            code=(filters.wavelet_low, filters.wavelet_detail, filters.filtered),
        ),
        key="examples",
        alt="One query: original, low frequencies only, details only, low-pass and high-pass",
        columns=8,
    )


def scores(found: Found) -> np.ndarray:
    """(V, Q) the chosen score of each query, NaN without a true match."""
    if st.session_state["score"] == MEAN:
        return found["precision"]
    return np.where(found["first"] > 0, found["first"] == 1, np.nan)


def chance(results: dict[str, Found]) -> float:
    """What a random order reaches on the first run's test split."""
    found = next(iter(results.values()))
    return float(np.nanmean(found["chance"][int(st.session_state["score"] == FIRST)]))


def _table(results: dict[str, Found]) -> pd.DataFrame:
    """A row for each run and way, with its interval."""
    frames = []
    for name, found in results.items():
        values = scores(found)
        values = values[:, ~np.isnan(values[0])]  # the same queries have no match, however filtered
        low, high = band(values.T)
        said = dict(way=found["ways"], cutoff=found["cutoffs"], value=values.mean(axis=1))
        frames.append(pd.DataFrame(dict(run=name) | said | dict(low=low, high=high)))
    return pd.concat(frames)


def _bars(runs: list[Run], results: dict[str, Found], table: pd.DataFrame) -> None:
    shades, score = colours(runs), st.session_state["score"]
    table = table[table.way.isin(WAYS)]
    bars = [
        (name, shades[name], table[table.run == name][["value", "low", "high"]].to_numpy())
        for name in results
    ]
    of, some = next(iter(results.items()))
    same = all(np.array_equal(some["names"], each["names"]) for each in results.values())
    whose = "" if same else f" of {plain(of)} (another run here was tested on other images)"
    said = "; ".join(
        f"{name}: " + ", ".join(f"{value:.2f}" for value in values[:, 0])
        for name, _, values in bars
    )
    figures.chart(
        charts_frequency.versions(bars, list(WAYS.values()), score, chance(results)),
        Said(
            f"{score} when queries and gallery are filtered alike by one Haar level and embedded anew: "
            f"{np.isfinite(some['precision'][0]).sum()} queries, {int(some['gallery'])} gallery images{whose}; 95 % bootstrap "
            f"interval over queries; dotted: a random order there, {chance(results):.3f}. The models get "
            "the pictures neither rounded nor clipped.",
            r"$x_{\mathrm{low}} = \mathrm{IDWT}(LL, 0, 0, 0),\qquad "
            r"x_{\mathrm{detail}} = \mathrm{IDWT}(0, LH, HL, HH) + 0.5$",
            "After the figure of PHA (Zhang et al., CVPR 2023, section 1), of which our notes tell; which "
            "colour stood in for the mean there is not known. The chance level is exact for a random "
            "order.",
            (filters.wavelet_low, filters.wavelet_detail, filters.chance_precision),
        ),
        key="wavelet bars",
        alt=f"{score} on original, low-frequency and detail images. {said}",
        table=table,
    )


def _curves(runs: list[Run], results: dict[str, Found], table: pd.DataFrame) -> None:
    shades, score = colours(runs), st.session_state["score"]
    sides = []
    for side in filters.BANDS:
        curves = []
        for name in results:
            part = table[(table.run == name) & (table.way == side)].sort_values("cutoff")
            columns = (part[each].to_numpy() for each in ("cutoff", "value", "low", "high"))
            curves.append(Line(name, shades[name], *columns))
        across = curves[0].across
        level = np.full(len(across), chance(results))
        sides.append(
            [Line("random order", charts_frequency.QUIET, across, level, quiet=True), *curves]
        )
    ends = "; ".join(
        f"{line.name} {line.values[0]:.2f} to {line.values[-1]:.2f}" for line in sides[1][1:]
    )
    figures.chart(
        charts_frequency.pair(*sides, filters.BANDS, score),
        Said(
            f"{score} over Fourier cut-offs, as fractions of Nyquist's frequency, queries and gallery "
            "filtered alike: low-pass keeps the frequencies up to the cut-off, high-pass those beyond it, "
            "on mid-gray. Bands are 95 % bootstrap intervals over queries.",
            r"$\hat{x}_c(f) = \hat{x}(f)\;[\,2\sqrt{f_x^2+f_y^2} \le c\,]$; high-pass is $x - x_c + 0.5$",
            "A sharp radial filter, frequencies in periods per pixel; ours.",
            (filters.low_pass, filters.high_pass, filters.filtered),
        ),
        key="cut-off curves",
        alt=f"{score} over cut-offs, low-pass and high-pass. High-pass, from least to most cut: {ends}",
        table=table[~table.way.isin(WAYS)],
    )
