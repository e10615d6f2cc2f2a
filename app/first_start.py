"""On the first start the demo data set is rendered, once, whoever asks and however many ask."""

import threading
import time

import streamlit as st

from app import address
from app.notices import say
from reid_core import jobs
from reid_core.data import default_root
from reid_core.errors import BadInput


class Rendering:
    """A rendering in a thread of its own: it goes on when the visitor who caused it leaves."""

    def __init__(self, root: str):
        self.root, self.done, self.total, self.problem = root, 0, 0, ""
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        try:
            for self.done, self.total in jobs.generate(default_root("pedestrians")):
                pass
        except (BadInput, OSError) as problem:
            self.problem = str(problem)


@st.cache_resource(show_spinner=False)
def rendering(root: str) -> Rendering:
    """The one rendering of a folder that this server does; Streamlit lets one session in at a time."""
    return Rendering(root)


def ensure_data() -> None:
    """Go on when the demo data set is there; until then show how far it is."""
    root = default_root("pedestrians")
    if root.is_dir():
        return
    work = rendering(str(root))
    with st.container(width=640):
        st.title("Drawing the pedestrians", anchor=False)
        st.markdown(
            "The first start draws the demo data set: synthetic people whose identity, clothing and "
            "body parts are known. It happens once and takes a few seconds."
        )
        bar = st.progress(0.0, "Starting")
        while work.thread.is_alive():
            words = f"{work.done} of {work.total} images" if work.total else "Starting"
            bar.progress(work.done / max(work.total, 1), words)
            time.sleep(0.2)
        bar.empty()
        if not work.problem and root.is_dir():
            st.rerun()
        say(
            "error",
            f"The demo data set could not be drawn. {work.problem or 'Its folder is gone.'}",
        )
        again = dict(on_click=rendering.clear, args=(str(root),))
        st.button("Try again", icon=":material/refresh:", **again)
        address.stop()
