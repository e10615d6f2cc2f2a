"""The page Order lab, run by Streamlit's own test harness without a browser."""

import json
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
import torch
from conftest import TINY
from streamlit.testing.v1 import AppTest

from app import charts, charts_orders, order_figures, order_maps, order_steps
from reid_core.analysis import orders
from reid_core.data import open_dataset
from reid_core.embed import embed_test
from reid_core.experiment import Experiment, knobs
from reid_core.look import look
from reid_core.models import Facts
from reid_core.runs import Run, build, open_run
from reid_core.studies import Study

MAIN = Path(__file__).resolve().parents[1] / "app" / "main.py"


@pytest.fixture(autouse=True)
def nothing_cached():
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture(autouse=True)
def no_processes(monkeypatch):
    """Studies are computed here and now, as far as a test asks for one."""

    def under_way(study: Study) -> None:
        (study.run.folder / "studies").mkdir(exist_ok=True)
        study.report("running")

    monkeypatch.setattr("reid_core.jobs.start_study", under_way)


def made(name: str, model: str = "ohformer", **settings) -> Run:
    """A run as a training would leave it, with weights drawn at random."""
    known = {knob.name for knob in knobs(model)}
    small = {key: value for key, value in (TINY | settings).items() if key in known}
    asked = Experiment.create(model=model, recipe="demo", settings=small, dataset="pedestrians")
    facts = Facts(5, (1, 2, 3), (0, 1))
    torch.manual_seed(0)
    run = Run.create(asked, facts, name, weights=build(asked, facts).state_dict())
    data = open_dataset("pedestrians", asked.data)
    run.keep_embeddings(embed_test(run.model(), asked, data))
    return run


def measure(run: Run) -> dict[str, np.ndarray]:
    return Study.asked(run, "orders").compute()


def opened(**address: str) -> AppTest:
    app = AppTest.from_file(str(MAIN), default_timeout=240)
    for key, value in address.items():
        app.query_params[key] = value
    app.run()
    app.switch_page("../pages/divergence.py").run()
    assert not app.exception
    return app


def said(app: AppTest) -> str:
    return " ".join(each.value for each in (*app.error, *app.warning, *app.info, *app.caption))


def maps(app: AppTest) -> dict:
    found = [node.proto for node in app.get("bidi_component")]
    return json.loads(next(each.json for each in found if each.component_name == "pictures"))


def test_a_transformer_opens_on_its_layers(tiny_run):
    measure(open_run(tiny_run))
    app = opened()
    assert not app.error
    assert app.title[0].value == "Order lab"
    assert app.session_state["between"] == "Layers"
    assert {app.selectbox(key="layer").value, app.selectbox(key="against").value} == {"1", "2"}
    assert app.query_params["query"] == app.selectbox(key="query").value


def test_the_number_in_the_caption_is_that_of_the_maps(tiny_run):
    run = open_run(tiny_run)
    measure(run)
    app = opened(between="Layers", layer="1", against="2")
    found = run.embeddings()
    names = [str(name).rsplit("/", 1)[-1] for name in found.names[found.query_rows]]
    row = found.query_rows[names.index(app.selectbox(key="query").value)]
    root = open_dataset("pedestrians", run.experiment.data).root
    seen = look(
        run.model(),
        run.experiment,
        [root / str(found.names[row])],
        [int(found.cameras[row])],
        [int(found.views[row])],
        kinds=("attention",),
    )
    layers = orders.over_heads(list(orders.comparable(seen).values()))
    slow = orders.between(layers)[0, 0, 1].mean()
    assert f"Chosen cell: {charts.fine(float(slow))} nats" in said(app)
    token = int(orders.between(layers)[0, 0, 1, 1:].argmax()) + 1
    drawn = np.array(maps(app)["tiles"][1]["map"]).ravel()
    assert np.allclose(drawn, layers[0, 0, token, 1:], rtol=1e-3, atol=1e-6)
    assert (
        f"{charts.fine(float(orders.between(layers)[0, 0, 1, token]))}"
        in maps(app)["tiles"][3]["note"]
    )


def test_orders_open_on_the_largest_gap_and_steps_set_the_widgets(runs):
    run = made("high", depth=4, parts=2)
    found = measure(run)
    app = opened(run="high")
    image, place, head = np.unravel_index(found["js"].argmax(), found["js"].shape)
    assert app.session_state["between"] == "Orders"
    assert app.selectbox(key="head").value == str(head + 1)
    assert app.selectbox(key="pair").value == f"layer {found['pair'][place][0]}, order 2"
    assert (
        app.selectbox(key="query").options.index(app.selectbox(key="query").value)
        == found["query"].tolist()[image]
    )
    assert f"Chosen cell: {charts.fine(found['js'][image, place, head])} nats" in said(app)
    draws = found["shuffled"][
        :, image, place, head
    ]  # the step's words and the caption's, one array
    assert (
        f"shuffled tokens {charts.fine(draws.mean())} (mean of the {len(draws)} shuffles of this picture in the study"
        in said(app)
    )
    first = order_steps.steps(found, app.selectbox(key="query").options, "nats")[0]
    assert f"{charts.fine(draws.mean(), 3)} apart (mean of {len(draws)} shuffles" in first.text
    app.button(key="divergence step 2").click().run()
    assert app.session_state["between"] == "Heads" and not app.exception
    assert app.selectbox(key="one").value != app.selectbox(key="other").value
    text = " ".join(each.value for each in app.markdown)
    apart = found["between_heads"][..., 1].mean(axis=0).max()
    assert f"{charts.fine(apart)} nats ({apart / np.log(2):.1%} of the bound)" in text
    app.segmented_control(key="unit").set_value("bits").run()  # the step stays, and says the same
    text = " ".join(each.value for each in app.markdown)
    assert f"{charts.fine(apart / np.log(2))} bits ({apart / np.log(2):.1%} of the bound)" in text
    assert "nats (" not in text


def test_heads_open_on_two_heads_whatever_head_the_orders_show(runs):
    measure(made("high", depth=4, parts=2))
    app = opened(run="high", between="Orders", head="2")
    assert app.selectbox(key="head").value == "2"
    app.session_state["between"] = "Heads"
    app.run()
    assert not app.exception
    assert (app.selectbox(key="one").value, app.selectbox(key="other").value) == ("1", "2")


def boxes(app: AppTest, *keys: str) -> tuple[str, ...]:
    return tuple(app.selectbox(key=key).value for key in keys)


def test_layers_never_open_on_one_against_itself(runs):
    """However the first one came to be what the second is by default, or was before."""
    made("deep", model="transreid", depth=4, parts=2)
    app = opened(run="deep", between="Layers")
    last = app.selectbox(key="layer").options[-1]
    assert boxes(app, "layer", "against") == ("1", last)
    app.session_state["between"] = "Heads"
    app.run()
    app.selectbox(key="layer").select(last).run()
    app.session_state["between"] = "Layers"
    app.run()
    assert not app.exception and boxes(app, "layer", "against") == (last, "1")
    assert boxes(opened(run="deep", between="Layers", layer=last), "layer", "against") == (
        last,
        "1",
    )
    assert boxes(opened(run="deep", between="Layers", against="1"), "layer", "against") == (
        last,
        "1",
    )
    assert boxes(opened(run="deep", between="Heads", one="2"), "one", "other") == ("2", "1")


def test_a_link_may_set_a_layer_against_itself(runs):
    made("deep", model="transreid", depth=4, parts=2)
    app = opened(run="deep", between="Layers", layer="2", against="2")
    assert boxes(app, "layer", "against") == ("2", "2")
    app.selectbox(key="against").select("1").run()
    app.selectbox(key="against").select("2").run()
    assert not app.exception and boxes(app, "layer", "against") == ("2", "2")


def test_a_link_to_a_query_that_is_not_here_says_so(tiny_run):
    app = opened(query="nobody.jpg")
    assert "has no query nobody.jpg" in said(app)


def test_a_link_wins_over_the_preset(runs):
    measure(made("high", depth=4, parts=2))
    app = opened(run="high", between="Heads", unit="bits", rows="class token", layer="3")
    assert app.session_state["between"] == "Heads"
    assert app.selectbox(key="layer").value == "3" and " bits" in said(app)
    assert "the row of the class token" in said(app)


def test_a_click_opens_a_cell_a_token_or_a_query(tiny_run, monkeypatch):
    """What the browser sends, and what the widgets of the next run are set to."""
    labels = ["1", "2", "3"]
    points = lambda *data: {"selection": {"points": [{"customdata": each} for each in data]}}  # noqa: E731
    state = {
        "divergence-matrix": points([2, 0]),
        "divergence-ruler": points([3]),
        "divergence-maps": {"picked": {"tile": 1, "row": 1, "column": 0}},
    }
    monkeypatch.setattr(order_figures.st, "session_state", state)
    order_figures._take_cell(("layer", labels), ("against", labels))
    order_maps._take_token([f"row {r}, column {c}" for r in (1, 2, 3) for c in (1, 2)])
    monkeypatch.setattr(order_figures.cached, "labels", lambda run, stamp: list("abcde"))
    order_figures._take_query("tiny", 0)
    chosen = {key: state[key] for key in ("layer", "against", "token", "query")}
    assert chosen == dict(layer="3", against="1", token="row 2, column 1", query="d")
    state["divergence-matrix"] = points()  # a click beside the cells
    order_figures._take_cell(("layer", labels), ("against", labels))
    assert state["layer"] == "3"


def test_without_a_measured_set_one_picture_is_shown(tiny_run):
    app = opened()
    assert "Chosen cell" in said(app) and not app.error
    assert "of" not in app.session_state


def test_sharing_modes_stand_side_by_side(runs):
    shared, own = (made(name, sharing=name, depth=3, parts=2) for name in ("shared", "independent"))
    measure(shared), measure(own)
    app = opened(run="shared", between="Sharing modes")
    assert not app.error and "0 by construction" in said(app)
    frame = app.dataframe[0].value
    assert list(frame.columns) == ["", "shared", "independent"]
    cells = frame.set_index("").T
    assert cells.loc["shared", "JS to order 1, nats"] == "0.0000 (0.0000 to 0.0000)"
    assert cells.loc["independent", "JS to order 1 times its learned weights, nats"] == "none"
    count = sum(each.numel() for each in own.model().parameters())
    assert cells.loc["independent", "Parameters"] == f"{count:,}"


def test_sharing_modes_follow_each_measurement_once(runs):
    """The page itself follows its run's; the others have theirs."""
    made("shared", sharing="shared", depth=3, parts=2)
    made("independent", sharing="independent", depth=3, parts=2)
    app = opened(run="shared", between="Sharing modes")
    assert not app.exception and "let its maps be measured" in said(app)
    names = [each.label for each in app.button] + [each.proto.text for each in app.get("progress")]
    assert sum("Measure over a set of queries" in each for each in names) == 1
    assert sum("Measure the orders of independent" in each for each in names) == 1
    assert not any("Measure the orders of shared" in each for each in names)


def test_a_run_without_maps_offers_those_that_have(tiny_run):
    made("gates", "rga")
    app = opened(run="gates")
    assert "no two attention maps" in said(app) and not app.error
    assert app.selectbox(key="run").value == "gates"
    links = [link.proto.label for link in app.get("page_link")]
    assert tiny_run in links


def test_a_run_without_data_or_embeddings(tiny_run, runs):
    (runs / tiny_run / "embeddings.npz").unlink()
    assert not opened().error


def test_figures_end_at_the_bound():
    line = charts_orders.Line("a", np.array([0.1, 0.2]), (0.1, 0.2), 0.15, 0.3, (0.2, 0.25))
    about = dict(bound=orders.BOUND, unit="nats", colour="#000")
    figure = charts_orders.ruler([line], [3, 8], **about, full=True)
    assert figure.layout.shapes[0].x0 == orders.BOUND
    assert figure.layout.xaxis.range[1] >= orders.BOUND
    assert figure.data[0].customdata == ([3], [8]) or list(figure.data[0].customdata) == [[3], [8]]
    cells = charts_orders.matrix(
        np.eye(2), "ab", "ab", np.full((2, 2), "x", object),
        axes=("", ""), limit=1.0, chosen=(0, 1), unit="bits",
    )  # fmt: skip
    assert [list(each) for each in cells.data[-1].customdata] == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert cells.data[0].zmax == 1.0


def test_a_ruler_shows_its_images_and_names_the_bound_in_words():
    about = dict(bound=orders.BOUND, unit="nats", colour="#000")
    near = charts_orders.Line("a", np.array([0.1, 0.2]), (0.1, 0.2), 0.15, 0.3, (0.2, 0.25))
    far = charts_orders.Line("a", np.array([0.001, 0.009]), (0.001, 0.009), 0.01, 0.3, (0.2, 0.25))
    none = charts_orders.Line("a", np.zeros(2), (0.0, 0.0), 0.0, 0.0, (0.0, 0.0))
    axes = [charts_orders.ruler([line], [3, 8], **about).layout.xaxis for line in (near, far, none)]
    assert [axis.type for axis in axes] == [None, "log", None]
    assert 0.3 <= axes[0].range[1] < 0.32 and axes[2].range[1] >= orders.BOUND
    assert axes[1].range[0] < np.log10(0.001) and axes[1].range[1] > np.log10(0.3)
    assert all("ln 2 = 0.693" in axis.title.text for axis in axes)
    assert "logarithmic" in axes[1].title.text


def test_a_histogram_ends_with_its_rows_and_tells_what_lies_beyond():
    marks = dict(mean=(0.01, "#000"), shuffled=(0.3, "#000"))
    counts = np.array([8, 2] + 98 * [0])
    figure = charts_orders.histogram(counts, orders.BOUND, marks, unit="nats", colour="#000")
    assert 0.02 * orders.BOUND < figure.layout.xaxis.range[1] < 0.04 * orders.BOUND
    assert [each.name for each in figure.data[1:]] == ["mean", "shuffled: 0.300, beyond the axis"]
    full = charts_orders.histogram(
        counts, orders.BOUND, marks, unit="nats", colour="#000", full=True
    )
    assert full.layout.xaxis.range[1] > orders.BOUND and full.data[2].name == "shuffled"


@pytest.mark.parametrize(
    "value, digits, said",
    [
        *((0, 4, "0.0000"), (0.0123, 4, "0.0123"), (3.12e-6, 4, "3.1e-6"), (-2e-12, 4, "-2.0e-12")),
        *((0.002, 3, "0.002"), (0.0008, 3, "8.0e-4"), (0.004, 2, "4.0e-3"), (0.01, 2, "0.01")),
        (np.nan, 4, "nan"),
    ],
)
def test_a_small_number_is_no_zero(value, digits, said):
    assert charts.fine(value, digits) == said


@pytest.mark.parametrize("shares", [(1, 0.7), (0, 0.2), (0.1, 0.9)])  # bright, dark, either
def test_cells_of_one_brightness_have_a_colour_bar(shares):
    values = np.array([shares]) * 3e-6
    about = dict(axes=("a", "b"), limit=3e-6, chosen=None, unit="bits")
    figure = charts_orders.matrix(values, "a", "ab", np.full((1, 2), ""), **about)
    [bar] = (each for each in figure.data[:2] if each.showscale)
    assert np.isfinite(bar.z).any() and (bar.zmin, bar.zmax) == (0, 3e-6)


@pytest.mark.parametrize("count, numbers", [(4, True), (12, False)])
def test_cells_of_a_deep_model_have_no_room_for_numbers(count, numbers):
    names, values = [str(each) for each in range(count)], np.full((count, count), 0.3)
    about = dict(axes=("a", "b"), limit=1.0, chosen=None, unit="nats")
    figure = charts_orders.matrix(values, names, names, np.full((count, count), ""), **about)
    said = {text for cells in figure.data[:2] for row in cells.text for text in row}
    assert said == ({"", ".300"} if numbers else {""})
    assert figure.data[-1].marker.size == (30 if numbers else 12)  # what a click may hit
