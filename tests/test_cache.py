"""Decoded images that are kept on disk: found again, noticed where they are not what they should be,
and nothing that can go wrong with them changes a number."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_input import experiment, weights

from reid_core import train
from reid_core.data import cache as caches
from reid_core.data import images as pictures
from reid_core.data.images import FILTERS, Images
from reid_core.errors import BadInput
from reid_core.train import Stopped, progress

SIZE = (32, 16)


@pytest.fixture
def own_place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("REID_DATA", str(tmp_path / "own"))
    monkeypatch.setattr(pictures, "BLOCK", 4)
    monkeypatch.setattr(caches, "SPARE", 0)
    return tmp_path / "own" / "decoded"


@pytest.fixture
def files(tmp_path) -> list[Path]:
    generator, found = np.random.default_rng(0), []
    for row in range(10):
        found.append(tmp_path / "set" / f"{row}.jpg")
        found[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (40, 20, 3), np.uint8)).save(found[-1])
    return found


def kept(files, **more) -> Images:
    return Images(files, SIZE, **dict(cache=0, disk=1) | more)


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """The rows that were decoded, in order."""
    rows, original = [], Images._read

    def counted(self, row):
        rows.append(row)
        return original(self, row)

    monkeypatch.setattr(Images, "_read", counted)
    return rows


def test_images_are_decoded_once_and_found_again(own_place, files, decoded):
    plain = Images(files, SIZE, cache=0)[range(10)]
    decoded.clear()
    said = []
    kept(files).fill(said.append)
    assert sorted(decoded) == list(range(10))
    assert [each[-7:] for each in said] == ["4 of 10", "8 of 10", "0 of 10"]
    again = kept(files)
    assert torch.equal(again[range(10)], plain) and len(decoded) == 10
    assert torch.equal(again[[3, 3, 1]], plain[[3, 3, 1]]) and not again.file.lacking(range(10))
    assert len(list(own_place.iterdir())) == 1
    for other in (kept(files, filter=FILTERS["bicubic"]), kept(files[::-1])):
        assert other.file.path != again.file.path and len(other.file.lacking(range(10))) == 10
    assert Images(files, SIZE).file is None  # they fit into memory


def test_building_that_was_cut_short_goes_on(own_place, files, decoded):
    def stop(message):
        raise Stopped

    with pytest.raises(Stopped):
        kept(files).fill(stop)
    assert sorted(decoded) == [0, 1, 2, 3]
    kept(files).fill(lambda message: None)
    assert sorted(decoded) == list(range(10))


@pytest.mark.parametrize("damage", ["a byte", "cut short", "emptied", "removed", "another's"])
def test_a_damaged_file_is_noticed_and_mended(own_place, files, decoded, damage):
    kept(files).fill(lambda message: None)
    plain, path, step = Images(files, SIZE)[range(10)], kept(files).file.path, 32 * 16 * 3 + 12
    content = bytearray(path.read_bytes())
    decoded.clear()
    if damage == "a byte":
        content[4 * step + 100] ^= 1
    elif damage == "cut short":
        content = content[: 6 * step + 50]
    elif damage == "another's":
        content[: 2 * step] = content[2 * step : 4 * step]
    path.write_bytes(b"" if damage == "emptied" else content)
    images = kept(files)
    if damage == "removed":
        path.unlink()
    assert torch.equal(images[range(10)], plain)
    lost = {"a byte": [4], "cut short": [6, 7, 8, 9], "another's": [0, 1]}
    assert sorted(decoded) == lost.get(damage, list(range(10)))
    decoded.clear()
    assert torch.equal(kept(files)[range(10)], plain)
    assert len(decoded) == 10 * (damage == "removed")


def test_an_image_that_was_replaced_is_read_anew(own_place, files, decoded):
    kept(files).fill(lambda message: None)
    decoded.clear()
    Image.new("RGB", (20, 40), "red").save(files[2])
    images = kept(files)
    assert images.file.lacking(range(10)) == [2]
    assert torch.equal(images[range(10)], Images(files, SIZE)[range(10)])
    assert kept(files).file.lacking(range(10)) == []


def test_a_replacement_of_the_same_size_and_time_is_read_anew(own_place, files, decoded):
    about = files[2].stat()
    kept(files).fill(lambda message: None)
    brought = files[2].with_name("brought")
    Image.new("RGB", (20, 40), "red").save(brought, "JPEG")
    with brought.open("ab") as file:
        file.write(bytes(about.st_size - brought.stat().st_size))
    os.utime(brought, ns=(about.st_atime_ns, about.st_mtime_ns))
    brought.replace(files[2])
    assert (about.st_size, about.st_mtime_ns) == (
        files[2].stat().st_size,
        files[2].stat().st_mtime_ns,
    )
    assert torch.equal(kept(files)[[2]], Images(files, SIZE)[[2]])


def test_an_image_that_is_replaced_while_it_is_decoded_is_read_anew(own_place, files, monkeypatch):
    original = Images._read

    def too_late(self, row):
        pixels = original(self, row)
        Image.new("RGB", (20, 40), "red").save(files[row])
        return pixels

    with monkeypatch.context() as patch:
        patch.setattr(Images, "_read", too_late)
        kept(files)[[2]]  # nothing is in the file yet
    assert torch.equal(kept(files)[[2]], Images(files, SIZE)[[2]])


def test_a_bad_image_keeps_no_other_from_being_kept(own_place, files, decoded):
    files[5].write_bytes(b"no image")
    images = kept(files)
    images.fill(lambda message: None)
    assert images.file.lacking(range(10)) == [5]
    with pytest.raises(BadInput, match=r"5\.jpg can't be read as an image"):
        images[[4, 5]]
    rows, _, problems = images.readable(range(10))
    assert len(rows) == 9 and list(problems) == [5]


def test_two_that_write_at_once_write_the_same(own_place, files):
    both = kept(files), kept(files)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda each: each.fill(lambda message: None), both))
    assert torch.equal(kept(files)[range(10)], Images(files, SIZE)[range(10)])
    assert not kept(files).file.lacking(range(10))


def test_processes_share_the_work(own_place, files, decoded):
    calls = []
    kept(files).fill(calls.append, start=0)
    first = list(decoded)
    kept(files).fill(calls.append, start=1 / 2)  # asks as often, although there is nothing to do
    assert len(calls) == 6 and decoded == first
    shutil.rmtree(own_place)
    decoded.clear()
    kept(files).fill(calls.append, start=1 / 2)
    assert set(decoded[:4]) == {4, 5, 6, 7} and sorted(decoded) == list(range(10))


def test_without_room_images_are_decoded_anew(own_place, files, monkeypatch, caplog, decoded):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    images = kept(files)
    images.fill(lambda message: None)
    assert torch.equal(images[range(10)], Images(files, SIZE)[range(10)])
    assert caplog.text.count("keeps no more decoded images") == 1 and "are free" in caplog.text
    assert images.file.path.stat().st_size == 0


def test_a_limit_holds_for_all_sets_together(own_place, files, caplog):
    step = 32 * 16 * 3 + 12
    first, second = kept(files), kept(files[:9], disk=18 * step / 2**30)
    assert second.file.writes and not second.file.lacking([]) and not caplog.text
    first.fill(lambda message: None)
    assert not kept(files[:9], disk=18 * step / 2**30).file.writes
    assert "more than disk=" in caplog.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_disk_that_fills_meanwhile_ends_the_keeping(own_place, files, caplog):
    path = kept(files).file.path
    path.unlink()
    path.symlink_to("/dev/full")  # each write says that no space is left
    images = kept(files)
    images.fill(lambda message: None)
    assert torch.equal(images[range(10)], Images(files, SIZE)[range(10)])
    assert caplog.text.count("No space left on device") == 1 and not images.file.writes


@pytest.mark.parametrize("whole", [False, True])
def test_a_folder_that_may_not_be_written(own_place, files, caplog, decoded, monkeypatch, whole):
    """What is there already is still read."""
    if whole:
        kept(files).fill(lambda message: None)
    original = Path.open

    def refused(self, mode="r", *given, **more):
        if self.suffix == ".pixels" and mode != "rb":
            raise PermissionError(13, "Permission denied", str(self))
        return original(self, mode, *given, **more)

    monkeypatch.setattr(Path, "open", refused)
    decoded.clear()
    images = kept(files)
    assert torch.equal(images[range(10)], Images(files, SIZE, cache=0)[range(10)])
    assert len(decoded) == 10 + 10 * (not whole) and "Permission denied" in caplog.text


def test_a_file_where_the_folder_should_be(own_place, files, caplog):
    own_place.parent.mkdir()
    own_place.write_text("in the way")
    assert torch.equal(kept(files)[range(10)], Images(files, SIZE)[range(10)])
    assert "keeps no more decoded images: File exists" in caplog.text


def test_a_data_folder_that_vanishes_is_told_by_the_next_training(own_place, files):
    images = kept(files)
    images.fill(lambda message: None)
    plain = Images(files, SIZE)[range(10)]
    shutil.rmtree(files[0].parent)
    assert torch.equal(images[range(10)], plain)  # this one has all it needs
    with pytest.raises(BadInput, match="was the data set moved"):
        kept(files)[[3]]


# Trainings


@pytest.fixture
def own_copy(runs, tiny_data, tmp_path, monkeypatch) -> Path:
    """The small data set in a place that may be written to; `decoded/` goes there."""
    shutil.copytree(tiny_data, tmp_path / "data" / "pedestrians")
    monkeypatch.setenv("REID_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(caches, "SPARE", 0)
    return tmp_path / "data"


def test_trainings_are_the_same_wherever_images_are_kept(own_copy, decoded):
    found, counts = [], []
    ways = dict(memory={}, nothing=dict(cache=0, disk=0), disk=dict(cache=0), again=dict(cache=0))
    for name, settings in ways.items():
        decoded.clear()
        run = train.create(experiment(epochs=2, **settings), name)
        train.train(run, quiet=True)
        found.append((weights(run), run.embeddings().vectors, run.metrics()))
        counts.append(len(decoded))
    for one, vectors, metrics in found[1:]:
        assert all(torch.equal(weight, one[name]) for name, weight in found[0][0].items())
        np.testing.assert_array_equal(vectors, found[0][1])
        assert metrics == found[0][2]
    memory, nothing, disk, again = counts
    assert nothing > max(memory, disk) and again == 0
    assert len(list((own_copy / "decoded").iterdir())) == 2  # training and test images


def test_decoding_to_disk_is_told_and_can_be_stopped(own_copy, monkeypatch):
    monkeypatch.setattr(pictures, "BLOCK", 8)
    monkeypatch.setattr(progress, "HEARTBEAT", -1)
    said, original = [], progress.Progress.say

    def say(self, message, epoch=0):
        original(self, message, epoch)
        said.append(self.run.status().message)
        if len(said) == 2:
            self.run.ask_stop()

    monkeypatch.setattr(progress.Progress, "say", say)
    run = train.create(experiment(cache=0), "told")
    with pytest.raises(Stopped):
        train.train(run, quiet=True)
    assert said[1].startswith("decoding the images, to be kept on disk: 16 of ")
    assert run.status().state == "stopped" and run.resumable
    train.train(run, quiet=True)
    whole = train.create(experiment(), "whole")
    train.train(whole, quiet=True)
    assert run.status().state == "finished"
    assert all(torch.equal(w, weights(run)[name]) for name, w in weights(whole).items())
