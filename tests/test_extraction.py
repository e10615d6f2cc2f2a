"""Embedding folders: streamed, in order, resumed after a kill, whatever lies in them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_cli import fails
from test_models import SMALL, build

from reid_core.__main__ import main
from reid_core.data import open_dataset
from reid_core.data.images import Images, read
from reid_core.data.market import parse_name
from reid_core.embed import batch_of, embed_images, embed_test, embedded
from reid_core.errors import BadInput
from reid_core.evaluate import directions
from reid_core.experiment import Experiment, knobs
from reid_core.extraction import stream as streaming
from reid_core.extraction.pictures import pictures_at
from reid_core.extraction.stream import AHEAD, Embedded, decoded
from reid_core.extraction.unfinished import Unfinished
from reid_core.runs import open_run

CASES = [case for case in SMALL if " " not in case or case == "ohformer shared"]


def asked_of(case: str) -> Experiment:
    """What `test_models.build` builds."""
    name, settings = case.split()[0], dict(pretrained="none", size="64x32") | SMALL[case]
    known = {knob.name for knob in knobs(name)}
    settings = {key: value for key, value in settings.items() if key in known}
    return Experiment.create(model=name, recipe="demo", settings=settings)


@pytest.fixture
def folder(tmp_path, tiny_data):
    """Some pictures in a folder with subfolders, one of them no picture."""
    place = tmp_path / "pictures"
    for number, path in enumerate(sorted((tiny_data / "query").iterdir())[:9]):
        target = place / ("a" if number % 2 else "b/c") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (place / "a" / "broken.jpg").write_bytes(b"no picture")
    (place / "a" / "notes.txt").write_text("no image")
    (place / ".hidden").mkdir()
    (place / ".hidden" / "x.jpg").write_bytes(b"")
    return place


def embed(run: str, out, *more) -> dict[str, np.ndarray]:
    assert main(["embed", run, "--out", str(out), *map(str, more)]) == 0
    with np.load(out, allow_pickle=False) as file:
        return dict(file)


def test_a_folder_with_subfolders_one_image_at_a_time(tiny_run, folder, tmp_path, capsys):
    """Every vector is what the model gives for that image alone, in the order of the names."""
    found = embed(tiny_run, tmp_path / "o.npz", "--images", folder, "--batch-size", 4)
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'o.npz'}\n"
    assert "left out 1 of 9 images" in err and "broken.jpg can't be read" in err.splitlines()[-1]
    assert found["left_out"].tolist() == ["a/broken.jpg"]
    files = sorted(path for path in folder.rglob("*_c*.jpg"))
    assert found["names"].tolist() == [path.relative_to(folder).as_posix() for path in files]
    run = open_run(tiny_run)
    model = run.model()
    for path, vector in zip(files, found["embeddings"], strict=True):
        pixels = torch.from_numpy(read(path, run.experiment.training.size).copy())
        pixels = pixels.permute(2, 0, 1)[None].float() / 255
        camera = int(path.name.split("_c")[1][0])
        with torch.no_grad():
            alone = model(batch_of(model, run.experiment, pixels, [camera])).embedding[0]
        np.testing.assert_allclose(vector, alone.numpy(), rtol=1e-4, atol=1e-5)
        at = files.index(path)
        assert found["identities"][at] == int(path.name.split("_")[0])
        assert found["cameras"][at] == camera
    assert not (tmp_path / "o.npz.unfinished").exists()


def test_a_pipe_is_not_waited_for(tiny_run, folder, tmp_path):
    os.mkfifo(folder / "0003_c2_pipe.jpg")
    found = embed(tiny_run, tmp_path / "o.npz", "--images", folder)
    assert found["left_out"].tolist() == ["0003_c2_pipe.jpg", "a/broken.jpg"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("--images", ""), "no file or folder given"),
        (("--images", "x.jpg", "--camera", "-3"), "a camera's number, or -1 for unknown, got '-3'"),
        (("--images", "x.jpg", "--camera", "c3"), "a camera's number, or -1 for unknown, got 'c3'"),
    ],
)
def test_what_embed_can_not_be_asked(tmp_path, capsys, asked, words):
    with pytest.raises(SystemExit) as left:
        main(["embed", "any", *asked, "--out", str(tmp_path / "o.npz")])
    assert left.value.code == 2 and words in capsys.readouterr().err


def test_killed_it_goes_on_where_it_stopped(tiny_run, runs, tiny_data, tmp_path, capsys):
    """Killed outright in another process, and the file is the same bit for bit."""
    code = """
import os, signal, sys, time
from reid_core.extraction import unfinished
from reid_core.__main__ import main
unfinished.SECONDS = 0
add = unfinished.Unfinished.add
def killed(self, part):
    add(self, part)
    if part.rows.stop >= 12:
        os.kill(os.getpid(), signal.SIGKILL)
unfinished.Unfinished.add = killed
main(sys.argv[1:])
"""
    out, asked = tmp_path / "o.npz", ["--images", str(tiny_data), "--batch-size", "4"]
    command = [sys.executable, "-c", code, "embed", tiny_run, "--out", str(out), *asked]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
    assert (tmp_path / "o.npz.unfinished" / "state.json").is_file() and not out.exists()
    # What was written after the last state counts for nothing.
    with (tmp_path / "o.npz.unfinished" / "vectors.f32").open("ab") as file:
        file.write(b"half a batch")
    resumed = embed(tiny_run, out, *asked)
    assert "going on after 12 images" in capsys.readouterr().err
    whole = embed(tiny_run, tmp_path / "whole.npz", *asked)
    assert resumed.keys() == whole.keys()
    for name, array in whole.items():
        assert array.dtype == resumed[name].dtype and array.tobytes() == resumed[name].tobytes()
    assert not (tmp_path / "o.npz.unfinished").exists()


class Stop(Exception):
    pass


def half_done(run, folder, out, monkeypatch, *more):
    """An `embed` that ends after its first batches."""
    add = Unfinished.add

    def stopped(self, part: Embedded):
        add(self, part)
        if part.rows.stop >= 4:
            raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Unfinished, "add", stopped)
        main(["embed", run, "--images", str(folder), "--out", str(out), "--batch-size", "2", *more])


def test_another_question_starts_anew(tiny_run, folder, tmp_path, monkeypatch, capsys):
    out, asked = tmp_path / "o.npz", ("--images", folder, "--batch-size", 2)
    half_done(tiny_run, folder, out, monkeypatch)
    capsys.readouterr()
    embed(tiny_run, out, *asked, "--precision", "bf16")
    assert "another set of options: starting anew" in capsys.readouterr().err

    half_done(tiny_run, folder, out, monkeypatch)
    (folder / "a" / "0000_c1_new.png").write_bytes(
        (next((folder / "a").glob("0*.jpg"))).read_bytes()
    )
    capsys.readouterr()
    found = embed(tiny_run, out, *asked)
    assert "another list of images: starting anew" in capsys.readouterr().err
    assert len(found["names"]) == 9

    half_done(tiny_run, folder, out, monkeypatch)
    (tmp_path / "o.npz.unfinished" / "state.json").write_text("{}")
    capsys.readouterr()
    embed(tiny_run, out, *asked)
    assert "is damaged: starting anew" in capsys.readouterr().err


def test_a_retrained_run_starts_anew(tiny_run, runs, folder, tmp_path, monkeypatch, capsys):
    half_done(tiny_run, folder, tmp_path / "o.npz", monkeypatch)
    (runs / tiny_run / "weights.safetensors").touch()
    embed(tiny_run, tmp_path / "o.npz", "--images", folder, "--batch-size", 2)
    assert "another model: starting anew" in capsys.readouterr().err


def test_interrupted_says_how_to_go_on(tiny_run, folder, tmp_path, monkeypatch, capsys):
    add = Unfinished.add

    def interrupted(self, part):
        add(self, part)
        raise KeyboardInterrupt

    monkeypatch.setattr(Unfinished, "add", interrupted)
    command = ["embed", tiny_run, "--images", str(folder), "--out", str(tmp_path / "o.npz")]
    assert main([*command, "--batch-size", "4"]) == 130
    assert "4 of 9 images are done" in capsys.readouterr().err
    monkeypatch.undo()


def test_two_at_once_don_t_write_one_file(tiny_run, folder, tmp_path, capsys):
    out = tmp_path / "o.npz"
    with Unfinished(out, {}):
        line = fails(capsys, "embed", tiny_run, "--images", str(folder), "--out", str(out))
    assert "another process writes o.npz" in line


@pytest.mark.parametrize(
    "state",
    [
        {"said": {}, "numbers": [], "problems": {}},
        {"said": {"asked": 1}, "numbers": [], "problems": {}},
        {"said": [], "numbers": [4, 4, 3, 2], "problems": {}},
        {"said": {"asked": 1}, "numbers": [4, 4, 3], "problems": {}},
        {"said": {"asked": 1}, "numbers": [4, 4, -3, 2], "problems": {}},
        {"said": {"asked": 1}, "numbers": [4, 4, float("inf"), 2], "problems": {}},
        {"said": {"asked": 1}, "numbers": [9, 4, 3, 2], "problems": {}},
        {"said": {"asked": 1}, "numbers": [4, 4, 3, 2], "problems": []},
        {"said": {"asked": 1}, "numbers": [5, 4, 3, 2], "problems": {"b": "unreadable"}},
        {"numbers": [4, 4, 3, 2]},
        [],
        None,
    ],
)
def test_a_damaged_state_starts_anew(tmp_path, state):
    part = Embedded(range(0, 4), np.ones((4, 3), np.float32), {})
    with pytest.raises(KeyboardInterrupt), Unfinished(tmp_path / "o.npz", {"asked": 1}) as kept:
        kept.add(part)
        raise KeyboardInterrupt
    file = tmp_path / "o.npz.unfinished" / "state.json"
    whole = json.loads(file.read_text("utf-8"))
    assert whole["said"] == {"asked": 1} and whole["numbers"][:3] == [4, 4, 3]
    file.write_text(json.dumps(state), "utf-8")
    with Unfinished(tmp_path / "o.npz", {"asked": 1}) as kept:
        assert "starting anew" in kept.news and (kept.tried, kept.kept) == (0, 0)
        kept.add(part)
        assert kept.vectors().shape == (4, 3)
    assert not file.parent.exists()


def test_nothing_readable_is_an_error(tiny_run, tmp_path, capsys):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    out = str(tmp_path / "o.npz")
    line = fails(capsys, "embed", tiny_run, "--images", str(tmp_path), "--out", out)
    assert "a.jpg can't be read" in line and "nor can the other 1" in line
    assert sorted(p.name for p in tmp_path.iterdir() if p.name[0] != "r") == ["a.jpg", "b.jpg"]


def test_the_same_folder_by_a_link_comes_once(tiny_run, folder, tmp_path):
    (folder / "a" / "round").symlink_to(folder)
    (folder / "link").symlink_to(folder / "a")
    found = embed(tiny_run, tmp_path / "o.npz", "--images", folder)
    assert len(found["names"]) == 8


def test_a_test_split_whole(tiny_run, tiny_data, tmp_path, capsys):
    """By name and by its folder: the same labels, and images of no test split are nobody's."""
    named = embed(tiny_run, tmp_path / "n.npz", "--dataset", "pedestrians")
    kept = open_run(tiny_run).embeddings()
    for name in ("names", "identities", "cameras", "views", "is_query"):
        np.testing.assert_array_equal(named[name], getattr(kept, name))
    np.testing.assert_allclose(named["embeddings"], kept.vectors, rtol=1e-3, atol=1e-4)
    capsys.readouterr()
    below = embed(tiny_run, tmp_path / "d.npz", "--images", tiny_data)
    assert "of no query and no gallery" in capsys.readouterr().err
    row = {name: number for number, name in enumerate(below["names"].tolist())}
    rows = [row[name] for name in kept.names.tolist()]
    for name in ("identities", "cameras", "views", "is_query"):
        np.testing.assert_array_equal(below[name][rows], getattr(kept, name))
    others = np.setdiff1d(np.arange(len(row)), rows)
    assert len(others) and (below["identities"][others] == -1).all()
    assert not below["is_query"][others].any()


def test_what_was_embedded_is_what_evaluate_takes(tiny_run, tiny_data, tmp_path, capsys):
    """Scores of the file are the run's own; on fewer images they say so."""

    def scores(path) -> dict:
        assert main(["evaluate", "--embeddings", str(path)]) == 0
        return json.loads(capsys.readouterr().out)

    embed(tiny_run, tmp_path / "o.npz", "--dataset", "pedestrians")
    assert main(["evaluate", tiny_run]) == 0
    own = json.loads(capsys.readouterr().out.partition("\n")[2])
    found = scores(tmp_path / "o.npz")
    assert "left_out" not in found.get("conditions", {})
    assert found["cmc"] == pytest.approx(own["cmc"]) and found["protocol"] == own["protocol"]
    assert [found[key] for key in ("mAP", "mINP")] == pytest.approx([own["mAP"], own["mINP"]])
    shutil.copytree(tiny_data, tmp_path / "copy")
    next((tmp_path / "copy" / "query").iterdir()).write_bytes(b"")
    more = ["--dataset", "pedestrians", "--data", tmp_path / "copy"]
    embed(tiny_run, tmp_path / "less.npz", *more)
    capsys.readouterr()
    less = scores(tmp_path / "less.npz")
    assert less["conditions"]["left_out"] == 1 and less["queries"] == own["queries"] - 1
    assert main(["evaluate", tiny_run, *map(str, more)]) == 2
    assert "can't be read as an image" in capsys.readouterr().err.splitlines()[-1]


def test_names_that_tell_nothing_give_no_labels(tiny_run, tmp_path, capsys):
    Image.new("RGB", (32, 64), "teal").save(tmp_path / "somebody.webp")
    found = embed(tiny_run, tmp_path / "o.npz", "--images", tmp_path)
    assert set(found) == {"names", "embeddings", "left_out"}
    capsys.readouterr()
    line = fails(capsys, "embed", tiny_run, "--images", str(tmp_path), "--data", "x", "--out", "o")
    assert "--data goes with --dataset" in line


def test_a_model_that_refines_keeps_what_each_was_alone(runs, folder, tmp_path):
    from test_app import imported

    run = imported("neighbours", model="nformer", trunk="resnet18", width=16)
    found = embed("neighbours", tmp_path / "o.npz", "--images", folder)
    alone = embed("neighbours", tmp_path / "e.npz", "--images", folder, "--stage", "encoder")
    np.testing.assert_array_equal(found["encoded"], alone["embeddings"])
    assert "encoded" not in alone
    with torch.no_grad():
        expected = run.model().refine(torch.from_numpy(alone["embeddings"]))
    np.testing.assert_allclose(found["embeddings"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_bf16_stays_close(case, folder):
    """Of every model: the vectors are float32, and point where those of float32 do."""
    net, experiment = build(case).eval(), asked_of(case)
    files = sorted(folder.rglob("*_c*.jpg"))
    full, half = (
        embed_images(net, experiment, files, [None] * len(files), precision=precision)
        for precision in ("fp32", "bf16")
    )
    assert half.dtype == np.float32 and not np.array_equal(full, half)
    assert (directions(full) * directions(half)).sum(axis=1).min() > 0.999


# The stream itself


class Counted(Images):
    """Images that know how many of them were decoded, and may hold one back."""

    def __init__(self, count: int, bad: tuple[int, ...] = ()):
        pictures = [Image.new("RGB", (4, 8), (row % 256, 0, 0)) for row in range(count)]
        super().__init__(pictures, (8, 4), cache=0)
        self.bad, self.decoded, self.threads = bad, 0, set()

    def _read(self, row: int) -> np.ndarray:
        self.threads.add(threading.get_ident())
        if row in self.bad:
            raise BadInput(f"row {row}")
        self.decoded += 1
        return super()._read(row)


def first_pixel(rows, pixels):
    return pixels[:, 0, 0, :1]


@pytest.mark.parametrize("count, batch", [(0, 3), (1, 3), (7, 3), (9, 3), (10, 16)])
@pytest.mark.parametrize("bad", [(), (0,), (2, 3, 4, 5)])
def test_order_and_gaps(count, batch, bad):
    parts = list(streaming.stream(first_pixel, Counted(count, bad), batch))
    assert [row for part in parts for row in part.rows] == list(range(count))
    good = [row for row in range(count) if row not in bad]
    assert [int(v) for part in parts for v in part.vectors.ravel()] == good
    assert [row for part in parts for row in part.problems] == [b for b in bad if b < count]


def test_no_more_is_decoded_than_is_waited_for():
    """Whatever N, at most AHEAD batches wait, and they are decoded while the model looks."""
    images = Counted(1000)
    batches = decoded(images, 10)
    for number in range(1, 6):
        next(batches)
        assert images.decoded <= (number + AHEAD) * 10
    assert images.decoded > 50 or threading.active_count() > 1
    assert threading.get_ident() not in images.threads
    batches.close()
    assert images.decoded < 100


def test_all_unreadable_images_of_a_test_split_are_named(tiny_run, tiny_data, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_data, copy)
    gallery = sorted((copy / "bounding_box_test").iterdir())[:12]
    for path in gallery:
        path.write_bytes(b"no picture")
    run = open_run(tiny_run)
    dataset = open_dataset("pedestrians", copy)
    bad = [path for path in dataset.gallery.paths if path in gallery]
    with pytest.raises(BadInput, match=f"{len(bad)} of .* images can't be read") as error:
        embed_test(run.model(), run.experiment, dataset, batch_size=4)
    assert all(str(path) in str(error.value) for path in bad[:10])
    assert ("more" in str(error.value)) == (len(bad) > 10)


def test_the_batch_fits_the_model(monkeypatch, tiny_run):
    """Half the memory, half the batch; and never more than the device's most."""
    from reid_core.embed import batch_size_of

    run = open_run(tiny_run)
    model, sizes = run.model(), []
    for memory in (2**20, 2**21, 2**22, 2**40):
        monkeypatch.setattr(streaming, "CPU_BYTES", memory)
        sizes.append(batch_size_of(model, run.experiment))
    assert sizes[1] == 2 * sizes[0] and sizes[-1] == streaming.MOST["cpu"]
    assert batch_size_of(model, run.experiment, count=5) == 5


def test_an_embedding_needs_no_memory_of_its_own(tiny_run, tmp_path):
    """Vectors go to the file as they come: a reader maps them, and none is kept."""
    parts = [Embedded(range(i, i + 4), np.full((4, 3), i, np.float32), {}) for i in range(0, 12, 4)]
    with Unfinished(tmp_path / "o.npz", {"asked": 1}) as kept:
        for part in parts:
            kept.add(part)
        vectors = kept.vectors()
        assert isinstance(vectors, np.memmap) and vectors.shape == (12, 3)
        assert vectors[:, 0].tolist() == [0] * 4 + [4] * 4 + [8] * 4
        assert not [v for v in vars(kept).values() if isinstance(v, np.ndarray)]


def test_embedded_starts_at_any_row(tiny_run, tiny_data):
    run = open_run(tiny_run)
    files = sorted((tiny_data / "bounding_box_test").iterdir())[:10]
    images = Images(files, run.experiment.training.size, cache=0)
    model, unknown = run.model(), [None] * 10
    whole, later = (
        np.concatenate(
            [
                part.vectors
                for part in embedded(
                    model, run.experiment, images, unknown, unknown, batch_size=4, start=start
                )
            ]
        )
        for start in (0, 4)
    )
    np.testing.assert_array_equal(whole[4:], later)


def test_a_full_disk_names_the_file(tmp_path):
    """The system says so of what is written through an open file, which has no name there."""

    def full():
        raise OSError(28, "No space left on device")

    for fails_at_end in (False, True):
        with pytest.raises(OSError, match=r"F\.npz\.unfinished"):
            with Unfinished(tmp_path / "F.npz", {}) as kept:
                if fails_at_end:
                    kept.file = types.SimpleNamespace(close=full)
                full()


def with_table(home: Path, rows: list[str], columns: str = "path,identity,split,camera") -> Path:
    (home / "table.csv").write_text("\n".join([columns, *rows]))
    return home


def test_a_table_tells_images_of_every_kind_and_those_it_has_twice(tiny_data, tmp_path):
    """One image is query and gallery image, one is of a kind that nobody would look for, and the names
    say other cameras."""
    names = sorted(path.name for path in (tiny_data / "bounding_box_test").glob("0*.jpg"))[:4]
    for name in names:
        shutil.copy(tiny_data / "bounding_box_test" / name, tmp_path)
    Image.open(tmp_path / names[3]).save(tmp_path / "other.ppm")
    rows = [f"{names[0]},5,query,7", *(f"{name},5,gallery,7" for name in names[:3])]
    found = pictures_at(with_table(tmp_path, [*rows, "other.ppm,6,gallery,7"]))
    expected = [(names[0], 5, 7, False), (names[0], 5, 7, True)]
    expected += [(name, 5, 7, False) for name in names[1:3]]
    outside = parse_name(names[3])[1]
    expected += [(names[3], -1, outside, False), ("other.ppm", 6, 7, False)]
    told = zip(found.names, found.identities, found.cameras, found.is_query, strict=True)
    assert sorted((str(n), int(i), int(c), bool(q)) for n, i, c, q in told) == expected
    assert found.aside == 1


def test_a_table_without_a_test_split_tells_nothing_of_its_images(tiny_data, tmp_path):
    names = sorted(path.name for path in (tiny_data / "bounding_box_test").glob("0*.jpg"))[:4]
    for name in names:
        shutil.copy(tiny_data / "bounding_box_test" / name, tmp_path)
    found = pictures_at(
        with_table(tmp_path, [f"{name},{at // 2},train,7" for at, name in enumerate(names)])
    )
    assert found.names.tolist() == names and not found.is_query.any()
    assert found.cameras.tolist() == [parse_name(name)[1] for name in names]
