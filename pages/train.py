"""Choose a model, a data set and a recipe, change what you like, and watch it learn. A training is a
process of its own: it goes on when you close this page, and any browser can watch it."""

import streamlit as st

from app import address, jobs, launch, live, pickers, sweeps
from app.access import WHY_NOT, training_allowed
from app.notices import heading

heading("Train", __doc__)
allowed = training_allowed()
if not allowed:
    st.info(WHY_NOT, icon=":material/lock:")

VIEWS = ["Watch", "New training", "Queue", *(["Sweep"] if sweeps.any_there() else [])]
first = "New training" if "clone" in address.names() or not st.session_state.get("run") else "Watch"
pickers.linked("view", VIEWS, first)
view = st.segmented_control("View", VIEWS, required=True, key="view", label_visibility="collapsed")
if view == "Watch":
    live.watch(pickers.run())
elif view == "Queue":
    jobs.show()
elif view == "Sweep":
    sweeps.show()
else:
    launch.form(allowed)
