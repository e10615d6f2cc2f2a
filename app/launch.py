"""The form that starts a training, or a sweep of them."""

from inspect import cleandoc

import streamlit as st

from app import actions, address, forms, live, pickers, sweeps
from app.notices import explained, plain
from reid_core.data import DATASETS
from reid_core.errors import BadInput
from reid_core.experiment import Experiment
from reid_core.jobs.clones import difference
from reid_core.jobs.where import WHERE
from reid_core.models import MODELS
from reid_core.runs import open_run

LARGE = "It expects a GPU and the paper's own data."
DEMO = "Ours, not the paper's: small, from scratch, for a laptop and the synthetic pedestrians."


def form(allowed: bool) -> None:
    """Draw the form; allowed says whether the visitor may start anything."""
    source = _source(allowed)
    model, dataset, recipe = _what()
    data, more, name = _more(allowed, dataset)
    settings = forms.settings(model, recipe)
    asked = dict(model=model, recipe=recipe, dataset="+".join([dataset, *more]))
    asked |= dict(data=data or None if allowed else None)
    with explained():
        experiment = Experiment.create(**asked, settings=settings)
    if source:
        with explained():
            changes = difference(open_run(source).experiment, experiment)
        st.info(
            plain(f"Against {source}: {live.differences(changes)}"), icon=":material/content_copy:"
        )
    swept = sweeps.form(asked, settings, name)
    kept = dict(settings=settings) | _where()
    if swept is None:
        action, label = "start", "Start the training"
        more_asked = dict(run=name or None) | (dict(cloned_from=source) if source else {})
    else:
        action, label = "start_sweep", f"Queue {swept.pop('count')} trainings"
        more_asked = swept
    actions.problem(once=True)  # above the button, where whoever pressed it looks
    # Not a callback: it would be called with the form as it was drawn last, without what somebody
    # typed just before the click.
    if st.button(
        label, type="primary", icon=":material/play_arrow:", key="start", disabled=not allowed
    ):
        actions.act_next(action, **asked | kept | more_asked)


def _source(allowed: bool) -> str:
    """The run that the address says to clone, its experiment in the fields; "" without one."""
    name = address.get("clone", "")
    if not name:
        return ""
    try:
        source = open_run(name).experiment
    except BadInput as problem:
        st.warning(plain(str(problem)), icon=":material/warning:")
        return ""
    state = st.session_state
    if state.get("cloned") != name:
        state["cloned"] = name
        forms.fill(source)
        first, *others = source.dataset.split("+")
        state.update(model=source.model, recipe=source.recipe, dataset=first, more=others)
        state["data"] = (source.data or "") if allowed else ""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f":material/content_copy: A clone of **{plain(name)}**", width="content")
        st.button("Forget it", key="forget", type="tertiary", on_click=_forget)
    return name


def _forget() -> None:
    address.put("clone", None)
    st.session_state.pop("cloned", None)


def _what() -> tuple[str, str, str]:
    """Model, data set and recipe."""
    what, where, how = st.columns(3)
    pickers.linked("model", list(MODELS), next(iter(MODELS)))
    model = what.selectbox(
        "Model", list(MODELS), key="model", format_func=lambda name: MODELS[name].title
    )
    pickers.linked("dataset", list(DATASETS), next(iter(DATASETS)))
    dataset = where.selectbox(
        "Data set", list(DATASETS), key="dataset", format_func=lambda name: DATASETS[name].title
    )
    recipes = sorted(MODELS[model].recipes)
    pickers.linked("recipe", recipes, recipes[0])
    recipe = how.selectbox("Recipe", recipes, key="recipe", help="Every setting's first value.")
    what.caption(MODELS[model].idea)
    with what.popover("About the model", icon=":material/menu_book:"):
        st.caption(MODELS[model].paper)
        st.markdown(cleandoc(MODELS[model].__doc__))
    where.caption(DATASETS[dataset].about)
    net = MODELS[model]
    how.caption(f"{net.paper_recipe} {LARGE} {net.other_sets}" if recipe == "paper" else DEMO)
    return model, dataset, recipe


def _more(allowed: bool, dataset: str) -> tuple[str, list[str], str]:
    """The folder, data sets to join, the run's name."""
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
    joinable = [each for each in DATASETS if each != dataset]
    st.session_state["more"] = [
        each for each in st.session_state.get("more", []) if each in joinable
    ]
    more = others.multiselect(
        "Train on these too",
        joinable,
        key="more",
        format_func=lambda name: DATASETS[name].title,
        help="Joined for training; queries and gallery stay those of the first. All lie in the folder.",
    )
    name = title.text_input("Name of the run", placeholder="chosen for you", max_chars=64)
    return data, more, name


def _where() -> dict:
    """Where to train, and what that place wants to know."""
    pickers.linked("where", list(WHERE), next(iter(WHERE)))
    where = st.selectbox(
        "Where",
        list(WHERE),
        key="where",
        format_func=lambda name: WHERE[name].title,
        width=300,
        help="\n\n".join(f"{each.title}: {each.about}" for each in WHERE.values()),
    )
    asked = forms.place(where)
    return dict(where=where) | (dict(asked=asked) if asked else {})
