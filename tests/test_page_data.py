"""The page Data, run by Streamlit's own test harness without a browser."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
import streamlit as st
from layouts import build
from streamlit.testing.v1 import AppTest

from app import charts_data, findings
from app.cached import data as cached
from app.charts import whole_steps
from reid_core.data import open_dataset
from reid_core.data.doctor import KINDS, examine
from reid_core.data.doctor.checkup import Checkup

MAIN = Path(__file__).resolve().parents[1] / "app" / "main.py"


class Here:
    """A checkup that is done at once, in this process."""

    running = cancelled = False
    problem = ""

    def __init__(self, home: str, name: str | None):
        self.report = json.loads(json.dumps(examine(Path(home), name).as_dict()))


@pytest.fixture(autouse=True)
def nothing_cached(monkeypatch):
    st.cache_resource.clear()
    st.cache_data.clear()
    monkeypatch.setattr(cached, "Checkup", Here)
    monkeypatch.setenv("REID_ALLOW_TRAINING", "1")


def opened(**address: str) -> AppTest:
    app = AppTest.from_file(str(MAIN), default_timeout=240)
    for key, value in address.items():
        app.query_params[key] = value
    app.run()
    app.switch_page("../pages/data.py").run()
    assert not app.exception
    return app


def said(app: AppTest) -> str:
    words = (*app.error, *app.warning, *app.info, *app.caption, *app.markdown)
    return " ".join(each.value for each in words).replace("\\", "")


def strips(app: AppTest) -> list[dict]:
    found = [node.proto for node in app.get("bidi_component")]
    return [json.loads(each.json) for each in found if each.component_name == "query_strip"]


def check(app: AppTest) -> AppTest:
    app.button(key="check").click().run()
    assert not app.exception
    return app


def test_the_pedestrians_are_there_out_of_the_box(runs, tiny_data):
    app = opened()
    assert "Pedestrians (synthetic)" in [each.value.replace("\\", "") for each in app.subheader]
    assert "the command synth writes" in said(app) and "`synth`" not in said(app)
    assert "Nothing is published" in said(app)
    table = app.dataframe[0].value.set_index("split")
    data = open_dataset("pedestrians", tiny_data)
    for split in ("train", "query", "gallery"):
        assert table.loc[split, "images"] == len(getattr(data, split))
    check(app)
    assert "Nothing prevents training" in said(app)
    assert "64 x 32 pixels, has" in said(app)


def test_an_identity_is_shown_under_all_its_cameras(runs, tiny_data):
    data = open_dataset("pedestrians", tiny_data)
    who = int(data.gallery.identities.max())
    app = opened(split="gallery", identity=str(who))
    cameras = sorted(data.gallery.cameras[data.gallery.identities == who].tolist())
    assert [item["note"] for item in strips(app)[0]["items"]] == [f"c{c}" for c in cameras]
    app.button(key="Next identity").click().run()
    assert app.session_state["identity"] == "0" or int(app.session_state["identity"]) != who
    app = opened(split="gallery", identity="98765")
    assert "There is no identity 98765 in this split." in [each.value for each in app.warning]


def test_findings_come_with_what_to_do_and_their_pictures(runs, tmp_path, tiny_data):
    home = build("market1501-flat", tiny_data, tmp_path)
    source = sorted((home / "bounding_box_train").iterdir())[0]
    shutil.copy(source, home / "query" / "0900_c3s1_000001_00.jpg")
    broken = sorted((home / "bounding_box_test").iterdir())[-1]
    broken.write_bytes(b"nothing")
    app = check(opened(folder=str(tmp_path)))
    assert "published images" in app.dataframe[0].value.columns
    words = said(app)
    assert "1 to mend before training" in words and "the same picture is in train" in words.lower()
    assert "is not in the gallery" in words and "replace or remove" in words
    pair = next(each["items"] for each in strips(app) if len(each["items"]) == 2)
    assert [each["note"] for each in pair] == ["train", "query"]
    assert pair[0]["src"] == pair[1]["src"]
    labels = " ".join(each.label for each in app.expander).replace("\\", "")
    assert f"bounding_box_test/{broken.name}" in labels


def test_every_kind_can_be_shown():
    assert set(findings.LOOKS) == {"error", "warning"}
    assert all(KINDS.values())


def test_nothing_recognised_says_what_was_looked_for(runs, tmp_path):
    (tmp_path / "archive.zip").write_bytes(b"PK")
    app = opened(folder=str(tmp_path))
    words = said(app)
    assert "No data set was recognised" in words and "archive.zip" in words
    assert "bounding_box_train" in words and "MSMT17" in words
    app = opened(folder=str(tmp_path / "none"))
    assert "no folder" in said(app).lower()


def test_back_takes_a_folder_out(runs, tmp_path):
    """It stays while another choice is made, or the page is drawn once more."""
    app = opened()
    app.text_input[0].set_value(str(tmp_path)).run()
    assert str(tmp_path) in app.query_params["folder"]
    app.run()
    assert app.text_input[0].value == str(tmp_path)
    del app.query_params["folder"]  # as the browser's button does
    app.run()
    assert app.text_input[0].value == "" and "folder" not in app.query_params


def test_one_file_is_unpacked_by_the_checkup(runs, tmp_path, tiny_data, monkeypatch):
    monkeypatch.setenv("REID_DATA", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    shutil.copytree(tiny_data, tmp_path / "own" / "pedestrians")
    build("cuhk03-mat", tiny_data, tmp_path / "sets")
    app = opened(folder=str(tmp_path / "sets"))
    assert "appear once it was checked" in said(app) and not app.dataframe
    check(app)
    assert app.dataframe[0].value["images"].sum() > 0 and strips(app)


def test_a_set_with_a_missing_image_is_checked_all_the_same(runs, tmp_path, tiny_data):
    home = build("msmt17-v1", tiny_data, tmp_path)
    gone, damaged, *_ = sorted(home.glob("test/*/*.jpg"))
    gone.unlink()
    damaged.write_bytes(b"no picture")
    app = opened(folder=str(tmp_path))
    assert "1 of them are missing" in said(app)
    words = said(check(app))
    assert "1 image that is missing; the others were examined" in words
    assert "can't be read as images" in words
    names = " ".join(each.label for each in app.expander).replace("\\", "")
    assert gone.name in names and damaged.name in names


def test_where_paths_are_off_only_the_own_folder_is_looked_at(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("REID_ALLOW_TRAINING", "0")
    monkeypatch.setattr("app.access.local", lambda: False)
    app = opened(folder=str(tmp_path))
    assert app.text_input[0].disabled and "pedestrians" in app.selectbox(key="set").value


def test_train_opens_with_the_data_set_filled_in(runs):
    app = AppTest.from_file(str(MAIN), default_timeout=240)
    address = {"view": "New training", "dataset": "veri776", "data": "/some/where"}
    for key, value in address.items():
        app.query_params[key] = value
    app.run()
    app.switch_page("../pages/train.py").run()
    assert app.selectbox(key="dataset").value == "veri776"
    assert app.text_input(key="data").value == "/some/where"


def test_a_checkup_tells_how_far_it_is_and_can_be_cancelled(runs, tiny_data):
    work = Checkup(tiny_data, "pedestrians")
    work.wait()
    assert work.report["code"] == 0 and work.done == work.total > 0 and not work.problem
    work = Checkup(tiny_data)
    work.cancel()
    work.wait()
    assert work.report is None and work.cancelled and not work.running


def test_the_charts_hold_the_counts():
    figure = charts_data.cameras({"train": {1: 3, -1: 2}, "query": {2: 5}, "gallery": {}})
    assert list(figure.data[0].x) == ["unknown", "c1", "c2"]
    assert list(figure.data[0].y) == [2, 3, 0] and list(figure.data[1].y) == [0, 0, 5]
    figure = charts_data.per_identity({"train": np.array([1, 2, 2])}, "images")
    assert list(figure.data[0].x) == [1, 2] and list(figure.data[0].y) == [1, 2]
    figure = charts_data.sizes([[128, 64, 9], [64, 32, 1]])
    assert list(figure.data[0].y) == [128, 64] and list(figure.data[0].customdata) == [9, 1]


def test_a_group_of_bars_stands_at_its_own_number():
    counts = {"train": np.array([6, 6]), "query": np.array([1, 1]), "gallery": np.array([6])}
    figure = charts_data.per_identity(counts, "cameras")
    assert [list(bars.x) for bars in figure.data] == [[1, 2, 3, 4, 5, 6]] * 3
    assert [list(bars.y) for bars in figure.data] == [
        [0, 0, 0, 0, 0, 2],
        [2, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    widths = [bars.width for bars in figure.data]  # one before the other: no third colour
    assert widths == sorted(widths, reverse=True) and len(set(widths)) == 3
    assert {bars.opacity for bars in figure.data} == {None}


def test_names_that_are_no_text_are_shown(runs, tiny_data, tmp_path):
    home = build("market1501", tiny_data, tmp_path)
    path = next((home / "query").iterdir())
    shutil.copy(path, os.fsencode(home / "query") + b"/0001_c1s1_000001_\xff.jpg")
    shutil.copy(path, os.fsencode(home / "query") + b"/holiday \xff.jpg")
    page = check(opened(folder=str(home)))
    told = [each.value.to_csv() for each in page.dataframe]
    assert any("holiday \\udcff.jpg" in each for each in told)


@pytest.mark.parametrize(("most", "step"), ((1, 1), (8, 1), (9, 2), (84, 20), (600, 100)))
def test_what_is_counted_has_round_whole_ticks(most, step):
    whole_steps(figure := go.Figure(), most)
    assert figure.layout.xaxis.dtick == step
