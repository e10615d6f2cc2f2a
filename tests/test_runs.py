"""Run folders: names, damage, life signs."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from conftest import TINY

from reid_core.alive import alive, birth
from reid_core.data import open_dataset
from reid_core.embed import embed_test
from reid_core.errors import BadInput
from reid_core.evaluate import evaluate
from reid_core.experiment import Experiment
from reid_core.models import Facts
from reid_core.runs import STAMPED, Run, list_runs, open_run, runs_folder

FACTS = Facts(8, (1, 2, 3), (0, 1, 2))


def create(name=None) -> Run:
    asked = Experiment.create(model="transreid", recipe="demo", settings=TINY)
    return Run.create(asked, FACTS, name)


def test_a_taken_name_is_refused_and_a_free_one_found(runs):
    assert [create().name, create().name] == ["transreid-demo-1", "transreid-demo-2"]
    create("mine")
    with pytest.raises(BadInput, match="exists already"):
        create("mine")


@pytest.mark.parametrize("name", ["../up", "", ".hidden", "a/b", "x" * 65, "a b"])
def test_names_that_are_no_folder_names_are_refused(runs, name):
    with pytest.raises(BadInput):
        open_run(name)


def test_an_unknown_run_names_the_nearest(tiny_run):
    with pytest.raises(BadInput, match="did you mean tiny"):
        open_run("tinny")


def test_what_was_asked_comes_back(runs):
    run = create("a")
    assert open_run("a").experiment == Experiment.create(
        model="transreid", recipe="demo", settings=TINY
    )
    assert open_run("a").facts == FACTS and not run.shipped


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": "resnet"}'])
def test_a_run_made_by_something_else_is_no_run(runs, content):
    (runs / "odd").mkdir()
    (runs / "odd" / "experiment.json").write_text(content)
    assert list_runs() == []
    with pytest.raises(BadInput, match="made by something else"):
        open_run("odd")


def test_scores_are_those_of_the_kept_arrays_and_weights(tiny_run):
    run = open_run(tiny_run)
    kept = run.embeddings()
    assert evaluate(kept).as_dict() == run.metrics()
    again = embed_test(run.model(), run.experiment, open_dataset("pedestrians"))
    np.testing.assert_allclose(again.vectors, kept.vectors, rtol=1e-4, atol=1e-5)
    assert again.names.tolist() == kept.names.tolist()


@pytest.mark.parametrize(
    "file, use",
    [
        ("weights.safetensors", lambda run: run.model()),
        ("embeddings.npz", lambda run: run.embeddings()),
        ("metrics.json", lambda run: run.metrics()),
        ("history.jsonl", lambda run: run.history()),
        ("state/last.pt", lambda run: run.load_state()),
    ],
)
def test_damaged_files_are_named(tiny_run, file, use):
    run = open_run(tiny_run)
    path = run.folder / file
    path.write_bytes(path.read_bytes()[:50] + b"{")
    path.with_name("before.pt").unlink(missing_ok=True)  # of two states one is enough
    with pytest.raises(BadInput, match="damaged"):
        use(run)


def test_weights_of_another_kind_are_noticed(tiny_run):
    """A changed byte of the header: the same bits, read as whole numbers."""
    run = open_run(tiny_run)
    path = run.folder / "weights.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"dtype":"F32"', b'"dtype":"I32"', 1))
    with pytest.raises(BadInput, match=r"damaged weights .its checksum is another"):
        run.model()


@pytest.mark.parametrize(
    ("file", "use"),
    [
        ("weights.safetensors", lambda run: run.model()),
        ("embeddings.npz", lambda run: run.embeddings()),
        ("state/last.pt", lambda run: run.load_state()),
    ],
)
@pytest.mark.parametrize("place", (0.3, 0.6, 0.9))
def test_one_changed_byte_is_noticed(tiny_run, file, use, place):
    """Among the numbers, where nothing but a checksum can tell."""
    run = open_run(tiny_run)
    path = run.folder / file
    content = bytearray(path.read_bytes())
    at = int(place * len(content))
    at = next(at for at in range(at, len(content)) if content[at])  # padding is 0
    content[at] ^= 1
    path.write_bytes(content)
    path.with_name("before.pt").unlink(missing_ok=True)
    with pytest.raises(BadInput, match="damaged"):
        use(run)


@pytest.mark.parametrize(
    "odd",
    [
        {"cameras": None},
        {"vectors": np.zeros((5, 8), np.float32)},
        {"vectors": np.float32(1)},
        {"encoded": np.zeros((5, 8), np.float32)},
        {"identities": np.str_},
        {"is_query": np.int64},
    ],
)
def test_embeddings_that_lack_an_array_or_hold_odd_ones_are_refused(tiny_run, odd):
    run = open_run(tiny_run)
    with np.load(run.folder / "embeddings.npz") as file:
        arrays = dict(file)
    for name, change in odd.items():
        arrays[name] = arrays[name].astype(change) if isinstance(change, type) else change
    arrays = {name: array for name, array in arrays.items() if array is not None}
    np.savez(run.folder / "embeddings.npz", **arrays)
    with pytest.raises(BadInput, match="damaged embeddings"):
        run.embeddings()


def test_what_to_do_about_damaged_embeddings_can_be_done(tiny_run):
    """evaluate keeps the embeddings of imported runs alone."""
    run = open_run(tiny_run)
    (run.folder / "embeddings.npz").write_bytes(b"")

    def said() -> str:
        with pytest.raises(BadInput) as told:
            run.embeddings()
        return str(told.value)

    assert "put back a copy" in said() and "evaluate it anew" not in said()
    run.report("stopped", epoch=0, epochs=1)
    assert "resume its training" in said()
    run.report("running", epoch=0, epochs=1)
    assert "wait for its next evaluation" in said()
    run.write("experiment.json", json.dumps(run.record | {"imported": {"file": "f"}}).encode())
    assert "evaluate it anew" in said()


@pytest.mark.parametrize(
    "content", ['{"mAP": 0.5}', '{"mAP": 0.5, "cmc": []}', '{"mAP": 0.5, "cmc": {"1": "x"}}', "[1]"]
)
def test_scores_without_a_rank_1_are_damaged(tiny_run, content):
    run = open_run(tiny_run)
    (run.folder / "metrics.json").write_text(content)
    with pytest.raises(BadInput, match=r"damaged metrics\.json"):
        run.metrics()


def test_a_negative_number_of_people_is_damage(tiny_run):
    run = open_run(tiny_run)
    record = run.record
    record["facts"]["classes"] = -5
    (run.folder / "experiment.json").write_text(json.dumps(record))
    assert list_runs() == []
    with pytest.raises(BadInput, match="damaged"):
        open_run(tiny_run)


def test_embeddings_with_a_pickle_are_refused(tiny_run):
    run = open_run(tiny_run)
    np.savez(run.folder / "embeddings.npz", vectors=np.array([print], dtype=object))
    with pytest.raises(BadInput, match="damaged"):
        run.embeddings()


def test_weights_of_another_model_are_refused(tiny_run):
    run = open_run(tiny_run)
    other = create("other")
    with pytest.raises(BadInput, match="no weights yet"):
        other.model()
    record = run.record | {"knobs": run.record["knobs"] | {"jpm": False}}
    (run.folder / "experiment.json").write_text(json.dumps(record))
    with pytest.raises(BadInput, match="another model"):
        run.model()


@pytest.mark.parametrize("name", STAMPED)
def test_whatever_is_replaced_changes_the_stamp(tiny_run, name):
    """Also by an older file, by one of the same age and size, and in its place."""
    run, seen = open_run(tiny_run), set()
    file = run.folder / name
    age, content = file.stat().st_mtime_ns, file.read_bytes()
    seen.add(run.stamp())
    os.utime(file, ns=(age, age - 10**9))
    seen.add(run.stamp())
    run.write(name, content)
    os.utime(file, ns=(age, age))
    seen.add(run.stamp())
    time.sleep(0.02)  # a system's clock may tick no oftener
    file.write_bytes(content[::-1])
    os.utime(file, ns=(age, age))
    seen.add(run.stamp())
    file.unlink()
    assert len(seen | {run.stamp()}) == 5 and run.stamp() == run.stamp()


def test_runs_that_are_swapped_swap_their_stamps(tiny_run, runs):
    first, second = open_run(tiny_run), Run("second", runs / "second")
    shutil.copytree(first.folder, second.folder)
    before = first.stamp(), second.stamp()
    assert before[0] != before[1]
    assert first.stamp(anywhere=True) == second.stamp(anywhere=True)  # as a copy of a folder
    first.folder.rename(runs / "aside")
    second.folder.rename(first.folder)
    (runs / "aside").rename(second.folder)
    assert (second.stamp(), first.stamp()) == before


def test_a_training_that_gives_no_sign_of_life_is_told(runs):
    """Its process is there, and stopped, or waits for a disk."""
    run = create("hangs")
    run.report("running", epoch=1, epochs=2)
    assert run.status().message == ""
    status = json.loads((run.folder / "state/status.json").read_text())
    run.write("state/status.json", json.dumps(status | dict(time=status["time"] - 300)).encode())
    os.utime(run.folder / "state/status.json", (status["time"] - 200,) * 2)
    assert run.status().state == "running"
    assert run.status().message.startswith("no sign of life for 3 min: its process is there")
    run.vouch()
    assert run.status().message == ""


def test_a_process_that_is_gone_leaves_an_interrupted_run(runs):
    run = create("gone")
    assert run.status().state == "starting"
    script = (
        "from reid_core.runs import open_run; open_run('gone').report('running', epoch=2, epochs=9)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=os.getcwd())
    assert run.status().state == "interrupted" and run.status().epoch == 2
    assert run.resumable


def test_a_living_process_is_running_then_stopping(runs):
    run = create("alive")
    run.report("running", epoch=1, epochs=2)
    assert run.status().state == "running" and not run.resumable
    run.ask_stop()
    assert run.status().state == "stopping"


@pytest.mark.parametrize("step", [-3600, 1.5, 3600])
def test_a_clock_that_is_set_ends_no_process(runs, monkeypatch, step):
    """psutil reckons from the clock when a process began."""
    run = create("alive")
    run.report("running", epoch=1, epochs=2)
    real = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: real(process) + step)
    if psutil.LINUX:
        assert run.status().state == "running"


@pytest.mark.parametrize(
    "born, same", [("before", True), (1.0, False), (None, False), (0.5, False)]
)
def test_what_was_written_down_of_a_process_before(runs, born, same):
    """A time, as all of them were once, and what is no process's at all."""
    run = create("alive")
    run.report("running")
    status = json.loads((run.folder / "state/status.json").read_text())
    status["born"] = psutil.Process().create_time() if born == "before" else born
    run.write("state/status.json", json.dumps(status).encode())
    assert run.status().state == ("running" if same else "interrupted")


def test_a_later_process_with_the_same_number_is_another(monkeypatch):
    born = birth(os.getpid())
    assert alive(os.getpid(), born) and not alive(os.getppid(), born)
    if psutil.LINUX:
        read = Path.read_bytes
        other = lambda path: b"another" if path.name == "boot_id" else read(path)  # noqa: E731
        monkeypatch.setattr(Path, "read_bytes", other)
        assert not alive(os.getpid(), born)
    assert not alive(os.getpid(), "odd")


def test_a_write_that_fails_leaves_the_old_file(tiny_run, monkeypatch):
    run = open_run(tiny_run)
    before = run.metrics()

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        run.write("metrics.json", b"{}")
    assert run.metrics() == before
    assert not [path for path in run.folder.iterdir() if path.name.startswith(".")]


def test_without_a_runs_folder_there_are_no_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_RUNS", str(tmp_path / "none"))
    assert list_runs() == [] and runs_folder() == tmp_path / "none"


def test_a_run_without_classifiers_still_embeds(tiny_run):
    """As the shipped ones are: float16, nothing that only training needs."""
    from safetensors.torch import load_file, save_file

    run = open_run(tiny_run)
    path = run.folder / "weights.safetensors"
    kept = {k: v.half() for k, v in load_file(path).items() if "classifier" not in k}
    save_file(kept, path)
    assert next(run.model().parameters()).dtype == torch.float32
