"""Every page, run by Streamlit's own test harness without a browser."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from conftest import TINY
from PIL import Image
from streamlit.testing.v1 import AppTest

from app import galleries, uploads
from reid_core import jobs, train
from reid_core.errors import BadInput
from reid_core.evaluate import evaluate
from reid_core.experiment import Experiment
from reid_core.retrieve import retrieve
from reid_core.runs import open_run

MAIN = Path(__file__).resolve().parents[1] / "app" / "main.py"
PAGES = ("home", "train", "retrieval")


@pytest.fixture(autouse=True)
def nothing_cached():
    """The fixture's run has one name and one stamp in every test, and other contents."""
    st.cache_resource.clear()
    st.cache_data.clear()


def opened(page: str, **address: str) -> AppTest:
    """A page as a fresh session sees it, with what the address holds."""
    app = AppTest.from_file(str(MAIN), default_timeout=60)
    for key, value in address.items():
        app.query_params[key] = value
    app.run()
    if page != "home":
        app.switch_page(f"../pages/{page}.py").run()
    assert not app.exception
    return app


def drawn(app: AppTest, component: str) -> dict:
    """What a component of the page was given to draw."""
    found = [node.proto for node in app.get("bidi_component")]
    return json.loads(next(each.json for each in found if each.component_name == component))


def said(app: AppTest) -> str:
    """All messages of a page."""
    return " ".join(each.value for each in (*app.error, *app.warning, *app.info))


def labels(app: AppTest) -> list[str]:
    return app.selectbox(key="query").options


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_a_run(tiny_run, page):
    app = opened(page)
    assert app.title[0].value in ("ReID Attention Lab", "Train", "Retrieval")
    assert app.selectbox(key="run").value == tiny_run
    assert not app.error


@pytest.mark.parametrize("page", PAGES)
def test_a_page_without_any_run(runs, page):
    app = opened(page)
    assert "no run" in said(app).lower() or page == "train"
    assert not app.error


@pytest.mark.parametrize("page", PAGES)
def test_a_page_with_damaged_runs(tiny_run, runs, page):
    """Half a run, a broken one, a foreign folder: none of them hides the good one."""
    (runs / "foreign").mkdir()
    for name, file in (("no-json", "experiment.json"), ("no-arrays", "embeddings.npz")):
        shutil.copytree(runs / tiny_run, runs / name)
        (runs / name / file).write_text("{ broken")
    app = opened(page)
    assert app.selectbox(key="run").options == ["no-arrays", tiny_run]
    app.selectbox(key="run").select("no-arrays").run()
    assert not app.exception
    if page == "retrieval":
        assert "damaged" in said(app)


def test_damaged_history_is_told(tiny_run, runs):
    (runs / tiny_run / "history.jsonl").write_text("{ broken")
    assert "history" in said(opened("train", view="Watch"))


def test_a_run_without_embeddings(tiny_run, runs):
    (runs / tiny_run / "embeddings.npz").unlink()
    assert "no embeddings yet" in said(opened("retrieval"))
    assert not opened("home").error


def test_a_run_whose_data_are_elsewhere(tiny_run, runs):
    file = runs / tiny_run / "experiment.json"
    record = json.loads(file.read_text()) | {"data": str(runs / "nowhere")}
    file.write_text(json.dumps(record))
    app = opened("retrieval")
    assert "nowhere" in said(app) and not app.error
    assert not opened("home").error


def test_numbers_and_pictures_come_from_the_same_arrays(tiny_run):
    app = opened("retrieval")
    embeddings = open_run(tiny_run).embeddings()
    scores = evaluate(embeddings)
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["mAP"] == f"{scores.mAP:.3f}" and shown["Rank-1"] == f"{scores.cmc[0]:.1%}"
    gallery = drawn(app, "ranked_gallery")
    ranking = retrieve(embeddings, 0)
    facts = dict(gallery["query"]["facts"])
    assert facts["AP"] == f"{scores.average_precision[0]:.3f}"
    assert facts["First hit"] == f"rank {ranking.first_hit}"
    hits = [tile["rank"] for tile in gallery["tiles"] if tile["state"] == "right"]
    assert hits == [rank for rank in ranking.hits if rank <= len(gallery["tiles"])]
    assert all(tile["src"].startswith("data:image/jpeg") for tile in gallery["tiles"])


def test_ghosts_and_ranks():
    """Ghosts stand where they would rank, take no rank, and the count is of ranks."""
    ranks = np.array([1, 0, 2, 3, 0, 4])

    class Ranking:
        ignored = ranks == 0

    Ranking.ranks = ranks
    assert galleries.shown(Ranking, 3, ghosts=True).tolist() == [0, 1, 2, 3, 4]
    assert galleries.shown(Ranking, 3, ghosts=False).tolist() == [0, 2, 3]
    assert galleries.shown(Ranking, 50, ghosts=False).tolist() == [0, 2, 3, 5]


def test_the_ghost_switch(tiny_run):
    app = opened("retrieval")
    assert all(tile["state"] != "ignored" for tile in drawn(app, "ranked_gallery")["tiles"])
    embeddings = open_run(tiny_run).embeddings()
    queries = range(len(embeddings.query_rows))
    ghostly = [query for query in queries if retrieve(embeddings, query).ignored[:10].any()]
    app.selectbox(key="query").select_index(ghostly[0]).run()
    app.toggle(key="ghosts").set_value(True).run()
    ghosts = [t for t in drawn(app, "ranked_gallery")["tiles"] if t["state"] == "ignored"]
    assert ghosts and all(ghost["rank"] == 0 for ghost in ghosts)


def test_walking_through_the_queries(tiny_run):
    app = opened("retrieval")
    names = labels(app)
    where = lambda: app.selectbox(key="query").value  # noqa: E731
    assert where() == names[0]
    app.button(key="next").click().run()
    assert where() == names[1] == app.query_params["query"]
    app.button(key="previous").click().run()
    app.button(key="previous").click().run()
    assert where() == names[-1]
    app.button(key="worst").click().run()
    precision = evaluate(open_run(tiny_run).embeddings()).average_precision
    assert where() == names[int(np.nanargmin(precision))]
    app.button(key="random").click().run()
    assert where() in names and not app.exception
    app.session_state["strip"] = {"picked": names[2]}  # a click on the filmstrip
    app.run()
    assert len(drawn(app, "query_strip")["items"]) == min(31, len(names))


def test_a_link_opens_the_same_view(tiny_run, runs):
    shutil.copytree(runs / tiny_run, runs / "second")
    app = opened("retrieval", run="second")
    name = labels(app)[3]
    app = opened("retrieval", run="second", query=name)
    assert app.selectbox(key="run").value == "second"
    assert app.selectbox(key="query").value == name
    assert drawn(app, "ranked_gallery")["query"]["title"] == name


def test_the_address_always_holds_run_and_query(tiny_run):
    app = opened("retrieval")
    assert app.query_params["run"] == tiny_run
    assert app.query_params["query"] == labels(app)[0]


@pytest.mark.parametrize("key", ("run", "query"))
def test_nonsense_in_the_address_is_ignored(tiny_run, key):
    app = opened("retrieval", **{key: "<b>../../etc"})
    assert app.selectbox(key=key).value in app.selectbox(key=key).options


def jpeg(size: tuple[int, int] = (64, 128), kind: str = "JPEG") -> bytes:
    packed = io.BytesIO()
    Image.new("RGB", size, "teal").save(packed, kind)
    return packed.getvalue()


@pytest.mark.parametrize("camera", (None, 2))
def test_a_picture_of_ones_own(tiny_run, camera):
    app = opened("retrieval")
    app.segmented_control(key="source").set_value("Upload").run()
    app.file_uploader[0].upload("somebody.png", jpeg(kind="PNG"))
    app.selectbox(key="camera").set_value(camera).run()
    assert not app.exception and not app.error
    gallery = drawn(app, "ranked_gallery")
    assert {tile["state"] for tile in gallery["tiles"]} <= {"unknown", "ignored"}
    assert gallery["query"]["title"] == "somebody.png"
    words = " ".join(caption.value for caption in app.caption)
    assert ("mean camera embedding" in words) == (camera is None)


def test_a_model_that_is_told_no_camera_says_so(runs):
    """No mean embedding is spoken of where there is none."""
    asked = Experiment.create(model="transreid", recipe="demo", settings=TINY | {"sie": "none"})
    train.train(train.create(asked, "blind"))
    app = opened("retrieval", run="blind")
    app.segmented_control(key="source").set_value("Upload").run()
    words = " ".join(caption.value for caption in app.caption)
    assert "not told which camera" in words and "mean camera" not in words
    assert app.selectbox(key="camera").options == ["unknown"]


def test_scores_on_held_out_identities_are_not_called_the_test_split(runs):
    asked = Experiment.create(
        model="transreid",
        recipe="demo",
        settings=TINY | {"holdout": 0.3, "identities_per_batch": 2},
    )
    train.train(train.create(asked, "held"))
    words = " ".join(caption.value for caption in opened("retrieval", run="held").caption)
    assert "held-out training identities" in words and "the test split" not in words
    shown = " ".join(m.value for m in opened("train", run="held", view="Watch").markdown)
    assert "Retrieval on held-out training identities" in shown


def test_a_picture_that_is_none(tiny_run):
    app = opened("retrieval")
    app.segmented_control(key="source").set_value("Upload").run()
    app.file_uploader[0].upload("somebody.jpg", b"no picture at all").run()
    assert "JPEG, PNG or WebP" in said(app) and not app.exception


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "JPEG, PNG or WebP"),
        (b"\0" * (uploads.MEGABYTES * 2**20 + 1), "MB"),
        (jpeg(kind="GIF"), "JPEG, PNG or WebP"),
        (jpeg((7000, 6000), "PNG"), "megapixels"),
        (jpeg((20_000, 20_000), "PNG"), "megapixels"),
        (jpeg((4, 4)), "8 x 8"),
        (jpeg((300, 300))[:-400], "damaged|cut off"),
    ],
    ids=["empty", "heavy", "gif", "42 megapixels", "a bomb", "tiny", "cut off"],
)
def test_uploads_that_are_refused(content, words):
    with pytest.raises(BadInput, match=words):
        uploads.picture(content)


def test_without_permission_nothing_starts(tiny_run, monkeypatch):
    monkeypatch.delenv("REID_ALLOW_TRAINING", raising=False)
    started = []
    monkeypatch.setattr(jobs, "start", lambda *a, **k: started.append(k))
    app = opened("train", view="New training")
    assert "REID_ALLOW_TRAINING=1" in said(app)
    assert app.button(key="start").disabled
    assert next(field for field in app.text_input if "Folder" in field.label).disabled
    from app import live

    monkeypatch.setattr(live, "training_allowed", lambda: False)
    live.act("start", model="transreid")  # a forged message gets this far, and no further
    assert not started


def test_a_training_is_started_with_what_was_changed(tiny_run, monkeypatch):
    monkeypatch.setenv("REID_ALLOW_TRAINING", "1")
    started = []
    monkeypatch.setattr(jobs, "start", lambda **asked: started.append(asked) or tiny_run)
    app = opened("train", view="New training")
    key = "knob-transreid-demo-"
    app.number_input(key=f"{key}epochs").set_value(3).run()
    app.text_input(key=f"{key}learning_rate").set_value("2e-4").run()
    assert "changed" in app.number_input(key=f"{key}epochs").label
    app.button(key="start").click().run()
    assert not app.exception
    assert started[0]["settings"] == {"epochs": 3, "learning_rate": "2e-4"}
    assert started[0]["data"] is None and started[0]["recipe"] == "demo"
    assert app.session_state["view"] == "Watch" and app.session_state["run"] == tiny_run


def test_back_to_the_recipe(tiny_run, monkeypatch):
    monkeypatch.setenv("REID_ALLOW_TRAINING", "1")
    app = opened("train", view="New training")
    field = lambda: app.number_input(key="knob-transreid-demo-epochs")  # noqa: E731
    usual = field().value
    field().set_value(usual + 1).run()
    app.button(key="reset-transreid-demo").click().run()
    assert field().value == usual and "changed" not in field().label


@pytest.mark.parametrize("name, wrong", [("learning_rate", "fast"), ("size", "8x8")])
def test_a_wrong_setting_is_told_before_the_start(tiny_run, monkeypatch, name, wrong):
    monkeypatch.setenv("REID_ALLOW_TRAINING", "1")
    app = opened("train", view="New training")
    app.text_input(key=f"knob-transreid-demo-{name}").set_value(wrong).run()
    assert "expected" in said(app) and not app.exception
    assert "start" not in [button.key for button in app.button]


def test_what_jobs_refuses_is_told(tiny_run, monkeypatch):
    monkeypatch.setenv("REID_ALLOW_TRAINING", "1")

    def refuse(**_):
        raise BadInput("run 'tiny' exists already; give another name")

    monkeypatch.setattr(jobs, "start", refuse)
    app = opened("train", view="New training")
    app.button(key="start").click().run()
    assert "exists already" in said(app)


def test_a_failed_first_start_can_be_tried_again(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("REID_DATA", str(tmp_path / "empty"))

    def fail(root):
        yield 1, 10
        raise BadInput("no space left")

    monkeypatch.setattr(jobs, "generate", fail)
    app = AppTest.from_file(str(MAIN), default_timeout=60).run()
    assert "no space left" in said(app) and not app.exception

    def succeed(root):
        yield 10, 10
        Path(root).mkdir(parents=True)

    monkeypatch.setattr(jobs, "generate", succeed)
    app.button[0].click().run()
    assert app.title[0].value == "ReID Attention Lab"


def test_two_sessions_draw_the_data_once(runs, tmp_path, monkeypatch):
    from app import first_start

    calls = []
    monkeypatch.setattr(jobs, "generate", lambda root: iter(calls.append(root) or []))
    root = str(tmp_path / "shared")
    works = [first_start.rendering(root) for _ in range(2)]
    works[0].thread.join()
    assert works[0] is works[1] and len(calls) == 1
