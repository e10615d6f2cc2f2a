"""The numbers of a run: under every protocol its embeddings can be judged by, with intervals over the
queries, and the distance below which two pictures count as one person."""

import streamlit as st

from app import cached, cards, pickers, scores
from app.notices import explained, heading

heading("Scores", __doc__)
run = pickers.run()
stamp = run.stamp()
if not run.has_embeddings:
    cards.no_embeddings(run)
    st.stop()
with explained():
    asked = cached.experiment(run.name, stamp)
    chosen = scores.protocol(run, stamp)
    scores.by_protocol(run, stamp, chosen)
    scores.verification(run, stamp, asked, chosen)
