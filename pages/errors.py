"""Why did this query fail, and is it one of many? Failures are tagged by rules on their numbers,
counted by camera and attribute, compared between runs, and re-ranked."""

import streamlit as st

from app import cached, cards, errors_inbox, pickers
from app.errors import VIEWS, Case
from app.notices import explained, heading

heading("Errors", __doc__)
run = pickers.run()
stamp = run.stamp()
if not run.has_embeddings:
    cards.no_embeddings(run)
    st.stop()
with explained():
    asked = cached.experiment(run.name, stamp)
    source = cached.folder(asked)
with explained("info"):
    cached.dataset(*source)
with explained():
    case = Case.of(run.name, stamp)

pickers.linked("errors", list(VIEWS), VIEWS[0])
view = st.segmented_control(
    "View", VIEWS, key="errors", required=True, label_visibility="collapsed"
)
if view == "Inbox":
    errors_inbox.show(run, case, source)
