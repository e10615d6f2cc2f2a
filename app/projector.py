"""A lecture hall's view of every page: large type, no sidebar, larger figures."""

import plotly.graph_objects as go
import streamlit as st

from app import address

ADDRESS, STATE = "projector", "projected"
HEIGHT = 250  # pixels, plotly's figures where they don't say

LETTERS = 22  # pixels; 16 elsewhere
# Most is measured in rem, so the root's font size enlarges it.
LARGE = """<style>
html { font-size: LETTERSpx !important; }
[data-testid="stSidebar"], [data-testid="stExpandSidebarButton"] { display: none !important; }
[data-testid="stMainBlockContainer"] { padding-left: 2.5rem; padding-right: 2.5rem; }
.st-key-leave-projector { position: fixed; right: 1rem; bottom: 0.8rem; width: auto !important; z-index: 1000; }
[data-testid="stApp"] :has(.st-key-leave-projector), .st-key-leave-projector, .st-key-leave-projector * { background-color: inherit; }
.st-key-leave-projector button { font-size: 0.7rem; opacity: 0.75; }
.st-key-leave-projector button:is(:hover, :focus-visible) { opacity: 1; }
</style>""".replace("LETTERS", str(LETTERS))


def on() -> bool:
    """Whether the page is shown large."""
    return bool(st.session_state.get(STATE))


def switch(page: str) -> None:
    """The way in, in the sidebar, or the way out, in the page's corner; main.py draws it once.

    `projector=1` in the address is the same. A link and the back button win; a change of page, which
    empties the address, keeps what was.
    """
    state, asked = st.session_state, address.get(ADDRESS) == "1"
    before = state.get("projector told")  # page and address when this was last drawn
    if before is None or (asked != before[1] and (asked or page == before[0])):
        state[STATE] = asked
    address.put(ADDRESS, "1" if on() else None)
    state["projector told"] = (page, on())
    # Says what it should become: for a moment the keyboard may press both buttons.
    look = dict(icon=":material/cast:", on_click=_turn, args=(not on(),), shortcut="P")
    if on():
        st.html(LARGE)
        st.button("Leave projector", key="leave-projector", **look)
    else:
        about = "Large type and figures, without this sidebar."
        st.sidebar.button("Projector", key="projector", type="tertiary", help=about, **look)


def wide(pixels: int) -> int:
    """The width of a field that is told in pixels, as wide as its letters need it."""
    return pixels * LETTERS // 16 if on() else pixels


def enlarged(figure: go.Figure, height: int | None = None) -> go.Figure:
    """A copy of a figure for the last row of a lecture hall."""
    copy = go.Figure(figure)
    copy.update_layout(
        height=int(1.5 * (height or figure.layout.height or HEIGHT)), font=dict(size=19)
    )
    # What a figure writes in a size of its own.
    copy.update_annotations(font_size=17)
    written = lambda trace: "text" in (getattr(trace, "mode", "") or "")  # noqa: E731
    copy.for_each_trace(lambda trace: trace.update(textfont_size=17), selector=written)
    sized = lambda trace: trace.type == "heatmap" and trace.textfont.size  # noqa: E731
    copy.for_each_trace(lambda trace: trace.update(textfont_size=16), selector=sized)
    copy.update_xaxes(tickfont=dict(size=17), title_font=dict(size=19))
    # Larger ticks take the room that their title stood in.
    copy.for_each_xaxis(lambda axis: axis.update(title_standoff=12 + (axis.title.standoff or 0)))
    copy.update_yaxes(tickfont=dict(size=17), title_font=dict(size=19))
    copy.for_each_yaxis(lambda axis: axis.update(title_standoff=10 + (axis.title.standoff or 0)))
    return copy


def _turn(wanted: bool) -> None:
    st.session_state[STATE] = wanted
