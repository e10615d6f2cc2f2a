"""The page Frequency, run by Streamlit's own test harness without a browser."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY
from test_app import (  # noqa: F401
    captions,
    components,
    drawn,
    imported,
    nothing_cached,
    opened,
    said,
    unmatched,
)
from test_neighbours import made

from app import (
    cached,
    figures,
    frequency,
    frequency_claim,
    frequency_patches,
    frequency_query,
    frequency_settings,
    frequency_tokens,
    trained,
)
from reid_core import jobs
from reid_core.__main__ import main
from reid_core.analysis import contrast, cutoffs, filters
from reid_core.data import open_dataset
from reid_core.experiment import Experiment
from reid_core.probe import observe
from reid_core.runs import open_run
from reid_core.studies import Study
from reid_core.train import create

VIEWS = ("Wavelets", "Through depth", "Attention", "What is lost", "One query")


@pytest.fixture
def nothing_starts(monkeypatch):
    """No study gets a process of its own."""
    monkeypatch.setattr(jobs, "start_study", lambda study: None)


def words(app) -> str:
    return " ".join(each.value for each in app.markdown)


def test_wavelets_of_a_query(tiny_run):
    app = opened("frequency", run=tiny_run)
    assert app.title[0].value == "Frequency"
    assert not app.error
    assert components(app)
    assert "PHA keeps the 40%" in captions(app)
    assert "was not trained so" in captions(app)
    app.selectbox(key="wavelet").select("db2").run()
    app.selectbox(key="level").select("2").run()
    app.selectbox(key="drop").select("zeroed").run()
    assert "(db2, 2 levels)" in captions(app)
    assert "set to zero" in captions(app)
    told = "in steps of 5 where there is most detail and of 1 elsewhere"
    assert f"{told}, which" in captions(app) and "one step holds" not in captions(app)
    app.selectbox(key="drop").select("5").run()
    assert f"{told}; here one step holds everywhere" in captions(app)
    assert not app.exception
    assert app.query_params["wavelet"] in ("db2", ["db2"])


def test_the_steps_set_the_widgets(tiny_run):
    app = opened("frequency", run=tiny_run)
    first, second, third = (app.button(key=f"frequency step {number}") for number in (1, 2, 3))
    assert (first.label, second.label) == ("Detail sits in few patches", "High and low grow alike")
    third.click().run()
    assert app.session_state["part"] == "One query"
    assert "average precision falls to" in words(app)
    cutoff, band = app.session_state["cutoff"], app.session_state["band"]
    assert f"{cutoff} of Nyquist" in words(app)
    # What the step says is what the page shows.
    assert cutoff in frequency_query.CUTOFFS and band in ("low-pass", "high-pass")
    label = f"{band} at {cutoff}"
    assert label in str(drawn(app, "pictures"))


def test_one_query_follows_the_cut_off(tiny_run):
    app = opened("frequency", run=tiny_run, part="One query", cutoff="1.42", band="low-pass")
    everything = drawn(app, "ranked_gallery")
    app.select_slider(key="cutoff").set_value("0.025").run()
    assert not app.exception
    assert drawn(app, "ranked_gallery") != everything
    app.segmented_control(key="band").set_value("high-pass").run()
    assert "mid-gray" in captions(app) and "no colour" not in captions(app)
    assert "colours that change faster than the cut-off stay" in captions(app)
    assert app.query_params["cutoff"] in ("0.025", ["0.025"])


def test_a_query_without_a_true_match_has_no_curve(tiny_run):
    app = opened("frequency", run=tiny_run, part="One query", query=unmatched(open_run(tiny_run)))
    assert "has no true match for this query" in captions(app) and "nan" not in captions(app)
    charts = [json.loads(each.proto.spec) for each in app.get("plotly_chart")]
    names = [line.get("name") for each in charts for line in each["data"]]
    assert "energy kept" in names and "average precision" not in names
    assert any("no true match" in str(each["layout"].get("annotations")) for each in charts)


@pytest.mark.parametrize("part", ["Through depth", "Attention"])
def test_what_the_study_of_tokens_found(tiny_run, part):
    found = Study.asked(open_run(tiny_run), "tokens-frequency", dict(wavelet="haar", share=0.4))
    layers = found.compute()["layers"]
    app = opened("frequency", run=tiny_run, part=part)
    assert not app.error
    assert "random" in captions(app)
    if part == "Through depth":
        assert f"**{tiny_run}**: the cosine goes from" in words(app)
        assert len(layers) == 2
    else:
        app.segmented_control(key="over").set_value("high-frequency ones").run()
        assert "averaged over high-frequency ones" in captions(app)
    assert not app.exception


def test_what_is_lost(tiny_run):
    app = opened("frequency", run=tiny_run, part="What is lost")
    assert any(each.label.startswith("Filter the test split") for each in app.button)
    Study.asked(open_run(tiny_run), "filters").compute()
    app.run()
    assert "random order" in captions(app)
    assert "lay a CNN beside" in said(app)
    app.segmented_control(key="score").set_value("rank-1").run()
    assert "rank-1 when queries" in captions(app)
    assert not app.exception


def test_the_step_sets_what_its_words_are_about(runs, nothing_starts):
    imported("pha", "pha", high_frequency_share=0.3, wavelet="db2")
    values = frequency_tokens.usual_values(open_run("pha"))
    assert (values["wavelet"], values["share"]) == ("haar", "0.4")
    app = opened("frequency", run="pha", part="Through depth")
    assert app.session_state["wavelet"] == "db2"
    for key, value in values.items():
        app.session_state[key] = value
    app.run()
    assert (app.session_state["wavelet"], app.session_state["share"]) == ("haar", "0.4")
    assert not app.exception and "Lay another run beside" in frequency_tokens.depth_in_words()


@pytest.mark.parametrize("part", ["Wavelets", "What is lost", "One query"])
def test_a_link_to_a_query(tiny_run, part):
    run = open_run(tiny_run)
    Study.asked(run, "filters", {"identities": 0}).compute()
    label = cached.labels(tiny_run, run.stamp())[-1]
    app = opened("frequency", run=tiny_run, part=part, against=[], query=label)
    assert app.session_state["query"] == label and not app.warning
    if part == "What is lost":
        assert f"Query {label} as the models get it" in captions(app).replace("\\", "")
    app = opened("frequency", run=tiny_run, part=part, against=[], query="nobody.jpg")
    assert "has no query nobody.jpg" in said(app)


def test_scores_stay_when_their_images_are_gone(tiny_run, runs, monkeypatch):
    """Between two looks at the folder, that is: a study of changed images is computed anew."""
    monkeypatch.setattr("reid_core.studies.images.stamp", lambda run: [])
    root = runs.parent / "half"
    shutil.copytree(open_dataset("pedestrians").root, root)
    run = open_run(tiny_run)
    run.write("experiment.json", json.dumps(run.record | dict(data=str(root))).encode())
    Study.asked(open_run(tiny_run), "filters").compute()
    for path in (root / "query").iterdir():
        path.unlink() if path.name.endswith("1.jpg") else path.write_bytes(b"")
    app = opened("frequency", run=tiny_run, part="What is lost")
    assert "random order" in captions(app)


def test_a_picture_of_one_colour(monkeypatch):
    """Without any detail nothing is divided by it."""
    tiles = []
    monkeypatch.setattr(figures, "pictures", lambda drawn, *_, **__: tiles.extend(drawn))
    for value in (0.0, 0.5):
        image = np.full((3, 64, 32), value)
        for wavelet in ("haar", "db20", "bior6.8"):
            split = filters.subbands(image, wavelet, 1)
            frequency._sub_bands(image, split)
            frequency._dropped(image, split, frequency.KEPT)
    assert tiles[2]["note"] == "0.00% of the energy"


def test_a_refined_query_is_not_said_to_be_in_the_runs_own_set(runs):
    """Filtered, it meets the gallery alone; unfiltered, all queries were in the set too."""
    made("refined")
    app = opened("frequency", run="refined", part="One query")
    assert "unfiltered, with all queries in the refined set, it is" in captions(app)
    assert "refined as one set, without the other queries" in captions(app)


@pytest.mark.parametrize("part", VIEWS)
def test_an_imported_run_without_a_test_split(runs, part, nothing_starts):
    imported("foreign", "resnet-bot")
    app = opened("frequency", run="foreign", part=part)
    assert not app.exception


def test_the_data_set_is_gone(tiny_run, nothing_starts, monkeypatch, tmp_path):
    monkeypatch.setenv("REID_DATA", str(tmp_path / "nowhere"))
    (tmp_path / "nowhere" / "pedestrians").mkdir(parents=True)
    for part in VIEWS:
        app = opened("frequency", run=tiny_run, part=part)
        assert not app.exception


@pytest.mark.parametrize("settings", [{}, dict(variant="official"), dict(wavelet="db2")])
def test_the_patches_are_those_of_a_pha_run(runs, settings):
    """With its own share, wavelet and variant, from the pixels that it would train on."""
    run = imported("pha", "pha", high_frequency_share=0.3, **settings)
    pixels = torch.rand(1, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    asked = frequency_settings.asked_of(run)
    assert asked.trained and asked.share == 0.3
    chosen = frequency_patches.selection(run, pixels, asked.wavelet, asked.share)
    model = run.model()
    with torch.no_grad(), observe(model, "high_frequency") as seen:
        model.places(pixels)
    assert np.array_equal(chosen.kept, seen["high_frequency"][0, 0].bool().numpy())
    assert 0 < chosen.held <= 1


def test_what_trainings_differ_in_stands_beside_a_verdict(runs):
    """Of settings that both have; nothing is said of the machine, or of what only one has."""
    for name, more in (("one", dict(epochs=3, seed=1)), ("two", dict(erase=0.5)), ("three", {})):
        asked = Experiment.create(model="transreid", recipe="demo", settings=TINY | more)
        create(asked, name)
    said = trained.apart("one", "two")
    usual = open_run("two").experiment.epochs
    assert f"epochs 3 and {usual}" in said and "erase 0.0 and 0.5" in said and "seed" not in said
    assert trained.apart("three", "three") == ""
    imported("given")
    assert "How given was trained is not known" in trained.apart("one", "given")


def test_the_verdict_in_words():
    ways = np.array(["original", "wavelet low", "wavelet detail"])
    names = np.array([f"q{number}" for number in range(50)])
    noise = np.random.default_rng(0).normal(0, 0.01, 50)
    cnn = dict(ways=ways, names=names, precision=np.stack([0.8 + noise, 0.7 + noise, 0.4 + noise]))
    vit = dict(ways=ways, names=names, precision=np.stack([0.8 - noise, 0.7 + noise, 0.1 - noise]))
    assert "claim agrees" in frequency_claim.verdict("cnn", "vit", cnn, vit)
    assert "claim disagrees" in frequency_claim.verdict("vit", "cnn", vit, cnn)
    assert "do not decide" in frequency_claim.verdict("cnn", "cnn", cnn, cnn)


def test_differences_are_those_of_the_numbers_as_they_are_shown():
    before, after = np.array([0.7828, 0.7832]), np.array([0.7899, 0.79])
    first, second, change = frequency_tokens.shown(before, after)
    assert (first, second, change) == (0.783, 0.79, 0.007)


def test_the_nearest_stop():
    assert frequency_query.nearest(1.5) == "1.42"
    assert [frequency_query.nearest(each) for each in cutoffs.FINE] == frequency_query.CUTOFFS


def test_the_patch_contrast_of_pha_alone(runs, tiny_run):
    run = imported("pha", "pha")
    assert main(["evaluate", "pha", "--dataset", "pedestrians"]) == 0
    app = opened("frequency", run="pha", part="Patch contrast")
    seen = cached.contrasted("pha", run.stamp(), tuple(_batch_rows("pha", app)))
    (tiles,) = (json.loads(each.json)["tiles"] for each in _pictures(app))
    assert [tile["label"] for tile in tiles][:3] == ["A1", "A2", "B1"]
    for tile, places in zip(tiles, seen.places, strict=True):
        assert np.array_equal(np.flatnonzero(np.array(tile["map"], float) == 1), np.sort(places))
    assert f"loss of this batch is {seen.loss:.3f}" in captions(app)
    app.select_slider(key="kth").set_value("2").run()
    assert not app.exception and "Cosines at place 2." in captions(app)
    (tiles,) = (json.loads(each.json)["tiles"] for each in _pictures(app))
    columns = np.shape(tiles[0]["map"])[1]
    picked = [tile["picked"][0] * columns + tile["picked"][1] for tile in tiles]
    assert picked == seen.places[:, 1].tolist()
    app = opened("frequency", run=tiny_run, part="Patch contrast")
    assert "Patch contrast" not in app.segmented_control(key="part").options


def test_the_patch_contrast_says_what_this_run_does(runs, monkeypatch):
    """Without the jigsaw, by the official variant, and where nobody else is in the batch."""
    imported("pha", "pha", jpm=False, variant="official")
    assert main(["evaluate", "pha", "--dataset", "pedestrians"]) == 0
    asked = []
    monkeypatch.setattr(
        "app.frequency_contrast.figures.chart", lambda *given, **more: asked.append(given)
    )
    monkeypatch.setattr(
        "app.frequency_contrast.contrast.small_batch", lambda *given: _alone(*given)
    )
    app = opened("frequency", run="pha", part="Patch contrast")
    (_, cosines), (drawn, pulls) = asked
    assert "nobody else is in this batch" in cosines.caption and "nan" not in cosines.caption
    assert [line.name for line in drawn.data] == ["p, same identity"]
    assert "variant official adds another" in pulls.caption
    assert cosines.source.endswith("those after the last layer.")
    assert "A1 the query: its first true match." in captions(app)


def _alone(found, ranking, query, others):
    right = ranking.rows[~ranking.ignored & ranking.match][:1]
    return np.concatenate([[query], right])


def _pictures(app):
    return [e.proto for e in app.get("bidi_component") if e.proto.component_name == "pictures"]


def _batch_rows(run: str, app) -> list[int]:
    stamp = open_run(run).stamp()
    found, query = (
        cached.embeddings(run, stamp),
        cached.labels(run, stamp).index(app.session_state["query"]),
    )
    row = int(found.query_rows[query])
    return contrast.small_batch(found, cached.ranked(run, stamp, query), row, 3).tolist()


def test_embeddings_of_another_model_are_told(tiny_run):
    run = open_run(tiny_run)
    found = run.embeddings()
    run.keep_embeddings(replace(found, vectors=found.vectors[:, 1:]))
    assert "that file is of another model" in said(
        opened("frequency", run=tiny_run, part="One query")
    )
