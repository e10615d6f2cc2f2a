"""The ledger: only numbers with a source, and differences only under one protocol."""

import json
import shutil

import numpy as np
import pytest
from test_cli import fails

from reid_core.__main__ import main
from reid_core.data import DATASETS
from reid_core.evaluate import Embeddings
from reid_core.models import MODELS
from reid_core.runs import Run, open_run
from reid_core.scores.ledger import Given, Ledger, given_by, ledger, published
from reid_core.scores.protocols import LEGACY, PROTOCOLS, score
from reid_core.scores.published import ENTRIES, KINDS, METRICS, SETS, UNKNOWN

MARKET_SIZES = dict(queries=3368, gallery=15913)


def test_every_number_has_a_source_and_a_meaning():
    assert len({(*vars(e).values(),) for e in ENTRIES}) == len(ENTRIES)
    for entry in ENTRIES:
        assert entry.model in MODELS and entry.dataset in SETS
        assert entry.metric in METRICS and entry.what in KINDS
        assert entry.protocol in (*PROTOCOLS, UNKNOWN) and 0 < entry.value < 1
        assert entry.source and entry.name
    assert all(set(names) <= set(DATASETS) for _, names in SETS.values())


@pytest.mark.parametrize(
    "model, dataset, metric, value, what",
    [
        ("transreid", "market1501", "mAP", 0.890, "official repository"),
        ("transreid", "msmt17", "rank-1", 0.862, "paper"),
        ("rga", "cuhk03-labeled", "rank-1", 0.811, "paper"),
        ("rga", "cuhk03-labeled", "mAP", 0.748, "re-run by a user"),
        ("nformer", "dukemtmc-reid", "mAP", 0.784, "re-run by a user"),
        ("resnet-bot", "market1501", "mINP", 0.594, "other toolkit"),
    ],
)
def test_numbers_as_they_were_read(model, dataset, metric, value, what):
    found = [
        e.value for e in ENTRIES
        if (e.model, e.dataset, e.metric, e.what) == (model, dataset, metric, what)
    ]  # fmt: skip
    assert value in found


def test_what_is_only_remembered_is_not_there():
    """The reference marks these as recalled from memory: none of them may be printed."""
    values = {(e.model, e.dataset, e.metric): e.value for e in ENTRIES}
    assert not any(e.model in ("pha", "ohformer") for e in ENTRIES)
    assert ("rga", "msmt17", "mAP") not in values and (
        "rga",
        "cuhk03-detected",
        "mAP",
    ) not in values
    assert not [e for e in ENTRIES if (e.dataset, e.what) == ("occluded-duke", "paper")]
    own = [e.value for e in ENTRIES if (e.model, e.dataset) == ("nformer", "market1501")]
    assert sorted(own) == [0.930, 0.947]


def evaluated(run: Run, dataset: str = "market1501", **changed) -> Run:
    """The run as if its last evaluation had been another one."""
    record = run.record | dict(dataset=dataset, data=None)
    run.write("experiment.json", json.dumps(record).encode())
    scores = dict(mAP=0.9, mINP=0.6, cmc={"1": 0.95}, protocol="market", valid_queries=3368)
    run.write("metrics.json", json.dumps(scores | MARKET_SIZES | changed).encode())
    return run


def test_a_run_stands_beside_its_models_numbers(tiny_run):
    run = evaluated(open_run(tiny_run))
    found = ledger([run])
    beside = [line for line in found.compared() if line.run]
    assert {line.entry.model for line in beside} == {"transreid"}
    assert {line.entry.dataset for line in beside} == {"market1501"}
    for line in beside:
        ours = {"mAP": 0.9, "rank-1": 0.95}[line.entry.metric]
        assert line.ours == ours and line.difference == pytest.approx(ours - line.entry.value)
    assert len(found.compared()) == len(ENTRIES)


def test_other_images_in_a_layout_have_nothing_published(tiny_run):
    run = open_run(tiny_run)
    assert given_by(run).dataset is None and "synthetic" in given_by(run).why
    folder = given_by(evaluated(run, queries=24))
    assert folder.dataset is None and "24 queries are not Market-1501's 3368" in folder.why
    assert published("market1501", MARKET_SIZES, holdout=0.2)[0] is None
    assert published("folder", MARKET_SIZES)[0] is None
    assert published("market1501-500k", MARKET_SIZES)[0] is None
    assert published("msmt17-v2-trainval", dict(queries=11659, gallery=82161))[0] == "msmt17"
    assert not [line for line in ledger([run]).compared() if line.run]


def test_another_protocol_is_not_compared(tiny_run):
    run = evaluated(open_run(tiny_run), protocol="single-gallery-shot")
    lines = [line for line in ledger([run]).compared() if line.run]
    assert lines and all(
        line.difference is None and "another protocol" in line.note for line in lines
    )


def test_rga_is_shown_by_both_protocols(tiny_run, runs):
    """Its mAP beside RGA's own quantity, from the stored embeddings; rank-1 is one quantity."""
    run = open_run(tiny_run)
    draw = np.random.default_rng(0)
    count = 60
    stored = Embeddings(
        draw.normal(size=(count, 8)).astype(np.float32),
        np.arange(count).astype(str),
        draw.integers(1, 6, count),
        draw.integers(1, 4, count),
        np.full(count, -1),
        np.arange(count) < 20,
    )
    evaluated(run).keep_embeddings(stored)
    record = run.record
    shutil.copytree(run.folder, runs / "theirs")
    import reid_core.scores.ledger as module

    given = module._wants("rga", "market1501", LEGACY)
    assert given and not module._wants("transreid", "market1501", LEGACY)
    from reid_core.experiment import Experiment

    other = Experiment.create(model="rga", recipe="demo", dataset="market1501")
    (runs / "theirs" / "experiment.json").write_text(
        json.dumps(record | other.as_dict()), encoding="utf-8"
    )
    lines = {
        (line.entry.metric, line.entry.protocol): line
        for line in ledger([open_run("theirs")]).compared()
        if line.run
    }
    legacy, rank = lines["mAP", LEGACY], lines["rank-1", "market"]
    assert legacy.ours == pytest.approx(score(stored, LEGACY).mAP)
    assert legacy.difference == pytest.approx(legacy.ours - 0.884)
    assert rank.ours == 0.95
    assert set(given_by(open_run("theirs")).scores) == {"market", LEGACY}


def test_the_command(tiny_run, runs, capsys):
    (runs / "damaged").mkdir()
    (runs / "damaged" / "experiment.json").write_text("{")
    shutil.copytree(runs / tiny_run, runs / "halved")
    (runs / "halved" / "metrics.json").write_text('{"mAP": 0.5}')
    assert main(["ledger"]) == 0
    text, told = capsys.readouterr()
    assert "run 'halved' has a damaged metrics.json" in told
    assert "89.0%" in text and "README of damo-cv/TransReID" in text
    assert f"{tiny_run}: evaluated on the synthetic pedestrians" in text and "halved" not in text
    evaluated(open_run(tiny_run))
    assert main(["ledger", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"entries", "runs", "notes"}
    (line,) = [
        each for each in found["entries"]
        if each["run"] and each["entry"]["value"] == 0.89 and each["entry"]["metric"] == "mAP"
    ]  # fmt: skip
    assert line["difference"] == pytest.approx(0.01)
    assert main(["ledger"]) == 0
    assert f"{tiny_run} 90.0% (+1.0 points)" in capsys.readouterr().out
    assert "unrecognized" in fails(capsys, "ledger", "--all")


def test_without_any_run(runs):
    assert len(Ledger(ENTRIES, ()).compared()) == len(ledger().compared()) == len(ENTRIES)


@pytest.mark.parametrize(
    "model, trained, why",
    [
        ("transreid", "msmt17-v1-trainval", ""),
        ("transreid", "msmt17-v2", "on v2, reported on v1"),
        ("nformer", "msmt17-v1", "on v1, reported on v2"),
        ("resnet-bot", "msmt17-v1", "does not say which version"),
    ],
)
def test_versions_of_msmt17_are_not_compared(model, trained, why):
    scores = {each: {"mAP": 0.5, "rank-1": 0.7, "mINP": 0.1} for each in PROTOCOLS}
    run = Given("mine", model, "paper", trained, "msmt17", "", scores)
    lines = [each for each in Ledger(ENTRIES, (run,)).compared() if each.run]
    assert lines and all((each.difference is None) == bool(why) for each in lines)
    assert all(why in each.note for each in lines)
