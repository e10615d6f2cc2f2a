"""The Neighbour lab's number of landmarks, against agreement, convergence, mAP and time."""

import numpy as np
import streamlit as st

from app import studies
from app.charts_neighbours import Line
from app.neighbours import PAPER
from app.neighbours_lab import COARSE, marks_of, panels
from reid_core.analysis import neighbours as analysis
from reid_core.runs import Run
from reid_core.studies import landmarks as of_landmarks

AFFINITY = (
    r"""$$A_{ij} = \frac{q_i \cdot k_j}{\sqrt{E}}, \qquad
\tilde A_{ij} = \frac{1}{\sqrt{E}} \sum_{L} (q_i \cdot k_L)(q_L \cdot k_j)
= \frac{1}{\sqrt{E}}\; q_i^\top \Big(\sum_L k_L q_L^\top\Big) k_j$$
$E = D/H$ is the width of a head. The matrix in the middle is $E \times E$ and is no identity.""",
    f"{PAPER}, section 3.2",
)
ROWS = " Mean over rows and heads; the band is the range over the draws."
DRAWS = " Mean and, as a band, range over the draws."


def show(run: Run) -> None:
    """The number of landmarks against agreement, convergence, mAP and time."""
    found = studies.study(run, "landmarks", label="Measure numbers of landmarks")
    if found is None:
        st.caption(
            f"Refines the whole set with 1, 2, 5, 10, ... landmarks up to all images, five draws each. "
            f"The paper takes {of_landmarks.PAPER} ({PAPER})."
        )
        return
    st.markdown(_why(found))
    cards = [*_agreement(found), *_convergence(found), *_costs(found), *_weights(found)]
    marks = marks_of(int(found["own"]), of_landmarks.PAPER)
    numbers = found["landmarks"]
    panels(cards, numbers=numbers, across="landmarks", marks=marks, formula=AFFINITY)


def _agreement(found) -> list[tuple]:
    """(a) Agreement with the full affinity."""
    per, none = layers_of(found), np.zeros(len(found["landmarks"]))
    chance = none + float(found["k"]) / float(found["images"])
    return [
        (
            "correlation",
            "Agreement with the full affinity: order",
            [*per("correlation"), Line("unrelated", none, quiet=True)],
            "Spearman's correlation",
            "(a) Rank correlation of a row of the landmark affinity with the same row of the full one, "
            "on the queries and keys of the run's own pass." + ROWS,
            (of_landmarks.Truth.against, analysis.rank_correlation, analysis.full_affinity),
        ),
        (
            "overlap",
            "Agreement with the full affinity: the top",
            [*per("overlap"), Line("by chance, k / N", chance, quiet=True)],
            f"top-{int(found['k'])} overlap",
            f"(a) The share of the {int(found['k'])} largest entries that both rows have in common."
            + ROWS,
            (of_landmarks.Truth.against, analysis.top_overlap),
        ),
    ]


def _convergence(found) -> list[tuple]:
    """(b) Convergence to the value with all images as landmarks."""
    per = layers_of(found)
    return [
        (
            "own difference",
            "Convergence of the affinity to its own value",
            per("own_difference"),
            "relative difference",
            "(b) The landmark affinity, as a mean over landmarks, against the same with all images as "
            "landmarks: 0 there by definition. The band is the range over the draws.",
            (of_landmarks.Truth.against, analysis.landmark_affinity, analysis.difference),
        ),
        (
            "features difference",
            "Convergence of the refined features",
            [Line("features", found["refined_difference"])],
            "relative difference",
            "(b) The set's refined features against those with all images as landmarks." + DRAWS,
            (of_landmarks.compute, analysis.difference),
        ),
    ]


def _costs(found) -> list[tuple]:
    """(c) What it brings and what it costs."""
    before = np.full(len(found["landmarks"]), float(found["before"]))
    return [
        (
            "landmarks map",
            "mAP",
            [Line("refined", found["mAP"]), Line("encoder alone", before, quiet=True)],
            "mAP",
            "(c) mAP of the refined set by the run's protocol: mean and range over the draws.",
            (of_landmarks.compute,),
        ),
        (
            "landmarks time",
            "Time",
            [Line("pass", found["seconds"])],
            "seconds",
            "(c) One pass over the set, the search for neighbours included, which does not depend on "
            "the landmarks. Above D / H landmarks this product sums over them first, so the cost stops "
            f"growing. {COARSE}" + DRAWS,
            (of_landmarks.compute,),
        ),
    ]


def _weights(found) -> list[tuple]:
    """What more landmarks do to the softmax."""
    per = layers_of(found)
    mutual = np.full(len(found["landmarks"]), float(found["mutual"]))
    return [
        (
            "effective",
            "How many neighbours count",
            [*per("effective"), Line("mutual neighbours", mutual, quiet=True)],
            "effective neighbours",
            "The exponential of the weights' entropy, mean over images and heads. The affinity is a sum "
            "over landmarks, so more of them also make the softmax sharper." + DRAWS,
            (analysis.effective_neighbours,),
        ),
        (
            "growth",
            "Length of the affinity",
            per("growth"),
            "relative to all landmarks",
            "The length of the summed affinity, as the softmax gets it, relative to that with all images "
            "as landmarks: it grows with their number." + DRAWS,
            (of_landmarks.Truth.against,),
        ),
    ]


def _why(found) -> str:
    """Why agreement and convergence differ, in the numbers of this run."""
    own = int(np.flatnonzero(found["landmarks"] == found["own"])[0])
    last = found["correlation"][:, -1].mean(axis=1)  # (L,)
    here = found["own_difference"][:, own].mean(axis=1)
    scores = found["mAP"].mean(axis=1)
    layers = ", ".join(
        f"{value:.2f} in layer {n}" for n, value in enumerate(last.round(2) + 0.0, 1)
    )
    away = ", ".join(f"{value:.0%} in layer {n}" for n, value in enumerate(here, 1))
    return (
        "**Why (a) and (b) differ.** Landmarks compare two images by a sum of products "
        "$(q_i \\cdot k_L)(q_L \\cdot k_j)$: how much the first resembles a landmark, times how much that "
        "landmark resembles the second. The sum's matrix $\\sum_L k_L q_L^\\top$, as a mean over "
        "landmarks, settles with more of them, so the affinity converges to its own value with all images (b). That is another "
        "kernel than $q_i \\cdot k_j$, whose matrix is the identity, so agreement with the full affinity "
        f"(a) need not reach 1. Here, with all {int(found['images']):,} images as landmarks, (b) is 0 and "
        f"the rank correlation (a) is {layers}. With the run's {int(found['own'])} landmarks (b) is "
        f"{away}. Mean mAP lies between {scores.min():.4f} and {scores.max():.4f} over all numbers of "
        f"landmarks; the encoder alone has {float(found['before']):.4f}. The transformer was trained with "
        f"{int(found['own'])}."
    )


def layers_of(found):
    """Lines of a measure (L, n, draws), one for each layer."""
    return lambda name: [Line(f"layer {n}", each) for n, each in enumerate(found[name], 1)]
