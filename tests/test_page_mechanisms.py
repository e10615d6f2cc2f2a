"""Gates, Orders, Why similar, On the person and Deletion on the page Attention, without a browser."""

import json
import shutil
import time

import numpy as np
import pytest
import streamlit as st
from test_app import captions, imported, jpeg, opened, said

from app import cached, mechanisms_orders, passes
from app import charts_mechanisms as charts
from app.cached import mechanism_views
from app.mechanisms import at, places
from reid_core.analysis.costs import seconds_a_pass
from reid_core.analysis.maps import place
from reid_core.data.masks import IDS, outline
from reid_core.models.base import Tokens
from reid_core.runs import open_run
from reid_core.studies import Stopped, Study


@pytest.fixture(autouse=True)
def nothing_cached(monkeypatch):
    """And a quick machine, however busy this one is."""
    st.cache_resource.clear()
    st.cache_data.clear()
    monkeypatch.setattr("app.cached.pass_seconds", lambda run, stamp: 0.0)


def figures(app) -> list[dict]:
    """What every figure of pictures on a page was given to draw."""
    found = [
        each.proto for each in app.get("bidi_component") if each.proto.component_name == "pictures"
    ]
    return [json.loads(each.json) for each in found]


def trained(model: str, name: str, **settings) -> str:
    """A run of a model on the small data, as an import would leave it, with its test split embedded."""
    from reid_core.__main__ import main

    imported(name, model, **settings)
    assert main(["evaluate", name, "--dataset", "pedestrians"]) == 0
    return name


def test_every_picture_of_why_similar_and_its_numbers(tiny_run):
    app = opened("attention", run=tiny_run, lens="Why similar")
    drawn = figures(app)[-1]
    assert [tile["label"] for tile in drawn["tiles"]] == ["query", "gallery image"]
    numbers = {each.label: float(each.value) for each in app.metric}
    assert numbers["unexplained"] == pytest.approx(
        numbers["similarity s"] - numbers["sum of pairs"], abs=2e-3
    )
    summed = np.sum(drawn["tiles"][0]["map"])
    assert numbers["sum of positions"] == pytest.approx(summed, abs=1e-3)
    assert 0 < len(drawn["links"]) <= 12
    app.session_state["patch"] = "query 1-1"
    app.run()
    assert not app.exception
    again = figures(app)[-1]
    assert again["tiles"][0]["picked"] == [0, 0]
    assert all(link["from"] == [0, 0, 0] for link in again["links"])
    app.button(key="answer first wrong one").click().run()
    assert not app.exception and app.session_state["answer"] == "first wrong one"


def test_a_study_of_a_quick_model_does_not_promise_no_time(tiny_run):
    said_of_it = captions(opened("attention", run=tiny_run, lens="On the person"))
    assert "take less than a second" in said_of_it and "libraries" in said_of_it
    assert "about 0 s" not in said_of_it
    for page, more in dict(
        attention=dict(lens="Deletion"), frequency=dict(part="What is lost")
    ).items():
        said_of_it = captions(opened(page, run=tiny_run, **more))
        assert "passes of this model, less than a second on this machine." in said_of_it, page


def test_the_map_that_is_shown_first_and_why(tiny_run, runs):
    """It is named with its layer, also for a run beside whose maps have other names."""
    trained("rga", "gated", size="64x32", width=8, trunk="resnet10t")
    app = opened("attention", run=tiny_run, lens="On the person", beside="gated")
    shown = [each["tiles"][0]["label"] for each in figures(app)]
    assert shown[0] == app.selectbox(key="map").value and shown[1].startswith("stage ")
    assert captions(app).count("largest share on the person") == 2
    others = [each for each in app.selectbox(key="map").options if each != shown[0]]
    app.selectbox(key="map").select(others[0]).run()
    assert not app.exception and figures(app)[0]["tiles"][0]["label"] == others[0]
    assert captions(app).count("largest share on the person") == 1


def test_a_run_beside_with_other_maps_has_a_choice_of_its_own(tiny_run, runs):
    """It stands in the address as well; runs whose maps have the same names share one choice."""
    trained("rga", "gated", size="64x32", width=8, trunk="resnet10t")
    app = opened("attention", run=tiny_run, lens="On the person", beside="gated")
    box = app.selectbox(key="map beside")
    left, other = app.selectbox(key="map").value, next(o for o in box.options if o != box.value)
    box.select(other).run()
    assert not app.exception
    assert [each["tiles"][0]["label"] for each in figures(app)] == [left, other]
    address = {key: app.query_params[key] for key in ("map", "map beside")}
    again = opened("attention", run=tiny_run, lens="On the person", beside="gated", **{
        key: value[0] if isinstance(value, list) else value for key, value in address.items()
    })  # fmt: skip
    assert [each["tiles"][0]["label"] for each in figures(again)] == [left, other]
    shutil.copytree(runs / tiny_run, runs / "twin")
    app = opened("attention", run=tiny_run, lens="On the person", beside="twin")
    box, last = app.selectbox(key="map"), app.selectbox(key="map").options[-1]
    box.select(last).run()
    assert [each["tiles"][0]["label"] for each in figures(app)] == [last] * 2
    follows = [(each.value, each.disabled) for each in app.selectbox if each.label == "Map"]
    assert not app.exception and follows == [(last, False), (last, True)]


def test_the_person_and_its_parts(tiny_run):
    app = opened("attention", run=tiny_run, lens="On the person")
    drawn = figures(app)[-1]
    assert "% on the person" in drawn["tiles"][0]["note"]
    assert "divided by what they have of it" in captions(app)
    study = Study.asked(open_run(tiny_run), "shares", {"images": 32}).compute()
    assert study["share"].shape[1:] == (len(study["probes"]), len(study["parts"]))
    whole = study["share"][:, :, 0] + np.nansum(study["share"][:, :, -3:], axis=2)
    assert np.allclose(whole, 1)  # the person, what hides it, and what lies behind
    app.session_state["share images"] = "32"
    app.run()
    assert not app.exception and "95 % intervals over images" in captions(app)


def test_deletion_and_its_study(tiny_run):
    app = opened("attention", run=tiny_run, lens="Deletion")
    notes = [tile["note"] for tile in figures(app)[-1]["tiles"]]
    assert "squared norm of the embedding" in captions(app)
    assert "divided by what they have of it" in captions(app)
    assert len(notes) >= 4 and all(note.startswith("area ") for note in notes)
    asked = Study.asked(open_run(tiny_run), "deletion", {"images": 8})
    study = asked.compute()
    assert np.allclose(study["curves"][0, ..., 0], 1) and np.allclose(
        study["curves"][1, ..., -1], 1
    )
    assert study["areas"].shape == (2, 8, len(study["methods"]))
    app.session_state["deletion images"] = "8"
    app.run()
    assert not app.exception
    table = app.dataframe[-1].value
    assert set(table["verdict"]) <= {"better than random", "worse than random", "like random"}


def test_gates_of_rga_and_of_what_it_is_compared_with(runs):
    trained("rga", "gated", size="64x32", width=8, trunk="resnet10t")
    app = opened("attention", run="gated", lens="Gates", stage="stage 4")
    assert "attention=cbam" in captions(app)
    spatial, relations, made = figures(app)
    assert len(spatial["tiles"]) == 4 and len(relations["tiles"]) == 2
    assert made["tiles"][1]["map"] == spatial["tiles"][3]["map"]  # the gate itself
    assert [tile["label"] for tile in made["tiles"]] == [
        *("own feature", "gate", "by own feature alone", "by relations alone")
    ]
    assert np.shape(relations["tiles"][0]["map"]) == tuple(open_run("gated").model().grid)
    trained("rga", "block", size="64x32", width=8, trunk="resnet10t", attention="cbam")
    app = opened("attention", run="block", lens="Gates")
    assert len(figures(app)) == 1 and "rga: gated" in captions(app)
    trained("rga", "global", size="64x32", width=8, trunk="resnet10t", attention="nl")
    app = opened("attention", run="global", lens="Gates")
    (rows,) = figures(app)
    assert np.sum(rows["tiles"][0]["map"]) == pytest.approx(1, abs=1e-3)
    assert "attended to most" in captions(app) and "most open" not in captions(app)
    app = opened("attention", run="block", lens="Gates", beside="gated")  # which has stages, alone
    app.segmented_control(key="stage").set_value("stage 2").run()
    assert not app.exception and "Stage 2, the most open" in captions(app)


def test_the_simplified_non_local_map_is_no_gate(runs):
    """It sums to 1, is told on each stage's own scale, and stands beside RGA's gates."""
    trained("rga", "simple", size="64x32", width=8, trunk="resnet10t", attention="snl")
    app = opened("attention", run="simple", lens="Gates")
    (maps,) = figures(app)
    assert [np.sum(tile["map"]) for tile in maps["tiles"]] == pytest.approx([1] * 4, abs=2e-3)
    assert {tile["scale"] for tile in maps["tiles"]} == {"own"}
    assert "softmax" in captions(app) and "sigmoid" not in captions(app)
    app = opened("attention", run="simple", lens="On the person")
    assert any("pooling map" in name for name in app.selectbox(key="map").options)
    trained("rga", "gated", size="64x32", width=8, trunk="resnet10t")
    app = opened("attention", run="gated", lens="Gates", beside="simple")
    assert not app.exception and len(figures(app)) == 4
    assert "softmax" in captions(app) and "sigmoid" in captions(app)


def test_a_picture_that_is_gone_is_told(runs, tmp_path):
    """The data set was made anew, with other people: its folder is there, the picture is not."""
    run = open_run(trained("rga", "gated", size="64x32", width=8, trunk="resnet10t"))
    name = run.embeddings().names[run.embeddings().query_rows[0]]
    file = cached.dataset(*cached.folder(run.experiment)).root / str(name)
    label = cached.labels("gated", run.stamp())[0]
    content = file.read_bytes()
    file.unlink()
    try:
        for page, more in dict(attention=dict(lens="Gates"), frequency={}).items():
            app = opened(page, run="gated", query=label, **more)
            assert not app.exception and "which is gone" in said(app), page
    finally:
        file.write_bytes(content)


def test_a_slow_model_is_asked_about_fewer_queries(tiny_run, monkeypatch):
    stamp, found = open_run(tiny_run).stamp(), {}
    for seconds in (1e-9, 1e9):
        monkeypatch.setattr(mechanism_views, "pass_seconds", lambda *_, each=seconds: each)
        found[seconds] = mechanism_views.few_queries(tiny_run, stamp)
    assert len(found[1e9]) == 4 < len(found[1e-9]) <= 24
    assert found[1e9][-1] == found[1e-9][-1]


@pytest.mark.parametrize("sharing", ["prior-mixed", "weighted", "independent"])
def test_orders_side_by_side(runs, sharing):
    trained("ohformer", "ordered", size="64x48", depth=3, parts=2, sharing=sharing, orders=3)
    app = opened("attention", run="ordered", lens="Orders")
    assert not app.exception
    orders, offsets = figures(app)
    assert len(orders["tiles"]) == (4 if sharing == "independent" else 5)
    first, high, difference = (np.array(tile["map"]) for tile in orders["tiles"][:3])
    assert first.sum() == pytest.approx(1, abs=1e-3) and high.sum() == pytest.approx(1, abs=1e-3)
    assert np.allclose(difference, high - first, atol=1e-4)
    assert len(offsets["tiles"][0]["arrows"]) == 9
    ends = np.array(offsets["tiles"][0]["arrows"])[:, 2:]
    beyond = ((ends < 0) | (ends > (48, 64))).any(axis=1).sum()
    assert f"{beyond} of them outside the image" in captions(app)
    assert ("learns no prior" in captions(app)) == (sharing == "independent")
    assert ("The mode weighted is ours" in captions(app)) == (sharing == "weighted")
    told = [tile["label"] for tile in orders["tiles"][4:]]
    assert told == {
        "prior-mixed": ["learned prior P"],
        "weighted": ["learned weights P (ours)"],
    }.get(sharing, [])


def test_orders_open_where_the_arrows_are_seen():
    js, beyond = np.array([0.9, 0.2, 0.3, 0.1]), np.array([3, 0, 0, 0])
    assert mechanisms_orders._first(js, beyond) == 2
    assert mechanisms_orders._first(js, np.full(4, 2)) == 0


def test_two_runs_side_by_side(tiny_run, runs):
    trained("resnet-bot", "plain", size="64x32", width=8, trunk="resnet10t")
    for lens in ("Why similar", "On the person", "Deletion"):
        app = opened("attention", run=tiny_run, lens=lens, beside="plain")
        assert not app.exception and len(figures(app)) == 2, lens


def test_a_run_without_a_test_split_says_so(tiny_run):
    (open_run(tiny_run).folder / "embeddings.npz").unlink()
    app = opened("attention", run=tiny_run, lens="Why similar")
    assert not app.exception and not said(app).startswith("Traceback")


def test_probes_in_words():
    assert place("trunk.blocks.1.orders.2.attention") == "layer 2, order 2"
    assert place("attentions.layer3.spatial_gate") == "stage 3"
    assert place("global_layer.0.attn.attention") == "last layer"
    assert place("high_frequency") == "high frequency"
    tokens = Tokens((3, 2))
    assert [at(each) for each in places(tokens)] == [(r, c) for r in range(3) for c in range(2)]


def test_figures_draw_what_they_are_given():
    line = charts.Line("a", [0, 1], np.array([0.1, 0.2]), np.array([0, 0.1]), np.array([0.2, 0.3]))
    figure = charts.bands([line, charts.Line("b", [0, 1], np.zeros(2), quiet=True)], "x", "y")
    assert [trace.name for trace in figure.data if trace.name] == ["a", "b"]
    figure = charts.parts(["a", "b"], np.array([0.2, 0.8]), np.array([0.5, 0.5]))
    assert [list(trace.x) for trace in figure.data] == [[0.2, 0.8], [0.5, 0.5]]
    figure = charts.gates(["one"], [np.array([0.1, 0.9, 0.5])])
    assert list(figure.data[0].y) == [0.9, 0.5, 0.1]
    assert list(figure.data[0].customdata) == [2, 3, 1]


def test_the_outline_follows_the_mask(tiny_data):
    image = next((tiny_data / "query").glob("*.jpg"))
    inside = np.zeros((16, 8), bool)
    inside[4:12, 2:6] = True
    drawn = np.asarray(outline(image, inside))
    assert drawn.shape == (64, 32, 3)
    white = (drawn == 255).all(axis=-1)
    assert white[15:17, 8:24].all() and not white[24:40, 12:20].all()
    assert IDS["background"] == 0


def test_a_visitors_picture_has_a_nearest_image_and_no_mask(tiny_run):
    for lens in ("Why similar", "On the person", "Deletion"):
        app = opened("attention", run=tiny_run, lens=lens)
        app.segmented_control(key="from").set_value("Upload").run()
        app.file_uploader[0].upload("somebody.png", jpeg(kind="PNG")).run()
        assert not app.exception, lens
        if lens == "On the person":
            assert "Nobody has drawn" in said(app)
        else:
            assert figures(app), lens


def starts(app) -> list[str]:
    keyed = [button for button in app.button if button.key]
    return [button.label for button in keyed if button.key.startswith("start passes")]


@pytest.mark.parametrize("lens", ["Why similar", "Deletion"])
def test_many_passes_of_a_slow_model_are_asked_for(tiny_run, monkeypatch, lens):
    monkeypatch.setattr("app.cached.pass_seconds", lambda run, stamp: 1.0)
    app = opened("attention", run=tiny_run, lens=lens)
    assert starts(app) == ["Start"] and not figures(app)
    (told,) = (each.value for each in app.markdown if "passes of this model" in each.value)
    grid = cached.positions(tiny_run, open_run(tiny_run).stamp()).grid
    count = 2 + grid[0] * grid[1]
    if lens == "Why similar":
        assert told.startswith(f"{2 * count} passes")
    app.button(key="start passes").click().run()
    assert not app.exception and not starts(app) and figures(app)
    app.run()
    assert not starts(app)  # they are made
    app.segmented_control(key="lens").set_value("Why similar").run()
    app.button(key="answer first wrong one").click().run()
    assert starts(app) == ["Start"]  # another image, and the query's own passes are kept
    assert any(f"{count} passes of this model" in each.value for each in app.markdown)


def test_a_run_beside_asks_for_itself(tiny_run, runs, monkeypatch):
    trained("resnet-bot", "plain", size="64x32", width=8, trunk="resnet10t")
    slow = {tiny_run: 0.0, "plain": 1.0}
    monkeypatch.setattr("app.cached.pass_seconds", lambda run, stamp: slow[run])
    app = opened("attention", run=tiny_run, lens="Why similar", beside="plain")
    assert len(figures(app)) == 1 and len(starts(app)) == 1
    app.button(key="start passes beside").click().run()
    assert not app.exception and len(figures(app)) == 2


def test_the_time_of_a_pass(tiny_run):
    model = open_run(tiny_run).model()
    assert 0 < seconds_a_pass(model, 64, 32) < 60
    calls = []
    slow = lambda batch: calls.append(len(batch.image)) or time.sleep(0.11)  # noqa: E731
    assert 0.1 < seconds_a_pass(slow, 64, 32) < 60 and calls == [1] * 4
    assert passes.about(12.4) == "about 12 s" and passes.about(200) == "about 3 min"


def test_a_study_says_how_long_it_takes_before_it_starts(tiny_run, monkeypatch):
    monkeypatch.setattr("app.cached.pass_seconds", lambda run, stamp: 0.5)
    app = opened("attention", run=tiny_run, lens="On the person")
    app.session_state["share images"] = "256"
    app.run()
    assert "256 passes of this model take about 2 min" in captions(app)
    app = opened("frequency", run=tiny_run, part="What is lost")
    images = len(open_run(tiny_run).embeddings().names)
    assert f"About {19 * images:,} passes of this model" in captions(app)
    assert [passes.about(seconds) for seconds in (0.2, 3, 600, 7200)] == [
        "less than a second",
        "about 3 s",
        "about 10 min",
        "about 2 h",
    ]


def test_the_deletion_study_stops_between_batches(tiny_run):
    """One image of a ViT-B takes a minute: its study is asked to stop before it is done."""
    told = []

    def progress(done, total):
        told.append(done)
        if len(told) > 3:
            raise Stopped

    run = open_run(tiny_run)
    with pytest.raises(Stopped):
        Study.asked(run, "deletion", {"images": 8, "seed": 5}).compute(progress)
    assert told == [0] * 4


def test_pieces_of_a_distance_on_the_page(tiny_run):
    app = opened("attention", run=tiny_run, lens="Global and local")
    stamp, names = open_run(tiny_run).stamp(), cached.pieces(tiny_run, open_run(tiny_run).stamp())
    assert list(names) == ["global", "local 1", "local 2", "local 3", "local 4"]
    tiles = figures(app)[-1]["tiles"]
    assert [tile["label"] for tile in tiles] == [
        f"{whose}, {name}" for whose in ("query", "gallery") for name in names
    ]
    added = [np.nanmax(np.array(tile["map"], float)) for tile in tiles[5:]]
    query = cached.labels(tiny_run, stamp).index(app.session_state["query"])
    ranking = cached.ranked(tiny_run, stamp, query)
    first = np.flatnonzero(ranking.match & ~ranking.ignored)[0]
    assert sum(added) == pytest.approx(float(ranking.distances[first]) ** 2, abs=1e-4)
    table = app.dataframe[-1].value
    assert list(table["piece"]) == ["all", *names]
    assert table["mAP alone"][0] == round(cached.evaluation(tiny_run, stamp).mAP, 4)
    assert "over all" in captions(app) and "no ablation of the paper's" in captions(app)
    found = cached.culprit(tiny_run, stamp)
    if found is not None:
        app.button(key="piece decides").click().run()
        assert not app.exception and "turns the most on one piece" in captions(app)
        assert app.session_state["query"] == cached.labels(tiny_run, stamp)[found.query]


def test_pieces_of_an_upload_and_of_two_runs(tiny_run, runs):
    app = opened("attention", run=tiny_run, lens="Global and local", **{"from": "Upload"})
    app.file_uploader[0].upload("somebody.png", jpeg(kind="PNG")).run()
    assert not app.exception and "means over its true matches" not in captions(app)
    assert len(figures(app)[-1]["tiles"]) == 10
    trained("ohformer", "parted", size="64x32", depth=3, parts=2)
    app = opened("attention", run=tiny_run, lens="Global and local", beside="parted")
    assert not app.exception
    shown = [[tile["label"] for tile in each["tiles"]] for each in figures(app)[-2:]]
    assert shown[1][3:] == ["gallery, class", "gallery, part 1", "gallery, part 2"]
    assert len(shown[0]) == 10
    trained("vit-bot", "plain", size="64x32")
    app = opened("attention", run="plain")
    assert "Global and local" not in app.segmented_control(key="lens").options
    assert "Positions" in app.segmented_control(key="lens").options


def test_learned_positions_on_the_page(tiny_run):
    app = opened("attention", run=tiny_run, lens="Positions")
    own, other = figures(app)[-1]["tiles"]
    grid = tuple(open_run(tiny_run).model().grid)
    assert np.shape(own["map"]) == grid and np.shape(other["map"]) == (14, 14)
    row, column = own["picked"]
    assert own["map"][row][column] == pytest.approx(1)
    assert "from scratch on this grid" in captions(app)
    table = app.dataframe[-1].value
    assert table["positions"].iloc[0] == "as trained" and table["positions"].iloc[-1] == "none"
    assert table["cosine"][0] == 1 and table["moved into the first 10"][0] == 0
    app.session_state["place"] = "1-1"
    app.selectbox(key="grid").select(app.selectbox(key="grid").options[-1]).run()
    assert not app.exception
    own, other = figures(app)[-1]["tiles"]
    assert own["picked"] == [0, 0] and np.shape(other["map"]) == (2 * grid[0], 2 * grid[1])
    imported("foreign")
    app = opened("attention", run="foreign", lens="Positions", **{"from": "Upload"})
    app.file_uploader[0].upload("somebody.png", jpeg(kind="PNG")).run()
    assert not app.exception and "came with the imported weights" in captions(app)
    assert list(app.dataframe[-1].value.columns) == ["positions", "cosine"]  # and no list to move
