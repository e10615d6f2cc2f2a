"""A run's scores: by which protocol, how sure, and which distance still counts as a match."""

import pandas as pd
import streamlit as st

from app import cached, charts, charts_scores, contents, figures, pickers
from app.figures import Said
from reid_core.experiment import Experiment
from reid_core.runs import Run
from reid_core.scores.protocols import PROTOCOLS, REPEATS, SINGLE_SHOT, VEHICLES, trapezoid
from reid_core.scores.record import intervals
from reid_core.scores.verification import Roc, roc

DRAWS = 1000
RATES = ("0.1 %", "1 %", "2 %", "5 %", "10 %", "20 %", "50 %")
INTERVAL = r"^(\d\S*) \((.*) to (.*)\)$"
LEGACY = r"""
With $r_1 < \dots < r_n$ the ranks of a query's true matches,

$$\mathrm{AP} = \frac{1}{n}\sum_{j=1}^{n}\frac{j}{r_j},\qquad
\mathrm{AP}_\text{legacy} = \frac{1}{n}\sum_{j=1}^{n}\frac{1}{2}\left(\frac{j-1}{r_j-1}+\frac{j}{r_j}\right),$$

where a fraction $0/0$ is 1. The intervals hold the middle 95 % of DRAWS means over as many queries,
drawn with replacement. Queries of one person are taken as independent, which they are not quite.
""".replace("DRAWS", f"{DRAWS:,}")
ACCEPTED = r"""
A pair of a query and a gallery image is accepted where its distance is below $t$. With $G$ the pairs
of one person that the protocol counts and $I$ those of two,

$$\mathrm{TAR}(t)=\frac{|\{p\in G: d_p<t\}|}{|G|},\qquad \mathrm{FAR}(t)=\frac{|\{p\in I: d_p<t\}|}{|I|}.$$

The threshold is the largest $t$ whose FAR is no more than asked, to bins of WIDTH.
"""


def protocol(run: Run, stamp: int) -> str:
    """The protocol, chosen by name."""
    names = cached.protocols(run.name, stamp)
    pickers.linked("protocol", names, names[0])
    return st.segmented_control("Protocol", names, key="protocol", required=True)


def by_protocol(run: Run, stamp: int, chosen: str) -> None:
    """The same embeddings, judged by every protocol that they can be."""
    st.caption(PROTOCOLS[chosen].about)
    names = cached.protocols(run.name, stamp)
    rows = [_row(run, stamp, name) for name in names]
    drawn = " and ".join(name for name in (VEHICLES, SINGLE_SHOT) if name in names)
    draws = f" {drawn} draw {REPEATS} times from a fixed seed." if drawn else ""
    frame = pd.DataFrame(rows)
    figures.table(
        frame,
        Said(
            "One set of embeddings, compared by Euclidean distance between vectors of length 1, under "
            "each protocol; with 95 % bootstrap intervals over the queries "
            f"({DRAWS:,} resamples).{draws} A difference between rows is no difference between models.",
            LEGACY,
            "Zheng et al. 2015; scikit-learn before 0.19; bootstrap: Efron 1979.",
            (trapezoid, intervals),
        ),
        key="by protocol",
        written=frame.replace(INTERVAL, r"\1  \n:small[:gray[\2–\3]]", regex=True),
    )


def _row(run: Run, stamp: int, name: str) -> dict:
    found, sure = (
        cached.scored(run.name, stamp, name),
        cached.intervals(run.name, stamp, name, DRAWS),
    )
    values = dict(mAP=found.mAP, mINP=found.mINP)
    values |= {f"rank-{rank}": found.cmc[rank - 1] for rank in (1, 5, 10)}
    said = {
        key: f"{value:.3f} ({sure[key][0]:.3f} to {sure[key][1]:.3f})"
        for key, value in values.items()
    }
    sizes = {"queries": f"{found.valid_queries} of {found.queries}", "gallery": found.gallery}
    return dict(protocol=name) | said | sizes


def verification(run: Run, stamp: int, asked: Experiment, chosen: str) -> None:
    """Which distance still counts as a match."""
    st.subheader("Match or no match", anchor=False)
    share = false_accepts()
    found = cached.roc(run.name, stamp, chosen)
    point = found.at(share)
    left, right = st.columns(2, gap="large")
    line = charts.colour(asked.model)
    with left:
        _curve(found, point, line, chosen)
    with right:
        _distances(found, point, line, chosen)
    contents.link("By pairs of cameras", "errors", "arrow_forward", run=run.name, errors="Tables")


def false_accepts() -> float:
    """The share of false accepts that a visitor allows."""
    pickers.linked("far", list(RATES), "1 %")
    rate = st.segmented_control(
        "False accepts",
        RATES,
        key="far",
        required=True,
        help="The share of pairs of two people, on the run's test split, that may be taken for one. "
        "It decides the distance from which on there is no match.",
    )
    return float(rate.removesuffix(" %")) / 100


def _curve(found: Roc, point, line: str, chosen: str) -> None:
    figures.chart(
        charts_scores.roc(found, point, line),
        Said(
            f"Nearer than {point.threshold:.3f} counts as a match: {point.true_accepts:.1%} of the "
            f"pairs of one person are accepted, and {point.false_accepts:.2%} of those of two. Area "
            f"under the curve {found.area:.4f}, equal error {found.equal_error:.1%}. Protocol: "
            f"{chosen}.",
            ACCEPTED.replace("WIDTH", f"{found.width:.0e}"),
            "Exact at the bins' edges: every pair is counted.",
            (roc,),
        ),
        key="roc",
        alt=f"ROC; at {point.false_accepts:.2%} false accepts {point.true_accepts:.1%} true accepts",
        table=pd.DataFrame(found.curve(), columns=["threshold", "false_accepts", "true_accepts"]),
    )


def _distances(found: Roc, point, line: str, chosen: str) -> None:
    figures.chart(
        charts_scores.distances(found, point, line),
        Said(
            f"Distances of all {found.genuine.sum():,} pairs of one person and "
            f"{found.impostor.sum():,} of two that {chosen} counts, each as shares of its kind; "
            "dashed: the threshold. With many people in a gallery even a small share of false accepts "
            "is many images."
        ),
        key="pair distances",
        alt=f"Distances of pairs of one and of two people, threshold {point.threshold:.3f}",
        table=pd.DataFrame(charts_scores.columns(found)),
    )
