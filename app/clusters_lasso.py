"""What is selected on the page Clusters' map: a lasso that lives in the address.

As text it is the map's number, on a map in three dimensions two rows of the turn under which it was
drawn, and its corners, all joined by "_": a reload selects the same images.
"""

import numpy as np
import streamlit as st

from app import address
from app.clusters import Shown, within_one
from reid_core.analysis.layout import enclosed

LASSO, DRAWN_ON = "lasso", "lasso drawn on"
MOST = 500  # numbers; the map sends 40 corners at most


def selected(view: Shown) -> list[int]:
    """The rows in the lasso. It is dropped when another map is shown; a link and the back button win."""
    state = st.session_state
    asked, last = address.get(LASSO), address.tied(LASSO)
    if asked and asked != last:
        state[LASSO] = asked
    elif address.taken_out(LASSO) or state.get(DRAWN_ON) != view.key:
        state[LASSO] = ""
    rows = _rows(view, state.get(LASSO, ""))
    if not rows:
        state[LASSO] = ""
    state[DRAWN_ON] = view.key
    address.tie(LASSO, state[LASSO])
    return rows


def take(key: str) -> None:
    """Keep what was drawn on the map of a key."""
    if (drawn := st.session_state[key]["lasso"]) is not None:
        st.session_state[LASSO] = drawn


def _rows(view: Shown, text: str) -> list[int]:
    """What a lasso holds; nothing where it can't be read."""
    layouts = view.maps["layouts"]
    try:
        side, *numbers = [float(each) for each in text.split("_")[:MOST]]
    except ValueError:
        return []
    if not np.isfinite([side, *numbers]).all() or side not in range(len(layouts)):
        return []
    turn = np.eye(3)[:2]
    if layouts.shape[2] == 3:
        if len(numbers) < 6:
            return []
        turn, numbers = np.reshape(numbers[:6], (2, 3)), numbers[6:]
    if len(numbers) < 6 or len(numbers) % 2:
        return []
    seen = within_one(layouts)[int(side)] @ turn.T  # (N, 2)
    return np.flatnonzero(enclosed(seen, np.reshape(numbers, (-1, 2)))).tolist()
