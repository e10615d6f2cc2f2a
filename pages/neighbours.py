"""NFormer lets the images of a set look at one another: each is refined by those among its nearest that
have it among theirs. Whom a query listens to, what that does to its ranked list, and what the numbers
of landmarks and neighbours change."""

import streamlit as st

from app import (
    cached,
    lessons,
    neighbours,
    neighbours_graph,
    neighbours_lab,
    neighbours_landmarks,
    pickers,
)
from app.notices import explained, heading, say

heading("Neighbours", __doc__)
run = pickers.run()
neighbours.ready(run)
stamp = run.stamp()
with explained():
    steps = neighbours.steps(run.name, stamp)
lessons.first(f"neighbours {run.name}", steps[0].set)
lessons.look_at(steps, "neighbours")

if gone := pickers.missing("part", neighbours.PARTS, neighbours.GRAPH):
    say("info", f"This page has no view {gone}.")
part = st.segmented_control(
    "Show",
    neighbours.PARTS,
    key="part",
    required=True,
    help="Graph: one query and whom it listens to. The others are measurements over the whole set.",
)
if part == neighbours.LANDMARKS:
    neighbours_landmarks.show(run)
elif part == neighbours.COUNT:
    neighbours_lab.count(run)
elif part == neighbours.SIZE:
    neighbours_lab.size(run)
else:
    with explained("info"):
        cached.dataset(*cached.folder(cached.experiment(run.name, stamp)))
    neighbours_graph.show(neighbours.choose(run, stamp))
