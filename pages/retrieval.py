"""Whom does the model take for whom? The gallery is ranked by its distance to the query, and the
protocol tells right from wrong. Every number here is computed from the same arrays as the pictures."""

import streamlit as st

from app import cached, cards, galleries, pickers
from app.components import query_strip, ranked_gallery
from app.notices import explained, heading

heading("Retrieval", __doc__)
run = pickers.run()
stamp = run.stamp()
if not run.has_embeddings:
    st.info(
        "This run has no embeddings yet: they come with its first evaluation. Watch it on the page "
        "Train, or choose another run on the left.",
        icon=":material/hourglass_top:",
    )
    st.stop()
with explained():
    found, scored = cached.embeddings(run.name, stamp), cached.evaluation(run.name, stamp)
    asked = cached.experiment(run.name, stamp)
source = cached.folder(asked)
with explained("info"):
    cached.dataset(*source)

OWN = "Upload"
bar = st.container(horizontal=True, vertical_alignment="bottom")
kind = bar.segmented_control(
    "Query from", ["Test split", OWN], default="Test split", required=True, key="source"
)
with bar:
    order = pickers.order(run.name, stamp) if kind != OWN else None
count = bar.segmented_control(
    "Ranks", [10, 20, 50], default=20, required=True, key="ranks", bind="query-params"
)
ghosts = bar.toggle(
    "Ghosts",
    key="ghosts",
    bind="query-params",
    help="Show what the protocol ignores: the same person under the same camera is too easy, and "
    "gets no rank.",
)

if kind == OWN:
    name, digest, image, camera = pickers.upload(run.facts.cameras if asked.knows_cameras else ())
    with explained():
        ranking = cached.ranked_upload(run.name, stamp, digest, camera, image)
    query = galleries.upload(name, image, camera)
else:
    position = pickers.query(run.name, stamp)
    labels = cached.labels(run.name, stamp)
    places = cached.order(run.name, stamp, order)
    items = galleries.strip(source, found, scored, labels, places, position)
    query_strip(items, key="strip", on_pick=lambda: pickers.pick_query("strip"))
    ranking = cached.ranked(run.name, stamp, position)
    row = found.query_rows[position]
    query = galleries.query(source, found, ranking, labels[position], row)

shown = galleries.shown(ranking, count, ghosts)
tiles = galleries.tiles(source, found, ranking, shown, judged=kind != OWN)
ranked_gallery(query, tiles, key="gallery")

cards.scores(scored, asked)
