"""The page Frequency, run by Streamlit's own test harness without a browser."""

import numpy as np
import pytest
import torch
from test_app import captions, drawn, imported, nothing_cached, opened, said  # noqa: F401

from app import frequency_lost, frequency_patches, frequency_query, frequency_settings
from reid_core import jobs
from reid_core.analysis import cutoffs
from reid_core.probe import observe
from reid_core.runs import open_run
from reid_core.studies import Study

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
    assert app.get("bidi_component")
    assert "PHA keeps the 40%" in captions(app)
    assert "was not trained so" in captions(app)
    app.selectbox(key="wavelet").select("db2").run()
    app.selectbox(key="level").select("2").run()
    app.selectbox(key="drop").select("zeroed").run()
    assert "(db2, 2 levels)" in captions(app)
    assert "set to zero" in captions(app)
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
    assert "mid-gray" in captions(app)
    assert app.query_params["cutoff"] in ("0.025", ["0.025"])


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


def test_the_verdict_in_words():
    ways = np.array(["original", "wavelet low", "wavelet detail"])
    names = np.array([f"q{number}" for number in range(50)])
    noise = np.random.default_rng(0).normal(0, 0.01, 50)
    cnn = dict(ways=ways, names=names, precision=np.stack([0.8 + noise, 0.7 + noise, 0.4 + noise]))
    vit = dict(ways=ways, names=names, precision=np.stack([0.8 - noise, 0.7 + noise, 0.1 - noise]))
    assert "claim agrees" in frequency_lost.verdict("cnn", "vit", cnn, vit)
    assert "claim disagrees" in frequency_lost.verdict("vit", "cnn", vit, cnn)
    assert "do not decide" in frequency_lost.verdict("cnn", "cnn", cnn, cnn)


def test_the_nearest_stop():
    assert frequency_query.nearest(1.5) == "1.42"
    assert [frequency_query.nearest(each) for each in cutoffs.FINE] == frequency_query.CUTOFFS
