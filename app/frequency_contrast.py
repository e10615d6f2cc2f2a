"""The Frequency lab's view of PHA's contrastive loss: whom each high-frequency patch is drawn to."""

from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, charts_frequency, figures, pickers
from app.charts_mechanisms import Line, bands
from app.figures import Said
from app.frequency_settings import picked_query
from app.notices import explained
from reid_core.analysis import contrast
from reid_core.analysis.contrast import Contrast
from reid_core.models import pha
from reid_core.runs import Run

OTHERS = 3  # identities beside the query's, two images each
MEAN = "mean"
TALL = 256  # pixels of a tile
ORDER = "In the order of the grid. Where the official variant marks too few patches, unmarked ones follow."
FORMULA = r"""Two cubes of tokens, $B$ images $\times\,K$ places $\times\,D$: $z$ of all patches passed, at
the $K$ places of high frequency in each; $h$ of those $K$ patches passed alone, with the class token. In
the variant paper they are cut from a second view, whose low frequencies are quantised; in the variant
official from the image itself.

$$s^k_{ab} = \cos(z^k_a, h^k_b),\qquad
p^k_a = \operatorname*{mean}_{b:\,y_b = y_a} s^k_{ab},\qquad n^k_a = \operatorname*{mean}_{b:\,y_b \ne y_a} s^k_{ab}$$

$$L = -\frac{1}{KB} \sum_{k, a} \log \frac{e^{p^k_a}}{e^{p^k_a} + e^{n^k_a}}$$

$\ln 2 = 0.693$ where $p = n$; cosines allow no less than $\ln(1 + e^{-2}) = 0.127$.
"""
SOURCE = (
    "Zhang et al., PHA, CVPR 2023, section 3.2. As in the official code, place k is the k-th in the order "
    "of the grid, not the same place in two images"
)
BEFORE = ", and the tokens are those before the last layer."
AFTER = ". This run has no jigsaw, which the official code can't: here the tokens are those after the last layer."


def offered(run: Run) -> bool:
    """Only PHA has this loss."""
    return run.experiment.model == "pha"


def show(run: Run) -> None:
    """A small batch around a query: its places, the cosines of the two cubes, what draws and what holds
    away."""
    stamp, position = run.stamp(), picked_query(run)
    with explained():
        found = cached.embeddings(run.name, stamp)
        ranking = cached.ranked(run.name, stamp, position)
        row = int(found.query_rows[position])
        rows = contrast.small_batch(found, ranking, row, OTHERS)
        seen = cached.contrasted(run.name, stamp, tuple(rows.tolist()))
    names = _names(found.identities[rows])
    every = [MEAN, *map(str, range(1, len(seen.cosines) + 1))]
    pickers.linked("kth", every, MEAN)
    st.select_slider("Place k", every, key="kth", help=ORDER)
    chosen = st.session_state["kth"]
    _batch(run, seen, rows, names, chosen)
    left, right = st.columns(2, gap="medium")
    with left:
        _cosines(run, seen, found.identities[rows], names, chosen)
    with right:
        _pulls(run, seen, names)


def _source(run: Run) -> str:
    return SOURCE + (BEFORE if run.experiment.options.jpm else AFTER)


def _names(identities: np.ndarray) -> list[str]:
    """The images by identity and number: A1, A2, B1, ..."""
    order = list(dict.fromkeys(identities.tolist()))
    said, count = [], dict.fromkeys(order, 0)
    for identity in identities.tolist():
        count[identity] += 1
        said.append(f"{chr(ord('A') + order.index(identity))}{count[identity]}")
    return said


def _batch(run: Run, seen: Contrast, rows: np.ndarray, names: list[str], chosen: str) -> None:
    """The images with the places that are kept, the chosen one framed."""
    stamp = run.stamp()
    found, source = cached.embeddings(run.name, stamp), cached.folder(run.experiment)
    net = cached.positions(run.name, stamp)
    tiles = []
    for row, name, places in zip(rows, names, seen.places, strict=True):
        kept = np.full(net.grid, np.nan)
        kept.flat[places] = 1
        at = None
        if chosen != MEAN:
            at = [int(each) for each in divmod(places[int(chosen) - 1], net.grid[1])]
        tiles.append(
            dict(
                label=name,
                note=f"id {found.identities[row]}, {_camera(int(found.cameras[row]))}",
                src=cached.picture(*source, str(found.names[row]), TALL),
                size=run.experiment.training.size,
                window=net.window and tuple(net.window),
                map=kept,
                palette="mask",
                picked=at,
            )
        )
    key = "contrast batch"
    figures.pictures(
        tiles,
        Said(
            f"A small batch of test images, A1 the query: {_made(names)}. "
            f"Marked: the {seen.places.shape[1]} patches of high frequency of each. "
            "Click one for its place k: the loss compares it with the k-th patch of every other image, "
            "wherever that lies. Training draws its batches at random, with flips, crops and erasing.",
            FORMULA,
            _source(run),
            (contrast.small_batch, contrast.contrasted),
        ),
        key=key,
        alt=f"{len(names)} images with their patches of high frequency",
        columns=len(names),
        on_pick=partial(_take, key, seen.places, net.grid[1]),
    )


def _camera(number: int) -> str:
    return "camera unknown" if number == -1 else f"camera {number}"


def _made(names: list[str]) -> str:
    """Who is in the batch besides the query, in words."""
    others = len({name[0] for name in names}) - 1
    said = ["its first true match"] if "A2" in names else []
    if others:
        who = "the identity" if others == 1 else f"each of the {others} identities"
        said.append(f"up to two images of {who} nearest to it")
    return " and ".join(said) or "nothing else can be judged"


def _take(key: str, places: np.ndarray, columns: int) -> None:
    """The place k of a patch that was clicked, if it is one of high frequency."""
    picked = st.session_state[key]["picked"]
    if not picked or picked["row"] is None:
        return
    at = picked["row"] * columns + picked["column"]
    found = np.flatnonzero(places[picked["tile"]] == at)
    if len(found):
        st.session_state["kth"] = str(found[0] + 1)


def _cosines(
    run: Run, seen: Contrast, identities: np.ndarray, names: list[str], chosen: str
) -> None:
    """The slice of both cubes at one place, or its mean over all."""
    drawn = seen.cosines.mean(axis=0) if chosen == MEAN else seen.cosines[int(chosen) - 1]
    same = identities[:, None] == identities[None]
    mine = f"one identity, {drawn[same].mean():.2f} on average"
    rest = "nobody else is in this batch"
    if not same.all():
        rest = f"the others, {drawn[~same].mean():.2f}, it holds away"
    where = "the mean over all places" if chosen == MEAN else f"place {chosen}"
    figures.chart(
        charts_frequency.contrast(drawn, names, same),
        Said(
            f"Cosines at {where}. Framed: {mine}, which the loss draws together (an image with itself "
            f"too); {rest}.",
            FORMULA,
            _source(run),
            (pha.patch_cosines, pha.pulls),
        ),
        key="contrast cosines",
        alt=f"Cosines of {len(names)} images at {where}: {mine}; {rest}",
        table=pd.DataFrame(drawn, index=names, columns=names).reset_index(names="all patches"),
    )


def _pulls(run: Run, seen: Contrast, names: list[str]) -> None:
    """What draws and what holds away, place by place, and the loss."""
    across = np.arange(1, len(seen.cosines) + 1)
    means = {"p, same identity": seen.positive.mean(axis=1)}
    if not np.isnan(seen.negative).any():
        means["n, others"] = seen.negative.mean(axis=1)
    drawn = [Line(name, across, values) for name, values in means.items()]
    weight = run.experiment.options.contrastive_weight
    told = (
        f"{' and '.join(name[0] for name in means)} at each place, means over the {len(names)} images. "
        f"The loss of this batch is {seen.loss:.3f}, as training would add it (weight {weight:g})."
    )
    if seen.second is not None:
        told += (
            f" The variant official adds another, {seen.second:.3f}, between the K patches of the image "
            "and those of its quantised view, which is not drawn."
        )
    figures.chart(
        bands(drawn, "place k", "mean cosine", percent=False),
        Said(told, FORMULA, _source(run), (pha.pulls, pha.patch_contrast)),
        key="contrast pulls",
        alt="; ".join(f"{name}: {values.mean():.2f} on average" for name, values in means.items())
        + f"; loss {seen.loss:.3f}",
        table=pd.DataFrame({"place k": across} | means),
    )
