"""The pages Ledger and Scores, run by Streamlit's own test harness without a browser."""

import shutil

import numpy as np
import pytest
from test_app import captions, nothing_cached, opened, said  # noqa: F401
from test_ledger import evaluated
from test_nformer import refined  # noqa: F401 - a fixture

from app import charts_scores
from app.charts import QUIET
from app.ledger import TITLES
from reid_core.runs import open_run
from reid_core.scores.ledger import Given, Line
from reid_core.scores.protocols import PROTOCOLS, score
from reid_core.scores.published import ENTRIES
from reid_core.scores.verification import roc


def tables(app) -> list:
    return [each.value for each in app.dataframe]


def test_the_ledger_lists_the_numbers_of_a_data_set(tiny_run):
    app = opened("ledger")
    shown = tables(app)[0]
    here = [e for e in ENTRIES if (e.dataset, e.metric) == ("market1501", "mAP")]
    assert len(shown) == len(here) and set(shown["source"]) == {e.source for e in here}
    assert (shown["difference"] == "").all() and "No run here" in captions(app)
    assert tables(app)[1]["run"].tolist() == [tiny_run]
    assert "synthetic" in tables(app)[1]["why"][0]
    metrics = open_run(tiny_run).metrics()  # which of the folders of one name it was
    assert tables(app)[1]["gallery"][0] == metrics["gallery"] > tables(app)[1]["queries"][0] > 0
    app.segmented_control(key="metric").set_value("rank-1").run()
    assert "95.1%" in tables(app)[0]["reported"].tolist() and not app.exception
    app.selectbox(key="set").select("cuhk03-labeled").run()
    assert "81.1%" in tables(app)[0]["reported"].tolist() and not app.exception


def test_a_run_on_that_data_set_stands_beside_them(tiny_run):
    evaluated(open_run(tiny_run))
    app = opened("ledger", set="market1501", metric="mAP")
    shown = tables(app)[0]
    beside = shown[shown["run"] == tiny_run]
    assert all(name.startswith("TransReID") for name in beside["whose number"]) and set(
        beside["this run"]
    ) == {"90.0%"}
    assert "+1.0" in beside["difference"].tolist()
    assert "1 of the runs here" in captions(app) and len(tables(app)) == 1


def test_each_number_says_whose_it_is():
    """In the figure and in the table's first column: no number stands at another network's name."""
    here = [e for e in ENTRIES if (e.dataset, e.metric) == ("market1501", "mAP")]
    own = Given(
        "mine", "resnet-bot", "demo", "market1501", "market1501", "", {"market": {"mAP": 0.8}}
    )
    figure = charts_scores.ledger([Line(e) for e in here], [own], "mAP", TITLES)
    rows = list(figure.layout.yaxis.categoryarray)[::-1]
    assert rows[-3:] == ["BoT on ResNet-50", "BoT on ResNet-101-ibn", "ResNet-50-BoT, runs here"]
    drawn = {(y, x) for trace in figure.data for x, y in zip(trace.x, trace.y, strict=True) if y}
    assert {("BoT on ResNet-101-ibn", 0.889), ("NFormer on ABD-Net", 0.93)} < drawn
    named = [trace for trace in figure.data if trace.showlegend is not False]
    assert [each.name for each in named][-1] == "runs here" and len(named) > 2
    assert {each.marker.color for each in named} == {QUIET}  # colour is the model, not the source
    assert len(drawn) == len(here) + 1 and {y for y, _ in drawn} == set(rows)
    first = tables(opened("ledger"))[0]
    assert first.columns[0] == "whose number"
    assert first["reported"][first["whose number"] == "BoT on ResNet-101-ibn"].tolist() == ["88.9%"]


def test_the_ledger_without_a_run(runs):
    app = opened("ledger")
    assert "no evaluated run" in said(app).lower() and len(tables(app)) == 1


def test_scores_by_every_protocol(tiny_run):
    app, found = opened("scores"), open_run(tiny_run).embeddings()
    shown = app.table[0].value.set_index("protocol")
    assert list(shown.index) == [k for k, p in PROTOCOLS.items() if not p.refined]
    for name in shown.index:
        scored = score(found, name)
        assert shown["mAP"][name].startswith(f"{scored.mAP:.3f}  \n:small[")
        assert shown["gallery"][name] == scored.gallery
    assert PROTOCOLS["market"].about in captions(app)


@pytest.mark.parametrize("rate, share", [("1 %", 0.01), ("20 %", 0.2)])
def test_the_threshold_at_a_rate(tiny_run, rate, share):
    app = opened("scores", far=rate, protocol="rga-sklearn-legacy")
    point = roc(open_run(tiny_run).embeddings()).at(share)
    assert f"Nearer than {point.threshold:.3f}" in captions(app)
    assert f"{point.true_accepts:.1%} of the" in captions(app)
    assert app.session_state["protocol"] == "rga-sklearn-legacy"


def test_scores_of_refined_embeddings(refined):  # noqa: F811
    app = opened("scores", run="refined")
    assert app.table[0].value["protocol"].tolist() == ["nformer-joint"]


def test_scores_of_a_split_without_another_camera(tiny_run):
    run = open_run(tiny_run)
    found = run.embeddings()
    found.cameras[:] = 1
    run.keep_embeddings(found)
    app = opened("scores")
    assert "none of 8 queries has a match" in said(app).lower() and not app.exception


def test_scores_of_damaged_and_missing_embeddings(tiny_run, runs):
    shutil.copytree(runs / tiny_run, runs / "damaged")
    (runs / "damaged" / "embeddings.npz").write_bytes(b"half")
    assert "damaged" in said(opened("scores", run="damaged"))
    (runs / "damaged" / "embeddings.npz").unlink()
    assert not opened("scores", run="damaged").exception
    run = open_run(tiny_run)
    found = run.embeddings()
    found.vectors[0, 0] = np.nan
    run.keep_embeddings(found)
    assert "NaN" in said(opened("scores", run=tiny_run))
