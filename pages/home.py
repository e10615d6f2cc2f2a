"""Person re-identification asks: which of these pictures show the same person, seen by another
camera? Train models that answer it, look at whom they take for whom, and study what their attention
does. Everything runs on this machine; nothing is sent anywhere."""

import streamlit as st

from app import cached, cards, contents, galleries
from app.components import ranked_gallery
from app.notices import heading
from reid_core.runs import damaged_runs, list_runs

heading("ReID Attention Lab", __doc__)
runs = list_runs()
shown = cards.first_with_pictures(runs)

if shown:
    stamp, source = shown.stamp(), cached.folder(shown.experiment)
    found, scored = cached.embeddings(shown.name, stamp), cached.evaluation(shown.name, stamp)
    position = cards.typical(scored)
    ranking = cached.ranked(shown.name, stamp, position)
    label = cached.labels(shown.name, stamp)[position]
    query = galleries.query(source, found, ranking, label, found.query_rows[position])
    tiles = galleries.tiles(source, found, ranking, galleries.shown(ranking, 18, ghosts=False))
    with st.container(border=True):
        st.markdown(
            f"**A query and what `{shown.name}` ranks first**: of all queries the nearest to average."
        )
        ranked_gallery(query, tiles, key="hero", compact=True)
        contents.link("See every query", "retrieval", "arrow_forward", run=shown.name, query=label)

st.header("Look inside", anchor=False)
cards.inside(runs)

st.header("Runs", anchor=False)
cards.grid(runs)
if not runs and not damaged_runs():
    st.info("No run yet. A first training takes a few minutes on a laptop.", icon=":material/info:")
contents.link("Start a training", "train", "add", view="New training")

st.header("Whose is what", anchor=False)
papers, ours = st.columns(2, gap="large")
papers.markdown(cards.PAPERS)
ours.markdown(cards.OURS)
