"""Choose a model, a data set and a recipe, change what you like, and watch it learn. A training is a
process of its own: it goes on when you close this page, and any browser can watch it."""

from inspect import cleandoc

import streamlit as st

from app import forms, live, pickers
from app.access import WHY_NOT, training_allowed
from app.notices import explained, heading
from reid_core.data import DATASETS
from reid_core.experiment import Experiment
from reid_core.models import MODELS

OURS = {
    "paper": "The authors' recipe, as far as it is published; where it is not, the model's description "
    "says so. It expects a GPU and the paper's own data.",
    "demo": "Ours, not the paper's: small, from scratch, for a laptop and the synthetic pedestrians.",
}

heading("Train", __doc__)
live.problem()
allowed = training_allowed()
if not allowed:
    st.info(WHY_NOT, icon=":material/lock:")

VIEWS = ["Watch", "New training"]
pickers.linked("view", VIEWS, VIEWS[0] if st.session_state.get("run") else VIEWS[1])
view = st.segmented_control("View", VIEWS, required=True, key="view", label_visibility="collapsed")
if view == "Watch":
    live.watch(pickers.run())
    st.stop()

what, where, how = st.columns(3)
model = what.selectbox("Model", list(MODELS), format_func=lambda name: MODELS[name].title)
pickers.linked("dataset", list(DATASETS), next(iter(DATASETS)))
dataset = where.selectbox(
    "Data set", list(DATASETS), key="dataset", format_func=lambda name: DATASETS[name].title
)
recipe = how.selectbox("Recipe", sorted(MODELS[model].recipes), help="Every setting's first value.")
what.caption(MODELS[model].idea)
with what.popover("The model, and what of it is ours", icon=":material/menu_book:"):
    st.caption(MODELS[model].paper)
    st.markdown(cleandoc(MODELS[model].__doc__))
where.caption(DATASETS[dataset].about)
how.caption(OURS.get(recipe, "") + (f" {MODELS[model].other_sets}" if recipe == "paper" else ""))

folder, others, title = st.columns([2, 1, 1])
if allowed:
    pickers.typed("data")
data = folder.text_input(
    "Folder of the images",
    key="data",
    placeholder="the data set's own place",
    disabled=not allowed,
    help="A folder on the machine that runs this app. It is only ever read.",
)
more = others.multiselect(
    "Train on these too",
    [each for each in DATASETS if each != dataset],
    format_func=lambda name: DATASETS[name].title,
    help="Joined for training; queries and gallery stay those of the first. All lie in the folder.",
)
name = title.text_input("Name of the run", placeholder="chosen for you", max_chars=64)
settings = forms.settings(model, recipe)
asked = dict(model=model, recipe=recipe, dataset="+".join([dataset, *more]))
asked |= dict(data=data or None if allowed else None)
with explained():
    Experiment.create(**asked, settings=settings)
st.button(
    "Start the training",
    type="primary",
    icon=":material/play_arrow:",
    key="start",
    disabled=not allowed,
    on_click=live.act,
    args=("start",),
    kwargs=asked | dict(settings=settings, run=name or None),
)
