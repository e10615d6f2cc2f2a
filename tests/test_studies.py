"""Studies: computed once, kept with the run, stopped on demand, never stale."""

import json
import os
import shutil
import sys
import time
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from reid_core import jobs, studies
from reid_core.__main__ import main
from reid_core.errors import BadInput
from reid_core.knobs import knob
from reid_core.runs import open_run
from reid_core.studies import Stopped, Study, images


@dataclass(frozen=True)
class Options:
    count: int = knob(3, "How many.", "Test", least=1)
    other: str = knob("", "Another run.", "Test", kind="run")


@pytest.fixture
def counted(monkeypatch):
    """A study that counts how often it is computed."""
    module = types.ModuleType("reid_core.studies.counted", "Counts.\n\nNothing else.")
    module.Options, module.calls = Options, []

    def compute(run, options, progress):
        module.calls.append(options.count)
        for step in range(options.count):
            progress(step + 1, options.count)
            if options.count == 13:
                raise BadInput("thirteen: expected another number")
            if options.count == 14:
                raise ZeroDivisionError("fourteen")
        return {"numbers": np.arange(options.count)}

    module.compute = compute
    monkeypatch.setitem(sys.modules, "reid_core.studies.counted", module)
    monkeypatch.setitem(studies.STUDIES, "counted", "counted")
    return module


def test_it_is_computed_once_and_kept(tiny_run, counted):
    study, told = Study.asked(open_run(tiny_run), "counted", {"count": "4"}), []
    assert study.found() is None and study.standing().state == "none"
    first = study.compute(lambda done, total: told.append((done, total)))
    again = Study.asked(open_run(tiny_run), "counted", {"count": 4}).compute()
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)] and counted.calls == [4]
    np.testing.assert_array_equal(first["numbers"], again["numbers"])
    assert study.standing().state == "done"
    assert Study.asked(open_run(tiny_run), "counted").found() is None


def test_it_is_computed_anew_when_a_run_changes(tiny_run, counted, runs):
    other = runs / "other"
    (runs / tiny_run).rename(other)
    os.system(f'cp -r "{other}" "{runs / tiny_run}"')
    asked = lambda: Study.asked(open_run(tiny_run), "counted", {"other": "other"})  # noqa: E731
    asked().compute()
    assert asked().found() is not None
    for name in ("other", tiny_run):
        os.utime(runs / name / "weights.safetensors", (2e9 + len(name), 2e9 + len(name)))
        assert asked().found() is None
        asked().compute()
    os.utime(runs / tiny_run / "embeddings.npz", (1e9, 1e9))  # older than the weights
    assert asked().found() is None and len(counted.calls) == 3


def test_a_copy_of_a_run_has_its_studies(tiny_run, counted, runs):
    Study.asked(open_run(tiny_run), "counted").compute()
    (runs / tiny_run).rename(runs / "aside")
    shutil.copytree(runs / "aside", runs / tiny_run)
    assert Study.asked(open_run(tiny_run), "counted").found() is not None


def test_bad_settings_are_told(tiny_run, counted):
    run = open_run(tiny_run)
    for name, settings, said in [
        ("counting", {}, "did you mean counted"),
        ("counted", {"counts": 3}, "did you mean count"),
        ("counted", {"count": 0}, "1 or more"),
        ("counted", {"other": "nobody"}, "nobody"),
    ]:
        with pytest.raises(BadInput, match=said):
            _ = Study.asked(run, name, settings).key


def test_it_stops_and_starts_anew(tiny_run, counted):
    study = Study.asked(open_run(tiny_run), "counted")

    def stop(done, total):
        study.stop()

    with pytest.raises(Stopped):
        study.compute(stop)
    assert study.standing().state == "stopped" and study.found() is None
    assert study.compute()["numbers"].tolist() == [0, 1, 2]


def test_a_cancellation_while_the_process_loads_is_kept(tiny_run, counted):
    study = Study.asked(open_run(tiny_run), "counted")
    (study.run.folder / "studies").mkdir()
    study.stop()
    with pytest.raises(Stopped):
        study.compute()
    study.stop()  # meant for a process that was killed before it could notice
    assert main(["study", tiny_run, "counted"]) == 0


def test_a_start_takes_back_an_older_cancellation(tiny_run, counted, monkeypatch):
    study = Study.asked(open_run(tiny_run), "counted")
    (study.run.folder / "studies").mkdir()
    study.stop()
    own = types.SimpleNamespace(pid=os.getpid())
    monkeypatch.setattr(jobs, "_detached", lambda arguments, log: own)
    jobs.start_study(study)
    assert not (study.run.folder / study.file("stop")).exists()
    assert study.standing().state == "running"


def test_a_damaged_file_in_a_folder_that_may_only_be_read(tiny_run, counted, monkeypatch):
    study = Study.asked(open_run(tiny_run), "counted")
    study.compute()
    archive = study.run.folder / study.file("npz")
    archive.write_bytes(b"PK")

    def refuse(*_, **__):
        raise PermissionError(13, "Read-only", str(archive))

    monkeypatch.setattr(type(archive), "unlink", refuse)
    assert study.found() is None


@pytest.mark.parametrize("count, said", [(13, "thirteen: expected"), (14, "ZeroDivisionError")])
def test_a_failure_is_told(tiny_run, counted, count, said):
    study = Study.asked(open_run(tiny_run), "counted", {"count": count})
    with pytest.raises((BadInput, ZeroDivisionError)):
        study.compute()
    assert study.standing().state == "failed" and said in study.standing().message


def test_a_dead_process_and_damaged_files_are_noticed(tiny_run, counted):
    study = Study.asked(open_run(tiny_run), "counted")
    study.compute()
    archive = study.run.folder / study.file("npz")
    archive.write_bytes(archive.read_bytes()[:50])
    assert study.found() is None and not archive.exists()
    study.report("running", 1, 3)
    assert study.standing().state == "running"
    path = study.run.folder / study.file("json")
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(born=1.0)))
    assert study.standing().state == "failed" and "gone" in study.standing().message
    for damaged in ("{", json.dumps(dict(state="running", pid=os.getpid(), born="x"))):
        path.write_text(damaged)
        assert study.standing().state == "failed"
    assert study.compute()["numbers"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("settings", (None, {"count": 2}))
def test_another_studys_file_is_computed_anew(tiny_run, counted, settings):
    """Or one of another program, which says nothing of whose it is."""
    study = Study.asked(open_run(tiny_run), "counted")
    study.compute()
    archive = study.run.folder / study.file("npz")
    if settings:
        other = Study.asked(study.run, "counted", settings)
        other.compute()
        shutil.copy(study.run.folder / other.file("npz"), archive)
    else:
        np.savez(archive, **study.found())
    assert study.found() is None and not archive.exists()
    assert study.compute()["numbers"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "odd",
    [
        dict(born="x"),
        dict(total="x"),
        dict(done=10**400),
        dict(pid="x"),
        dict(pid=-1),
        dict(pid=10**30),
        dict(message=5),
    ],
)
def test_an_odd_value_of_its_progress_is_damage(tiny_run, counted, odd):
    study = Study.asked(open_run(tiny_run), "counted")
    (study.run.folder / "studies").mkdir()
    study.report("running", 1, 3)
    path = study.run.folder / study.file("json")
    path.write_text(json.dumps(json.loads(path.read_text()) | odd))
    assert study.standing().state == "failed" and "start it anew" in study.standing().message


def test_the_command_computes_and_lists(tiny_run, counted, capsys):
    assert main(["study", tiny_run, "counted", "--set", "count=2"]) == 0
    assert capsys.readouterr().out.strip().endswith(".npz")
    assert main(["study"]) == 0
    listed = capsys.readouterr().out
    assert "counted: Counts." in listed and "count=3  How many." in listed
    assert main(["study", tiny_run, "counted", "--set", "count=13"]) == 2
    assert "thirteen" in capsys.readouterr().err
    assert main(["study", tiny_run, "nothing"]) == 2


def test_what_is_computed_is_there_in_a_folder_that_may_only_be_read(
    tiny_run, counted, monkeypatch, capsys
):
    study = Study.asked(open_run(tiny_run), "counted")
    study.compute()

    def refuse(path, *_, **__):
        raise PermissionError(13, "Read-only", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(studies, "FileLock", refuse)
    assert main(["study", tiny_run, "counted"]) == 0
    assert capsys.readouterr().out.strip() == str(study.run.folder / study.file("npz"))


def test_a_process_of_its_own(tiny_run):
    """A real one, started as the app does it; without a real study there is none to start."""
    if not studies.STUDIES:
        pytest.skip("there is no study yet")
    name = "projection"
    study = Study.asked(open_run(tiny_run), name, {"method": "pca"})
    jobs.start_study(study)
    assert study.standing().state == "running"
    jobs.start_study(study)  # a second press does not start a second one
    for _ in range(2400):
        if study.standing().state != "running":
            break
        time.sleep(0.1)
    assert study.standing().state == "done", study.standing().message
    assert study.found()


# ---- images that change in place


@pytest.fixture
def seen(counted, monkeypatch):
    """The same study, as one that reads the images, whose stamp is taken anew each time."""
    counted.IMAGES = True
    monkeypatch.setattr(images, "FRESH", 0)
    return counted


def test_it_is_computed_anew_when_an_image_changes(
    tiny_run, tiny_data, seen, tmp_path, monkeypatch
):
    data = tmp_path / "data" / "pedestrians"
    shutil.copytree(tiny_data, data)
    monkeypatch.setenv("REID_DATA", str(data.parent))
    asked = lambda: Study.asked(open_run(tiny_run), "counted")  # noqa: E731
    asked().compute()
    assert asked().found() is not None and asked().key == asked().key
    name = open_run(tiny_run).embeddings().names[3]
    before = (data / name).stat()
    (data / name).write_bytes((data / name).read_bytes() + b"0")
    os.utime(data / name, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert asked().found() is None  # another size
    asked().compute()
    os.utime(data / name, (2e9, 2e9))
    assert asked().found() is None  # another time
    asked().compute()
    (data / name).unlink()
    assert asked().found() is None  # another number
    asked().compute()
    shutil.rmtree(data)
    assert asked().found() is not None  # they are gone: what was found stays
    assert len(seen.calls) == 4


def test_a_study_without_images_minds_none(tiny_run, counted, monkeypatch):
    monkeypatch.setattr(images, "stamp", lambda run: pytest.fail("asked for images"))
    Study.asked(open_run(tiny_run), "counted").compute()
    assert not (open_run(tiny_run).folder / images.KEPT).exists()


def test_of_many_images_a_sample_and_their_folders_are_asked(tiny_run, seen, monkeypatch):
    run, names = open_run(tiny_run), open_run(tiny_run).embeddings().names
    count, *_ = images.stamp(run)
    assert count == len(names) and len(images.stamp(run)) == 3
    monkeypatch.setattr(images, "MOST", len(names) // 3)
    sampled = images.stamp(run)
    assert sampled[0] <= len(names) // 3 and len(sampled) == 4


def test_every_study_that_opens_the_data_set_says_that_it_reads_images():
    for name, module in studies.STUDIES.items():
        if module != "counted":
            source = (Path(studies.__file__).parent / f"{module}.py").read_text("utf-8")
            assert ("open_dataset(" in source) == ("\nIMAGES = True\n" in source), name
