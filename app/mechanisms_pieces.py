"""The view Global and local: what each piece of an embedding adds to a distance, and finds alone."""

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, figures
from app import charts_mechanisms as charts
from app.figures import Said
from app.mechanisms import here
from app.mechanisms_answers import WRONG, answer, query_of
from app.pictures import Picture
from reid_core.analysis import pieces
from reid_core.models.base import Tokens
from reid_core.runs import Run

ABOUT = (
    "The embedding joins one feature of the whole image and several local ones (OH-Former: part "
    "tokens). Which of them holds two images apart, and how well each finds the person alone."
)
FORMULA = r"""$$d^2(q, g) = \sum_p \left\| \frac{e_p(q)}{|e(q)|} - \frac{e_p(g)}{|e(g)|} \right\|^2$$

$e_p$ is piece $p$ of the embedding $e$; a list is ranked by $d$.

OH-Former: part token $p$ is the mean of the last layer's patches in stripe $p$. TransReID: a local
feature is the class token after a layer that sees it with one group of patches and no others, divided by
the number of local features.
"""
SOURCE = (
    "OH-Former: Chen et al., 2021, part tokens by adaptive average pooling, joined with the class token "
    "at test. TransReID: He et al., ICCV 2021, section 3.2. The sum by pieces is exact, and ours."
)
FIRST = 10  # wrong images at the head of a list whose mean is drawn


def offered(run: Run, probes: dict[str, tuple[str, Tokens]]) -> bool:
    """For models whose embedding joins several features."""
    return len(cached.pieces(run.name, run.stamp())) > 1


def show(run: Run, picture: Picture) -> None:
    """Where each piece is taken from, its part of a distance, and its scores alone."""
    row = answer(picture)
    if row is None:
        return
    query = query_of(picture)
    vector = _vector(query)
    gallery = Picture(run.name, picture.stamp, row, picture.query)
    names = cached.pieces(run.name, picture.stamp)
    _one_decides(run, picture, list(names))
    added = pieces.squared(vector, picture.found.vectors[[row]], len(names))[0]  # (P,)
    _taken((query, gallery), names, added, picture.key("pieces"))
    _beside(picture, vector, row, list(names), added)
    _alone(run, picture, list(names))


def _one_decides(run: Run, picture: Picture, names: list[str]) -> None:
    """The mistake that one piece alone decides, over all queries: a way there, and what is seen."""
    found = cached.culprit(run.name, picture.stamp)
    if found is None or picture.beside:
        return
    asked = here(run, found.query, "Global and local") | {"answer": WRONG}
    there = picture.upload is None and picture.is_query and picture.query == found.query
    st.button("A mistake that one piece decides", key="piece decides", on_click=_set, args=(asked,))
    if there and st.session_state["answer"] == WRONG:
        rest = [np.delete(each, found.piece).sum() for each in (found.right, found.wrong)]
        st.caption(
            f"Of all mistakes this one turns the most on one piece, {names[found.piece]}: it adds "
            f"{found.right[found.piece]:.3g} to the squared distance of the first true match and "
            f"{found.wrong[found.piece]:.3g} to that of the wrong image at rank 1. By the other pieces "
            f"together the true match is nearer: {rest[0]:.3g} against {rest[1]:.3g}."
        )


def _set(values: dict[str, str]) -> None:
    for name, value in values.items():
        st.session_state[name] = value


def _vector(query: Picture) -> np.ndarray:
    """A query's embedding (D,)."""
    if query.upload is not None:
        return cached.vector(query.run, query.stamp, *query.who, query.content)[0]
    return query.found.vectors[query.row]


def _taken(
    pair: tuple[Picture, Picture], names: dict[str, np.ndarray | None], added: np.ndarray, key: str
) -> None:
    """Both images, a column for each piece: where it is taken from, coloured by what it adds."""
    query, gallery = pair
    tokens = cached.positions(query.run, query.stamp)
    shares = added / max(added.sum(), 1e-30)
    tiles = []
    for picture, whose in zip(pair, ("query", "gallery"), strict=True):
        for (name, made), each, share in zip(names.items(), added, shares, strict=True):
            drawn = np.full(tokens.grid, each)
            if made is not None:
                drawn[made == 0] = np.nan
            more = dict(note=f"{each:.3g}, {share:.0%} of d²", scale=[0, added.max() or 1])
            tiles.append(picture.tile(f"{whose}, {name}", tokens, drawn, **more))
    figures.pictures(
        tiles,
        Said(
            f"Above the query, below the gallery image, {gallery.label}: the positions that each piece is made of, coloured "
            f"by what it adds to the squared distance, {added.sum():.3g} in all. A transformer's tokens "
            "have heard of one another in the layers before: where a piece is taken from is not all that "
            "it knows.",
            FORMULA,
            SOURCE,
            (pieces.squared,),
        ),
        key=key,
        alt="; ".join(f"{name} adds {each:.3g}" for name, each in zip(names, added, strict=True)),
        columns=len(names),
        unit="of the squared distance",
    )


def _beside(
    picture: Picture, vector: np.ndarray, row: int, names: list[str], added: np.ndarray
) -> None:
    """The pieces' parts of this distance, beside those of the true matches and of the wrong images."""
    ranking, found = picture.ranking, picture.found
    judged = ~ranking.ignored
    bars, others = {"this image": added}, []
    if picture.upload is None:
        for title, words, rows in (
            (
                "true matches, mean",
                "its true matches",
                ranking.rows[judged & ranking.match],
            ),
            (
                f"first {FIRST} wrong, mean",
                "the first wrong images of its list",
                ranking.rows[judged & ~ranking.match][:FIRST],
            ),
        ):
            if len(rows):
                bars[title] = pieces.squared(vector, found.vectors[rows], len(names)).mean(axis=0)
                others.append(words)
    table = pd.DataFrame({"piece": names} | bars)
    figures.chart(
        charts.pieces(names, bars),
        Said(
            "What each piece adds to the squared distance of the query and this image"
            + (f", beside the means over {' and over '.join(others)}" if others else "")
            + (
                ": a piece helps where wrong images are farther than true matches."
                if len(others) == 2
                else "."
            ),
            FORMULA,
            SOURCE,
            (pieces.squared,),
        ),
        key=picture.key("pieces of a distance"),
        alt="; ".join(
            f"{title}: " + ", ".join(f"{n} {v:.3g}" for n, v in zip(names, values, strict=True))
            for title, values in bars.items()
        ),
        table=table,
    )


def _alone(run: Run, picture: Picture, names: list[str]) -> None:
    """How well each piece ranks the whole test split."""
    found = cached.pieces_scored(run.name, picture.stamp)
    rows = [("all", found.whole, None, 1.0)]
    rows += zip(names, found.alone, found.without, found.lengths, strict=True)
    table = pd.DataFrame(
        [
            {
                "piece": name,
                "mAP alone": alone.mAP,
                "rank-1 alone": float(alone.cmc[0]),
                "mAP without it": None if without is None else without.mAP,
                "rank-1 without it": None if without is None else float(without.cmc[0]),
                "share of the length": length,
            }
            for name, alone, without, length in rows
        ]
    ).round(4)
    asked, every = found.whole.queries, len(picture.found.query_rows)
    many = f"all {every} queries" if asked == every else f"{asked} evenly spaced of {every} queries"
    figures.table(
        table,
        Said(
            f"The test split ranked by one piece alone, and by all the others, over {many} "
            f"({found.whole.valid_queries} with a true match), protocol {found.whole.protocol}; what is "
            "left is brought to length 1 again. Share of the length: of an embedding's squares, a mean "
            "over images: what a piece weighs in a cosine. The model was trained with all of them, so "
            "this is no ablation of the paper's.",
            FORMULA,
            SOURCE,
            (pieces.scores,),
        ),
        key=picture.key("pieces alone"),
    )
