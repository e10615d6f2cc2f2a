"""How far apart are two attention maps? Jensen-Shannon divergence between the orders, the layers and
the heads of a model, against uniform maps and shuffled tokens, for one picture and over a set."""

import streamlit as st

from app import address, cached, order_steps, orders, pickers, picture_picker, sharing, studies
from app.lessons import look_at
from app.notices import explained, heading
from app.order_figures import HERE, SET, TO_BOUND, TO_LARGEST, Lab
from app.order_steps import HEADS, LAYERS, MODES, ORDERS
from reid_core.analysis.orders import UNITS
from reid_core.studies.orders import ROWS

heading("Order lab", __doc__)
run = pickers.run()
stamp = run.stamp()
with explained():
    views = orders.views(run)
if not views:
    orders.elsewhere(run)

found = None
if run.has_embeddings and run.has_weights:
    found = studies.study(run, "orders", label="Measure over a set of queries", start=True)
pickers.linked("unit", list(UNITS), "nats")  # the steps speak of it before its widget stands
unit = st.session_state["unit"]
steps = order_steps.steps(found, cached.labels(run.name, stamp), unit) if found else []
order_steps.untouched(run.name, steps[0].set if steps else {})
if steps:
    look_at(steps, "divergence")

bar = st.container(horizontal=True, vertical_alignment="bottom")
view = orders.switch(bar, "Between", "between", views, views[0])
orders.switch(bar, "Unit", "unit", list(UNITS), "nats")
if view == MODES:
    sharing.show(run, found, unit)
    address.stop()
rows_place = bar.container(width="content")
picture = picture_picker.pick(run, bar)
with explained():
    numbers, tokens = cached.comparable(run.name, stamp, picture.who, picture.content)
rows = 1
if view != ORDERS and tokens and tokens.prefix:
    rows = ROWS.index(orders.switch(rows_place, "Rows", "rows", list(ROWS), ROWS[1]))
placed = st.container(horizontal=True, vertical_alignment="bottom")
boxes = placed.container(horizontal=True, width="content")
full = orders.switch(placed, "Range", "colours", [TO_LARGEST, TO_BOUND], TO_LARGEST) == TO_BOUND
of = orders.switch(placed, "Heat map of", "of", [HERE, SET], HERE) if found else HERE
lab = Lab(picture, found, unit, rows, of, full)
if view == ORDERS:
    orders.show_orders(lab, boxes)
elif view == LAYERS:
    orders.show_layers(lab, boxes, numbers, tokens)
elif view == HEADS:
    orders.show_heads(lab, boxes, numbers, tokens)
