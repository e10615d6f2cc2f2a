"""The command line, as it is typed: data on stdout, one line and exit code 2 for bad input."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import TINY
from PIL import Image

from reid_core.__main__ import main
from reid_core.runs import list_runs, open_run

SETTINGS = [f"{key}={value}" for key, value in TINY.items()]


def run_command(*arguments: str, **keywords) -> subprocess.Popen:
    """As from a terminal, also where this suite runs in the background and is told of no Ctrl-C."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        [sys.executable, "-m", "reid_core", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **keywords,
    )


def fails(capsys, *arguments: str) -> str:
    """The one line that a mistake gives."""
    try:
        code = main(list(arguments))
    except SystemExit as leave:
        code = leave.code
    out, err = capsys.readouterr()
    assert code == 2 and out == ""
    assert err.count("\n") == 1 and "Traceback" not in err
    return err


def test_train_evaluate_embed_and_list(runs, tiny_data, tmp_path, capsys):
    before = sorted((p, p.stat().st_mtime_ns) for p in tiny_data.rglob("*"))
    data = ["--data", str(tiny_data)]
    assert main(["train", "--model", "transreid", "--run", "mine", *data, "--set", *SETTINGS]) == 0
    out, err = capsys.readouterr()
    assert out == "mine\n" and "img/s" in err

    assert main(["evaluate", "mine", *data]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert set(scores) == {"mAP", "mINP", "cmc", "queries", "valid_queries", "gallery", "protocol"}
    assert set(scores["cmc"]) == {"1", "5", "10"}
    assert scores["mAP"] == pytest.approx(open_run("mine").metrics()["mAP"], abs=1e-6)

    assert main(["runs", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert set(row) == {"run", "model", "recipe", "state", "metrics", "shipped"}
    assert (row["run"], row["state"], row["shipped"]) == ("mine", "finished", False)

    out = tmp_path / "f.npz"
    assert main(["embed", "mine", "--images", str(tiny_data / "query"), "--out", str(out)]) == 0
    with np.load(out) as file:
        names, vectors = file["names"], file["embeddings"]
    kept = open_run("mine").embeddings()
    assert names.tolist() == [name.split("/")[1] for name in kept.names[kept.is_query]]
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, kept.vectors[kept.is_query], rtol=1e-4, atol=1e-5)
    assert sorted((p, p.stat().st_mtime_ns) for p in tiny_data.rglob("*")) == before


def test_embed_takes_the_camera_from_name_or_flag(tiny_run, tiny_data, tmp_path, capsys):
    image = next((tiny_data / "query").iterdir())
    other = tmp_path / "somebody.png"
    Image.open(image).save(other)

    def embed(path, *more):
        assert (
            main(
                ["embed", tiny_run, "--images", str(path), "--out", str(tmp_path / "o.npz"), *more]
            )
            == 0
        )
        with np.load(tmp_path / "o.npz") as file:
            return file["embeddings"][0], capsys.readouterr().err

    def close(a, b):
        return np.allclose(a, b, rtol=1e-3, atol=1e-4)

    camera = image.name.split("_c")[1][0]
    named, err = embed(image)
    assert "camera" not in err
    png, err = embed(other, "--camera", camera)
    assert "camera" not in err and close(png, named)
    unknown, err = embed(other)
    assert "mean camera embedding" in err and not np.array_equal(unknown, png)
    zero, err = embed(image, "--camera", "0")
    assert "mean camera embedding" in err and close(zero, unknown)
    far, err = embed(image, "--camera", "99")
    assert "mean camera embedding" in err and close(far, unknown)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["train"], "--model is missing"),
        (["train", "--model", "transried"], "did you mean transreid"),
        (["train", "--model", "transreid", "--recipe", "dmeo"], "did you mean demo"),
        (["train", "--model", "transreid", "--dataset", "pedestrian"], "did you mean pedestrians"),
        (["train", "--model", "transreid", "--set", "epoch=1"], "did you mean epochs"),
        (["train", "--model", "transreid", "--set", "epochs=many"], "a whole number"),
        (["train", "--model", "transreid", "--set", "epochs=0"], "1 or more"),
        (["train", "--model", "transreid", "--set", "epochs"], "expected key=value"),
        (["train", "--model", "transreid", "--set", "sie=cam"], "did you mean camera"),
        (["train", "--model", "transreid", "--set", "size=12"], "such as 256x128"),
        (
            ["train", "--model", "transreid", "--set", *SETTINGS, "trunk=vit_huge"],
            "vit_tiny_patch16_224",
        ),
        (["train", "--model", "transreid", "--set", *SETTINGS, "parts=99"], "give fewer parts"),
        (["train", "--model", "transreid", "--set", *SETTINGS, "pretrained=x.pth"], "a file"),
        (["train", "--model", "transreid", "--set", "margin=hard"], "a number"),
        (["train", "--model", "transreid", "--set", "margin=-5"], "0 or more"),
        (["train", "--model", "transreid", "--set", "epochs=1e400"], "a whole number"),
        (["train", "--model", "transreid", "--set", "flip=7"], "1 at most"),
        (["train", "--model", "transreid", "--set", "size=99999x99999"], "4096"),
        (["train", "--model", "transreid", "--set", *SETTINGS, "stride=64"], "smaller stride"),
        (["embed", "tiny", "--images", ".", "--out", "."], "is a folder: name a file"),
        (["export", "tiny", "--out", "x.pt"], "expected a file that ends in .onnx"),
        (["train", "--model", "transreid", "--set", "learning_rate=nan"], "a number"),
        (["train", "--model", "transreid", "--run", "a/b"], "run name"),
        (["train", "--resume", "nobody"], "unknown run"),
        (["train", "--resume", "tiny"], "it is finished"),
        (["train", "--resume", "tiny", "--model", "transreid"], "leave the other options out"),
        (["evaluate", "nobody"], "unknown run"),
        (["embed", "tiny", "--images", "/nowhere", "--out", "o.npz"], "no file or folder"),
        (["walk"], "invalid choice"),
        (["train", "--mode", "x", "--wat"], "unrecognized arguments"),
    ],
)
def test_mistakes_get_one_line(arguments, message, tiny_run, capsys):
    assert message in fails(capsys, *arguments)
    assert [run.name for run in list_runs()] == ["tiny"]


def test_an_existing_run_is_refused(tiny_run, capsys):
    line = fails(capsys, "train", "--model", "transreid", "--run", "tiny", "--set", *SETTINGS)
    assert "exists already" in line


def test_folders_that_are_no_data_sets(runs, tmp_path, capsys):
    train = ["train", "--model", "transreid", "--data"]
    assert "no folder" in fails(capsys, *train, str(tmp_path / "none"))
    assert "bounding_box_train" in fails(capsys, *train, str(tmp_path))
    for name in ("bounding_box_train", "query", "bounding_box_test"):
        (tmp_path / name).mkdir()
    assert "no image in" in fails(capsys, *train, str(tmp_path))
    assert "no folder" in fails(capsys, *train, "")
    assert list_runs() == []


def test_an_unreadable_image_is_named(tiny_run, tmp_path, capsys, tiny_data):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    embed = ["embed", "tiny", "--out", str(tmp_path / "o.npz"), "--images"]
    assert "bad.jpg can't be read" in fails(capsys, *embed, str(tmp_path / "bad.jpg"))
    whole = next((tiny_data / "query").iterdir()).read_bytes()
    (tmp_path / "bad.jpg").write_bytes(whole[: len(whole) // 2])
    assert "bad.jpg can't be read" in fails(capsys, *embed, str(tmp_path))
    (tmp_path / "empty").mkdir()
    assert "no image" in fails(capsys, *embed, str(tmp_path / "empty"))
    out = str(tmp_path / "none" / "o.npz")
    assert "no folder" in fails(
        capsys, "embed", "tiny", "--images", str(tmp_path / "bad.jpg"), "--out", out
    )


@pytest.mark.parametrize("command", (["export"], ["embed", "--images", "."]))
def test_a_folder_that_may_only_be_read_is_told_at_once(
    tiny_run, tmp_path, capsys, monkeypatch, command
):
    def refuse(dir):
        raise PermissionError(13, "Read-only", f"{dir}/tmp123")

    monkeypatch.setattr("reid_core.errors.TemporaryFile", refuse)
    monkeypatch.setattr("reid_core.runs.Run.model", None)  # not to be asked for
    out = tmp_path / "F.onnx"
    assert f"not allowed to use {out}: " in fails(capsys, *command, tiny_run, "--out", str(out))


def test_a_full_disk_is_one_line(tiny_run, capsys, monkeypatch, tiny_data):
    import reid_core.runs

    def full(self, name, content):
        raise OSError(28, "No space left on device", name)

    monkeypatch.setattr(reid_core.runs.Run, "write", full)
    assert "no space left" in fails(capsys, "train", "--model", "transreid", "--set", *SETTINGS)


def test_synth_refuses_what_it_cannot_render(tmp_path, capsys):
    assert "camera" in fails(capsys, "synth", str(tmp_path / "d"), "--cameras", "1")
    assert "256x128" in fails(capsys, "synth", str(tmp_path / "d"), "--size", "big")
    (tmp_path / "mine").write_text("")
    assert "empty" in fails(capsys, "synth", str(tmp_path))


def test_embed_takes_the_views_of_a_data_set(runs, tiny_data, tmp_path, capsys):
    settings = [*SETTINGS, "sie=both"]
    assert main(["train", "--model", "transreid", "--run", "both", "--set", *settings]) == 0
    embed = ["embed", "both", "--out", str(tmp_path / "o.npz"), "--images"]
    assert main([*embed, str(tiny_data / "query")]) == 0
    with np.load(tmp_path / "o.npz") as file:
        found = file["embeddings"]
    kept = open_run("both").embeddings()
    np.testing.assert_allclose(found, kept.vectors[kept.is_query], rtol=1e-3, atol=1e-4)
    capsys.readouterr()
    image = next((tiny_data / "query").iterdir())
    (tmp_path / image.name).write_bytes(image.read_bytes())
    assert main([*embed, str(tmp_path / image.name)]) == 0
    assert "mean view embedding" in capsys.readouterr().err


def test_a_damaged_run_hides_no_other(tiny_run, runs, capsys):
    import shutil

    for number, (name, content) in enumerate(
        {
            "metrics.json": '{"a": 1}',
            "experiment.json": '{"model": []}',
            "state/status.json": '{"state": "running", "time": "noon"}',
        }.items()
    ):
        shutil.copytree(runs / "tiny", runs / f"odd{number}")
        (runs / f"odd{number}" / name).write_text(content)
    assert main(["runs", "--json"]) == 0
    out, err = capsys.readouterr()
    rows = {row["run"]: row for row in json.loads(out)}
    assert set(rows) == {"tiny", "odd0", "odd2"} and rows["tiny"]["metrics"]["mAP"]
    assert err.count("\n") == 2 and "run 'odd0' has a damaged metrics.json" in err
    assert "run 'odd1' has no readable experiment.json (" in err


def test_a_knob_that_a_damaged_run_has_is_told_of_that_run(tiny_run, runs, capsys):
    """Not as if somebody had typed it."""
    file = runs / "tiny" / "experiment.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | dict(knobs=record["knobs"] | dict(epochs="many"))))
    told = fails(capsys, "train", "--resume", "tiny")
    assert "run 'tiny' has no readable experiment.json (epochs: expected" in told


def test_resume_does_not_take_back_a_stop(tiny_run, capsys):
    run = open_run("tiny")
    run.report("running", epoch=1, epochs=2)
    run.ask_stop()
    assert "it is stopping" in fails(capsys, "train", "--resume", "tiny")
    assert run.stop_asked


def test_missing_pedestrians_are_rendered_by_evaluate(tiny_run, tmp_path, monkeypatch, capsys):
    """Twelve of them, as $REID_PEDESTRIANS says in this suite."""
    monkeypatch.setenv("REID_DATA", str(tmp_path / "anew"))
    assert main(["evaluate", tiny_run]) == 0
    assert json.loads(capsys.readouterr().out)["queries"] > 0
    assert (tmp_path / "anew" / "pedestrians" / "query").is_dir()


@pytest.mark.parametrize("lost", ["embeddings.npz", "metrics.json", None])
def test_evaluate_brings_back_what_a_training_left(tiny_run, lost):
    """And leaves alone what is whole."""
    run = open_run(tiny_run)
    embeddings, metrics, before = run.embeddings(), run.metrics(), run.stamp()
    if lost:
        (run.folder / lost).write_bytes(b"[")
    assert main(["evaluate", tiny_run]) == 0
    assert (run.stamp() == before) == (lost is None)
    assert run.metrics()["mAP"] == pytest.approx(metrics["mAP"])
    assert run.metrics().keys() == metrics.keys()
    np.testing.assert_allclose(run.embeddings().vectors, embeddings.vectors, atol=1e-5)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.long), signal.SIGINT]
)
def test_a_signal_stops_at_the_next_step_and_resume_goes_on(runs, number):
    many = [f"{k}={v}" for k, v in (TINY | {"epochs": 400, "evaluate_every": 400}).items()]
    process = run_command("train", "--model", "transreid", "--run", "long", "--set", *many)
    assert process.stdout.readline() == "long\n"
    deadline = time.monotonic() + 120
    while not (open_run("long").history() or process.poll() is not None):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert open_run("long").status().state == "running"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number and "Traceback" not in err
    run = open_run("long")
    assert run.status().state == "stopped" and run.resumable
    done = len(run.history())
    again = run_command("train", "--resume", "long")
    assert again.stdout.readline() == "long\n"
    while len(run.history()) <= done:
        assert time.monotonic() < deadline and again.poll() is None
        time.sleep(0.1)
    again.terminate()
    again.communicate(timeout=60)
    assert [each["epoch"] for each in run.history()] == list(range(1, len(run.history()) + 1))
