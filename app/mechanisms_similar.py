"""The view Why similar: which positions make two images alike, for every model in the same way."""

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, figures, galleries, pickers
from app.components import query_strip
from app.figures import Said
from app.mechanisms import at, left_out, places, tile
from app.notices import say
from app.pictures import Picture
from reid_core.analysis import similarity
from reid_core.analysis.similarity import Link
from reid_core.retrieve import RankedList
from reid_core.runs import Run

MATCH, WRONG, NEAREST = "first true match", "first wrong one", 10
ALIKE, APART = "Alike", "Apart"
ALL = "all"
SIDES = {0: "query ", 1: "gallery "}
LINKS = 12
FORMULA = r"""$c_i = s(q, g) - s(q \setminus i, g)$, $s$ the cosine of the embeddings

$t_i = e(q) - e(q \setminus i)$ and $P_{ij} = \dfrac{\langle t_i(q), t_j(g)\rangle}{|e(q)|\,|e(g)|}$

$q \setminus i$ is the image with position $i$ in its mean colour."""
SOURCE = "Ours, after occlusion maps: Zeiler and Fergus, ECCV 2014. No part of a model's interior is used."


def show(run: Run, picture: Picture) -> None:
    """The query and an image of its list, with what links them."""
    ranking = picture.ranking
    if ranking is None:
        say("info", f"Run {run.name} has no test split to compare with: evaluate it on one first.")
        return
    row = _gallery(picture, ranking)
    if row is None:
        return
    whose = _query_of(picture)
    query, gallery = left_out(whose), left_out(picture, row)
    if cached.model(run.name, picture.stamp).refines:
        st.caption(
            "This model lets images look at one another after its encoder. Here each image is alone, "
            "so similarities are the encoder's, and the list above may be in another order."
        )
    _account(similarity.account(query, gallery))
    _links(whose, row, query, gallery)


def _query_of(picture: Picture) -> Picture:
    """The query behind a picture that was picked in its list."""
    if picture.upload is not None or picture.is_query:
        return picture
    row = int(picture.found.query_rows[picture.query])
    return Picture(picture.run, picture.stamp, row, picture.query, beside=picture.beside)


def _gallery(picture: Picture, ranking: RankedList) -> int | None:
    """The row of the gallery image: the picture itself where it comes from the query's list."""
    if picture.upload is None and not picture.is_query:
        st.caption("The query and the image chosen above. Choose the query above for a list here.")
        return picture.row
    judged = np.flatnonzero(~ranking.ignored)
    if not len(judged):
        say("info", "The gallery holds nothing to compare this picture with.")
        return None
    known = picture.upload is None
    options = {f"rank {number + 1}": at for number, at in enumerate(judged[:NEAREST])}
    right, wrong = (judged[ranking.match[judged] == each] for each in (True, False))
    if known:
        firsts = {MATCH: right[:1], WRONG: wrong[:1]}
        options = {name: found[0] for name, found in firsts.items() if len(found)} | options
    state = picture.key("answer")
    pickers.linked(state, list(options), next(iter(options)))
    chosen = options[st.session_state[state]]
    if known:
        _buttons(state, options)
    _strip(picture, ranking, judged[:NEAREST], int(chosen), state, known)
    return int(ranking.rows[chosen])


def _buttons(state: str, options: dict[str, int]) -> None:
    row = st.container(horizontal=True)
    for name in (MATCH, WRONG):
        if name in options:
            row.button(
                name.capitalize(),
                key=f"{state} {name}",
                type="primary" if st.session_state[state] == name else "secondary",
                on_click=_choose,
                args=(state, name),
            )


def _strip(
    picture, ranking: RankedList, at_: np.ndarray, chosen: int, state: str, known: bool
) -> None:
    items = []
    for number, place in enumerate(at_):
        row, right = int(ranking.rows[place]), bool(ranking.match[place])
        mark = "" if not known else " ✓" if right else " ✗"
        items.append(
            dict(
                label=f"rank {number + 1}",
                src=picture.src_of(row),
                title=f"rank {number + 1}, {galleries.title(picture.found, row)}",
                note=f"rank {number + 1}{mark}",
                share=None,
                chosen=int(place) == chosen,
            )
        )
    key = f"{state} strip"
    query_strip(items, key=key, on_pick=lambda: _choose(state, st.session_state[key]["picked"]))


def _choose(state: str, name: str | None) -> None:
    if name:
        st.session_state[state] = name


def _account(told: similarity.Account) -> None:
    """What the similarity is made of, in numbers."""
    row = st.container(horizontal=True)
    for label, value, help in (
        ("similarity s", told.similarity, "The cosine of the two embeddings."),
        ("sum of pairs", told.pairs, "The sum of all P over positions of both images."),
        ("unexplained by pairs", told.beyond_pairs, "s less that sum: what no pair of positions alone accounts for."),
        ("sum of positions", told.positions, "The sum of all c over the query's positions."),
        ("unexplained by positions", told.beyond_positions, "s less that sum. Where several positions say the same, leaving out one costs nothing, and the sum falls short."),
        ("blank query", told.blank, "What s is when nothing is left of the query: likeness that no position explains."),
    ):  # fmt: skip
        row.metric(label, f"{value:+.3f}", help=help, width="content")


def _links(picture: Picture, row: int, query, gallery) -> None:
    """The two images with their contributions and the strongest pairs, or those of one position."""
    tokens = cached.positions(picture.run, picture.stamp)
    shares = similarity.pairs(query, gallery)
    state, side = picture.key("patch"), picture.key("side")
    pickers.linked(side, [ALIKE, APART], ALIKE)
    pickers.linked(
        state, [ALL, *(name + each for name in SIDES.values() for each in places(tokens))], ALL
    )
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    bar.segmented_control(
        "Pairs that make them", [ALIKE, APART], key=side, required=True,
        help=f"{ALIKE}: the largest P. {APART}: the most negative P.",
    )  # fmt: skip
    chosen = st.session_state[state]
    bar.button(
        "All positions",
        key=f"{state} all",
        on_click=_choose,
        args=(state, ALL),
        disabled=chosen == ALL,
    )
    own = (
        similarity.contributions(query, gallery.embedding),
        similarity.contributions(gallery, query.embedding),
    )
    drawn, label, picked = (
        [each.reshape(tokens.grid) for each in own],
        ["query", "gallery image"],
        [None, None],
    )
    notes = [f"c from {each.min():+.3f} to {each.max():+.3f}" for each in own]
    visible = shares
    if chosen != ALL:
        tile_, (r, c) = int(chosen.startswith(SIDES[1])), at(chosen.split(" ")[1])
        place = r * tokens.grid[1] + c
        visible = np.zeros_like(shares)
        line = (slice(None), place) if tile_ else (place, slice(None))
        visible[line] = shares[line]
        drawn[1 - tile_] = shares[line].reshape(tokens.grid)
        notes[1 - tile_] = "P with the picked position"
        notes[tile_] += f"; picked {own[tile_][place]:+.3f}"
        picked[tile_] = [r, c]
    links = similarity.strongest(visible, LINKS, st.session_state[side] == APART)
    gallery_picture = Picture(picture.run, picture.stamp, row, picture.query, beside=picture.beside)
    tiles = [
        tile(
            each,
            tokens,
            label[n],
            drawn[n],
            note=notes[n],
            picked=picked[n],
            palette="diverging",
            scale="own",
        )
        for n, each in enumerate((picture, gallery_picture))
    ]
    key = picture.key("links")
    figures.pictures(
        tiles,
        Said(
            f"Colours: how much the similarity falls (warm) or rises when a position is blanked. Lines: "
            f"the {len(links)} pairs with the {'most negative' if st.session_state[side] == APART else 'largest'} "
            "P, whose absence moves both embeddings the same way; the stronger, the thicker. Click a "
            f"position for its own pairs. Each image is passed {len(own[0]) + 2} times, alone.",
            FORMULA,
            SOURCE,
            (similarity.contributions, similarity.pairs, similarity.left_out),
        ),
        key=key,
        alt=f"{picture.label} and {gallery_picture.label} with {len(links)} links between positions",
        columns=2,
        links=_drawn(links, tokens.grid[1]),
        table=_table(links, tokens.grid[1]),
        on_pick=lambda: _pick(key, state),
    )  # fmt: skip


def _pick(key: str, state: str) -> None:
    if picked := st.session_state[key]["picked"]:
        name = f"{SIDES[picked['tile']]}{picked['row'] + 1}-{picked['column'] + 1}"
        st.session_state[state] = ALL if st.session_state[state] == name else name


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
    rows = []
    for link in links:
        (r, c), (r_, c_) = divmod(link.query, columns), divmod(link.gallery, columns)
        rows.append((r + 1, c + 1, r_ + 1, c_ + 1, link.share))
    names = ["query row", "query column", "gallery row", "gallery column", "P"]
    return pd.DataFrame(rows, columns=names)
