"""Whom does the model take for whom? The gallery is ranked by its distance to the query, and the
protocol tells right from wrong. Every number here is computed from the same arrays as the pictures."""

import streamlit as st

from app import address, cached, cards, galleries, own, pickers, upload_picker, verdict
from app.components import query_strip, ranked_gallery
from app.notices import explained, heading

heading("Retrieval", __doc__)
run = pickers.run()
stamp = run.stamp()
if not run.has_embeddings:
    cards.no_embeddings(run)
    if not run.has_weights:
        address.stop()
with explained():
    asked = cached.experiment(run.name, stamp)

TEST, UPLOAD = "Test split", "Upload"
RANKS = ["10", "20", "50"]
bar = st.container(horizontal=True, vertical_alignment="bottom")
kind = own.KIND
if run.has_embeddings:
    kind = bar.segmented_control(
        "Query from",
        [TEST, UPLOAD, own.KIND],
        default=TEST,
        required=True,
        key="source",
        help=f"{UPLOAD}: a picture of yours, and the test split's gallery. {own.KIND}: a query and a "
        "gallery of yours, without any data set.",
    )
if kind == own.KIND:
    own.show(run, asked)
    address.stop()

with explained():
    found, scored = cached.embeddings(run.name, stamp), cached.evaluation(run.name, stamp)
source = cached.folder(asked)
with explained("info"):
    cached.dataset(*source)
with bar:
    order = pickers.order(run.name, stamp) if kind == TEST else None
pickers.linked("ranks", RANKS, RANKS[1])
count = int(bar.segmented_control("Ranks", RANKS, required=True, key="ranks"))
# Of a visitor's picture nobody knows who is on it, so that nothing is ignored.
ghosts = kind == TEST and bar.toggle(
    "Ghosts",
    key="ghosts",
    bind="query-params",
    help="Show what the protocol ignores: the same person under the same camera is too easy, and "
    "gets no rank.",
)
cards.refined(found, asked)

if kind == UPLOAD:
    picture = upload_picker.ask(run, asked, "A picture of one person")
    st.caption("Nothing is removed from the ranking, since nobody knows who is on it.")
    if not picture:
        address.stop()
    said = (picture.digest, picture.camera, picture.view)
    with explained():
        ranking = cached.ranked_upload(run.name, stamp, *said, picture.content)
        query = galleries.upload(picture, picture.image())
    verdict.show(run, asked, ranking, own=False)
else:
    labels, position = cached.labels(run.name, stamp), pickers.query(run.name, stamp)
    places = cached.order(run.name, stamp, order)
    items = galleries.strip(source, found, scored, labels, places, position)
    query_strip(items, key="strip", on_pick=lambda: pickers.pick_query("strip"))
    ranking = cached.ranked(run.name, stamp, position)
    row = found.query_rows[position]
    query = galleries.query(source, found, ranking, labels[position], row)

shown = galleries.shown(ranking, count, ghosts)
tiles = galleries.tiles(source, found, ranking, shown, judged=kind == TEST)
ranked_gallery(query, tiles, key="gallery")

cards.scores(scored, asked)
