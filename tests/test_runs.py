"""Run folders: names, damage, life signs."""

import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from conftest import TINY
from test_neighbours import made as neighbours

from reid_core.__main__ import main
from reid_core.alive import alive, birth
from reid_core.data import open_dataset
from reid_core.embed import embed_test
from reid_core.errors import BadInput
from reid_core.evaluate import evaluate
from reid_core.experiment import Experiment
from reid_core.models import Facts, ReIDModel
from reid_core.runs import Run, build, damaged_runs, list_runs, open_run, runs_folder

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
    with pytest.raises(BadInput, match=r"damaged weights.safetensors .its checksum is another"):
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
    run = open_run(tiny_run)
    (run.folder / "embeddings.npz").write_bytes(b"")

    def said() -> str:
        with pytest.raises(BadInput) as told:
            run.embeddings()
        return str(told.value)

    assert f"python -m reid_core evaluate {tiny_run} computes it anew" in said()
    run.report("stopped", epoch=0, epochs=1)
    assert "resume its training" in said()
    run.report("running", epoch=0, epochs=1)
    assert "wait for its next evaluation" in said()
    run.write(
        "experiment.json",
        json.dumps(run.record | {"imported": dict(file="f", sha256="0")}).encode(),
    )
    assert "evaluate it anew" in said()


def moved(run: Run) -> ReIDModel:
    """The run's model after another step, as it were."""
    model = run.model()
    with torch.no_grad():
        next(model.parameters()).add_(1)
    return model


@pytest.mark.parametrize("file", ("weights.safetensors", "embeddings.npz", "metrics.json"))
def test_files_of_two_evaluations_are_noticed(tiny_run, file):
    """Of one shape, so that nothing but what they know of one another can tell."""
    run, found, scores = open_run(tiny_run), open_run(tiny_run).embeddings(), {"mAP": 0.5}
    scores = open_run(tiny_run).metrics() | scores
    before = (run.folder / file).read_bytes()
    run.keep(moved(run), found, scores)
    assert run.embeddings().vectors.shape == found.vectors.shape
    assert run.metrics() == scores and not run.lost
    run.write(file, before)
    use = run.metrics if file == "metrics.json" else run.embeddings
    with pytest.raises(BadInput, match=r"not of the weights that it has now: python -m"):
        use()
    assert run.lost  # so that evaluate mends it
    assert main(["evaluate", tiny_run]) == 0
    assert run.metrics()["mAP"] != 0.5 and not run.lost
    (run.folder / "weights.safetensors").write_bytes(b"")  # which model() tells
    assert run.embeddings()


@pytest.mark.parametrize("at", (0, 1, 2))
def test_a_run_killed_between_two_writes_shows_neither(tiny_run, monkeypatch, at):
    run, found, scores = open_run(tiny_run), open_run(tiny_run).embeddings(), {"mAP": 0.5}
    model, write, scores = moved(run), type(run).write, run.metrics() | scores
    files = ("weights.safetensors", "embeddings.npz", "metrics.json")
    monkeypatch.setattr("reid_core.runs.run.PATIENCE", 1)

    def killed(self, name, content):
        if name == files[at]:
            raise KeyboardInterrupt
        write(self, name, content)

    monkeypatch.setattr(type(run), "write", killed)
    with pytest.raises(KeyboardInterrupt):
        run.keep(model, found, scores)
    monkeypatch.undo()
    run.report("stopped", epoch=1, epochs=2)
    told = 0
    for use in (run.embeddings, run.metrics):
        try:
            use()
        except BadInput as error:
            told += 1
            assert "not of the weights that it has now: resume its training" in str(error)
    assert told == (0, 2, 1)[at]


def test_a_reader_waits_for_a_training_that_is_at_writing(tiny_run):
    run, found = open_run(tiny_run), open_run(tiny_run).embeddings()
    run.report("running", epoch=1, epochs=2)
    before = (run.folder / "embeddings.npz").read_bytes()
    run.keep(moved(run), found, run.metrics())
    after = (run.folder / "embeddings.npz").read_bytes()
    run.write("embeddings.npz", before)
    timer = threading.Timer(0.5, run.write, ("embeddings.npz", after))
    timer.start()
    assert run.embeddings()
    timer.join()


def test_an_imported_run_shows_no_embeddings_of_another_data_set(tiny_run, tmp_path):
    """Names may be alike: the pictures of one would stand beside the distances of the other."""
    run = open_run(tiny_run)
    found, scores = run.embeddings(), run.metrics()
    record = run.record | {"imported": dict(file="f", sha256="0")}
    run.write("experiment.json", json.dumps(record).encode())
    run.keep_evaluation(found, scores, "pedestrians", None)
    assert run.embeddings() and run.metrics() == scores
    for name, value in (("data", str(tmp_path)), ("dataset", "market1501")):
        run.write("experiment.json", json.dumps(run.record | {name: value}).encode())
        for use in (run.embeddings, run.metrics):
            with pytest.raises(
                BadInput, match="the weights and the data set that it has now: eval"
            ):
                use()
        run.keep_evaluation(found, scores, run.experiment.dataset, run.experiment.data)
        assert run.embeddings() and run.metrics() == scores


@pytest.mark.parametrize("content", (b"damaged", None))
def test_scores_tell_whether_lost_embeddings_were_refined(runs, content, capsys):
    """Or `evaluate`, which brings them back, could not tell what to make anew."""
    run = neighbours("refined")
    run.report("finished")
    path, alone = run.folder / "embeddings.npz", evaluate(replace(run.embeddings(), encoded=None))

    def lose() -> None:
        path.unlink() if content is None else path.write_bytes(content)

    lose()
    assert run.refined and main(["evaluate", run.name]) == 0
    assert run.embeddings().encoded is not None and not run.lost
    run.write("metrics.json", json.dumps(alone.as_dict()).encode())  # of its encoder's stage
    lose()
    assert not run.refined and main(["evaluate", run.name]) == 0
    assert '"stage": "encoder"' in capsys.readouterr().out


@pytest.mark.parametrize("content", ['{"mAP": 0.5}', "[1]"])
def test_scores_without_a_rank_1_are_damaged(tiny_run, content):
    run = open_run(tiny_run)
    (run.folder / "metrics.json").write_text(content)
    with pytest.raises(BadInput, match=r"damaged metrics\.json"):
        run.metrics()


@pytest.mark.parametrize(
    "odd",
    [
        dict(cmc=[]),
        dict(cmc={"1": "x"}),
        dict(cmc={"1": 0.5, "5": 7}),
        dict(mAP=35),
        dict(mAP=True),
        dict(mAP=float("nan")),
        dict(mAP=10**400),
        dict(mINP=-0.5),
        dict(protocol=5),
        dict(queries="x"),
        dict(gallery=1.5),
    ],
)
def test_an_odd_value_among_the_scores_is_damage(tiny_run, odd):
    run = open_run(tiny_run)
    (run.folder / "metrics.json").write_text(json.dumps(run.metrics() | odd))
    with pytest.raises(BadInput, match=r"damaged metrics\.json: python -m reid_core ev"):
        run.metrics()


@pytest.mark.parametrize(
    "odd",
    [
        dict(loss=10**400),
        dict(loss=float("nan")),
        dict(loss=True),
        dict(epoch=float("nan")),
        dict(epoch=10**400),
        dict(epoch=-5.5),
        dict(epoch=0),
        dict(mAP=35),
        dict(mAP=10**400),
        dict(rank1=float("inf")),
    ],
)
def test_an_odd_value_in_the_history_is_damage(tiny_run, odd):
    run = open_run(tiny_run)
    (run.folder / "history.jsonl").write_text(json.dumps(run.history()[-1] | odd))
    with pytest.raises(BadInput, match=r"damaged history\.jsonl"):
        run.history()


def test_a_file_that_is_gone_is_told_with_the_way_out(tiny_run):
    run = open_run(tiny_run)
    (run.folder / "weights.safetensors").unlink()
    with pytest.raises(BadInput, match="resume its training, which writes them anew"):
        run.model()
    for each in (run.folder / "state").glob("*.pt"):
        each.unlink()
    (run.folder / "embeddings.npz").unlink()
    for name, use in (("weights.safetensors", run.model), ("embeddings.npz", run.embeddings)):
        with pytest.raises(BadInput, match=f"no {name}: put back a copy .*, or train a clone"):
            use()
    run.report("queued")
    assert str(run.lacks("embeddings.npz")).endswith("yet: wait for its next evaluation")
    run.report("finished")
    run.write(
        "experiment.json",
        json.dumps(run.record | {"imported": dict(file="f", sha256="0")}).encode(),
    )
    assert "import it anew" in str(run.lacks("weights.safetensors"))


@pytest.mark.parametrize("kept", ("weights.safetensors", "history.jsonl", "state/last.pt"))
def test_a_run_without_its_record_is_named(tiny_run, runs, kept):
    (runs / tiny_run).rename(runs / "moved")
    (runs / tiny_run / kept).parent.mkdir(parents=True)
    (runs / tiny_run / kept).write_bytes(b"")
    (runs / "foreign").mkdir()
    assert "put back a copy" in damaged_runs()[tiny_run] and "foreign" not in damaged_runs()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(imported="x"), "imported: expected a file's name and its sha256, got 'x'"),
        (dict(imported={"a": 1}), "imported: expected"),
        (dict(imported=dict(file=5, sha256="0")), "imported: expected"),
        (dict(encoder="x"), "encoder: transreid can't refine"),
        (dict(encoder={"a": 1}), "encoder: transreid can't refine"),
        (dict(model="nformer", encoder=["x"]), "TypeError"),
        (dict(data=5), "data: expected a folder, got 5"),
        (dict(data=["a"]), "data: expected a folder"),
        (dict(facts=[]), "TypeError"),
        (dict(facts=dict(classes=-5, cameras=[], views=[])), "classes: expected a whole number"),
        (dict(facts=dict(classes=0, cameras=[], views=[])), "classes: expected a whole number"),
        (dict(facts=dict(classes=10**30, cameras=[], views=[])), "classes: expected"),
        (dict(facts=dict(classes=5, cameras=["x"], views=[])), "cameras: expected a list of whole"),
        (dict(facts=dict(classes=5, cameras=[], views=[1.5])), "views: expected a list of whole"),
    ],
)
def test_a_value_of_another_kind_in_a_record_is_damage(runs, change, said):
    create("whole")
    run = create("odd")
    record = run.record
    record |= change | dict(knobs={} if "model" in change else record["knobs"])
    (run.folder / "experiment.json").write_text(json.dumps(record))
    assert [each.name for each in list_runs()] == ["whole"]
    with pytest.raises(BadInput) as told:
        open_run("odd")
    assert f"no readable experiment.json ({said}" in str(told.value)
    assert "put back a copy of that file, or remove the run's folder" in str(told.value)


def test_embeddings_with_a_pickle_are_refused(tiny_run):
    run = open_run(tiny_run)
    np.savez(run.folder / "embeddings.npz", vectors=np.array([print], dtype=object))
    with pytest.raises(BadInput, match="damaged"):
        run.embeddings()


def test_weights_of_another_model_are_refused(tiny_run):
    run = open_run(tiny_run)
    other = create("other")
    with pytest.raises(BadInput, match=r"no weights\.safetensors yet: wait"):
        other.model()
    record = run.record | {"knobs": run.record["knobs"] | {"jpm": False}}
    (run.folder / "experiment.json").write_text(json.dumps(record))
    with pytest.raises(BadInput, match="another model"):
        run.model()


@pytest.mark.parametrize("name", ["weights.safetensors", "embeddings.npz"])
def test_another_large_file_changes_the_stamp(tiny_run, name):
    """Also an older one, or one of the same age."""
    run = open_run(tiny_run)
    file, seen = run.folder / name, {run.stamp()}
    age = file.stat().st_mtime_ns
    os.utime(file, ns=(age, age - 10**9))
    seen.add(run.stamp())
    file.write_bytes(file.read_bytes() + b".")
    os.utime(file, ns=(age, age))
    seen.add(run.stamp())
    file.unlink()
    assert len(seen | {run.stamp()}) == 4 and run.stamp() == run.stamp()


def test_runs_that_are_swapped_swap_their_stamps(tiny_run, runs):
    """Of one size and age, as two seeds from one archive are; a copy has its original's."""
    first, second = open_run(tiny_run), Run("second", runs / "second")
    shutil.copytree(first.folder, second.folder)
    assert first.stamp() == second.stamp()
    record = first.record
    record["knobs"]["seed"] += 1
    (second.folder / "experiment.json").write_text(json.dumps(record, indent=2))
    before = first.stamp(), second.stamp()
    assert before[0] != before[1]
    first.folder.rename(runs / "aside")
    second.folder.rename(first.folder)
    (runs / "aside").rename(second.folder)
    assert (second.stamp(), first.stamp()) == before


def test_a_state_of_another_model_gives_way_to_the_one_before(runs, caplog):
    run = create("a")
    own = build(run.experiment, FACTS).state_dict()
    others = {name: weight for name, weight in own.items() if "necks" not in name}
    for epoch, weights in ((2, own), (3, others)):
        run.save_state(dict(model=weights, optimizers=[], epoch=epoch, step=0))
    with caplog.at_level("WARNING", "reid_core"):
        assert run.load_state()["epoch"] == 2
    assert "state/last.pt is damaged or of another model" in caplog.text
    assert "going on from state/before.pt" in caplog.text
    (run.folder / "state/before.pt").unlink()
    with pytest.raises(BadInput, match=r"damaged state/last\.pt: start a new run"):
        run.load_state()


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
