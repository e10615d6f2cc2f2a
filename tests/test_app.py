"""Every page, run by Streamlit's own test harness without a browser."""

import io
import json
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
import torch
from conftest import TINY
from PIL import Image
from streamlit.testing.v1 import AppTest

from app import actions, cached, cards, charts, figures, forms, galleries, own, uploads
from app.notices import plain
from reid_core import jobs, train
from reid_core.embed import embed_images, refine
from reid_core.errors import BadInput
from reid_core.evaluate import directions, distances, evaluate
from reid_core.experiment import Experiment, knobs
from reid_core.jobs import queue, runner
from reid_core.knobs import Knob, knobs_of
from reid_core.models import MODELS, Facts
from reid_core.models.weights import packed
from reid_core.retrieve import retrieve
from reid_core.runs import Run, build, open_run

MAIN = Path(__file__).resolve().parents[1] / "app" / "main.py"
PAGES = ("home", "train", "retrieval")


@pytest.fixture(autouse=True)
def nothing_cached():
    """The fixture's run has one name and one stamp in every test, and other contents."""
    st.cache_resource.clear()
    st.cache_data.clear()


def opened(page: str, **address: str) -> AppTest:
    """A page as a fresh session sees it, with what the address holds."""
    app = AppTest.from_file(str(MAIN), default_timeout=240)
    for key, value in address.items():
        app.query_params[key] = value
    app.run()
    if page != "home":
        app.switch_page(f"../pages/{page}.py").run()
    assert not app.exception
    return app


def unmatched(run: Run) -> str:
    """Leave a run's first query without a true match; returns its label."""
    found = run.embeddings()
    found.identities[found.query_rows[0]] = 9999
    run.keep_embeddings(found)
    return cached.labels(run.name, run.stamp())[0]


def components(app: AppTest) -> list:
    """Those that draw something."""
    found = [node.proto for node in app.get("bidi_component")]
    return [each for each in found if each.component_name != "keys"]


def drawn(app: AppTest, component: str) -> dict:
    """What a component of the page was given to draw."""
    found = components(app)
    return json.loads(next(each.json for each in found if each.component_name == component))


def said(app: AppTest) -> str:
    """All messages of a page."""
    return " ".join(each.value for each in (*app.error, *app.warning, *app.info))


def labels(app: AppTest) -> list[str]:
    return app.selectbox(key="query").options


def captions(app: AppTest) -> str:
    return " ".join(each.value for each in app.caption)


def imported(name: str, model: str = "transreid", cameras=(1, 2, 3), **settings) -> Run:
    """A run as an import makes it: weights (here drawn at random) and no test split."""
    known = {knob.name for knob in knobs(model)}
    small = TINY | dict(trunk_width=8, layers=1) | settings
    small = {key: value for key, value in small.items() if key in known}
    asked = Experiment.create(model=model, recipe="demo", settings=small)
    facts = Facts(5, cameras, (0, 1))
    torch.manual_seed(0)
    weights = build(asked, facts).state_dict()
    source = dict(file="transformer_*_120.pth", sha256="ab" * 32)
    return Run.create(asked, facts, name, weights=weights, imported=source)


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


def test_damaged_history_is_told_and_costs_the_curves_alone(tiny_run, runs):
    (runs / tiny_run / "history.jsonl").write_text("{ broken")
    app = opened("train", view="Watch")
    assert "damaged history.jsonl" in said(app)
    assert app.button(key=f"clone {tiny_run}") and [
        each for each in app.expander if each.label == "Log"
    ]


def test_a_damaged_note_of_a_clone_costs_its_line_alone(tiny_run, runs):
    path = runs / tiny_run / "experiment.json"
    note = dict(run="other", changes={"a": 5})
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(cloned_from=note)))
    app = opened("train", view="Watch")
    assert not app.exception and "damaged note of what it was cloned from" in said(app)
    assert app.button(key=f"clone {tiny_run}")


UNTOLD = ("history.jsonl", "state/job.json")  # in a queue, of what has ended


@pytest.mark.parametrize("view", ("Queue", "Sweep", "Watch"))
@pytest.mark.parametrize(
    "file", ("experiment.json", "state/status.json", "state/job.json", "history.jsonl")
)
def test_a_damaged_file_of_an_ended_run_hides_no_view(tiny_run, runs, view, file):
    damaged = Run("bad", shutil.copytree(runs / tiny_run, runs / "bad"))
    queue.keep_job(damaged, where="here", device="cpu")
    # Of a status and a job; JSON, but none of ours in the others.
    odd = dict(state="failed", message=5, where=["here"])
    (damaged.folder / file).write_text(json.dumps(odd))
    app = opened("train", view=view, run="bad")
    assert not app.exception
    if view == "Queue":
        told = " ".join(each.value for each in app.markdown)
        assert "**bad**" in told and ("damaged" in told or file in UNTOLD)


def test_a_link_to_a_damaged_run_says_that_it_is_damaged(tiny_run, runs):
    shutil.copytree(runs / tiny_run, runs / "broken")
    (runs / "broken" / "experiment.json").write_text("{ broken")
    app = opened("train", view="Watch", run="broken")
    assert "Run 'broken' has no readable experiment.json" in said(app)
    assert f"shown is {tiny_run}" in said(app)


def test_the_start_page_names_what_is_damaged(tiny_run, runs):
    (runs / tiny_run / "metrics.json").write_text('{"mAP": 35}')
    assert "damaged metrics.json" in said(opened("home"))
    assert "damaged metrics.json" in said(opened("ledger"))
    (runs / tiny_run / "experiment.json").write_text("{ broken")
    app = opened("home")
    assert f"Run '{tiny_run}' has no readable experiment.json" in said(app)
    assert "No run yet" not in said(app)


def test_what_can_not_start_is_told_beside_the_button(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("REID_ALLOW_TRAINING", "1")
    app = opened("train", view="New training")
    app.text_input(key="data").input(str(tmp_path / "nowhere")).run()
    app.button(key="start").click().run()
    assert "nowhere" in app.error[0].value
    around = [each.type for each in app.main if each.type != "text_input"][-2:]
    assert around == ["error", "button"]


def test_a_run_without_embeddings(tiny_run, runs):
    (runs / tiny_run / "embeddings.npz").unlink()
    way_out = plain(f"python -m reid_core evaluate {tiny_run} computes it anew")
    assert way_out in said(opened("retrieval"))  # it has ended: none are to come by themselves
    assert not opened("home").error
    (runs / tiny_run / "weights.safetensors").unlink()
    app = opened("retrieval")
    assert "no embeddings.npz" in said(app) and not app.file_uploader
    assert "no weights.safetensors" in said(opened("attention"))
    open_run(tiny_run).report("running", epoch=0, epochs=2)
    assert "wait for its next evaluation" in said(opened("retrieval"))


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
    assert shown["mAP"] == f"{scores.mAP:.3f}" and shown["Rank-1"] == f"{scores.cmc[0]:.3f}"
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


def test_nothing_is_ignored_for_a_picture_of_ones_own(tiny_run):
    app = opened("retrieval", ghosts="true")
    assert app.toggle(key="ghosts").value
    app.segmented_control(key="source").set_value("Upload").run()
    assert not app.toggle and not app.exception
    app.segmented_control(key="source").set_value("Test split").run()
    assert app.toggle(key="ghosts") and not app.exception


def test_a_link_to_a_query_that_is_not_here_says_so(tiny_run):
    app = opened("retrieval", query="no*body.jpg")
    first = labels(app)[0]
    assert f"no query no\\*body.jpg; shown is {plain(first)}." in said(app)
    app.button(key="next").click().run()
    assert "no query" not in said(app) and not app.exception


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


@pytest.mark.parametrize("page", ["home", "train", "retrieval", "attention"])
def test_a_link_to_a_run_that_is_not_here_says_so(tiny_run, page):
    app = opened(page, run="no*body")
    assert f"no run named no\\*body here; shown is {tiny_run}" in said(app)
    app.button(key="close missing run").click().run()
    assert "no run named" not in said(app)


def test_a_link_to_what_is_no_choice_says_what_is_shown_instead(tiny_run):
    app = opened("retrieval", run=tiny_run, ranks="7*7")
    shown = app.segmented_control(key="ranks").value
    asked = "The link asks for ranks 7\\*7, which is no choice here; "
    assert [each.value for each in app.toast] == [f"{asked}shown is {shown}."]
    app.run()
    assert not app.toast
    assert not opened("retrieval", run=tiny_run, ranks=shown).toast


def test_another_run_closes_the_word_on_a_missing_one(tiny_run, runs):
    shutil.copytree(runs / tiny_run, runs / "twin")
    app = opened("retrieval", run="nobody")
    assert "no run named" in said(app)
    app.selectbox(key="run").select("twin").run()
    assert "no run named" not in said(app) and not app.exception


def test_the_address_always_holds_run_and_query(tiny_run):
    app = opened("retrieval")
    assert app.query_params["run"] == tiny_run
    assert app.query_params["query"] == labels(app)[0]


@pytest.mark.parametrize("key", ("run", "query"))
def test_nonsense_in_the_address_is_ignored(tiny_run, key):
    app = opened("retrieval", **{key: "<b>../../etc"})
    assert app.selectbox(key=key).value in app.selectbox(key=key).options


def jpeg(size: tuple[int, int] = (64, 128), kind: str = "JPEG", colour: str = "teal") -> bytes:
    packed = io.BytesIO()
    Image.new("RGB", size, colour).save(packed, kind)
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
    assert ("mean camera embedding" in captions(app)) == (camera is None)


def test_a_model_that_is_told_no_camera_says_so(runs):
    """No mean embedding is spoken of where there is none."""
    asked = Experiment.create(model="transreid", recipe="demo", settings=TINY | {"sie": "none"})
    train.train(train.create(asked, "blind"))
    app = opened("retrieval", run="blind")
    app.segmented_control(key="source").set_value("Upload").run()
    words = captions(app)
    assert "not told which camera" in words and "mean camera" not in words
    assert app.selectbox(key="camera").options == ["unknown"]


def test_scores_on_held_out_identities_are_not_called_the_test_split(runs):
    asked = Experiment.create(
        model="transreid",
        recipe="demo",
        settings=TINY | {"holdout": 0.3, "identities_per_batch": 2},
    )
    train.train(train.create(asked, "held"))
    words = captions(opened("retrieval", run="held"))
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


# A query and a gallery of one's own

OWN = {"a.jpg": "red", "0007_c2s1_000451_03.jpg": "green", "c.jpg": "blue", "d.jpg": "white"}


def give(app: AppTest, query: tuple[str, bytes], gallery: list[tuple[str, bytes]]) -> AppTest:
    """Upload a query and a gallery."""
    app.file_uploader(key="picture").set_value((*query, "image/jpeg"))
    files = [(name, content, "image/jpeg") for name, content in gallery]
    app.file_uploader(key="gallery pictures").set_value(files).run()
    assert not app.exception
    return app


def coloured() -> list[tuple[str, bytes]]:
    return [(name, jpeg(colour=colour)) for name, colour in OWN.items()]


def by_hand(run: Run, cameras: list, views: list) -> list[float]:
    """Distances of a teal query to OWN's pictures, as one set where the model refines."""
    contents = [jpeg(), *(content for _, content in coloured())]
    pictures = [Image.open(io.BytesIO(content)) for content in contents]
    vectors = embed_images(run.model(), run.experiment, pictures, cameras, views)
    if run.model().refines:
        vectors = refine(run.model(), vectors)
    vectors = directions(vectors)
    return distances(vectors[:1], vectors[1:])[0].tolist()


def shown_distances(app: AppTest) -> dict[str, str]:
    return {tile["title"]: tile["distance"] for tile in drawn(app, "ranked_gallery")["tiles"]}


def test_an_imported_run_answers_ones_own_pictures(runs):
    run = imported("brought")
    app = opened("retrieval", run="brought")
    assert "nothing is scored yet" in said(app)
    assert app.code[0].value == "python -m reid_core evaluate brought --data DIR"
    assert not [each for each in app.segmented_control if each.key == "source"]
    give(app, ("who.jpg", jpeg()), coloured())
    gallery = drawn(app, "ranked_gallery")
    tiles = gallery["tiles"]
    assert gallery["query"]["title"] == "who.jpg"
    assert [tile["rank"] for tile in tiles] == [1, 2, 3, 4]
    assert {tile["state"] for tile in tiles} == {"unknown"}
    assert {tile["title"]: tile["camera"] for tile in tiles} == dict.fromkeys(OWN) | {
        "0007_c2s1_000451_03.jpg": 2
    }
    expected = by_hand(run, [None, None, 2, None, None], [None] * 5)
    assert shown_distances(app) == {
        name: f"{distance:.3f}" for name, distance in zip(OWN, expected, strict=True)
    }
    assert [tile["distance"] for tile in tiles] == sorted(tile["distance"] for tile in tiles)
    assert "1 of 4 do so" in captions(app) and "none is called right" in captions(app)
    app.selectbox(key="camera").set_value(3).run()
    expected = by_hand(run, [3, None, 2, None, None], [None] * 5)
    assert shown_distances(app)["a.jpg"] == f"{expected[0]:.3f}"


def test_a_querys_name_tells_its_camera(runs):
    run = imported("brought")
    app = opened("retrieval", run="brought")
    give(app, ("0001_c1s1_000001_00.jpg", jpeg()), coloured())
    expected = by_hand(run, [1, None, 2, None, None], [None] * 5)
    assert shown_distances(app)["a.jpg"] == f"{expected[0]:.3f}"
    assert "Camera 1: the picture takes that camera's embedding" in captions(app)
    give(app, ("0001_c9s1_000001_00.jpg", jpeg()), coloured())
    assert "Unknown camera" in captions(app)


@pytest.mark.parametrize("camera", (None, 0))
def test_camera_0_is_a_camera(runs, camera):
    run = imported("brought", cameras=(0, 1, 2))
    app = opened("retrieval", run="brought")
    give(app, ("who.jpg", jpeg()), coloured())
    assert app.selectbox(key="camera").options[1:] == ["0", "1", "2"]
    app.selectbox(key="camera").set_value(camera).run()
    expected = by_hand(run, [camera, None, 2, None, None], [None] * 5)
    assert shown_distances(app)["a.jpg"] == f"{expected[0]:.3f}"
    words = "Unknown camera" if camera is None else "Camera 0: the picture takes that camera's"
    assert words in captions(app)
    shown = dict(drawn(app, "ranked_gallery")["query"]["facts"])["Camera"]
    assert shown == ("unknown" if camera is None else "0")


def test_a_model_that_knows_views_is_told_them(runs):
    run = imported("sided", sie="both")
    app = opened("retrieval", run="sided")
    assert app.selectbox(key="view of it").options == ["unknown", "0", "1"]
    give(app, ("who.jpg", jpeg()), coloured())
    assert "mean view embedding" in captions(app)
    app.selectbox(key="view of it").set_value(1).run()
    expected = by_hand(run, [None, None, 2, None, None], [1, *[None] * 4])
    assert shown_distances(app)["a.jpg"] == f"{expected[0]:.3f}"
    assert "View 1: the picture takes that view's embedding" in captions(app)


def test_views_have_words_where_they_were_trained_here(runs):
    asked = Experiment.create(model="transreid", recipe="demo", settings=TINY | {"sie": "view"})
    train.train(train.create(asked, "sided"))
    app = opened("retrieval", run="sided")
    app.segmented_control(key="source").set_value("Upload").run()
    assert app.selectbox(key="view of it").options == ["unknown", "front", "side", "back"]
    app.file_uploader[0].upload("somebody.png", jpeg(kind="PNG"))
    app.selectbox(key="view of it").set_value(2).run()
    assert "View back" in captions(app) and not app.error
    assert drawn(app, "ranked_gallery")["query"]["title"] == "somebody.png"


def test_a_model_that_refines_takes_ones_pictures_as_one_set(runs):
    run = imported("neighbours", model="nformer")
    app = give(opened("retrieval", run="neighbours"), ("who.jpg", jpeg()), coloured())
    expected = by_hand(run, [None] * 5, [None] * 5)
    assert shown_distances(app) == {
        name: f"{distance:.3f}" for name, distance in zip(OWN, expected, strict=True)
    }
    assert "refined as one set (protocol `nformer-joint`)" in captions(app)
    give(app, ("who.jpg", jpeg()), coloured()[:1])  # a set of two
    assert len(drawn(app, "ranked_gallery")["tiles"]) == 1


def test_ones_own_pictures_need_no_data_set(tiny_run, runs):
    file = runs / tiny_run / "experiment.json"
    record = json.loads(file.read_text()) | {"data": str(runs / "nowhere")}
    file.write_text(json.dumps(record))
    app = opened("retrieval")
    app.segmented_control(key="source").set_value(own.KIND).run()
    assert not app.error and not app.info
    give(app, ("who.jpg", jpeg()), coloured())
    assert len(drawn(app, "ranked_gallery")["tiles"]) == len(OWN)


@pytest.mark.parametrize("query", (b"no picture", jpeg((4, 4))), ids=["text", "tiny"])
def test_a_query_of_ones_own_that_is_no_picture(runs, query):
    imported("brought")
    app = give(opened("retrieval", run="brought"), ("who.jpg", query), coloured())
    assert "Left out who.jpg" in app.error[0].value
    assert not components(app)


def test_bad_pictures_are_left_out_of_ones_gallery(runs):
    imported("brought")
    app = opened("retrieval", run="brought")
    give(app, ("who.jpg", jpeg()), [*coloured(), ("no*good.jpg", b"no picture")])
    assert "no\\*good.jpg" in app.error[0].value and len(app.error) == 1
    assert set(shown_distances(app)) == set(OWN)
    give(app, ("who.jpg", jpeg()), [("no.jpg", b"no picture")])
    assert not components(app)


def test_too_many_pictures_are_refused(runs):
    imported("brought")
    files = [(f"{number}.jpg", jpeg()) for number in range(own.MOST + 1)]
    app = give(opened("retrieval", run="brought"), ("who.jpg", jpeg()), files)
    assert f"at most {own.MOST} pictures, got {own.MOST + 1}" in said(app)


def test_damaged_weights_are_told(runs):
    run = imported("brought")
    (run.folder / "weights.safetensors").write_bytes(b"no weights")
    app = give(opened("retrieval", run="brought"), ("who.jpg", jpeg()), coloured())
    assert "damaged weights" in said(app)
    assert not opened("home").error


def test_weights_of_another_run_are_told(runs, tiny_run):
    """Pictures of one model beside numbers of another would fit together to the eye."""
    run = open_run(tiny_run)
    weights = {name: tensor + 1 for name, tensor in run.model().state_dict().items()}
    run.write("weights.safetensors", packed(weights))
    for page in ("home", "retrieval", "attention", "errors", "scores", "ledger"):
        assert "not of the weights that it has now" in said(opened(page, run=tiny_run)), page


def test_what_was_refined_is_said(runs, tiny_run):
    """Before the second stage of a model that refines, each image was embedded alone."""
    run = imported("neighbours", model="nformer")
    found = open_run(tiny_run).embeddings()
    run.keep_embeddings(found)
    app = opened("retrieval", run="neighbours")
    assert "only the encoder" in captions(app)
    app.segmented_control(key="source").set_value(own.KIND).run()
    give(app, ("who.jpg", jpeg()), coloured())
    assert "one set" not in captions(app)
    both = {name: getattr(found, name) for name in found.__dataclass_fields__}
    st.cache_resource.clear()
    run.keep_embeddings(type(found)(**both | dict(encoded=found.vectors)))
    app = opened("retrieval", run="neighbours")
    assert "All queries and the gallery were refined as one set" in captions(app)
    assert "protocol: nformer-joint" in captions(app)
    assert "only the encoder" not in captions(app) + captions(opened("retrieval", run=tiny_run))


def test_an_imported_run_at_home_and_on_the_watch_page(runs):
    run = imported("brought")
    app = opened("home")
    assert "imported" in " ".join(each.value for each in app.markdown)
    assert "evaluate brought" in app.code[0].value and "transformer" in captions(app)
    app = opened("train", view="Watch")
    assert "Imported from transformer\\_\\*\\_120.pth" in captions(app)
    assert "first epoch" not in captions(app) and "No epoch" not in captions(app)
    metrics = dict(mAP=0.5, mINP=0.25, cmc={"1": 0.75})
    run.write("metrics.json", json.dumps(metrics).encode())
    app = opened("home")
    assert not app.code and "scored on pedestrians" in captions(app)
    assert {metric.label: metric.value for metric in app.metric}["mAP"] == "0.500"


def test_home_names_every_model():
    assert all(
        model.title in cards.PAPERS and model.paper in cards.PAPERS for model in MODELS.values()
    )


# Colours and curves


def test_a_loss_of_many_terms_is_drawn_whole():
    terms = {f"loss_term{number}": 1.0 for number in range(20)}
    lines = charts.history([dict(epoch=1, loss=2.0) | terms], "pha", "the test split")["Loss"].data
    assert len(lines) == 21
    assert len({(line.line.color, line.line.dash) for line in lines}) == 21
    assert lines[0].line.color == charts.colour("pha")


def linear(colour: str) -> np.ndarray:
    """#RRGGBB -> linear sRGB."""
    values = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def cielab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = [[0.4340, 0.3762, 0.1899], [0.2127, 0.7152, 0.0722], [0.0178, 0.1094, 0.8728]]
    x, y, z = np.cbrt(to_xyz @ np.clip(rgb, 0, 1))
    return np.array([116 * y, 500 * (x - y), 200 * (y - z)])


def test_every_model_has_a_colour_of_its_own():
    """Also for somebody who is red-blind, green-blind or blue-blind; on light and on dark."""
    assert set(MODELS) <= set(charts.COLOURS)
    sights = [
        np.eye(3),
        # Machado et al. 2009, full deficiency.
        [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
    ]
    for colour in charts.COLOURS.values():
        bright = np.dot([0.2127, 0.7152, 0.0722], linear(colour)) + 0.05
        assert min(1.05 / bright, bright / 0.058) > 2.4
    for sight in sights:
        seen = [cielab(sight @ linear(colour)) for colour in charts.COLOURS.values()]
        apart = [np.linalg.norm(one - other) for one, other in combinations(seen, 2)]
        assert min(apart) > 20


# Trainings


def choose(app: AppTest, model: str) -> AppTest:
    """Select a model on the Train page."""
    next(field for field in app.selectbox if field.label == "Model").select(model).run()
    assert not app.exception
    return app


def another(knob: Knob, usual):
    """Another value than the recipe's, as its field takes it."""
    if knob.kind == "bool":
        return not usual
    if knob.kind == "choice":
        return next(choice for choice in knob.choices if choice != usual)
    return usual + 1 if knob.kind == "int" else "0.25"


@pytest.mark.parametrize("model", MODELS)
def test_each_model_is_started_with_its_own_knobs(tiny_run, monkeypatch, model):
    monkeypatch.setenv("REID_ALLOW_TRAINING", "1")
    started = []
    monkeypatch.setattr(jobs, "start", lambda **asked: started.append(asked) or tiny_run)
    app = choose(opened("train", view="New training"), model)
    fields = {
        field.key.removeprefix(f"knob-{model}-demo-"): field
        for kind in (app.selectbox, app.number_input, app.text_input, app.toggle)
        for field in kind
        if (field.key or "").startswith("knob-")
    }
    assert list(fields) and set(fields) == {knob.name for knob in knobs(model)}
    words = " ".join(each.value for each in app.markdown)
    assert "Ours" in words and f"{MODELS[model].title}'s own settings" in words
    own_knobs = [k for k in knobs_of(MODELS[model].Options) if k.kind not in ("str", "run", "size")]
    changed = {}
    for knob in own_knobs[-2:]:
        changed[knob.name] = another(knob, fields[knob.name].value)
        fields[knob.name].set_value(changed[knob.name])
    app.run()
    app.button(key="start").click().run()
    assert not app.exception and not app.error
    assert started[0]["model"] == model and started[0]["settings"] == changed


def test_what_is_typed_just_before_the_click_counts(tiny_run, monkeypatch):
    monkeypatch.setenv("REID_ALLOW_TRAINING", "1")
    started = []
    monkeypatch.setattr(jobs, "start", lambda **asked: started.append(asked) or tiny_run)
    app = opened("train", view="New training")
    next(each for each in app.text_input if each.label == "Name of the run").set_value("mine")
    app.number_input(key="knob-transreid-demo-epochs").set_value(3)
    app.button(key="start").click()
    app.run()  # one run of the page for all three
    assert not app.exception and not app.error
    assert started[0]["run"] == "mine" and started[0]["settings"] == {"epochs": 3}


def test_a_run_as_an_encoder(tiny_run, runs, monkeypatch):
    """Only what has weights and embeds single images; the choice reaches the training."""
    monkeypatch.setenv("REID_ALLOW_TRAINING", "1")
    imported("brought")
    imported("refined", model="nformer")
    asked = Experiment.create(model="transreid", recipe="demo")
    Run.create(asked, Facts(5, (1, 2)), "unfinished")
    started = []
    monkeypatch.setattr(jobs, "start", lambda **asked: started.append(asked) or tiny_run)
    app = choose(opened("train", view="New training"), "nformer")
    field = lambda: app.selectbox(key="knob-nformer-demo-encoder")  # noqa: E731
    assert field().options == [forms.OWN, "brought", tiny_run] and field().value == ""
    field().select("brought").run()
    assert "changed" in field().label
    assert "encoder brought (recipe: none)" in " ".join(each.value for each in app.markdown)
    app.button(key="start").click().run()
    assert started[0]["settings"] == {"encoder": "brought"}
    app.segmented_control(key="view").set_value("New training").run()
    choose(app, "nformer")
    assert field().value == "brought"
    shutil.rmtree(runs / "brought")  # it goes while it is chosen
    app.run()
    assert not app.exception and field().value == ""


def test_an_encoder_by_name():
    knob = next(knob for knob in knobs("nformer") if knob.name == "encoder")
    assert knob.kind == "run" and "name of a run" in knob.expected
    assert knob.parse("mine") == "mine" and knob.parse("") == ""


def test_without_permission_nothing_starts(tiny_run, monkeypatch):
    monkeypatch.delenv("REID_ALLOW_TRAINING", raising=False)
    started = []
    monkeypatch.setattr(jobs, "start", lambda *a, **k: started.append(k))
    app = opened("train", view="New training")
    assert "REID_ALLOW_TRAINING=1" in said(app)
    assert app.button(key="start").disabled
    assert next(field for field in app.text_input if "Folder" in field.label).disabled
    from app import actions

    monkeypatch.setattr(actions, "training_allowed", lambda: False)
    actions.act("start", model="transreid")  # a forged message gets this far, and no further
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


def test_a_clone_fills_the_form_and_says_the_difference(tiny_run, monkeypatch):
    """A link to it does, in a fresh session; the fields can be changed and the origin forgotten."""
    monkeypatch.setenv("REID_ALLOW_TRAINING", "1")
    started = []
    monkeypatch.setattr(jobs, "start", lambda **asked: started.append(asked) or tiny_run)
    app = opened("train", view="New training", clone=tiny_run)
    key = "knob-transreid-demo-"
    assert app.number_input(key=f"{key}epochs").value == TINY["epochs"]
    assert "Nothing is changed" in said(app) and not app.warning
    assert [forms._shown(rate) for rate in (3.5e-4, 0.000123456789)] == [
        "0.00035",
        "0.000123456789",
    ]
    app.number_input(key=f"{key}epochs").set_value(7).run()
    assert f"Against {tiny_run}" in said(app) and "epochs 7" in said(app)
    app.button(key="start").click().run()
    assert not app.exception and not app.error
    assert started[0]["cloned_from"] == tiny_run and started[0]["settings"]["epochs"] == 7
    assert started[0]["settings"].items() >= {"width": 32, "device": "cpu"}.items()
    assert "clone" not in app.query_params
    assert "unknown run" in said(opened("train", view="New training", clone="nobody"))


def test_a_clone_that_is_forgotten_keeps_the_fields(tiny_run, monkeypatch):
    app = opened("train", view="New training", clone=tiny_run)
    app.button(key="forget").click().run()
    assert "Against" not in said(app) and "clone" not in app.query_params
    assert app.number_input(key="knob-transreid-demo-epochs").value == TINY["epochs"]


def test_a_sweep_is_asked_for_in_the_form(tiny_run, monkeypatch):
    monkeypatch.setenv("REID_ALLOW_TRAINING", "1")
    started = []
    monkeypatch.setattr(jobs, "start_sweep", lambda **asked: started.append(asked) or [])
    app = opened("train", view="New training")
    app.toggle(key="sweeping").set_value(True).run()
    assert "wants a name" in said(app)
    next(each for each in app.text_input if each.label == "Name of the run").set_value("s").run()
    assert "s-s0, s-s1, s-s2." in captions(app)
    app.selectbox(key="sweep-knob-transreid").select("erase").run()
    assert "Type the values" in said(app)
    app.text_input(key="sweep values").set_value("0.1, 7").run()
    assert "rase" in said(app) and "expected" in said(app)
    app.text_input(key="sweep values").set_value("0.1, 0.2").run()
    assert "s-0.1-s0" in captions(app)
    app.button(key="start").click().run()
    assert not app.exception and app.session_state["view"] == "Queue"
    assert started[0]["key"] == "erase" and started[0]["values"] == ["0.1", "0.2"]
    assert started[0]["name"] == "s" and started[0]["seeds"] == [0, 1, 2]


def waiting(tiny_run: str, *names: str) -> None:
    """Copies of a run that wait in the queue."""
    for name in names:
        run = Run(name, open_run(tiny_run).folder.with_name(name))
        shutil.copytree(open_run(tiny_run).folder, run.folder)
        run.report("stopped", epoch=1, epochs=2)
        queue.enqueue(run, "cpu")


def test_the_queue_is_shown_and_changed(tiny_run, monkeypatch):
    monkeypatch.setenv("REID_ALLOW_TRAINING", "1")
    monkeypatch.setattr(runner, "revive", lambda: None)
    line = lambda: [each.run.name for each in queue.waiting()]  # noqa: E731
    waiting(tiny_run, "a", "b", "c")
    app = opened("train", view="Queue")
    words = " ".join(each.value for each in app.markdown)
    assert "number 2 in the queue for cpu" in words and not app.error
    app.button(key="up-c").click().run()
    assert line() == ["a", "c", "b"] and not app.exception
    app.button(key="cancel-a").click().run()
    assert line() == ["c", "b"] and open_run("a").status().state == "stopped"
    app.button(key="resume-a").click().run()
    assert line() == ["c", "b", "a"]
    app.number_input(key="limit-cpu").set_value(3).run()
    assert queue.limits()["cpu"] == 3
    queue.limit("cpu", 2)  # by somebody else
    assert app.run().number_input(key="limit-cpu").value == 2
    app.button(key="clone-b").click().run()
    assert not app.exception and app.query_params["clone"] in ("b", ["b"])


def test_a_run_that_waits_is_watched_and_cancelled(tiny_run, monkeypatch):
    monkeypatch.setenv("REID_ALLOW_TRAINING", "1")
    monkeypatch.setattr(runner, "revive", lambda: None)
    waiting(tiny_run, "a")
    app = opened("train", view="Watch", run="a")
    assert "number 1 in the queue" in said(app) and not app.error
    app.button(key="cancel a").click().run()
    assert open_run("a").status().state == "stopped" and app.button(key="resume a")


@pytest.mark.parametrize("view, key", (("Queue", "cancel-a"), ("Watch", "cancel a")))
def test_what_a_press_could_not_do_stays_until_the_next_one(tiny_run, monkeypatch, view, key):
    monkeypatch.setenv("REID_ALLOW_TRAINING", "1")
    monkeypatch.setattr(runner, "revive", lambda: None)
    waiting(tiny_run, "a", "b")
    app = opened("train", view=view, run="a")
    jobs.stop("a")  # by somebody else
    app.button(key=key).click().run()
    for _ in range(2):  # the view redraws itself
        assert [each.value for each in app.error] == ["Run 'a' can't be stopped\\: it is stopped"]
        app.run()
    app.session_state["view"] = "New training"
    assert not app.run().error
    app.session_state["view"] = view
    assert not app.run().error
    jobs.resume("a"), app.run(), jobs.stop("a")
    app.button(key=key).click().run()
    assert app.error
    monkeypatch.setattr(actions, "WHILE", 0)
    assert not app.run().error


def test_the_queue_is_not_for_everybody(tiny_run, monkeypatch):
    monkeypatch.delenv("REID_ALLOW_TRAINING", raising=False)
    monkeypatch.setattr(runner, "revive", lambda: None)
    waiting(tiny_run, "a", "b")
    app = opened("train", view="Queue")
    buttons = ("up-b", "down-a", "cancel-a")
    assert all(app.button(key=key).disabled for key in buttons)
    assert app.number_input(key="limit-cpu").disabled and "REID_ALLOW_TRAINING" in said(app)


def test_how_a_training_died_and_its_last_words(tiny_run):
    run = open_run(tiny_run)
    run.report("interrupted", epoch=1, epochs=2, message=runner.why(-9))
    app = opened("train", view="Watch")
    assert "illed by signal 9" in said(app) and app.button(key=f"resume {tiny_run}")
    assert app.expander[-1].proto.expanded and run.log_tail(1) in app.code[0].value


def test_a_sweep_is_shown(tiny_run, runs, monkeypatch):
    assert "Sweep" not in opened("train").segmented_control(key="view").options
    for seed in range(2):
        shutil.copytree(runs / tiny_run, runs / f"s-s{seed}")
        file = runs / f"s-s{seed}" / "experiment.json"
        note = dict(sweep=dict(name="s", key="", value="", seed=seed))
        file.write_text(json.dumps(json.loads(file.read_text()) | note))
    app = opened("train", view="Sweep")
    score = open_run(tiny_run).history()[-1]["mAP"]
    table = app.dataframe[0].value
    assert table["mAP"][0] == f"{score:.3f} ({score:.3f} to {score:.3f})"
    assert table["finished"][0] == "2 of 2 seeds" and app.selectbox(key="sweep").value == "s"


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
    app = AppTest.from_file(str(MAIN), default_timeout=240).run()
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


def test_memory_that_is_short_is_told_on_the_page(tiny_run, monkeypatch):
    """Wherever on a page it is noticed, in place of a traceback."""

    def short(*given):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 GB")

    monkeypatch.setattr("app.cached.base.retrieve", short)
    for page in ("retrieval", "attention"):
        app = opened(page, run=tiny_run)
        assert "Out of memory" in said(app) and "close other programs" in said(app)


@pytest.mark.parametrize(
    "page, asked, word",
    [
        ("attention", dict(lens="Gates"), "has no view Gates"),
        ("frequency", dict(part="Patch contrast"), "The view Patch contrast is PHA's alone"),
        ("frequency", dict(part="Waves"), "The view Waves is not on this page"),
    ],
)
def test_a_link_to_a_view_that_is_not_there_is_told(tiny_run, page, asked, word):
    app = opened(page, run=tiny_run, **asked)
    assert word in said(app)
    assert word not in said(opened(page, run=tiny_run))


def test_formulas_stand_on_lines_of_their_own():
    """With text beside it $$ opens a block that swallows the line, and leaves the rest in red."""
    found = figures.set_apart("First $x$: $$a,\nb$$ then $$c$$")
    lines = [line.strip() for line in found.splitlines() if line.strip()]
    assert lines == ["First $x$:", "$$", "a,", "b", "$$", "then", "$$", "c", "$$"]
