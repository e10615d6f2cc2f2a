"""The page Neighbours, run by Streamlit's own test harness."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from test_app import MAIN, captions, said, unmatched
from test_neighbours import made

from app import cached, charts_graph, charts_neighbours, neighbours
from app.charts_graph import Node
from app.charts_neighbours import Line
from reid_core.analysis.neighbours import alone, attend
from reid_core.evaluate import evaluate
from reid_core.retrieve import RankedList
from reid_core.runs import Run
from reid_core.studies import Study, set_size


@pytest.fixture(autouse=True)
def nothing_cached():
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture
def refined(runs) -> Run:
    run = made("refined")
    Study.asked(run, "draws").compute()  # or the page would start a process
    return run


def opened(**address: str) -> AppTest:
    app = AppTest.from_file(str(MAIN), default_timeout=240)
    for key, value in address.items():
        app.query_params[key] = value
    app.run()
    app.switch_page("../pages/neighbours.py").run()
    assert not app.exception
    return app


def metrics(app: AppTest) -> dict[str, str]:
    return {each.label: each.value for each in app.metric}


def components(app: AppTest, name: str) -> list[dict]:
    found = [node.proto for node in app.get("bidi_component")]
    return [json.loads(each.json) for each in found if each.component_name == name]


def test_it_opens_on_the_query_that_gains_most(refined):
    app, found = opened(), refined.embeddings()
    before, after = _gains(found)
    best = int(np.nanargmax(after - before))
    assert app.selectbox(key="query").value.endswith(
        str(found.names[found.query_rows[best]]).rsplit("/", 1)[-1]
    )
    assert metrics(app)["AP, encoder alone"] == f"{before[best]:.3f}"
    assert metrics(app)["AP, refined"] == f"{after[best]:.3f}"
    assert any("to themselves" in each.value for each in app.markdown)
    app.button(key="neighbours step 2").click().run()
    worst = int(np.nanargmin(after - before))
    assert metrics(app)["AP, refined"] == f"{after[worst]:.3f}"
    assert any(f"from {before[worst]:.2f} to {after[worst]:.2f}" in m.value for m in app.markdown)
    app.button(key="neighbours step 3").click().run()
    assert app.segmented_control(key="layer").value in ("1", "2") and not app.exception


def _gains(found):
    return evaluate(alone(found)).average_precision, evaluate(found).average_precision


def test_a_view_that_is_not_there(refined):
    assert "This page has no view Graphs." in [each.value for each in opened(part="Graphs").info]


def test_pictures_and_numbers_are_of_the_same_pass(refined):
    app, found = opened(layer="2", head="1"), refined.embeddings()
    names = [str(found.names[row]) for row in found.query_rows]
    name = app.selectbox(key="query").value
    row = int(found.query_rows[[each.rsplit("/", 1)[-1] for each in names].index(name)])
    seen = attend(refined.model(), found.encoded, seed=0)
    weights = seen.weights[1, 0, row]
    own = seen.neighbours[row] == row
    assert float(metrics(app)["Weight on itself"]) == pytest.approx(weights[own].sum(), abs=0.006)
    drawn = components(app, "pictures")[0]["tiles"]
    shown = [float(tile["label"].split()[-1]) for tile in drawn]
    assert shown == pytest.approx(sorted(weights[~own], reverse=True), abs=6e-4)
    mutual = seen.mutual[row][~own].sum()
    assert sum(tile["note"].startswith("mutual") for tile in drawn) == mutual
    assert f"{mutual} of {len(drawn)}" == metrics(app)["Mutual neighbours"]


def test_both_lists_have_the_metrics_ap(refined):
    app = opened()
    lists = components(app, "ranked_gallery")
    assert [each["query"]["caption"] for each in lists] == ["Encoder alone", "Refined"]
    for each, name in zip(lists, ("AP, encoder alone", "AP, refined"), strict=True):
        assert dict(each["query"]["facts"])["AP"] == metrics(app)[name]
    assert "now" in lists[0]["tiles"][0]["distance"] and "was" in lists[1]["tiles"][0]["distance"]


def test_a_query_without_a_true_match_has_no_precision(refined):
    app = opened(query=unmatched(refined))
    told = metrics(app)
    assert [told["AP, encoder alone"], told["AP, refined"]] == ["none", "none"]
    assert "The ranked list: the gallery has no true match" in [
        each.value for each in app.subheader
    ]
    assert "nan" not in said(app) and "AP of this query" not in said(app)


def test_both_ranks_stand_first_in_the_table(refined):
    (table,) = (each.value for each in opened().dataframe if "right" in each.value)
    assert table.columns.tolist() == ["encoder alone", "refined", "right", "image"]
    assert not table["image"].str.contains("/").any()


def test_another_draw(refined):
    app = opened()
    app.button(key="draw anew").click().run()
    assert app.session_state["draw"] == "1" and "refined with draw 1" in captions(app)
    assert not app.exception
    again = opened(draw="1")
    assert metrics(again) == metrics(app)


def test_a_click_puts_a_neighbour_in_the_middle(refined):
    app, found = opened(), refined.embeddings()
    before = metrics(app)
    app.session_state["middle"] = str(found.names[-1])
    app.run()
    assert not app.exception and "In the middle" in " ".join(m.value for m in app.markdown)
    app.button(key="back").click().run()
    assert metrics(app) == before
    again = opened(middle=str(found.names[-1]))
    assert "In the middle" in " ".join(m.value for m in again.markdown)
    again.button(key="next").click().run()
    assert again.session_state["middle"] == neighbours.QUERY


def test_a_link_to_a_query_or_an_image_that_is_not_here_says_so(refined):
    app = opened(query="nobody.jpg", middle="no-image.jpg")
    assert "has no query nobody.jpg" in said(app)
    assert "Run refined has no image no-image.jpg; in the middle is the query." in said(app)
    app.button(key="next").click().run()
    assert not app.warning and not app.exception


def test_a_difference_is_that_of_the_numbers_beside_it(refined, monkeypatch):
    for name, value in (("before", 0.1234), ("after", 0.1567)):
        given = type("Given", (RankedList,), {"average_precision": value})
        ranking = lambda self, given=given: given(  # noqa: E731
            **vars(cached.ranked(self.run.name, self.stamp, self.query))
        )
        monkeypatch.setattr(neighbours.Chosen, name, property(ranking))
    (refined_one,) = (each for each in opened().metric if each.label == "AP, refined")
    assert (refined_one.value, refined_one.delta) == ("0.157", "+0.034")  # not 0.0333


@pytest.mark.parametrize("part", neighbours.PARTS[1:])
def test_measurements_have_a_button_first(refined, part):
    app = opened(part=part)
    assert any(each.label.startswith("Measure") for each in app.button)


def test_measurements(refined, monkeypatch):
    monkeypatch.setattr(set_size, "SIZES", (20, 40))
    for name in ("landmarks", "neighbour-count", "set-size"):
        Study.asked(refined, name).compute()
    charts = {"Landmarks": 8, "Neighbours": 4, "Set size": 2}
    for part, count in charts.items():
        app = opened(part=part)
        assert len(app.get("plotly_chart")) == count, part
        assert ("as busy as it was" in captions(app)) == (part == "Neighbours")
    text = " ".join(m.value for m in opened(part="Neighbours").markdown)
    said_of_it = re.search(r": ([\d.]+), against ([\d.]+) at .*? difference is ([+-][\d.]+)", text)
    best, own, difference = map(float, said_of_it.groups())
    assert difference == pytest.approx(best - own, abs=1e-9)
    app = opened(part="Landmarks")
    assert "Why (a) and (b) differ" in " ".join(m.value for m in app.markdown)


def test_a_run_whose_images_stay_alone(tiny_run):
    app = opened(run=tiny_run)
    assert "has no neighbour graph" in said(app)
    made("refined")
    app = opened(run=tiny_run)
    assert [each.label for each in app.get("page_link")] == ["refined"]


def test_a_run_of_an_encoder_alone(refined):
    found = refined.embeddings()
    refined.keep_embeddings(replace(found, vectors=found.encoded, encoded=None))
    assert "nobody is refined yet" in said(opened())


def test_features_that_are_not_those_of_the_weights(refined):
    found = refined.embeddings()
    refined.keep_embeddings(replace(found, vectors=found.vectors[::-1]))
    Study.asked(refined, "draws").compute()
    assert "away from its stored features" in said(opened())


def test_a_run_that_draws_anew(runs):
    Study.asked(made("anew", landmark_seed=-1), "draws").compute()
    app = opened()
    assert "nobody kept the draw" in said(app) and not app.exception


def test_without_the_data_set(refined, runs):
    record = refined.record | dict(data=str(runs / "nowhere"))
    refined.write("experiment.json", json.dumps(record).encode())
    app = opened()
    assert "nowhere" in said(app) and not app.metric
    assert any(each.label.startswith("Measure") for each in opened(part="Landmarks").button)


def test_distractors_are_nobodys_match(refined):
    """They share the identity 0, and are different people."""
    found = refined.embeddings()
    app = opened(middle=str(found.names[found.identities == 0][0]))
    assert "In the middle" in " ".join(m.value for m in app.markdown)
    assert metrics(app)["On the same person"] == "0.00"
    tiles = components(app, "pictures")[0]["tiles"]
    assert tiles and all("✗" in tile["label"] for tile in tiles)


def test_the_steps_name_their_query_and_what_is_extreme(refined):
    """Their text goes when another query is chosen."""
    found = refined.embeddings()
    before, after = _gains(found)
    gain = after - before
    least = "largest loss" if np.nanmin(gain) < 0 else "smallest gain"
    app = opened()
    app.button(key="neighbours step 2").click().run()
    query = app.selectbox(key="query").value
    told = next(m.value for m in app.markdown if least in m.value)
    assert neighbours.plain(query) in told
    app.button(key="next").click().run()
    assert not any(least in m.value for m in app.markdown)
    same = replace(found, vectors=found.encoded)  # nothing gained and nothing lost
    refined.keep_embeddings(same)
    Study.asked(refined, "draws").compute()
    titles = [step.title for step in neighbours.steps(refined.name, refined.stamp())]
    assert titles[:2] == ["Smallest loss", "Smallest gain"]


def test_figures_of_few_and_of_many():
    def node(weight, mutual=True, state="right"):
        return Node("data:,", "who", weight, weight, mutual, state)

    for count in (0, 1, 60):
        nodes = [node(1 / max(count, 1), mutual=n % 2 == 0) for n in range(count)]
        figure = charts_graph.graph("data:,", 0.5, nodes, [(0, 59)] if count > 59 else [])
        assert len(figure.layout.images) == 1 + min(count, charts_graph.DRAWN)
    widest = charts_graph.graph("data:,", 0, [node(0.8), node(0.1)], [])
    widths = [trace.line.width for trace in widest.data if trace.mode == "lines"]
    assert widths[0] > widths[1]
    line = Line("a", np.array([[1.0, 3.0], [2.0, 2.0]]))
    figure = charts_neighbours.against([1, 10], [line], "l", "up", {"this run": 1, "paper": 10})
    assert figure.data[1].y.tolist() == [2, 2] and len(figure.layout.annotations) == 2
    figure = charts_neighbours.moves([1, 200], [2, 10], ["right", "wrong"], ["a", "b"])
    assert figure.data[-2].text == ("1 ✓", "200 ✗") and figure.data[-1].text == ("2 ✓", "10 ✗")


def test_ranks_in_the_slopes_do_not_overprint_one_another():
    before = [*range(1, 11), 11, 12, 13, 14, 15, 16, 400, 401, 402, 403]
    figure = charts_neighbours.moves(before, before[::-1], ["right"] * 20, ["a"] * 20)
    bottom, top = figure.layout.yaxis.range
    assert len(figure.layout.shapes) == 40
    for ranks in figure.data[-2:]:
        assert [text.split()[0] for text in ranks.text] == [str(rank) for rank in before]
        gaps = np.diff(ranks.y) / (bottom - top) * 360  # pixels of the plot
        assert gaps.min() > 13 and ranks.y[-1] < bottom and ranks.y[0] == 1
