"""The dataset doctor: every odd folder with its kind, its message and its exit code."""

import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import layouts
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from reid_core.__main__ import main
from reid_core.data import DATASETS, ROOT, matches, open_dataset
from reid_core.data.base import Split
from reid_core.data.doctor import KINDS, duplicates, examine, pictures
from reid_core.data.doctor.sizes import examine_sizes
from reid_core.data.images import opened
from reid_core.errors import BadInput

FOLDERS = ("bounding_box_train", "query", "bounding_box_test")


@pytest.fixture
def market(tmp_path, tiny_data) -> Path:
    """The small pedestrians as Market-1501: its folders and names, without our table."""
    root = tmp_path / "market"
    for name in FOLDERS:
        shutil.copytree(tiny_data / name, root / name)
    return root


def images(folder: Path, junk: bool = False) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if junk or not path.name.startswith("-1"))
    return [path for path in found if not path.name.startswith("0000")]


def of(report, kind: str) -> list:
    return [each for each in report.findings if each.kind == kind]


def camera(path: Path) -> int:
    return int(path.name.split("_c")[1][0])


def recamera(path: Path, number: int) -> Path:
    """The same image under another camera."""
    head, tail = path.name.split("_c")
    return path.rename(path.with_name(f"{head}_c{number}{tail[1:-4]}_{camera(path)}.jpg"))


def test_a_sound_folder(tiny_data):
    report = examine(tiny_data)
    assert [each.name for each in report.recognised] == ["pedestrians"]
    assert report.code == 0 and not report.findings
    found = report.recognised[0]
    for split, folder in zip(("train", "query", "gallery"), FOLDERS, strict=True):
        files = [path for path in (tiny_data / folder).iterdir() if path.suffix == ".jpg"]
        files = [path for path in files if not path.name.startswith("-1")]
        has = found.splits[split]
        assert has.images == len(files)
        assert has.identities == len({path.name.split("_")[0] for path in files})
        assert has.cameras == len({camera(path) for path in files})
    assert found.sizes == [[64, 32, sum(has.images for has in found.splits.values())]]


def test_counts_against_the_published_ones(market):
    report = examine(market)
    found = report.recognised[0]
    assert found.name == "market1501" and found.published["train"].images == 12_936
    count = of(report, "count")
    assert {each.split for each in count} == {"train", "query", "gallery"}
    assert "published are 12,936 of 751" in count[0].message and report.code == 0


def test_json_is_one_object_and_its_kinds_are_documented(market, capsys):
    broken = images(market / "query")[0]
    broken.write_bytes(b"no image")
    assert main(["check", str(market), "--json", "--progress", "lines"]) == 1
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert set(report) >= {"recognised", "counts", "findings"}
    assert report["recognised"][0]["name"] == "market1501"
    for finding in report["findings"]:
        assert finding["kind"] in KINDS and finding["remedy"]
        assert finding["severity"] in ("error", "warning")
        assert {"split", "file", "identity"} <= set(finding)
    row = next(each for each in report["findings"] if each["kind"] == "unreadable")
    assert row["file"] == f"query/{broken.name}" and row["split"] == "query"
    assert printed.err.splitlines()[-1].split("/")[0] == printed.err.splitlines()[-1].split("/")[1]


def test_help_lists_every_kind(capsys):
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    text = capsys.readouterr().out
    assert all(kind in text for kind in KINDS)


def test_words_name_the_first_files_and_the_total(market, capsys):
    for path in images(market / "bounding_box_train")[:7]:
        path.write_bytes(path.read_bytes()[:300])
    assert main(["check", str(market)]) == 1
    text = " ".join(capsys.readouterr().out.split())
    total = len(images(market / "bounding_box_train"))
    assert f"truncated (train): 7 of {total} images: they end too early" in text
    assert "and 2 more" in text and "1 thing prevents training." in text


def test_the_most_asked_question_is_answered_by_name(market):
    """One camera number for all: no query has a match that counts."""
    for folder in FOLDERS[1:]:
        for number, path in enumerate(sorted((market / folder).iterdir())):
            head = path.name.split("_c")[0]
            path.rename(path.with_name(f"{head}_c1s1_{number:06}_00.jpg"))
    report = examine(market)
    (found,) = of(report, "no-match")
    assert report.code == 1 and found.severity == "error"
    assert '"all query identities do not appear in gallery"' in found.message
    assert "own camera only" in found.message and "all of them say camera 1" in found.message
    assert "cameras are unknown" in found.remedy
    assert len(found.cases) == len(images(market / "query"))
    assert {each.split for each in of(report, "one-camera")} == {"query", "gallery"}


def test_queries_whose_identity_the_gallery_lacks(market):
    gone = images(market / "query")[0].name.split("_")[0]
    for path in (market / "bounding_box_test").glob(f"{gone}_*"):
        path.unlink()
    report = examine(market)
    (found,) = of(report, "no-match")
    assert found.severity == "warning" and report.code == 0
    assert {case.identity for case in found.cases} == {int(gone)}
    assert "is not in the gallery" in found.message
    assert by_hand(market) == len(found.cases)
    for path in images(market / "bounding_box_test"):
        path.unlink()  # only distractors are left
    (found,) = of(examine(market), "no-match")
    assert '"all query identities do not appear in gallery"' in found.message


def by_hand(market: Path) -> int:
    """Queries without a match under another camera, counted naively."""
    gallery = [(p.name.split("_")[0], camera(p)) for p in images(market / "bounding_box_test")]
    return sum(
        not any(who == p.name.split("_")[0] and c != camera(p) for who, c in gallery)
        for p in images(market / "query")
    )


def test_unmatched_agrees_with_a_naive_loop():
    draw = np.random.default_rng(0)
    for _ in range(300):
        sizes = draw.integers(1, 12, 2)
        query, gallery = (
            Split(("x",) * n, draw.integers(-1, 4, n), draw.choice([-1, 1, 2], n), np.full(n, -1))
            for n in sizes
        )
        absent, same = matches.unmatched(query, gallery)
        for row in range(sizes[0]):
            who, seen = query.identities[row], query.cameras[row]
            mine = [c for i, c in zip(gallery.identities, gallery.cameras, strict=True) if i == who]
            mine = [] if who == -1 else mine
            assert absent[row] == (not mine)
            left = [c for c in mine if seen == -1 or c != seen]
            assert same[row] == (bool(mine) and not left)


def test_unreadable_truncated_empty_and_closed(market, monkeypatch):
    first, second, third, fourth, fifth = images(market / "bounding_box_train")[:5]
    Image.new("RGB", (8, 16), "red").save(packed := io.BytesIO(), "AVIF")
    fifth.write_bytes(packed.getvalue().replace(b"pitm", b"free"))  # PIL raises RuntimeError
    with pytest.raises(RuntimeError, match="decode"):
        Image.open(fifth).load()
    first.write_bytes(b"<html>quota exceeded</html>")
    second.write_bytes(second.read_bytes()[:-400])
    third.write_bytes(b"")
    usual = Path.read_bytes

    def closed(path: Path) -> bytes:
        if path.name == fourth.name:
            raise PermissionError(13, "Permission denied")
        return usual(path)

    monkeypatch.setattr(Path, "read_bytes", closed)
    report = examine(market)
    assert report.code == 1
    files = {each.kind: {Path(case.file).name for case in each.cases} for each in report.findings}
    assert files["unreadable"] == {first.name, fifth.name}
    with pytest.raises(BadInput, match="can't be read as an image"):
        opened(fifth)
    assert files["truncated"] == {second.name, third.name}
    assert files["permission"] == {fourth.name}


def test_a_closed_folder_is_told_and_the_rest_examined(market, monkeypatch):
    from reid_core.data import base
    from reid_core.errors import BadInput

    usual, shut = base.entries, market / "closed"
    shut.mkdir()

    def entries(folder: Path):
        if Path(folder) == shut:
            raise BadInput(f"not allowed to use {folder}: choose another folder")
        return usual(folder)

    monkeypatch.setattr("reid_core.data.base.entries", entries)
    monkeypatch.setattr("reid_core.data.doctor.folders.entries", entries)
    report = examine(market)
    (found,) = of(report, "permission")
    assert found.cases[0].file == "closed" and report.recognised


def test_the_same_bytes_in_train_and_test_leak(market):
    source = images(market / "bounding_box_train")[0]
    shutil.copy(source, market / "bounding_box_test" / f"0900_c9s1_000000_00{source.suffix}")
    report = examine(market)
    (found,) = [each for each in of(report, "leakage") if each.cases[0].other]
    assert found.split == "train+gallery" and found.severity == "warning"
    assert found.cases[0].file.endswith(source.name) and "0900" in found.cases[0].other


def test_an_identity_in_train_and_test_leaks(market):
    source = images(market / "query")[0]
    who = int(source.name.split("_")[0])
    shutil.copy(
        images(market / "bounding_box_test")[1], market / "bounding_box_train" / source.name
    )
    found = [each for each in of(examine(market), "leakage") if each.split == "train+test"]
    assert [case.identity for case in found[0].cases] == [who]


@pytest.mark.parametrize("alike", ["jpeg", "smaller", "brighter"])
def test_a_copy_saved_anew_leaks_too(market, alike):
    source = images(market / "bounding_box_train")[3]
    with Image.open(source) as image:
        if alike == "smaller":
            image = image.resize((24, 48))
        if alike == "brighter":
            image = ImageEnhance.Brightness(image).enhance(1.08)
        image.convert("RGB").save(market / "query" / "0900_c9s1_000000_00.jpg", quality=60)
    (found,) = [each for each in of(examine(market), "leakage") if each.cases[0].other]
    assert found.split == "train+query" and "nearly the same" in found.message
    assert found.cases[0].file.endswith(source.name)


def test_a_query_that_is_in_the_gallery(market):
    same, other = (path for path in images(market / "query")[:2])
    shutil.copy(same, market / "bounding_box_test" / f"{same.stem}_9.jpg")
    moved = other.name.replace(f"_c{camera(other)}", "_c9")
    shutil.copy(other, market / "bounding_box_test" / moved)
    found = {each.cases[0].file: each for each in of(examine(market), "duplicate")}
    assert "scores stay as they are" in found[f"query/{same.name}"].message
    assert "raises every score" in found[f"query/{other.name}"].message


def test_one_picture_under_two_identities(market):
    source = images(market / "bounding_box_train")[0]
    shutil.copy(source, source.with_name("0901_c1s1_000000_00.jpg"))
    (found,) = of(examine(market), "label-conflict")
    assert "901" in found.cases[0].note
    alone = of(examine(market), "single-image")
    assert [case.identity for case in alone[0].cases] == [901]


def test_sizes_out_of_line(market):
    tiny, flat = images(market / "bounding_box_train")[:2]
    Image.new("RGB", (5, 10)).save(tiny)
    Image.new("RGB", (90, 30)).save(flat)
    found = of(examine(market), "odd-size")
    words = {each.cases[0].file.split("/")[-1]: each for each in found}
    assert "smaller than" in words[tiny.name].message
    assert "another shape" in words[flat.name].message
    assert words[flat.name].cases[0].note == "30 x 90 pixels"


def test_sizes_that_vary_as_a_rule_are_no_finding():
    draw = np.random.default_rng(0)
    height = draw.integers(80, 400, 200)
    sizes = np.stack([height, height // 2 + draw.integers(-15, 15, 200)], axis=1)
    assert not list(examine_sizes(sizes, ["x"] * 200, "train"))


def test_an_image_whose_name_says_nothing_is_told(market):
    (market / "query" / "holiday.jpg").write_bytes(images(market / "query")[0].read_bytes())
    (found,) = of(examine(market), "misnamed")
    assert found.cases[0].file == "query/holiday.jpg" and found.severity == "warning"


def test_one_identity_is_too_few(market):
    keep = images(market / "bounding_box_train")[0].name[:4]
    for path in images(market / "bounding_box_train"):
        if not path.name.startswith(keep):
            path.unlink()
    report = examine(market)
    assert of(report, "too-few") and report.code == 1


def test_an_empty_split(market):
    for path in (market / "query").iterdir():
        path.unlink()
    report = examine(market, name=None)
    assert report.code != 0
    told = " ".join(each.message for each in report.findings)
    assert "query" in told


def test_nothing_there(tmp_path, capsys):
    assert main(["check", str(tmp_path / "none")]) == 2
    text = capsys.readouterr().out
    assert "no folder" in text and "look whether its name is right" in text
    (tmp_path / "empty").mkdir()
    assert main(["check", str(tmp_path / "empty")]) == 2
    text = capsys.readouterr().out
    assert "is empty" in text and "bounding_box_train" in text


def test_an_archive_beside_nothing(tmp_path):
    (tmp_path / "Market-1501-v15.09.15.zip").write_bytes(b"PK")
    report = examine(tmp_path)
    (found,) = of(report, "archive")
    assert report.code == 2 and "not extracted" in found.message
    assert found.cases[0].file == "Market-1501-v15.09.15.zip"


def test_folders_in_other_capitals_are_to_be_renamed(market):
    (market / "query").rename(market / "Query")
    (market / "bounding_box_test").rename(market / "Bounding_Box_Test")
    report = examine(market)
    (found,) = of(report, "misnamed")
    assert report.code == 2 and "there is Query, Bounding_Box_Test in" in found.message
    assert found.remedy == "rename Query to query, Bounding_Box_Test to bounding_box_test"
    assert not of(report, "half-extracted")
    shutil.rmtree(market / "bounding_box_train")
    (found,) = of(examine(market), "half-extracted")
    assert "but not bounding_box_train" in found.message


@pytest.mark.parametrize("splits", [("query",), FOLDERS])
def test_images_one_folder_too_deep_are_to_be_moved(market, splits):
    for name in splits:
        (market / name).rename(market / "moved")
        (market / name).mkdir()
        (market / "moved").rename(market / name / name)
    report = examine(market)
    (found,) = of(report, "layout")
    assert f"no image lies right in {market / splits[0]}, but" in found.message
    assert f"in its folder {splits[0]}: move them up" in found.message
    assert found.dataset == ("market1501" if len(splits) == 1 else "")  # nothing tells which
    assert not of(report, "empty-split") and report.code


def test_half_of_msmt17_is_not_to_be_renamed(tmp_path, tiny_data):
    home = layouts.build("msmt17-v1", tiny_data, tmp_path)
    shutil.rmtree(home / "test")
    report = examine(tmp_path)
    (found,) = of(report, "half-extracted")
    assert "but not test" in found.message and not of(report, "misnamed")


def test_half_of_cuhk03s_boxes(tmp_path, tiny_data):
    home = layouts.build("cuhk03-folders", tiny_data, tmp_path)
    shutil.rmtree(home / "labeled" / "query")
    for asked, code, severity in ((None, 0, "warning"), ("cuhk03-labeled", 2, "error")):
        report = examine(tmp_path, asked)
        (found,) = of(report, "half-extracted")
        assert found.severity == severity and report.code == code
        assert "but not labeled/query, which belongs to it in CUHK03-NP (labeled)" in found.message
        assert "or train on cuhk03-detected" in found.remedy
    assert not of(examine(tmp_path, "cuhk03-detected"), "half-extracted")


def test_cuhk03_without_its_protocol(tmp_path, tiny_data):
    """No archive of CUHK03 holds the two files of the new protocol."""
    home = layouts.build("cuhk03-mat", tiny_data, tmp_path)
    names = [f"cuhk03_new_protocol_config_{kind}.mat" for kind in ("labeled", "detected")]
    (home / names[0]).unlink()
    (found,) = of(examine(tmp_path, "cuhk03-labeled"), "wrong-version")
    assert f"download {names[0]}" in found.remedy and "person-re-ranking" in found.remedy
    (home / names[1]).unlink()
    (found,) = of(examine(tmp_path), "half-extracted")
    assert [case.file for case in found.cases] == names
    assert f"download {names[0]} and {names[1]}" in found.remedy
    assert "person-re-ranking" in found.remedy and "extract" not in found.remedy


@pytest.mark.parametrize(
    "name, content, says",
    [
        (
            "people.csv",
            "file,id,cam,subset\n",
            "lacks path, identity, split (its columns are file, id",
        ),
        ("people.csv", "", "has no header in its first line"),
        ("people.xlsx", "PK", "is no CSV"),
    ],
)
def test_a_table_that_nobody_would_know_as_one(tmp_path, tiny_data, name, content, says):
    """Beside pictures/{train,query,gallery}, which are no half of Market-1501."""
    home = layouts.build("folder", tiny_data, tmp_path)
    (home / "people.csv").unlink()
    report = examine(tmp_path)
    assert of(report, "misnamed") and not of(report, "half-extracted")
    (home / name).write_text(content)
    report = examine(tmp_path)
    (found,) = of(report, "layout")
    assert report.code == 2 and f"{name} {says}" in found.message
    assert "path, identity, split" in found.remedy
    assert not of(report, "half-extracted") and not of(report, "misnamed")


def test_half_of_a_layout(market):
    shutil.rmtree(market / "query")
    report = examine(market)
    (found,) = of(report, "half-extracted")
    assert report.code == 2 and "but not query" in found.message
    assert "Market-1501" in found.message
    assert "holds all of them" in found.remedy


def test_masks_are_not_examined_as_photographs(tiny_data, tmp_path):
    home = tmp_path / "drawn"
    shutil.copytree(tiny_data, home)
    shutil.rmtree(home / "query")
    report = examine(home)
    (found,) = of(report, "half-extracted")
    assert report.code == 2 and not report.recognised and "but not query" in found.message
    assert not of(report, "layout") and not of(report, "misnamed")  # table and names are sound
    (found,) = of(examine(home / "masks"), "not-recognised")
    assert "holds part masks" in found.message
    (found,) = of(examine(tiny_data / "masks"), "wrong-level")
    assert found.remedy == f"give the folder above: {tiny_data}"


@pytest.mark.parametrize("folder", ["query", "bounding_box_test"])
def test_a_folder_too_deep(tiny_data, folder):
    report = examine(tiny_data / folder)
    (found,) = of(report, "wrong-level")
    assert report.code == 2 and found.remedy == f"give the folder above: {tiny_data}"


def test_a_folder_too_high_is_searched(tiny_data):
    report = examine(tiny_data.parent.parent)
    assert str(tiny_data) in [each.home for each in report.recognised]


def test_images_that_nobody_named(tmp_path, tiny_data):
    for number, path in enumerate(images(tiny_data / "query")[:3]):
        shutil.copy(path, tmp_path / f"{number}.jpg")
    report = examine(tmp_path)
    assert report.code == 2 and of(report, "misnamed")
    assert "identity, camera, split" in of(report, "misnamed")[0].remedy


@pytest.mark.parametrize("name", ["x" * 300, "y" * 5000, "a\0b"])
def test_what_no_folder_can_be_called(tmp_path, name, capsys):
    """A text pasted into the page's box, say."""
    report = examine(tmp_path / name)
    (found,) = report.findings
    assert report.code == 2 and found.kind == "not-recognised" and len(found.message) < 200
    assert found.message.startswith("no folder") and "\0" not in found.message
    assert main(["check", str(tmp_path / name), "--json"]) == 2
    assert len(json.loads(capsys.readouterr().out)["findings"]) == 1


def test_an_archive_is_no_folder(tmp_path):
    (tmp_path / "F.zip").write_bytes(b"PK")
    (found,) = examine(tmp_path / "F.zip").findings
    assert found.kind == "archive" and "extract it" in found.remedy
    (tmp_path / "notes.txt").write_text("nothing")
    (found,) = examine(tmp_path / "notes.txt").findings
    assert found.kind == "not-recognised" and "is a file" in found.message


def test_another_data_set_than_asked_for(tiny_data):
    report = examine(tiny_data, name="veri776")
    assert report.code == 2 and "Pedestrians" in of(report, "not-recognised")[0].message
    assert examine(tiny_data, name="market1501").recognised[0].name == "market1501"
    with pytest.raises(ValueError, match="dataset"):
        examine(tiny_data, name="nosuch")


def test_near_hashes_are_those_a_slow_loop_finds():
    draw = random.Random(1)
    base = [draw.getrandbits(64) for _ in range(60)]
    flip = lambda value, count: value ^ sum(1 << b for b in draw.sample(range(64), count))  # noqa: E731
    others = [flip(draw.choice(base), draw.randint(0, 8)) for _ in range(80)]
    slow = {
        (a, b)
        for a, x in enumerate(base)
        for b, y in enumerate(others)
        if (x ^ y).bit_count() <= duplicates.DIFFERENT_BITS
    }
    fast = duplicates.near(np.array(base, np.uint64), np.array(others, np.uint64))
    assert {tuple(pair) for pair in fast.tolist()} == slow and slow


def test_other_people_do_not_look_alike(tiny_data):
    """Every pair of different people of the small set, against the threshold."""
    paths = [path for name in FOLDERS for path in images(tiny_data / name)]
    seen = pictures.scan(paths)
    thumbs = duplicates._centred(seen.thumbs)
    who = np.array([path.name.split("_")[0] for path in paths])
    differ = who[:, None] != who[None]
    bits = np.bitwise_count(seen.looks[:, None] ^ seen.looks[None])
    assert not (differ & (bits <= duplicates.DIFFERENT_BITS) & (thumbs @ thumbs.T >= 0.95)).any()


def test_layouts_are_named_once():
    from reid_core.data.doctor.folders import looked_for

    said = looked_for(DATASETS)
    assert len(said) == len({each.split(" (")[0] for each in said})


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_every_layout_is_recognised_and_sound(layout, tmp_path, tiny_data, monkeypatch):
    monkeypatch.setenv("REID_DATA", str(tmp_path / "own"))
    layouts.build(layout, tiny_data, tmp_path / "given")
    report = examine(tmp_path / "given")
    assert tuple(each.name for each in report.recognised) == layouts.NAMES[layout]
    assert report.code == 0, [each.message for each in report.findings]
    assert all(each.why and each.splits["train"].images for each in report.recognised)


@pytest.mark.parametrize("name", ("msmt17-v1", "msmt17-v2"))
def test_a_whole_msmt17_is_not_half_extracted(tmp_path, tiny_data, name):
    """Both versions have the same lists."""
    home = layouts.build(name, tiny_data, tmp_path)
    shutil.copy(home / "list_query.txt", home / "list_val.txt")
    report = examine(tmp_path)
    assert report.recognised and not of(report, "half-extracted")


def test_the_other_version_of_msmt17(tmp_path, tiny_data):
    home = layouts.build("msmt17-v2", tiny_data, tmp_path)
    (found,) = of(examine(tmp_path, "msmt17-v1"), "wrong-version")
    assert "asked for MSMT17 V1" in found.message and "MSMT17 V2" in found.message
    home.rename(home.with_name("MSMT17_V1"))
    report = examine(tmp_path)
    (found,) = of(report, "wrong-version")
    assert report.code == 2 and "mask_train_v2" in found.message
    assert "not comparable" in found.message and "MSMT17_V1" in found.message


def test_images_with_other_names(market):
    for folder in FOLDERS:
        for number, path in enumerate(sorted((market / folder).iterdir())):
            path.rename(path.with_name(f"holiday {number}.jpg"))
    report = examine(market)
    (found,) = of(report, "misnamed")
    assert report.code == 2 and "named like 0002_c1s1_000451_03.jpg" in found.message


def test_a_list_that_names_what_is_missing(tmp_path, tiny_data):
    home = layouts.build("msmt17-v1", tiny_data, tmp_path)
    next(home.glob("train/*/*.jpg")).unlink()
    report = examine(tmp_path)
    assert report.code == 1 and report.recognised
    (found,) = of(report, "missing-file")
    assert "missing" in found.message and found.split == "train"
    shutil.rmtree(home / "test")
    (home / "test").mkdir()
    report = examine(tmp_path)
    assert {each.split for each in of(report, "missing-file")} == {"train", "query", "gallery"}
    assert not of(report, "empty-split")  # no knob would help


@pytest.mark.parametrize(
    "layout, folder, table",
    [
        ("msmt17-v1", "test", "list_gallery.txt"),
        ("veri776", "image_train", "name_train.txt"),
        ("vehicleid", "image", "train_list.txt"),
        ("cuhk03-images", "images_labeled", "cuhk03_new_protocol_config_labeled.mat"),
        ("folder", "", ""),
    ],
)
def test_the_rest_is_examined_where_images_are_missing(
    layout, folder, table, tmp_path, tiny_data, monkeypatch
):
    """One image gone and another damaged: both are told, and everything is counted."""
    home = layouts.build(layout, tiny_data, tmp_path)
    name = layouts.NAMES[layout][0]
    split = "gallery" if table == "list_gallery.txt" else "train"
    whole = getattr(DATASETS[name].read(home), split)
    gone, damaged = whole.paths[0], whole.paths[1]
    gone.unlink()
    damaged.write_bytes(b"no picture")
    report = examine(tmp_path, name)
    absent, broken = of(report, "missing-file"), of(report, "unreadable")
    assert report.code == 1 and len(absent) == 1 and table in absent[0].message
    assert [Path(case.file).name for case in absent[0].cases] == [gone.name]
    assert damaged.name in {Path(case.file).name for each in broken for case in each.cases}
    assert report.recognised[0].splits[split].images == len(whole) - 1
    assert not of(report, "layout")
    with pytest.raises(ValueError, match="1 of them are missing"):  # nobody else goes on
        DATASETS[name].read(home)


def test_joined_sets_are_examined_one_by_one(tmp_path, tiny_data, capsys):
    layouts.build("msmt17-v1", tiny_data, tmp_path)
    layouts.build("veri776", tiny_data, tmp_path)
    ask = ["check", str(tmp_path), "--dataset", "msmt17-v1+veri776", "--json"]
    assert main(ask) == 0
    said = json.loads(capsys.readouterr().out)
    assert {each["name"] for each in said["recognised"]} == {"msmt17-v1", "veri776"}
    report = examine(tmp_path, "veri776+cuhk03-labeled")
    assert report.code == 1 and "CUHK03" in report.findings[0].message
    assert [each.name for each in report.recognised] == ["veri776"]
    for name, message in (("veri776+nosuch", "dataset"), ("veri776+veri776", "with itself")):
        with pytest.raises(ValueError, match=message):
            examine(tmp_path, name)


def test_a_joined_set_that_trains_on_what_the_first_is_tested_on(tmp_path, tiny_data):
    one = layouts.build("msmt17-v1", tiny_data, tmp_path / "one")
    other = layouts.build("veri776", tiny_data, tmp_path / "other")
    assert not of(examine(tmp_path, "msmt17-v1+veri776"), "leakage")
    data, tested = DATASETS["veri776"].read(other), DATASETS["msmt17-v1"].read(one)
    noise = np.random.default_rng(0).integers(0, 256, (64, 32, 3), np.uint8)
    Image.fromarray(noise).save(tested.query.paths[1])
    shutil.copy(tested.query.paths[1], data.train.paths[3])
    (found,) = of(examine(tmp_path, "msmt17-v1+veri776"), "leakage")
    assert found.dataset == "msmt17-v1+veri776" and found.split == "train+query"
    (case,) = found.cases
    assert case.file.endswith(data.train.paths[3].name) and case.file.startswith("veri776: ")
    assert case.other.endswith(tested.query.paths[1].name) and case.identity is None
    for name in ("veri776+msmt17-v1", "veri776", None):  # tested on the other, or by itself
        assert not of(examine(tmp_path, name), "leakage")


def test_joined_sets_that_train_on_the_same_bytes(tmp_path, tiny_data):
    """Under other names, too: one picture, two people."""
    one = layouts.build("msmt17-v1", tiny_data, tmp_path / "one")
    other = layouts.build("veri776", tiny_data, tmp_path / "other")
    data, more = DATASETS["msmt17-v1"].read(one), DATASETS["veri776"].read(other)
    noise = np.random.default_rng(0).integers(0, 256, (64, 32, 3), np.uint8)
    Image.fromarray(noise).save(data.train.paths[1])
    shutil.copy(data.train.paths[1], more.train.paths[3])
    found = of(examine(tmp_path, "msmt17-v1+veri776"), "label-conflict")
    cases = [case for each in found if "two of the joined" in each.message for case in each.cases]
    mine = [case for case in cases if case.file.endswith(data.train.paths[1].name)]
    assert len(mine) == 1 and mine[0].other.startswith("veri776: ")
    assert mine[0].other.endswith(more.train.paths[3].name) and mine[0].identity is None
    assert not of(examine(tmp_path, "msmt17-v1"), "label-conflict")


def test_what_one_of_joined_sets_lacks_another_may_have(tmp_path, tiny_data):
    """Trained on the other, tested on one's own: a training takes it, so the doctor does."""
    layouts.build("veri776", tiny_data, tmp_path / "veri")
    mine = layouts.build("folder", tiny_data, tmp_path / "mine")
    (table,) = mine.glob("*.csv")
    lines = table.read_text().splitlines()
    table.write_text("\n".join(line for line in lines if ",train" not in line))
    assert len(open_dataset("folder+veri776", tmp_path).train)
    report = examine(tmp_path, "folder+veri776")
    assert report.code == 0 and [each.split for each in of(report, "empty-split")] == ["train"]
    assert examine(tmp_path, "folder").code == 1
    table.write_text("\n".join(line for line in lines if ",train" in line or "path" in line))
    assert examine(tmp_path, "veri776+folder").code == 0


def test_what_is_asked_for_can_be_read_as_what_lies_there(tiny_data, tmp_path):
    shutil.copytree(tiny_data, tmp_path / "drawn")
    layouts.build("veri776", tiny_data, tmp_path)
    report = examine(tmp_path, "market1501+veri776")
    assert {each.name for each in report.recognised} == {"market1501", "veri776"}
    assert not of(report, "not-recognised") and not of(report, "wrong-version")


def test_any_folder_with_markets_layout_is_examined_as_ones_own(tmp_path, tiny_data):
    """As the readers open it."""
    home = layouts.build("dukemtmc-reid", tiny_data, tmp_path)
    report = examine(tmp_path, "folder")
    assert [(each.name, each.home) for each in report.recognised] == [("folder", str(home))]
    assert report.code == 0 and len(open_dataset("folder", tmp_path).train)
    assert [each.name for each in examine(tmp_path).recognised] == ["dukemtmc-reid"]
    report = examine(layouts.build("veri776", tiny_data, tmp_path / "veri"), "folder")
    assert report.code == 2 and of(report, "not-recognised")
    both = examine(layouts.build("folder-market-names", tiny_data, tmp_path), "market1501+folder")
    assert {each.name for each in both.recognised} == {"market1501", "folder"}


def test_images_that_no_list_names_are_not_left_out_for_their_names(tmp_path, tiny_data):
    home = layouts.build("folder", tiny_data, tmp_path / "own")
    pictures_ = home / "pictures" / "train"
    shutil.copy(pictures_ / "001.jpg", pictures_ / "zzz.jpg")
    assert not examine(home).findings
    table = home / "people.csv"
    table.write_text(table.read_text().replace("train/000.jpg", "Train/000.JPG"))
    (found,) = examine(home).findings
    assert found.kind == "missing-file" and found.cases[0].file == "pictures/Train/000.JPG"
    assert "mend the paths in people.csv, capitals count" in found.remedy
    assert "extract" not in found.remedy
    home = layouts.build("msmt17-v1", tiny_data, tmp_path / "msmt17")
    table = home / "list_train.txt"
    table.write_text("".join(f"train/{line}" for line in table.open()))
    report = examine(home)
    (found,) = of(report, "missing-file")
    assert "mend the paths in list_train.txt" in found.remedy and not of(report, "misnamed")


def test_of_two_copies_each_finding_says_which(tmp_path, tiny_data, capsys):
    good = layouts.build("dukemtmc-reid-flat", tiny_data, tmp_path)
    other = shutil.copytree(good, tmp_path / "backup")
    for home in (good, other):
        images(home / "query")[0].write_bytes(b"no image")
    images(other / "bounding_box_train")[0].unlink()
    report = examine(tmp_path)
    broken = of(report, "unreadable")
    assert {each.folder for each in broken} == {str(good), str(other)}
    assert len({(each.message, each.cases) for each in broken}) == 1
    assert main(["check", str(tmp_path), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert {row["folder"] for row in told["findings"]} == {str(good), str(other)}
    trained = {each["home"]: each["splits"]["train"]["images"] for each in told["recognised"]}
    assert trained[str(good)] - 1 == trained[str(other)]
    first = told["recognised"][0]
    assert told["counts"]["dukemtmc-reid"]["splits"] == first["splits"]
    assert main(["check", str(tmp_path)]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert f"unreadable (in {good}, query)" in text and f"unreadable (in {other}, query)" in text
    assert main(["check", str(good)]) == 1
    assert "unreadable (query)" in capsys.readouterr().out


def test_two_data_sets_in_one_folder_are_counted_each(tmp_path, tiny_data):
    layouts.build("cuhk03-images", tiny_data, tmp_path)
    count = of(examine(tmp_path), "count")
    assert ("cuhk03-detected", "query") in {(each.dataset, each.split) for each in count}


def test_what_only_the_smaller_of_two_trainings_lacks_is_told(tmp_path, tiny_data):
    """All but one identity stand in the list that the narrower name does not train on."""
    home = layouts.build("msmt17-v1", tiny_data, tmp_path)
    train, val = (home / f"list_{name}.txt" for name in ("train", "val"))
    rows = [*train.open(), *val.open()]
    train.write_text("".join(row for row in rows if row.endswith(" 0\n")))
    val.write_text("".join(row for row in rows if not row.endswith(" 0\n")))
    report = examine(tmp_path)
    (found,) = of(report, "too-few")
    assert report.code == 1 and found.dataset == "msmt17-v1"
    assert examine(tmp_path, "msmt17-v1-trainval").code == 0


def test_what_a_mistake_in_a_table_asks_for(tmp_path, tiny_data):
    home = layouts.build("folder", tiny_data, tmp_path)
    table = home / "people.csv"
    table.write_text(table.read_text().replace(",train", ",val"))
    (found,) = of(examine(tmp_path), "layout")
    assert found.remedy == "mend that, then check again"


def test_one_warning_is_one(tmp_path, tiny_data, capsys):
    layouts.build("folder-no-cameras", tiny_data, tmp_path)
    assert main(["check", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("Nothing prevents training. 1 warning.\n")


def test_a_damaged_mat_file(tmp_path, tiny_data, monkeypatch):
    monkeypatch.setenv("REID_DATA", str(tmp_path / "own"))
    layouts.build("cuhk03-mat", tiny_data, tmp_path / "given")
    file = next((tmp_path / "given").rglob("cuhk-03.mat"))
    file.write_bytes(file.read_bytes()[:2000])
    report = examine(tmp_path / "given")
    assert report.code == 1 and "half extracted" in of(report, "layout")[0].message


def test_cameras_unknown_throughout(tmp_path, tiny_data):
    layouts.build("folder-no-cameras", tiny_data, tmp_path)
    report = examine(tmp_path)
    (found,) = of(report, "unknown-camera")
    assert report.code == 0 and found.split == "train+query+gallery"
    assert re.match(r"(\d+) of \1 images of people", found.message)  # distractors are none
    assert not of(report, "no-match") and not of(report, "one-camera")


def test_equal_numbers_of_a_test_split_that_counts_anew_are_no_leak(tmp_path, tiny_data):
    layouts.build("msmt17-v1", tiny_data, tmp_path)
    assert not of(examine(tmp_path), "leakage")


def test_a_folder_that_vanishes_while_it_is_checked(market, monkeypatch):
    look = pictures._open

    def gone(path: Path):
        shutil.rmtree(market, ignore_errors=True)
        return look(path)

    monkeypatch.setattr(pictures, "_open", gone)
    report = examine(market)
    assert report.code == 1 and len(of(report, "missing-file")) == 3


def test_a_pipe_is_not_waited_for(market):
    path = images(market / "query")[0]
    path.unlink()
    os.mkfifo(path)
    (found,) = of(examine(market), "unreadable")
    assert found.cases[0].note == "no regular file"


def test_a_name_that_is_no_text_is_told_all_the_same(market):
    path = images(market / "query")[0]
    shutil.copy(path, os.fsencode(market / "query") + b"/holiday \xff.jpg")
    words = [sys.executable, "-m", "reid_core", "check", str(market)]
    told = subprocess.run(words, capture_output=True, cwd=Path(__file__).parents[1])
    assert told.returncode == 0 and b"holiday \\udcff.jpg" in told.stdout


def test_whoever_stops_reading_ends_it_quietly(market):
    words = [sys.executable, "-m", "reid_core", "check", str(market)]
    here = Path(__file__).parents[1]
    asked = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=here)
    asked.stdout.close()
    assert b"Traceback" not in asked.stderr.read() and asked.wait() == 141


@pytest.mark.parametrize(
    "header, encoding, says",
    [
        ("path,person,split", "utf-8", "lacks identity (its columns are path, person, split)"),
        ("path,identity,split", "utf-16", "is no text in UTF-8"),
        ("\0p\0a", "utf-8", "is no text in UTF-8"),
    ],
)
def test_a_table_that_is_nearly_one(tmp_path, header, encoding, says):
    (tmp_path / "people.csv").write_text(f"{header}\na.jpg,ann,train\n", encoding=encoding)
    (found,) = of(examine(tmp_path), "layout")
    assert f"people.csv {says}" in found.message


def test_words_in_the_path_decide_no_kind(tmp_path, tiny_data):
    home = layouts.build("msmt17-v1", tiny_data, tmp_path / "missing expected version")
    (home / "list_train.txt").write_text("junk\n")
    report = examine(tmp_path)
    assert report.code == 1 and of(report, "layout") and not of(report, "missing-file")


def test_an_empty_folder_of_a_split_is_called_that(market):
    """And the names of the other images tell which data set it is."""
    for path in images(market / "query", junk=True):
        path.unlink()
    report = examine(market)
    (found,) = of(report, "empty-split")
    assert report.code == 1 and found.dataset == "market1501" and not of(report, "misnamed")
    (market / "query" / "-1_c1s1_000001_00.jpg").write_bytes(b"")
    assert "holds junk only (identity -1)" in of(examine(market), "empty-split")[0].message
    (market / "query" / "-1_c1s1_000001_00.jpg").unlink()
    (market / "query" / "0002_c1s1_000001_00.webp").write_bytes(b"")
    assert "save them as one of these" in of(examine(market), "empty-split")[0].message
    (market / "query" / "0002_c1s1_000001_00.webp").unlink()
    (market / "query" / "readme.txt").write_text("soon")
    (found,) = of(examine(market), "empty-split")
    assert "query holds readme.txt, there is no image in it" in found.message


def test_sixteen_bits_are_divided_not_cut_off(tmp_path):
    grey = np.linspace(0, 65535, 32 * 16).astype(np.uint16).reshape(32, 16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    seen = pictures._open(tmp_path / "deep.png")[4]
    assert seen[0].max() < 16 < 200 < seen[-1].min() and (seen == 255).mean() < 0.1


def test_numbers_without_a_white_are_no_picture(tmp_path):
    Image.fromarray(np.linspace(0, 1, 512, dtype=np.float32).reshape(32, 16)).save(
        tmp_path / "float.tif"
    )
    assert "32-bit numbers" in pictures._open(tmp_path / "float.tif")[1]
    with pytest.raises(BadInput, match="save it with 8 bits"):
        opened(tmp_path / "float.tif")


def as_anybody(root: Path, closed: Path) -> tuple[int, dict]:
    """Exit code and report of `check` where something is closed; a superuser gives up the right to look
    into it."""
    command = [sys.executable, "-m", "reid_core", "check", str(root), "--json"]
    layouts.close(closed)
    if os.access(closed, os.R_OK):
        if not shutil.which("setpriv"):
            pytest.skip("whoever runs this may look into every folder")
        rights = "-dac_override,-dac_read_search"
        command = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}", *command]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    closed.chmod(0o700)
    assert said.stdout, said.stderr
    return said.returncode, json.loads(said.stdout)


def test_a_closed_folder_beside_a_data_set_is_passed_over(market):
    """As lost+found lies at the root of a disk."""
    closed = market.parent / "lost+found"
    closed.mkdir()
    code, report = as_anybody(market.parent, closed)
    assert code == 0 and "market1501" in {each["name"] for each in report["recognised"]}


CLOSED = {  # layout -> what nobody may read
    "folder": "people.csv",
    "market1501-flat": "market1501/query",
    "cuhk03-images": "cuhk03_new_protocol_config_labeled.mat",
    "cuhk03-mat": "cuhk03_release/cuhk-03.mat",
    "msmt17-v1": "MSMT17_V1/test",
    "vehicleid": "VehicleID_V1.0/train_test_split",
}


@pytest.mark.parametrize("layout", CLOSED)
def test_a_closed_part_of_a_data_set_is_named(layout, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setenv("REID_DATA", str(tmp_path / "own"))
    root, closed = tmp_path / layout, tmp_path / layout / CLOSED[layout]
    layouts.build(layout, tiny_data, root)
    code, report = as_anybody(root, closed)
    told = [each for each in report["findings"] if each["kind"] == "permission"]
    assert code == (1 if report["recognised"] else 2)
    assert told and all(closed.name in str(each) for each in told)
    assert not [each for each in report["findings"] if each["kind"] == "layout"]
