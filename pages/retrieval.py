"""Whom does the model take for whom? The gallery is ranked by its distance to the query, and the
protocol tells right from wrong. Every number here is computed from the same arrays as the pictures."""

import streamlit as st

from app import cached, charts, galleries, pickers, uploads
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
    upload, camera = st.columns([3, 1])
    file = upload.file_uploader("A picture of one person", uploads.TYPES, max_upload_size=10)
    known = sorted({int(number) for number in found.cameras if number > 0})
    camera = camera.selectbox(
        "Taken by camera",
        [None, *known],
        format_func=lambda number: str(number or "unknown"),
        key="camera",
    )
    st.caption(
        f"Camera {camera}: the picture takes that camera's embedding."
        if camera
        else "Unknown camera: the picture takes the mean camera embedding, and nothing is removed "
        "from the ranking."
    )
    if not file:
        st.stop()
    with explained():
        digest, image = uploads.picture(file.getvalue())
        ranking = cached.ranked_upload(run.name, stamp, digest, camera, image)
    about = [["Camera", str(camera or "unknown")], ["Pixels", f"{image.width} x {image.height}"]]
    query = dict(
        src=cached.data_url(image, 320), title=file.name, facts=about, caption="Your picture"
    )
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

st.subheader(f"All {scored.queries} queries", anchor=False)
numbers, chart = st.columns([2, 3], gap="large", vertical_alignment="center")
with numbers:
    left, right = st.columns(2)
    left.metric(
        "mAP", f"{scored.mAP:.3f}", help="Mean over the queries of their average precision."
    )
    right.metric("mINP", f"{scored.mINP:.3f}", help="How early the hardest true match is found.")
    left.metric("Rank-1", f"{scored.cmc[0]:.1%}", help="Queries whose first image is right.")
    right.metric("Rank-5", f"{scored.cmc[4]:.1%}", help="Queries with a right image among five.")
numbers.caption(
    f"{scored.valid_queries} of {scored.queries} queries have a true match among {scored.gallery} "
    f"gallery images; protocol: {scored.protocol}."
)
chart.plotly_chart(
    charts.cmc(scored.cmc, charts.colour(asked.model)),
    key="cmc",
    config=dict(displayModeBar=False),
    alt=f"Share of queries with a hit at each rank; {scored.cmc[0]:.0%} at rank 1",
)
