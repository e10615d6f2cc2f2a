"""Runs as ONNX: the same embeddings in onnxruntime, for every model, and nothing else left behind."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from formula import filled
from test_cli import fails
from test_models import SMALL

import reid_core.export
from reid_core.__main__ import main
from reid_core.experiment import Experiment, knobs
from reid_core.export import SetGraph, write
from reid_core.models import Batch, Facts
from reid_core.runs import Run, build

FACTS = Facts(4, (2, 3, 5), (0, 1))


def make(case: str, **settings) -> Run:
    """A run of a small model, its weights by formula."""
    name = case.split()[0]
    settings = dict(pretrained="none", size="64x32") | SMALL[case] | settings
    known = {knob.name for knob in knobs(name)}
    settings = {key: value for key, value in settings.items() if key in known}
    experiment = Experiment.create(model=name, recipe="demo", settings=settings)
    torch.manual_seed(0)
    weights = {
        key: filled(key, tuple(own.shape)) if own.is_floating_point() else own
        for key, own in build(experiment, FACTS).state_dict().items()
    }
    if case == "rga":  # nearly shut gates, of which onnxruntime's own sigmoid leaves no digit
        weights["attentions.layer4.channel.weigh.4.bias"].fill_(-17)
    return Run.create(experiment, FACTS, "small", weights=weights)


def session(path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def close(found: np.ndarray, expected: torch.Tensor) -> bool:
    expected = expected.numpy()
    return np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)


FIRST = (
    "transreid",
    "ohformer shared",
)  # the odd operations; two graphs: the neighbour transformer


@pytest.mark.parametrize(
    "case", [c if c in FIRST else pytest.param(c, marks=pytest.mark.long) for c in SMALL]
)
def test_every_model(runs, tmp_path, case, capsys):
    run = make(case)
    out = tmp_path / "f.onnx"
    assert main(["export", "small", "--out", str(out)]) == 0
    written, told = capsys.readouterr()
    paths = [out] + ([tmp_path / "f.refine.onnx"] if case == "nformer" else [])
    assert written.split() == [str(path) for path in paths]
    assert sorted(tmp_path.glob("f*")) == paths  # no weights beside them
    assert told.count("in onnxruntime") == told.count("\n") == len(paths)
    for path in paths[1:]:
        told = session(path).get_modelmeta().custom_metadata_map
        assert "manual_seed(0), torch.randperm(N" in told["landmarks"] and "size" not in told
    onnx.checker.check_model(out)
    graph, model = session(out), run.model()
    names = [each.name for each in graph.get_inputs()]
    assert names == ["image", *(["camera"] if run.experiment.knows_cameras else [])]
    assert [each.name for each in graph.get_outputs()] == ["embedding"]
    for count in (1, 2, 5):
        image, camera = torch.randn(count, 3, 64, 32), torch.arange(count) % 4 - 1
        batch = Batch(image, camera, torch.full((count,), -1))
        inputs = {"image": image.numpy(), "camera": camera.numpy()}
        (found,) = graph.run(None, {name: inputs[name] for name in names})
        with torch.no_grad():
            assert close(found, model(batch).embedding)


@pytest.mark.long
@pytest.mark.parametrize("sie", ["view", "both"])
def test_cameras_and_views(runs, tmp_path, sie):
    model = make("transreid", sie=sie).model()
    assert main(["export", "small", "--out", str(tmp_path / "f.onnx"), "--neck", "after"]) == 0
    model.neck, graph = "after", session(tmp_path / "f.onnx")
    names = ["image", "camera", "view"] if sie == "both" else ["image", "view"]
    assert [each.name for each in graph.get_inputs()] == names
    camera, view = torch.tensor([0, 1, 2, -1, 0, -1]), torch.tensor([0, 1, -1, 0, 1, -1])
    batch = Batch(torch.randn(6, 3, 64, 32), camera, view)
    (found,) = graph.run(None, {name: getattr(batch, name).numpy() for name in names})
    with torch.no_grad():
        assert close(found, model(batch).embedding)
    properties = graph.get_modelmeta().custom_metadata_map
    assert (properties["size"], properties["neck"]) == ("64x32", "after")
    assert json.loads(properties["views"]) == [0, 1]
    assert json.loads(properties["cameras"]) == ([2, 3, 5] if sie == "both" else [])
    assert "landmarks" not in properties
    assert json.loads(properties["mean"]) == [0.5, 0.5, 0.5] and properties["licence"]


@pytest.mark.long
@pytest.mark.parametrize("neck", ["before", "after"])
def test_the_neighbour_transformer(runs, tmp_path, neck):
    """Sets of any size, fewer images than landmarks and neighbours too."""
    model = make("nformer", neighbours=6, landmarks=4).model()
    model.neck = neck
    with torch.no_grad():
        write(SetGraph(model), tmp_path / "f.onnx", {})
    graph = session(tmp_path / "f.onnx")
    assert [each.name for each in graph.get_inputs()] == ["features"]
    for count in (1, 3, 5, 60):
        features = torch.randn(count, 16)
        draw = torch.Generator().manual_seed(0)
        drawn = [torch.randperm(count, generator=draw)[:4].numpy() for _ in range(2)]
        asked = {"features": features.numpy(), "landmarks": np.stack(drawn)}
        with torch.no_grad():
            expected = model.refine(features)
        assert close(graph.run(None, asked)[0], expected)
        asked.pop("landmarks")
        (usual,) = graph.run(None, asked)
        assert usual.shape == (count, 16) and np.isfinite(usual).all()
        assert close(usual, expected) == (count <= 4)  # then every image is a landmark


def test_a_difference_leaves_no_file(tiny_run, tmp_path, capsys, monkeypatch):
    out = tmp_path / "f.onnx"
    out.write_bytes(b"an older one")
    monkeypatch.setattr(reid_core.export, "compare", lambda *_: 3e-3)
    assert main(["export", "tiny", "--out", str(out)]) == 1
    written, told = capsys.readouterr()
    assert written == "" and "differs from the model's by 3.0e-03" in told
    assert list(tmp_path.glob("*f.onnx*")) == [out] and out.read_bytes() == b"an older one"


@pytest.mark.long
def test_a_second_graph_that_differs_leaves_both_old_files(runs, tmp_path, monkeypatch):
    run = make("nformer")
    out = tmp_path / "f.onnx"
    out.write_bytes(b"an older one")
    differences = iter((0.0, 3e-3))
    monkeypatch.setattr(reid_core.export, "compare", lambda *_: next(differences))
    with pytest.raises(reid_core.export.Unequal):
        reid_core.export.export(run, out)
    assert [path.name for path in tmp_path.glob("*onnx*")] == ["f.onnx"]
    assert out.read_bytes() == b"an older one"


def test_mistakes(tiny_run, tmp_path, capsys, monkeypatch):
    export = ["export", "tiny", "--out"]
    assert "ends in .onnx" in fails(capsys, *export, str(tmp_path))
    (tmp_path / "folder.onnx").mkdir()
    assert "is a folder" in fails(capsys, *export, str(tmp_path / "folder.onnx"))
    assert "no folder" in fails(capsys, *export, str(tmp_path / "none" / "f.onnx"))
    assert "unknown run" in fails(capsys, "export", "tinny", "--out", "f.onnx")
    monkeypatch.setattr(reid_core.export, "LIMIT", 1000)
    assert "more than 2 GiB" in fails(capsys, *export, str(tmp_path / "f.onnx"))
    monkeypatch.setattr(reid_core.export, "find_spec", lambda name: None)
    assert "exporting needs onnx" in fails(capsys, *export, str(tmp_path / "f.onnx"))
    assert not list(tmp_path.glob("*f.onnx*"))
