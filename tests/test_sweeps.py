"""Sweeps: planned whole, queued in order, and summed up over their seeds."""

import json

import numpy as np
import pytest
from conftest import TINY
from streamlit.testing.v1 import AppTest

from app import charts_sweeps
from reid_core import jobs
from reid_core.__main__ import main
from reid_core.errors import BadInput
from reid_core.experiment import Experiment
from reid_core.jobs import queue, runner
from reid_core.jobs.sweeps import MOST, Band, band, final, planned, sweeps
from reid_core.runs import open_run
from reid_core.train import create

ASKED = dict(model="transreid", recipe="demo", dataset="pedestrians", data=None)


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch):
    monkeypatch.setattr(runner, "revive", lambda: None)


def made(name: str, value: str, seed: int, scores: list[float], state: str = "finished") -> None:
    """A run of a sweep with an epoch for each score; None is an epoch without an evaluation."""
    asked = Experiment.create(**ASKED, settings=TINY | dict(erase=value, seed=seed))
    note = dict(sweep=dict(name=name, key="erase", value=value, seed=seed))
    run = create(asked, f"{name}-{value}-s{seed}", note)
    for epoch, score in enumerate(scores, 1):
        entry = dict(epoch=epoch, loss=epoch + seed)
        scores = dict(mAP=score, mINP=score, rank1=score)
        run.add_epoch(entry if score is None else entry | scores)
    run.report(state)


def test_a_sweep_over_a_knob_and_seeds_is_queued_in_order(runs):
    names = jobs.start_sweep(
        "drop", **ASKED, key="erase", values=["0", "0.5"], seeds=[0, 2], settings=TINY
    )
    assert names == ["drop-0-s0", "drop-0-s2", "drop-0.5-s0", "drop-0.5-s2"]
    assert [each.run.name for each in queue.waiting()] == names
    last = open_run("drop-0.5-s2")
    assert (last.experiment.training.erase, last.experiment.training.seed) == (0.5, 2)
    assert last.record["sweep"] == dict(name="drop", key="erase", value="0.5", seed=2)
    found = sweeps()["drop"]
    assert found.key == "erase" and list(found.runs) == ["0", "0.5"]
    assert [run.name for run in found.runs["0"]] == names[:2]


def test_a_sweep_on_the_command_line(runs, capsys):
    settings = [f"{key}={value}" for key, value in TINY.items()]
    what = ["sweep", "--model", "transreid", "--name", "s", "--set", *settings]
    assert main([*what, "--seeds", "0,1,2"]) == 0
    assert capsys.readouterr().out.split() == ["s-s0", "s-s1", "s-s2"]
    assert open_run("s-s1").record["sweep"] == dict(name="s", key="", value="", seed=1)
    assert main([*what, "--seeds", "0,x"]) == 2
    assert main([*what, "--sweep", "erase"]) == 2
    assert main(["sweep", "--model", "transreid"]) == 2
    assert "--name is missing" in capsys.readouterr().err
    assert main(["sweep", "--show", "s"]) == 0
    assert "no mAP yet" in capsys.readouterr().out
    assert main(["sweep", "--show", "t"]) == 2


@pytest.mark.parametrize(
    "wrong, said",
    [
        (dict(key="colour", values=["1"]), "unknown key"),
        (dict(key="seed", values=["1"]), "--seeds"),
        (dict(key="erase", values=["0.5", "2"]), "erase: expected"),
        (dict(key="erase", values=["0.5", "0.50"]), "are one value"),
        (dict(key="margin", values=["0.3", "soft", "0.30"]), "are one value"),
        (dict(key="steps", values=["4,7", "4, 7"]), "are one value"),
        (dict(key="erase"), "at least one value"),
        (dict(key="erase", values=["0"], settings={"erase": 1}), "is swept over"),
        (dict(seeds=[1, 1]), "each once"),
        (dict(seeds=[]), "each once"),
        (dict(seeds=list(range(MOST + 1))), f"{MOST} at most"),
        (dict(name="a b"), "run name"),
        (dict(key="steps", values=["1 2", "1-2"]), "steps|named"),
    ],
)
def test_what_can_not_be_is_told_and_nothing_is_created(runs, wrong, said):
    with pytest.raises(BadInput, match=said):
        jobs.start_sweep(**dict(name="s") | ASKED | wrong)
    assert not [path for path in runs.iterdir() if path.name[0] != "."]


def test_a_member_that_can_not_be_leaves_none_of_the_others(runs):
    with pytest.raises(BadInput, match="identities_per_batch: 500 asked for"):
        small = {key: value for key, value in TINY.items() if key != "identities_per_batch"}
        what = dict(key="identities_per_batch", values=["4", "500"], settings=small)
        jobs.start_sweep("half", **ASKED, **what)
    assert not [path for path in runs.iterdir() if path.name[0] != "."]


def test_a_taken_name_stops_the_whole_sweep(runs):
    made("s", "0.5", 1, [0.1])
    with pytest.raises(BadInput, match="exists already"):
        planned("s", **ASKED, key="erase", values=["0", "0.5"], seeds=[0, 1])


def test_another_sweep_of_that_name_is_refused_and_more_of_it_is_not(runs):
    """It would stand in one table with the first."""
    made("s", "0.5", 1, [0.1])
    with pytest.raises(BadInput, match="sweep 's' is over erase"):
        planned("s", **ASKED, seeds=[0, 1], settings=TINY)
    more = dict(key="erase", values=["0.2", "0.5"], seeds=[0])
    with pytest.raises(BadInput, match="sweep 's' has other epochs; give"):
        planned("s", **ASKED, **more, settings=TINY | dict(epochs=7))
    assert len(planned("s", **ASKED, **more, settings=TINY)) == 2
    with pytest.raises(BadInput, match=r"has '5e-1' as '0\.5'; write it so"):
        planned("s", **ASKED, key="erase", values=["5e-1"], seeds=[0], settings=TINY)


def test_mean_and_spread_over_the_seeds_that_have_come_so_far(runs):
    histories = {0: [0.1, 0.4, 0.6], 1: [0.3, 0.2], 2: [None, 0.9, 0.3]}
    for seed, scores in histories.items():
        made("s", "0.5", seed, scores, "finished" if len(scores) == 3 else "running")
    made("s", "0", 0, [0.5])
    found = sweeps()["s"]
    assert list(found.runs) == ["0", "0.5"]
    several = found.runs["0.5"]
    scored, lost = band(several, "mAP"), band(several, "loss")
    for place, epoch in enumerate((1, 2, 3)):  # by hand
        kept = [s[place] for s in histories.values() if len(s) > place and s[place] is not None]
        assert scored.epochs[place] == epoch and scored.seeds[place] == len(kept)
        assert scored.mean[place] == pytest.approx(sum(kept) / len(kept))
        assert (scored.low[place], scored.high[place]) == (min(kept), max(kept))
    np.testing.assert_allclose(lost.mean, [2, 3, 4])
    np.testing.assert_allclose(final(several), [0.6, 0.3])  # of those that are finished
    assert band([], "mAP").epochs.size == 0 and final([]).size == 0


def test_the_last_scores_on_the_command_line(runs, capsys):
    made("s", "0.5", 0, [0.1, 0.4])
    made("s", "0.5", 1, [0.1, 0.2])
    made("s", "0.5", 2, [0.9], "stopped")
    assert main(["sweep", "--show", "s"]) == 0
    out = capsys.readouterr().out
    assert "erase=0.5" in out and "mAP 0.300 (0.200 to 0.400)" in out and "2 of 3" in out
    assert main(["sweep", "--show", "s", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["mAP"] == [0.4, 0.2]


def test_a_sweep_to_show_where_there_is_none(runs, capsys):
    assert main(["sweep", "--show", "x"]) == 2
    said = capsys.readouterr().err
    assert "unknown sweep 'x'; there is none yet: start one with sweep --name" in said


def test_values_that_were_scored_on_other_images_are_not_compared(runs, capsys):
    for value in ("0.0", "0.5"):
        asked = Experiment.create(**ASKED, settings=TINY | dict(holdout=value))
        note = dict(sweep=dict(name="h", key="holdout", value=value, seed=0))
        run = create(asked, f"h-{value}", note)
        run.add_epoch(dict(epoch=1, loss=1.0, mAP=0.5, mINP=0.5, rank1=0.5))
        run.report("finished")
    assert main(["sweep", "--show", "h"]) == 0
    one, other = capsys.readouterr().out.splitlines()
    assert one.endswith(", on the test split") and other.endswith("on held-out training identities")
    app = AppTest.from_file("../app/main.py", default_timeout=240)
    app.query_params |= dict(view="Sweep", sweep="h")
    app.run().switch_page("../pages/train.py").run()
    captions = [each.value for each in app.caption if "not to be compared" in each.value]
    assert len(captions) == 2 and "the test split or held-out training identities" in captions[0]


def test_a_member_that_failed_is_told_with_its_reason(runs, capsys):
    made("s", "0", 0, [0.1])
    made("s", "0.5", 0, [], "failed")
    open_run("s-0.5-s0").report_end("failed", "the loss became NaN")
    assert main(["sweep", "--show", "s"]) == 0
    assert "  s-0.5-s0 failed: the loss became NaN\n" in capsys.readouterr().out
    assert main(["sweep", "--show", "s", "--json"]) == 0
    good, bad = json.loads(capsys.readouterr().out)
    assert good["failed"] == {} and bad["failed"] == {"s-0.5-s0": "the loss became NaN"}
    app = AppTest.from_file("../app/main.py", default_timeout=240)
    app.query_params |= dict(view="Sweep", sweep="s")
    app.run().switch_page("../pages/train.py").run()
    rows = app.dataframe[-1].value.set_index("erase")
    assert rows.loc["0.5", "failed"] == "s-0.5-s0: the loss became NaN"
    assert rows.loc["0.5", "mAP"] == "none" and rows.loc["0", "failed"] == ""


@pytest.mark.parametrize("content", ['{"epo', "", "[]", '{"epoch": 1, "loss": "x"}'])
def test_a_member_whose_history_is_damaged_hides_no_other(runs, capsys, content):
    for seed in range(3):
        made("s", "0.5", seed, [0.1 * seed])
    (runs / "s-0.5-s0" / "history.jsonl").write_text(content)
    assert main(["sweep", "--show", "s"]) == 0
    said = capsys.readouterr().out
    assert "mAP 0.150 (0.100 to 0.200)" in said and "2 of 3 finished" in said
    assert "  s-0.5-s0 failed: its history.jsonl is damaged or holds no mAP\n" in said
    assert band(sweeps()["s"].runs["0.5"], "loss").seeds.tolist() == [2]


@pytest.mark.parametrize("note", [dict(name=5), dict(name=["a"]), dict(key=["a"]), dict(seed="x")])
def test_a_damaged_note_of_one_run_costs_no_other(runs, note):
    for seed in range(2):
        made("s", "0.5", seed, [0.1])
    path = runs / "s-0.5-s0" / "experiment.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | dict(sweep=record["sweep"] | note)))
    found = sweeps()
    assert [run.name for run in found["s"].runs["0.5"]] == ["s-0.5-s1"] and len(found) == 1


def test_an_empty_value_is_one_where_the_knob_allows_it(runs, tiny_run):
    asked = ASKED | dict(model="nformer")
    members = planned("s", **asked, key="encoder", values=["", tiny_run])
    assert [each.run for each in members] == ["s-none-s0", f"s-{tiny_run}-s0"]
    with pytest.raises(BadInput, match="erase: expected a number"):
        jobs.start_sweep("s", **ASKED, key="erase", values=["0.5", ""], seeds=[0], where="here")


def test_values_stand_by_size_and_a_foreign_note_is_no_sweep(runs):
    for value in ("1", "0.25", "0.5"):
        made("s", value, 0, [])
    path = runs / "s-1-s0" / "experiment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(sweep="mine")))
    assert list(sweeps()["s"].runs) == ["0.25", "0.5"]


def test_a_figure_draws_the_bands_that_it_is_given():
    epochs = np.array([1, 2])
    one = Band(epochs, np.array([0.2, 0.4]), np.array([0.1, 0.3]), np.array([0.3, 0.9]), epochs)
    figure = charts_sweeps.bands({"erase 0": one, "erase 1": one}, "mAP")
    high, low, mean = figure.data[:3]
    assert list(high.y) == [0.3, 0.9] and list(low.y) == [0.1, 0.3] and low.fill == "tonexty"
    assert list(mean.y) == [0.2, 0.4] and mean.name == "erase 0" and figure.layout.showlegend
    assert figure.data[5].line.color != mean.line.color
    assert mean.error_y.array is None
    alone = Band(*(np.atleast_1d(each[0]) for each in vars(one).values()))
    bar = charts_sweeps.bands({"seeds": alone}, "mAP").data[2].error_y  # a band without width
    assert np.allclose([bar.array[0], bar.arrayminus[0]], [0.1, 0.1])
