"""The Neighbour lab's measurements: numbers of landmarks and neighbours, and the size of the set."""

import numpy as np
import pandas as pd
import streamlit as st

from app import figures, studies
from app.charts_neighbours import Line, against
from app.figures import Said
from app.neighbours import PAPER
from reid_core.analysis import intervals
from reid_core.analysis import neighbours as analysis
from reid_core.models.nformer import mutual_neighbours
from reid_core.runs import Run
from reid_core.studies import neighbour_count, set_size

COARSE = (
    "Where the model finds float32 too coarse for its softmax, it computes anew in float64; that is in "
    "its time."
)


def count(run: Run) -> None:
    """The number of neighbours against mAP, and whom the weight falls on."""
    found = studies.study(run, "neighbour-count", label="Measure numbers of neighbours")
    if found is None:
        st.caption(
            "Refines the whole set with k = 1, 2, 5, 10, ... neighbours; the transformer stays as it was "
            f"trained. The paper takes k = {neighbour_count.PAPER} ({PAPER})."
        )
        return
    numbers, own = found["neighbours"], int(found["own"])
    precision = found["precision"]  # (n, Q)
    kept = ~np.isnan(precision[0])
    low, high = intervals.band(precision[:, kept].T)
    scores, place = precision[:, kept].mean(axis=1), int(np.flatnonzero(numbers == own)[0])
    best = int(scores.argmax())
    _, least, most = intervals.paired(precision[best], precision[place])
    highest, trained = round(float(scores[best]), 4), round(float(scores[place]), 4)
    cut = " Larger k are left out to save memory." if found["cut"] else ""
    st.markdown(
        f"mAP is highest at k = {numbers[best]}: {highest:.4f}, against {trained:.4f} at the "
        f"trained k = {own}; the difference is {highest - trained:+.4f} (95 % interval {least:+.4f} to {most:+.4f}, "
        f"paired bootstrap over {int(kept.sum())} queries). With k = 1 an image attends to itself alone. "
        f"The transformer was trained with k = {own}, so one trained with another k may do better or worse there than this one.{cut}"
    )
    before = np.full(len(numbers), float(found["before"]))
    refined = [Line("refined", scores, low, high), Line("encoder alone", before, quiet=True)]
    marks = marks_of(own, neighbour_count.PAPER)
    panels(_counted(found, refined), numbers=numbers, across="neighbours k", marks=marks)


def _counted(found, refined: list[Line]) -> list[tuple]:
    """The panels of `count`; refined: the lines of mAP."""
    numbers = found["neighbours"]
    return [
        (
            "count map",
            "mAP",
            refined,
            "mAP",
            "mAP of the refined set for each k; the band is a 95 % interval over the queries.",
            (neighbour_count.compute, analysis.judged, intervals.band),
        ),
        (
            "count weight",
            "Whom the weight falls on",
            [
                Line("the same person", found["right"]),
                Line("the image itself", found["itself"]),
                Line("other people", found["others"]),
            ],
            "share of the weight",
            "Mean over images, layers and heads of the weights that an image gives.",
            (analysis.falls_on,),
        ),
        (
            "count mutual",
            "Mutual neighbours",
            [Line("mutual", found["mutual"]), Line("k", numbers.astype(float), quiet=True)],
            "images",
            "How many of the k nearest are mutual, on average, the image itself counted.",
            (mutual_neighbours,),
        ),
        (
            "count time",
            "Time",
            [Line("pass", found["seconds"])],
            "seconds",
            "One pass over the set for each k, made once, on this machine as busy as it was then: what "
            "else ran moves single points. " + COARSE,
            (neighbour_count.compute,),
        ),
    ]


def size(run: Run) -> None:
    """Time and memory of three forms of the same attention."""
    found = studies.study(run, "set-size", label="Measure time and memory")
    if found is None:
        st.caption(
            "Computes one layer's attention over 500, 1,000, 2,000, ... images in three forms, in a "
            "process of its own, and stops each form before it would take more than 2 GB."
        )
        return
    sizes = found["sizes"]
    names = ["dense", "sparse", "gathered (ours)"]
    cards = [
        (
            "size time",
            "Time",
            [Line(name, row) for name, row in zip(names, found["seconds"], strict=True)],
            "seconds",
            "Median time of one layer's attention from queries, keys and values. Both axes are logarithmic.",
            (set_size.dense, set_size.sparse, set_size.gathered, set_size.timed),
        ),
        (
            "size memory",
            "Memory",
            [Line(name, row) for name, row in zip(names, found["megabytes"], strict=True)],
            "MB",
            "The most that the form's tensors held at once, by torch's profiler, which tells every "
            "allocation and release; inputs not counted.",
            (set_size.allocated, set_size.square),
        ),
    ]
    st.markdown(_sizes(found))
    marks = {"this run's set": int(found["images"])}
    panels(cards, numbers=sizes, across="images N", marks=marks, log=True)


def _sizes(found) -> str:
    sizes, megabytes, seconds = found["sizes"], found["megabytes"], found["seconds"]
    last = int(np.flatnonzero(np.isfinite(megabytes).all(axis=0))[-1])
    told = [
        f"{name} {megabytes[row, last]:,.0f} MB and {1000 * seconds[row, last]:,.0f} ms"
        for row, name in enumerate(("dense", "sparse", "gathered"))
    ]
    return (
        "**Dense** forms the masked N × N softmax, as the official code does in training. **Sparse** "
        "hands the same N × N affinities to `torch.sparse`, as it does at test: the softmax gets "
        "cheaper, the affinities don't. **Gathered**, this product's form, computes the k affinities of "
        f"each image alone. At {sizes[last]:,} images: {'; '.join(told)}. The three agree to "
        f"{found['disagreement'].max():.0e} at every size, else the measurement would have failed. "
        f"Queries, keys and values are those of the run's first layer ({int(found['heads'])} heads of "
        f"{int(found['width'])}, {int(found['own'])} landmarks, k = {int(found['k'])}); beyond its "
        f"{int(found['images']):,} images the set is filled up with its own features and 10 % of noise. "
        f"All sizes are computed with numbers of {int(found['bits'])} bits."
    )


def marks_of(own: int, paper: int) -> dict[str, int]:
    if own == paper:
        return {"this run and the paper": own}
    return {"this run": own, "the paper": paper}


def panels(cards: list[tuple], **shared) -> None:
    """Panels, two in a row: what each takes, and what all of them do."""
    for start in range(0, len(cards), 2):
        for column, card in zip(st.columns(2, gap="large"), cards[start : start + 2], strict=True):
            with column:
                panel(*card, **shared)


def panel(
    key, title, lines, up, caption, code, *, numbers, across, marks, log=False, formula=("", "")
) -> None:
    st.markdown(f"**{title}**")
    marks = {words: n for words, n in marks.items() if n <= numbers.max()}
    figure = against(numbers, lines, across, up, marks)
    if log:
        figure.update_yaxes(type="log", rangemode="normal")
    columns = {across: numbers}
    for line in lines:
        values = line.values if line.values.ndim == 2 else line.values[:, None]
        columns[line.name] = values.mean(axis=1)
        low = values.min(axis=1) if line.low is None else line.low
        high = values.max(axis=1) if line.high is None else line.high
        if (low != high).any():
            columns |= {f"{line.name}, low": low, f"{line.name}, high": high}
    means = ", ".join(f"{line.name} {columns[line.name][-1]:.3g}" for line in lines)
    alt = f"{title} against {across}; at {numbers[-1]}: {means}"
    said = Said(caption, *formula, code)
    figures.chart(figure, said, key=key, alt=alt, table=pd.DataFrame(columns))
