"""Why did this query fail, and is it one of many? Failures are tagged by rules on their numbers,
counted by camera and attribute, compared between runs, and re-ranked."""

import streamlit as st

from app import (
    address,
    cached,
    cards,
    errors_inbox,
    errors_lessons,
    errors_rerank,
    errors_runs,
    errors_tables,
    lessons,
    pickers,
)
from app.errors import VIEWS, Case
from app.notices import explained, heading

heading("Errors", __doc__)
run = cards.tested()
stamp = run.stamp()
with explained():
    asked = cached.experiment(run.name, stamp)
    source = cached.folder(asked)
with explained("info"):
    cached.dataset(*source)
with explained():
    case = Case.of(run.name, stamp)

steps = errors_lessons.steps(run, case)
if "query" not in address.names() and not pickers.chosen("query"):  # else that one is opened
    lessons.first("errors", steps[0].set)
lessons.look_at(steps, "errors")
pickers.linked("errors", list(VIEWS), VIEWS[0])
bar = st.container(horizontal=True, vertical_alignment="center")
view = bar.segmented_control(
    "View", VIEWS, key="errors", required=True, label_visibility="collapsed"
)
if view == "Inbox":
    errors_inbox.show(run, case, source, bar)
elif view == "Tables":
    errors_tables.show(case, asked)
elif view == "Runs":
    errors_runs.show(run, case, bar)
else:
    errors_rerank.show(run, case, asked, source)
