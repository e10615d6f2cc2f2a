"""The demo recipes, in full: minutes, so only in make test-long."""

import pytest

from benchmarks.pedestrians import demo, histograms, untrained
from reid_core.data import ROOT, open_dataset
from reid_core.data.pedestrians import render
from reid_core.evaluate import evaluate
from reid_core.experiment import Experiment
from reid_core.models import MODELS
from reid_core.runs import Run
from reid_core.ship import SHIPPED

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """The default pedestrians, whatever the rest of the suite makes do with."""
    root = tmp_path_factory.mktemp("default") / "pedestrians"
    render(root)
    return open_dataset("pedestrians", root)


@pytest.mark.parametrize("name", MODELS)
def test_the_demo_recipe_learns_what_colours_do_not_tell(name, default, tmp_path, monkeypatch):
    monkeypatch.setenv("REID_RUNS", str(tmp_path))
    experiment = Experiment.create(model=name, recipe="demo", data=str(default.root))
    colours = evaluate(histograms(default)).mAP
    nothing = evaluate(untrained(experiment, default)).mAP
    run, seconds = demo(experiment)
    trained = run.metrics()["mAP"]
    print(f"HSV {colours:.3f}, untrained {nothing:.3f}, {name} {trained:.3f} in {seconds:.0f} s")
    assert 0.10 < colours < 0.45
    assert trained >= max(0.50, colours + 0.20, nothing + 0.20)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_run_beats_them_too(name, default):
    run = Run(name, ROOT / "checkpoints" / name)
    colours = evaluate(histograms(default)).mAP
    nothing = evaluate(untrained(run.experiment, default)).mAP
    assert run.metrics()["mAP"] >= max(0.60, colours + 0.20, nothing + 0.20)
    names = [f"query/{path.name}" for path in default.query.paths]
    assert run.embeddings().names[: len(names)].tolist() == names
