"""The runs that come with the product: small, whole, and as good as their numbers say."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from benchmarks.models import parameters
from reid_core.data import ROOT
from reid_core.evaluate import evaluate
from reid_core.runs import Run
from reid_core.ship import SHIPPED, ship


def shipped(name: str) -> Run:
    return Run(name, ROOT / "checkpoints" / name)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_run_is_small_whole_and_good(name):
    run = shipped(name)
    assert sum(path.stat().st_size for path in run.folder.rglob("*")) < 6 * 2**20
    assert run.shipped and not run.resumable and run.status().state == "finished"
    assert evaluate(run.embeddings()).as_dict() == run.metrics()
    assert run.metrics()["mAP"] >= 0.60
    weights = load_file(run.folder / "weights.safetensors")
    assert not [key for key in weights if "classifier" in key]
    assert {str(w.dtype) for w in weights.values() if w.is_floating_point()} == {"torch.float16"}
    assert not run.model().training


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_run_is_what_the_table_says(name):
    asked = SHIPPED[name]
    experiment = shipped(name).experiment
    assert (experiment.model, experiment.recipe) == (asked["model"], asked["recipe"])
    assert experiment.changed == asked["settings"]


def test_the_readme_gives_the_parameters_of_the_shipped_weights():
    """In the order of SHIPPED, without what only training needs, as the files are."""
    table = (ROOT / "README.md").read_text("utf-8").split("mAP as shipped | parameters |\n")[1]
    rows = table.splitlines()[1 : 1 + len(SHIPPED)]
    titles = [
        "TransReID",
        "RGA",
        "RGA with CBAM",
        "NFormer",
        "PHA",
        *["OH-Former"] * 4,
        "ViT-BoT",
        "ResNet-50-BoT",
    ]
    for name, row, title in zip(SHIPPED, rows, titles, strict=True):
        run = shipped(name)
        kept = load_file(run.folder / "weights.safetensors")
        named = {key for key, _ in run.model().named_parameters()}
        count = sum(weight.numel() for key, weight in kept.items() if key in named)
        assert parameters(run) == count
        assert row.startswith(f"| {title}") and row.endswith(f"| {count / 1e6:.2f} M |"), name


def test_the_example_in_the_readme_runs(tmp_path, monkeypatch):
    example = (ROOT / "README.md").read_text("utf-8").split("```python\n")[1].split("```")[0]
    Image.effect_noise((64, 128), 50).save(tmp_path / "person.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REID_RUNS", str(ROOT / "checkpoints"))
    names = {}
    exec(example, names)
    joint = names["joint"]
    assert joint.shape[0] == joint.shape[1] and np.allclose(joint.sum(axis=1), 1, atol=1e-5)


def test_all_shipped_runs_together_are_small():
    files = [path for name in SHIPPED for path in shipped(name).folder.rglob("*")]
    assert sum(path.stat().st_size for path in files) < 40 * 2**20


def test_nothing_of_a_machine_is_shipped():
    for name in SHIPPED:
        for path in shipped(name).folder.iterdir():
            if path.name in ("studies", "notes.json"):  # a user's, ignored by git
                continue
            assert path.suffix in (".json", ".jsonl", ".txt", ".safetensors", ".npz")
            if path.suffix in (".json", ".jsonl", ".txt"):
                assert str(ROOT) not in path.read_text("utf-8")


def test_shipping_keeps_what_the_run_concluded(tiny_run, runs, tiny_data):
    from reid_core.data import open_dataset
    from reid_core.runs import open_run

    run = open_run(tiny_run)
    scores = ship(run, open_dataset("pedestrians"), runs / "small")
    small = open_run("small")
    assert small.shipped and json.loads((small.folder / "metrics.json").read_text()) == scores
    kept, before = small.embeddings(), run.embeddings()
    np.testing.assert_allclose(kept.vectors, before.vectors, atol=0.02)
    assert scores["mAP"] == pytest.approx(run.metrics()["mAP"], abs=0.02)
