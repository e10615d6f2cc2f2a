"""The Frequency lab's view of the tokens: how alike the two groups grow through depth."""

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, charts, charts_frequency, figures, trained
from app.charts_frequency import Line
from app.figures import Said
from app.frequency_settings import controls
from app.notices import plain
from app.studies import study
from reid_core.analysis import frequency as measures
from reid_core.analysis.intervals import band, paired
from reid_core.errors import BadInput
from reid_core.runs import Run, list_runs, open_run
from reid_core.studies import Study

STUDY = "tokens-frequency"
USUAL = ("transreid-demo", "pha-demo")
WAVELET, SHARE = "haar", 0.4  # PHA's; what the step of the lesson speaks of
Found = dict[str, np.ndarray]


def chosen_runs(run: Run, key: str, usual: tuple[str, ...], row) -> list[Run]:
    """The run of the sidebar, and those that the visitor lays beside it."""
    names = [each.name for each in list_runs() if each.has_weights]
    default = [name for name in usual if name in names and name != run.name]
    beside = row.multiselect(
        "Beside this run",
        names,
        default=default,
        key=key,
        bind="query-params",
        max_selections=5,
        width=520,
    )
    return [run, *(open_run(name) for name in beside if name != run.name)]


def colours(runs: list[Run]) -> dict[str, str]:
    """A colour for each run: its model's, as long as no other run has taken it."""
    taken: dict[str, str] = {}
    for run in runs:
        own = charts.colour(run.experiment.model)
        free = [each for each in charts.COLOURS.values() if each not in taken.values()]
        taken[run.name] = own if own not in taken.values() or not free else free[0]
    return taken


def show(run: Run) -> None:
    """The view: cosine and CKA between the two groups through depth."""
    runs, results = results_of(run)
    if not results:
        return
    left, right = st.columns(2, gap="medium")
    images = images_of({name: len(found["names"]) for name, found in results.items()})
    with left:
        _chart(runs, results, "cosine", _cosine(images))
    with right:
        _chart(runs, results, "cka", _cka(images))
    st.markdown(_said(results))


def images_of(counts: dict[str, int]) -> str:
    """How many images each run was measured on, in words."""
    if len({*counts.values()}) == 1:
        return str(next(iter(counts.values())))
    return " and ".join(f"{count} ({plain(name)})" for name, count in counts.items())


def results_of(run: Run) -> tuple[list[Run], dict[str, Found]]:
    """The runs, and what the study found of them so far; the others draw how far they are."""
    row = st.container(horizontal=True, vertical_alignment="bottom")
    runs = chosen_runs(run, "runs", USUAL, row)
    wavelet, share = controls(run, row)
    results = {}
    for each in runs:
        found = study(
            each,
            STUDY,
            label=f"Compare the tokens of {plain(each.name)}",
            start=True,
            wavelet=wavelet,
            share=share,
        )
        if found is not None:
            results[each.name] = found
    return runs, results


def _cosine(images: str) -> Said:
    return Said(
        "Cosine between an image's mean high-frequency and mean low-frequency token after each layer: "
        f"mean and 95 % bootstrap interval over {images} test images. Dotted: the same for random "
        "splits of the same sizes. Only what a curve has below its dotted line is about frequency.",
        r"$s_l = \cos\Big(\frac{1}{|H|}\sum_{i\in H} z_i^l,\; \frac{1}{|L|}\sum_{i\in L} z_i^l\Big)$",
        "Ours, after PHA, section 3.1: our notes show its curves, not its formula. H are the positions "
        "with most detail on the layer's own grid, L all others; class and part tokens are left out, "
        "as is the jigsaw branch.",
        (measures.energies, measures.strongest, measures.group_means, measures.mean_cosine),
    )


def _cka(images: str) -> Said:
    return Said(
        f"Linear CKA over {images} images, a row for each: its mean high-frequency token against its "
        "mean low-frequency one. 1: the images lie to one another in the one as in the other. Band: 95 % "
        "jackknife; dotted: random splits, from the lowest to the highest draw.",
        r"$\mathrm{CKA} = \frac{\|Y^\top X\|_F^2}{\|X^\top X\|_F\;\|Y^\top Y\|_F}$, columns centred",
        "Kornblith et al., ICML 2019. With fewer images than dimensions it is too high for any two "
        "representations, random splits included.",
        (measures.linear_cka, measures.cka_band),
    )


def _chart(runs: list[Run], results: dict[str, Found], which: str, said: Said) -> None:
    curves, rows = [], []
    shades, same = colours(runs), len({len(each["layers"]) for each in results.values()}) == 1
    for name, found in results.items():
        count = len(found["layers"])
        across = np.arange(1, count + 1) / (1 if same else count)
        names = [str(layer) for layer in found["layers"]]
        for value, low, high, quiet in _measured(found, which):
            label = f"{name}, random" if quiet else name
            curves.append(
                Line(label, shades[name], across, value, low, high, () if quiet else names, quiet)
            )
            rows.append(pd.DataFrame(dict(run=label, layer=names, value=value, low=low, high=high)))
    title = {"cosine": "cosine of mean tokens", "cka": "linear CKA"}[which]
    figure = charts_frequency.lines(curves, "layer" if same else "share of the depth", title)
    figure.update_yaxes(range=[min(0.0, *(float(line.low.min()) for line in curves)), 1.02])
    if same:
        figure.update_xaxes(dtick=1, rangemode="normal")
    last = ", ".join(f"{line.name} {line.values[-1]:.2f}" for line in curves)
    alt = f"{title} through the layers; in the last one: {last}"
    figures.chart(figure, said, key=which, alt=alt, table=pd.concat(rows))


def _measured(found: Found, which: str) -> list[tuple[Any, ...]]:
    """(value, low, high, quiet) of the real split and of random ones, (L,) each."""
    if which == "cka":
        draws = found["cka_random"]
        return [
            (found["cka"], found["cka_low"], found["cka_high"], False),
            (draws.mean(axis=1), draws.min(axis=1), draws.max(axis=1), True),
        ]
    real, random = found["cosine"], found["cosine_random"].mean(axis=1)  # (L, n)
    return [
        (each.mean(axis=1), *band(each.T), quiet) for each, quiet in ((real, False), (random, True))
    ]


def gaps(found: Found) -> np.ndarray:
    """(L, n) how far below random splits of the same sizes an image's cosine is."""
    return found["cosine_random"].mean(axis=1) - found["cosine"]


def shown(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """Two means as they are written, to three digits, and what their difference then is."""
    first, second = (round(float(each.mean()), 3) for each in (before, after))
    return first, second, round(second - first, 3)


def _said(results: dict[str, Found]) -> str:
    """What the curves show, in words that come from their numbers."""
    words = []
    for name, found in results.items():
        cosine, gap = found["cosine"].mean(axis=1), gaps(found)
        _, low, high = paired(gap[-1], gap[0])
        start, end, change = shown(gap[0], gap[-1])
        apart = "less" if high < 0 else "more" if low > 0 else "neither less nor more (0 is inside)"
        words.append(
            f"- **{plain(name)}**: the cosine goes from {cosine[0]:.2f} to {cosine[-1]:.2f}; the gap to "
            f"random splits from {start:.3f} to {end:.3f}, by {change:+.3f} "
            f"[{low:+.3f}, {high:+.3f}]: frequency tells the tokens of the last layer apart {apart} than "
            "those of the first."
        )
    return "\n".join(words)


def usual_values(run: Run) -> dict[str, Any]:
    """What the widgets show where `depth_in_words` speaks of them, by their keys."""
    names = {each.name for each in list_runs() if each.has_weights} - {run.name}
    beside = [name for name in USUAL if name in names]
    return dict(part="Through depth", wavelet=WAVELET, share=f"{SHARE:g}", runs=beside)


def depth_in_words() -> str:
    """The step's text: where the usual runs differ most, if that is computed already."""
    if not {*USUAL} <= {each.name for each in list_runs()}:
        return (
            "See how far each curve stays below its dotted line, random splits of the same sizes: only "
            "that is about frequency. Lay another run beside this one to compare."
        )
    results = {name: found for name in USUAL if (found := _kept(name)) is not None}
    if len(results) < 2:
        return (
            "The curves of two runs are computed first, seconds on an idle machine; then this text says "
            "where they differ most. The dotted lines are random splits of the same sizes."
        )
    (one, first), (two, second) = results.items()
    if len(first["layers"]) != len(second["layers"]):
        return _said(results)
    means = [found["cosine"].mean(axis=1) for found in (first, second)]
    layer = int(np.abs(means[0] - means[1]).argmax())
    random = first["cosine_random"][layer].mean(), second["cosine_random"][layer].mean()
    said = (
        f"{plain(one)} and {plain(two)} differ most after layer {layer + 1}: cosine "
        f"{means[0][layer]:.2f} (random splits {random[0]:.2f}) against {means[1][layer]:.2f} (random "
        f"splits {random[1]:.2f}). "
    )
    if not np.array_equal(first["names"], second["names"]):
        return said
    _, low, high = paired(gaps(second)[-1], gaps(first)[-1])
    here, there, more = shown(gaps(first)[-1], gaps(second)[-1])
    verdict = (
        "PHA keeps the two further apart there, as its paper says"
        if low > 0
        else "PHA keeps them less apart there than TransReID, against its paper"
        if high < 0
        else "that decides nothing"
    )
    return said + (
        f"In the last layer the gap to random splits is {here:.3f} against "
        f"{there:.3f}, {more:+.3f} [{low:+.3f}, {high:+.3f}]: on these two runs "
        f"{verdict}.{trained.apart(one, two)}"
    )


def _kept(name: str) -> Found | None:
    """What a study found of a run with its usual settings, without asking for it."""
    try:
        run = open_run(name)
        asked = Study.asked(run, STUDY, dict(wavelet=WAVELET, share=SHARE))
        if asked.standing().state != "done":
            return None
        return cached.found(name, STUDY, asked.key, (("share", SHARE), ("wavelet", WAVELET)))
    except BadInput:
        return None
