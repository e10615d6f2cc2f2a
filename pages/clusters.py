"""All embeddings of the test split as a map: who lies with whom, which images lie among strangers and
why, and how far the map itself can be believed."""

import streamlit as st

from app import (
    address,
    cached,
    cards,
    clusters,
    clusters_behind,
    clusters_lesson,
    clusters_views,
    lessons,
    pickers,
    studies,
)
from app.notices import explained, heading

heading("Clusters", __doc__)
run = cards.tested()
stamp = run.stamp()
with explained():
    asked, found = cached.experiment(run.name, stamp), cached.embeddings(run.name, stamp)
source = cached.folder(asked)

lesson = st.container()
lessons.first(f"clusters {run.name}", clusters_lesson.opening(found.encoded is not None))
settings, colour = clusters_views.settings(run, found)
by_itself = len(found.names) <= clusters.BY_ITSELF
label = f"Map {len(found.names):,} embeddings"
maps = studies.study(run, "projection", label=label, start=by_itself, **settings)
if maps is None:
    address.stop()
with explained():
    view = clusters.shown(run, found, settings, maps)
lessons.first(f"clusters query {run.name}", clusters_lesson.preset(view))
with lesson:
    lessons.look_at(clusters_lesson.steps(view), "clusters")

position = pickers.query(run.name, stamp)
row = clusters.picked_row(view, position)
left, right = st.columns([4, 1], gap="medium")
with left:
    rows = clusters_views.the_map(view, colour, row)
with right:
    clusters_views.picked(view, source, row)
clusters_views.lassoed(view, source, rows, row)
st.subheader("What is true behind the map", anchor=False)
clusters_behind.keeps(view)
left, right = st.columns(2, gap="medium")
with left:
    clusters_behind.distances(view)
with right:
    clusters_behind.distribution(view)
st.subheader("Images that lie among strangers", anchor=False)
clusters_behind.worst(view)
