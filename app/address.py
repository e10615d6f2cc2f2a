"""What the page's address says. All that one run of the script writes goes there together, at its end:
Streamlit makes every single write a step of the browser's back button.

A browser sends all its widgets with every press, also those that the run before has set anew and it
has not yet heard of. So each run ends with its number in a hidden field: what comes back in it tells
what the browser knew, and what it did not know is no choice of the visitor's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import streamlit as st

WAITING, SEEN = "waiting for the address", "address when it waited"
GONE, LATE, TOLD = "gone from the address", "what a late address should say", "addresses told"
TURN, ENDED = "turns of the script", "the last turn that ended"
ECHO = "echo"  # the hidden field
HEARD, MEANT = "what each run of the script told", "what the last run was about to tell"
KNEW = "the last run that the browser had heard of when it sent this"
TIED = " in the address"  # after a widget's key: what was written of it last
RECENT = 8  # runs of the script whose addresses the browser may still show


class Ended(BaseException):
    """A page ends early. No error, and nobody who looks for errors should meet it, as Streamlit's own."""


@contextmanager
def told(page: str) -> Iterator[None]:
    """A run of the script for a page; main.py puts all of it in here.

    What an interrupted run had to write waits for the next one, unless the visitor has gone elsewhere.
    """
    state, now = st.session_state, (page, _now())
    _catch_up()
    meant = state.setdefault(MEANT, {})
    meant |= {key: state[key] for key in meant.keys() & state.keys()}
    before = state.get(SEEN)
    state[LATE] = before[1] if before and _late(before, now) else None
    if state[LATE] is not None:
        now = before
    elif before != now:
        state[WAITING] = {}
        state[GONE] = before[1].keys() - now[1].keys() if before and before[0] == page else set()
    state[SEEN], state[TURN] = now, turn() + 1
    try:
        yield
    except Ended:  # told here, since a hidden field that the page draws would be another one
        _tell()
        st.stop()
    _tell()


def _now() -> dict[str, list[str]]:
    return {key: st.query_params.get_all(key) for key in st.query_params}


def _late(before: tuple, now: tuple) -> bool:
    """Whether the browser had not yet heard of the newest address, and sent an older one: no link."""
    state = st.session_state
    known = before[1] == now[1] or now[1] not in state.get(TOLD, [])
    return before[0] == now[0] and not known and state.get(KNEW) != state.get(ENDED)


def _catch_up() -> None:
    """Give the widgets that the browser had not yet heard of what they were set to."""
    state = st.session_state
    if not state.get(ECHO):  # done, or nothing was told yet
        return
    state[KNEW], state[ECHO] = int(state[ECHO]), ""
    heard, meant = state[HEARD].get(state[KNEW], {}), state.setdefault(MEANT, {})
    for key in meant.keys() & state.keys():
        if key in heard and state[key] == heard[key] != meant[key]:
            state[key] = meant[key]
        else:  # the visitor's own: the browser knows it from now on, and what was there may be chosen again
            for each in state[HEARD].values():
                each[key] = state[key]


def page() -> str:
    """The page that this run of the script is for."""
    return st.session_state[SEEN][0] if SEEN in st.session_state else ""


def turn() -> int:
    """The number of this run of the script, in this session."""
    return st.session_state.get(TURN, 0)


def stands(key: str) -> bool:
    """Whether the browser is sure to have a widget, with what it holds. Call it in each run that draws it.

    So it is where every run that ended, be it early, has drawn it since one that the browser has heard
    of: another page or run took it out of the browser, where it would come back as its first choice. And
    what an interrupted run said may never get there: the next one's words take their place.
    """
    state = st.session_state
    on, first, last = state.get(f"{key} on", (None, 0, 0))
    unbroken = on == page() and last >= state.get(ENDED, 0)
    state[f"{key} on"] = page(), first if unbroken else turn(), turn()
    # A part of the page redraws itself because the browser, which has it, asked for that.
    return unbroken and (_of_a_part() or first <= state.get(KNEW, 0))


def _of_a_part() -> bool:
    """Whether only a part of the page redraws itself: its run of the whole script has ended."""
    return st.session_state.get(ENDED) == turn()


def stop() -> NoReturn:
    """Streamlit's stop, for a page that ends early; after it nothing could be told."""
    if not _of_a_part():
        raise Ended
    _tell()
    st.stop()


def _tell() -> None:
    waiting = st.session_state.get(WAITING, {})
    for key in [key for key, value in waiting.items() if value is None]:
        st.query_params.pop(key, None)
    new = {key: value for key, value in waiting.items() if value is not None}
    late = st.session_state.get(LATE) is not None and not _of_a_part()
    if new or late:  # the browser, which sent an older address, is about to hear of a newer one
        st.query_params.update(new)
    st.session_state[WAITING], st.session_state[GONE] = {}, set()
    if not _of_a_part():
        st.session_state[ENDED] = turn()
        _ask_back()
    page, asked = st.session_state[SEEN]
    told = st.session_state.get(TOLD, [])
    st.session_state[SEEN] = (page, _now())
    st.session_state[TOLD] = [*told, asked, _now()][-2 * RECENT :]


def _ask_back() -> None:
    state, number = st.session_state, turn()
    told = state.get(HEARD, {}) | {number: dict(state.get(MEANT, {}))}
    state[HEARD] = dict(list(told.items())[-RECENT:])
    state[ECHO] = str(number)
    st.text_input("Echo", key=ECHO, label_visibility="collapsed")


def get(key: str, default: str | None = None) -> str | None:
    """The value of a key, the last of several."""
    found = get_all(key)
    return found[-1] if found else default


def get_all(key: str) -> list[str]:
    """All values of a key."""
    waiting = st.session_state.get(WAITING, {})
    if key not in waiting:
        late = st.session_state.get(LATE)
        return st.query_params.get_all(key) if late is None else late.get(key, [])
    value = waiting[key]
    return [value] if isinstance(value, str) else list(value or [])


def tie(key: str, value: str | list[str]) -> None:
    """Write what a widget of that key shows."""
    put(key, value)
    st.session_state[f"{key}{TIED}"] = value
    st.session_state.setdefault(MEANT, {})[key] = value


def held(key: str) -> Any:
    """What a widget holds, for what a button does: also where the browser does not know it yet."""
    _catch_up()
    return st.session_state[key]


def choose(key: str, value: str) -> None:
    """Set a widget from what a button does: so it stands even if the next press comes before the page
    has begun to show it."""
    st.session_state[key] = st.session_state.setdefault(MEANT, {})[key] = value


def tied(key: str) -> Any:
    """What was written of that widget last, here or on another page; None before."""
    return st.session_state.get(f"{key}{TIED}")


def taken_out(key: str) -> bool:
    """Whether the visitor went back to an address of this page that had not yet got this key."""
    return key in st.session_state.get(GONE, ())


def names() -> set[str]:
    """The keys that it has."""
    waiting = st.session_state.get(WAITING, {})
    late = st.session_state.get(LATE)
    keys = st.query_params if late is None else late
    return (set(keys) - set(waiting)) | {k for k, v in waiting.items() if v is not None}


def put(key: str, value: str | list[str] | None) -> None:
    """Write a value, or several; None takes the key out."""
    waiting = st.session_state.setdefault(WAITING, {})
    asked = [value] if isinstance(value, str) else value or []
    if asked == st.query_params.get_all(key):
        waiting.pop(key, None)
    else:
        waiting[key] = value or None
