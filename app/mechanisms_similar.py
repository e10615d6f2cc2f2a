"""The view Why similar: which positions make two images alike, for every model in the same way."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, figures, pictures
from app.figures import Said
from app.lessons import Step
from app.mechanisms import at, blanks, here, kept, left_out, places
from app.mechanisms_answers import MATCH, WRONG, answer, choose, query_of
from app.passes import Passes
from app.pictures import Picture
from reid_core.analysis import similarity
from reid_core.analysis.similarity import LeftOut, Link
from reid_core.models.base import Tokens
from reid_core.runs import Run

ALIKE, APART = "alike", "apart"
ALL, SIDES = "all", ("query ", "gallery ")
LINKS = 12
FORMULA = r"""$c_i = s(q, g) - s(q \setminus i, g)$, where $s$ is the cosine of the embeddings

$t_i = e(q) - e(q \setminus i)$ and $P_{ij} = \dfrac{\langle t_i(q), t_j(g)\rangle}{|e(q)|\,|e(g)|}$

$q \setminus i$ is the image with position $i$ in its mean colour."""
SOURCE = "Ours, after occlusion maps: Zeiler and Fergus, ECCV 2014. No part of a model's interior is used."
NUMBERS = {  # label -> attribute of Account, what it says
    "similarity s": ("similarity", "The cosine of the two embeddings."),
    "sum of pairs": ("pairs", "The sum of P over all positions of both images."),
    "unexplained": (
        "beyond_pairs",
        "s less the sum of pairs: what no pair of positions accounts for.",
    ),
    "sum of positions": ("positions", "The sum of c over the query's positions."),
    "beyond positions": (
        "beyond_positions",
        "s less the sum of positions. Where several positions say "
        "the same, leaving out one costs nothing, and the sum falls short.",
    ),
    "blank query": (
        "blank",
        "s when nothing is left of the query: likeness that no position explains.",
    ),
}


def show(run: Run, picture: Picture) -> None:
    """The query and an image of its list, with what links them."""
    row = answer(picture)
    if row is None:
        return
    query, gallery = query_of(picture), Picture(run.name, picture.stamp, row, picture.query)
    passes = Passes(picture, blanks(query) | blanks(gallery))
    if not passes.wanted():
        return
    asked = Compared(query, gallery, left_out(query, passes), left_out(gallery, passes))
    passes.end()
    if cached.model(run.name, picture.stamp).refines:
        st.caption(
            "This model lets images look at one another after its encoder. Here each image is alone: "
            "similarities are the encoder's, and the list above may be in another order."
        )
    _numbers(similarity.account(asked.one, asked.other))
    _links(picture, asked)


def steps(run: Run) -> list[Step]:
    """The nearest mistake and the surest match, over all queries."""
    found = cached.ranked_lists(run.name, run.stamp())
    mistakes = np.where(found.failed, found.wrong_distance, np.inf)
    margins = np.where(found.failed, -np.inf, found.wrong_distance - found.right_distance)
    margins = np.nan_to_num(margins, nan=-np.inf)
    steps, count = [], len(found.first_hit)
    if np.isfinite(mistakes.min(initial=np.inf)):
        query = int(mistakes.argmin())
        text = (
            f"Of {count} queries this one has the nearest wrong image at rank 1, at a distance of "
            f"{mistakes[query]:.3f}; its first true match has rank {found.first_hit[query]}. See which positions "
            "the two share, then press First true match: what does that lack?"
        )
        asked = here(run, query, "Why similar") | {"answer": WRONG, "patch": ALL}
        steps.append(Step("Why was it mistaken?", text, asked))
    if np.isfinite(margins.max(initial=-np.inf)):
        query = int(margins.argmax())
        text = (
            f"Of {count} queries this one has the widest gap between its first true match, at a distance of "
            f"{found.right_distance[query]:.3f}, and the first wrong image, at {found.wrong_distance[query]:.3f}. "
            "See which positions carry it, and how much of the similarity they leave unexplained."
        )
        asked = here(run, query, "Why similar") | {"answer": MATCH, "patch": ALL}
        steps.append(Step("A sure match", text, asked))
    return steps


@dataclass(frozen=True)
class Compared:
    """Two pictures of one run, and each without its positions."""

    query: Picture
    gallery: Picture
    one: LeftOut
    other: LeftOut

    @property
    def tokens(self) -> Tokens:
        return cached.positions(self.query.run, self.query.stamp)


def _numbers(told: similarity.Account) -> None:
    """What the similarity is made of."""
    row = st.container(horizontal=True)
    for label, (name, about) in NUMBERS.items():
        row.metric(label, f"{getattr(told, name):+.3f}", help=about, width="content")


def _links(picture: Picture, asked: Compared) -> None:
    """The two images with their contributions and the strongest pairs, or those of one position."""
    tokens, shares = asked.tokens, similarity.pairs(asked.one, asked.other)
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    which = pictures.choice(
        picture, bar, "Pairs that make them", [ALIKE, APART], ALIKE, "pairs", segmented=True
    )
    names = [side + each for side in SIDES for each in places(tokens)]
    chosen = kept(picture, "patch", [ALL, *names], ALL)
    if not picture.beside:
        bar.button("All positions", on_click=choose, args=("patch", ALL), disabled=chosen == ALL)
    tiles, visible = _tiles(asked, shares, chosen)
    links = similarity.strongest(visible, LINKS, which == APART)
    key = picture.key("links")
    words = "most negative" if which == APART else "largest"
    figures.pictures(
        tiles,
        Said(
            "Colours: c, how much the similarity falls (positive) or rises (negative) when a position is blanked. Lines: "
            f"the {len(links)} pairs with the {words} P; a positive one moves both embeddings the same way. "
            f"Click a position for its own pairs. Each image is passed {len(asked.one.without) + 2} times, alone.",
            FORMULA,
            SOURCE,
            (similarity.contributions, similarity.pairs, similarity.left_out),
        ),
        key=key,
        alt=f"{asked.query.label} and {asked.gallery.label} with {len(links)} links between positions",
        columns=2,
        links=_drawn(links, tokens.grid[1]),
        table=_table(links, tokens.grid[1]),
        on_pick=partial(_take, key),
    )


def _tiles(asked: Compared, shares: np.ndarray, chosen: str) -> tuple[list[dict], np.ndarray]:
    """Both images with their maps, and the pairs (N, M) that may be drawn: those of the chosen
    position, whose map is then drawn on the other image."""
    one, other = asked.one, asked.other
    own = (
        similarity.contributions(one, other.embedding),
        similarity.contributions(other, one.embedding),
    )
    maps, notes = list(own), ["", ""]  # the range is said below a map of a scale of its own
    picked, visible = [None, None], shares
    if chosen != ALL:
        side, (row, column) = SIDES.index(chosen.split(" ")[0] + " "), at(chosen.split(" ")[1])
        place = row * asked.tokens.grid[1] + column
        line = (slice(None), place) if side else (place, slice(None))
        visible = np.zeros_like(shares)
        visible[line] = shares[line]
        picked[side], maps[1 - side] = [row, column], shares[line]
        notes[side], notes[1 - side] = (
            f"picked, c {own[side][place]:+.4f}",
            "P with the picked position",
        )
    drawn = zip(
        (asked.query, asked.gallery), ("query", "gallery image"), maps, notes, picked, strict=True
    )
    tiles = [
        each.tile(
            label,
            asked.tokens,
            values.reshape(asked.tokens.grid),
            note=note,
            picked=at_,
            palette="diverging",
            scale="own",
        )
        for each, label, values, note, at_ in drawn
    ]
    return tiles, visible


def _take(key: str) -> None:
    """Show the pairs of the position that was clicked; a second click shows all again."""
    picked = st.session_state[key]["picked"]
    if picked and picked["row"] is not None:
        name = f"{SIDES[picked['tile']]}{picked['row'] + 1}-{picked['column'] + 1}"
        st.session_state["patch"] = ALL if st.session_state["patch"] == name else name


def _drawn(links: list[Link], columns: int) -> list[dict]:
    most = max((abs(link.share) for link in links), default=1)
    return [
        {
            "from": [0, *divmod(link.query, columns)],
            "to": [1, *divmod(link.gallery, columns)],
            "weight": abs(link.share) / most,
            "text": f"P = {link.share:+.4f}",
        }
        for link in links
    ]


def _table(links: list[Link], columns: int) -> pd.DataFrame:
    ends = [(*divmod(link.query, columns), *divmod(link.gallery, columns)) for link in links]
    rows = [
        (*(each + 1 for each in end), link.share) for end, link in zip(ends, links, strict=True)
    ]
    names = ["query row", "query column", "gallery row", "gallery column", "P"]
    return pd.DataFrame(rows, columns=names)
