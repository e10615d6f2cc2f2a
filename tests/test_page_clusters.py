"""The page Clusters, run by Streamlit's own test harness without a browser."""

import base64
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app import clusters, clusters_paint, clusters_views
from app.charts import luminance
from reid_core.analysis import outliers
from reid_core.runs import Run, open_run
from reid_core.studies import Study

MAIN = Path(__file__).resolve().parents[1] / "app" / "main.py"
PCA = dict(method="pca")


@pytest.fixture(autouse=True)
def nothing_cached():
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture
def mapped(tiny_run) -> Run:
    """A run whose PCA map is computed."""
    run = open_run(tiny_run)
    Study.asked(run, "projection", PCA).compute()
    return run


def opened(**address: str) -> AppTest:
    app = AppTest.from_file(str(MAIN), default_timeout=240)
    for key, value in (dict(map="PCA") | address).items():
        app.query_params[key] = value
    app.run()
    app.switch_page("../pages/clusters.py").run()
    assert not app.exception, app.exception[0].message
    return app


def drawn(app: AppTest, component: str) -> dict:
    found = [node.proto for node in app.get("bidi_component")]
    return json.loads(next(each.json for each in found if each.component_name == component))


def numbers(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def words(app: AppTest) -> str:
    return " ".join(each.value for each in (*app.caption, *app.markdown, *app.error, *app.info))


def test_the_map_holds_every_image(mapped):
    app = opened()
    found, sent = mapped.embeddings(), drawn(app, "embedding_map")
    places = numbers(sent["places"][0], "<f4").reshape(-1, 3)
    assert len(places) == len(found.names)
    assert np.abs(places).max() == pytest.approx(1) and (places[:, 2] == 0).all()
    layout = Study.asked(mapped, "projection", PCA).found()["layouts"][0]
    turned = np.corrcoef(places[:, 0], layout[:, 0])[0, 1]
    assert turned == pytest.approx(1, abs=1e-5)
    assert (numbers(sent["query"], "u1") == found.is_query).all()
    facts = {fact["label"]: numbers(fact["values"], "<f4") for fact in sent["facts"]}
    assert (facts["identity"] == found.identities).all()
    assert (facts["camera"] == found.cameras).all()
    assert sent["sheet"]["src"].startswith("data:image/jpeg")


def test_points_are_sent_once_and_colours_apart(mapped):
    app = opened()
    before, painted = drawn(app, "embedding_map"), drawn(app, "embedding_legend")
    app.selectbox(key="colour").select("Trust").run()
    assert drawn(app, "embedding_map") == before
    after = drawn(app, "embedding_legend")
    assert after["colours"] != painted["colours"] and after["id"] == before["id"]
    assert after["ramp"] and not painted["ramp"]


@pytest.mark.parametrize("choice", list(clusters_paint.PAINTS))
def test_every_colouring_is_quiet_about_the_rest(mapped, choice):
    app = opened(colour=choice)
    assert app.selectbox(key="colour").value == choice
    painted = drawn(app, "embedding_legend")
    places = numbers(painted["colours"], "u1")
    assert places.max() < len(painted["palette"])
    assert len(painted["entries"]) <= 6  # never a legend of all identities


def test_identity_is_that_of_the_picked_image(mapped):
    found = mapped.embeddings()
    row = int(np.flatnonzero(~found.is_query & (found.identities > 0))[3])
    app = opened(colour="Identity", image=str(row))
    painted = drawn(app, "embedding_legend")
    assert painted["picked"] == row
    assert (
        (numbers(painted["colours"], "u1") == 1) == (found.identities == found.identities[row])
    ).all()
    assert f"identity {found.identities[row]}" in words(app)


def test_another_query_becomes_the_picked_image(mapped):
    found = mapped.embeddings()
    app = opened(image=str(int(found.gallery_rows[0])))
    assert drawn(app, "embedding_legend")["picked"] == found.gallery_rows[0]
    options = app.selectbox(key="query").options
    app.selectbox(key="query").select(options[2]).run()
    assert drawn(app, "embedding_legend")["picked"] == found.query_rows[2]
    app.button(key="next").click().run()
    assert not app.exception
    assert drawn(app, "embedding_legend")["picked"] == found.query_rows[3]


def test_a_link_to_a_query_or_an_image_that_is_not_here_says_so(mapped):
    app = opened(query="nobody.jpg", image="99999")
    said = " ".join(each.value for each in app.warning)
    assert "has no query nobody.jpg" in said and "no image number 99999" in said
    assert f"picked is number {app.session_state['image']}." in said
    app.button(key="next").click().run()
    assert not app.warning


def test_lines_lead_to_the_ranked_list(mapped):
    from reid_core.retrieve import retrieve

    app = opened(edges="true")
    painted = drawn(app, "embedding_legend")
    found, row = mapped.embeddings(), painted["picked"]
    ranking = retrieve(found, int(np.searchsorted(found.query_rows, row)))
    judged = ~ranking.ignored
    expected = list(zip(ranking.rows[judged][:10], ranking.match[judged][:10], strict=True))
    assert [(to, bool(right)) for _, to, right in painted["edges"][0]] == expected
    assert {from_ for from_, _, _ in painted["edges"][0]} == {row}


def frame(mapped, side: int = 0) -> tuple[np.ndarray, list[int]]:
    """Where the map draws its images (N, 3), and those of its left half."""
    layouts = Study.asked(mapped, "projection", PCA).found()["layouts"]
    places = clusters.within_one(layouts)[side]
    return places, np.flatnonzero(places[:, 0] < 0).tolist()


LEFT = "0_-2_-2_-2_2_0_2_0_-2"  # a box around the left half of a map


def test_a_lasso_in_the_address_opens_a_gallery_by_the_page(mapped):
    _, rows = frame(mapped)
    app = opened(lasso=LEFT)
    assert f"{len(rows)} of" in words(app) and app.query_params["lasso"] in (LEFT, [LEFT])
    items = drawn(app, "query_strip")["items"]
    assert len(items) == min(clusters.PAGE, len(rows))
    assert {int(item["label"]) for item in items} <= set(rows)
    assert all(item["src"].startswith("data:image/jpeg") for item in items)
    assert drawn(app, "embedding_legend")["selected"] == rows


def test_another_map_drops_the_lasso_and_so_does_the_reader(mapped):
    Study.asked(mapped, "projection", PCA | dict(dimensions=3)).compute()
    app = opened(lasso=LEFT)
    app.segmented_control(key="dimensions").set_value("3-D").run()
    assert "In the lasso" not in words(app) and "lasso" not in app.query_params
    app = opened(lasso=LEFT)
    app.session_state["lasso"] = ""  # as Clear and Escape have it
    app.run()
    assert "In the lasso" not in words(app) and "lasso" not in app.query_params


def test_a_lasso_on_a_turned_map_is_drawn_as_it_was_seen(mapped):
    asked = PCA | dict(dimensions=3)
    Study.asked(mapped, "projection", asked).compute()
    places = clusters.within_one(Study.asked(mapped, "projection", asked).found()["layouts"])[0]
    app = opened(dimensions="3-D", lasso="0_0_1_0_0_0_1_-2_-2_-2_2_0_2_0_-2")  # y across, z upwards
    assert drawn(app, "embedding_legend")["selected"] == np.flatnonzero(places[:, 1] < 0).tolist()


@pytest.mark.parametrize(
    "text", ["1_-2_-2_-2_2_0_2", "0_1_2_3", "0_nan_1_1_1_1_1", "a", "0_1_1_1_1_1_1_1", "0"]
)
def test_a_lasso_that_cannot_be_read_is_none(mapped, text):
    app = opened(lasso=text)
    assert "In the lasso" not in words(app) and "lasso" not in app.query_params


def test_outliers_open_worst_first(mapped):
    app = opened()
    lie = Study.asked(mapped, "spread").found()
    expected = outliers.worst(lie["silhouette"], mapped.embeddings().identities)
    frame = next(each.value for each in app.dataframe if "reason" in each.value)
    assert frame.silhouette.tolist() == sorted(frame.silhouette)
    assert f"{frame.folder[0]}/{frame.image[0]}" == mapped.embeddings().names[expected[0]]
    assert (frame.reason != "").all()


def test_numbers_of_the_table_are_the_studies(mapped):
    app = opened()
    maps, lie = (Study.asked(mapped, *each).found() for each in (("projection", PCA), ("spread",)))
    frame = next(each.value for each in app.dataframe if "measure" in each.value)
    said = dict(zip(frame.measure, frame[mapped.name], strict=True))
    assert not frame.isna().any().any()  # what has no value by chance has a dash
    assert said["Neighbours kept"] == pytest.approx(maps["trust"][0].mean(), abs=1e-3)
    assert said["Trustworthiness"] == pytest.approx(maps["trustworthiness"][0], abs=1e-3)
    assert said["Silhouette of the embeddings"] == pytest.approx(
        np.nanmean(lie["silhouette"]), abs=1e-3
    )
    assert said["Silhouette of the map"] == pytest.approx(
        np.nanmean(maps["silhouette"][0]), abs=1e-3
    )


def test_low_values_can_be_seen_on_a_dark_and_a_light_page():
    red, green, blue = (int(each) / 255 for each in re.findall(r"\d+", clusters_paint.RAMP[0])[:3])
    light = luminance((red, green, blue)) + 0.05
    dark = luminance((0x11 / 255, 0x16 / 255, 0x1D / 255)) + 0.05
    assert light / dark >= 3 and 1.05 / light >= 3


def test_three_steps_with_numbers(mapped):
    app = opened()
    for number in (1, 2, 3):
        app.button(key=f"clusters step {number}").click().run()
        assert not app.exception
        text = next(
            each.value for each in app.markdown if any(sign.isdigit() for sign in each.value)
        )
        assert text


def test_two_runs_side_by_side(mapped, runs):
    shutil.copytree(runs / "tiny", runs / "twin")
    Study.asked(mapped, "projection", PCA | dict(other="twin")).compute()
    assert len(drawn(opened(beside="twin"), "embedding_map")["names"]) == 1  # Attention's key
    app = opened(second="twin")
    sent = drawn(app, "embedding_map")
    assert sent["names"] == ["tiny", "twin"] and len(sent["places"]) == 2
    assert "Procrustes" in words(app)
    assert clusters_views.WARNING.strip() in words(app)


def test_a_map_that_is_not_computed_is_offered(tiny_run, monkeypatch):
    monkeypatch.setattr(clusters, "BY_ITSELF", 0)
    app = opened()
    assert any("Map" in button.label for button in app.button)
    assert not [n for n in app.get("bidi_component") if n.proto.component_name == "embedding_map"]


def test_without_data_set_the_map_has_no_pictures(mapped, monkeypatch, tmp_path):
    for file in (mapped.folder / "studies").glob("crops*"):
        file.unlink()
    monkeypatch.setenv("REID_DATA", str(tmp_path / "nowhere"))
    app = opened()
    assert drawn(app, "embedding_map")["sheet"] is None


def test_a_run_without_embeddings(tiny_run, runs):
    (runs / tiny_run / "embeddings.npz").unlink()
    assert {n.proto.component_name for n in opened().get("bidi_component")} == {"keys"}


def test_wrong_queries_stand_on_their_tip(mapped):
    painted = drawn(opened(colour="Rank-1"), "embedding_legend")
    first = Study.asked(mapped, "spread").found()["first_hit"]
    assert (numbers(painted["turned"], "u1") == (first > 1)).all()
    assert [entry.get("sign") for entry in painted["entries"][:2]] == ["up", "down"]
    assert "turned" not in drawn(opened(colour="Identity"), "embedding_legend")


def test_an_occluder_need_not_be_known(mapped, monkeypatch):
    covered = dict(occlusion=np.full(len(mapped.embeddings().names), "0.5"))
    monkeypatch.setattr("app.cached.maps.attributes", lambda run, stamp: covered)
    frame = next(each.value for each in opened().dataframe if "reason" in each.value)
    assert frame.reason.str.startswith("occluded: 50%").all()


def test_distractors_in_a_lasso_are_no_identity():
    assert clusters_views._nobody(np.array([0, 3, 0, 3])) == ", 2 distractors"
    assert clusters_views._nobody(np.array([3])) == ""


def test_words_do_not_say_another_direction_than_the_number():
    maps = dict(moved=np.arange(4.0), chance=np.ones(4), same=np.array([0, 0.2, 0.4, 0.6]))
    said = clusters_views._moves(SimpleNamespace(maps=maps, near=15))
    assert "rank correlation of -1.00" in said and "move farther" not in said
