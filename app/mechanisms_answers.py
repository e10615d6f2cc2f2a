"""Which gallery image a query is compared with: a row of its ranked list, two of them by name."""

import numpy as np
import streamlit as st

from app import galleries
from app.components import query_strip
from app.mechanisms import kept
from app.notices import say
from app.pictures import Picture
from reid_core.retrieve import RankedList

MATCH, WRONG, NEAREST = "first true match", "first wrong one", 10


def answer(picture: Picture) -> int | None:
    """The row of the gallery image: the picture itself where it comes from the query's list. None, and
    why, where there is none."""
    ranking = picture.ranking
    if ranking is None:
        why = "has no test split to compare with: evaluate it on one first"
        say("info", f"Run {picture.run} {why}.")
        return None
    if picture.upload is None and not picture.is_query:
        st.caption("The query, and the image chosen above. Choose the query above for a list here.")
        return picture.row
    judged = np.flatnonzero(~ranking.ignored)
    if not len(judged):
        say("info", "The gallery holds nothing to compare this picture with.")
        return None
    options: dict[str, int] = {}
    if picture.upload is None:
        right, wrong = (judged[ranking.match[judged] == each] for each in (True, False))
        options = {
            name: int(each[0]) for name, each in ((MATCH, right), (WRONG, wrong)) if len(each)
        }
    firsts = list(options)
    options |= {f"rank {number + 1}": int(place) for number, place in enumerate(judged[:NEAREST])}
    name = kept(picture, "answer", list(options), next(iter(options)))
    if not picture.beside:
        _buttons(firsts, name)
    _strip(picture, ranking, judged[:NEAREST], options[name])
    return int(ranking.rows[options[name]])


def query_of(picture: Picture) -> Picture:
    """The query behind a picture that was picked in its list."""
    if picture.upload is not None or picture.is_query:
        return picture
    row = int(picture.found.query_rows[picture.query])
    return Picture(picture.run, picture.stamp, row, picture.query)


def _buttons(names: list[str], chosen: str) -> None:
    """The first right and the first wrong image, one click away."""
    row = st.container(horizontal=True)
    for name in names:
        look = "primary" if chosen == name else "secondary"
        row.button(
            name.capitalize(),
            key=f"answer {name}",
            type=look,
            on_click=choose,
            args=("answer", name),
        )


def _strip(picture: Picture, ranking: RankedList, judged: np.ndarray, chosen: int) -> None:
    items = []
    for number, place in enumerate(judged, 1):
        row, right = int(ranking.rows[place]), bool(ranking.match[place])
        mark = "" if picture.upload else " ✓" if right else " ✗"
        items.append(
            dict(
                label=f"rank {number}",
                src=picture.src_of(row),
                title=f"rank {number}, {galleries.title(picture.found, row)}",
                note=f"rank {number}{mark}",
                share=None,
                chosen=int(place) == chosen,
            )
        )
    key = picture.key("answers")
    pick = lambda: choose("answer", st.session_state[key]["picked"])  # noqa: E731
    query_strip(items, key=key, on_pick=pick, wrap=True)


def choose(key: str, value: str | None) -> None:
    """Keep what was clicked, if anything was."""
    if value:
        st.session_state[key] = value
