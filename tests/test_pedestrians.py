"""The embedded data set: Market-1501's layout, exact truth, the same bytes every time."""

import csv
import hashlib
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid_core.data import pedestrians
from reid_core.data.pedestrians import FOLDERS, PARTS, hsv_features, looks, plan, render

NAME = re.compile(r"^(-1|\d{4})_c(\d+)s(\d)_(\d{6})_(\d{2})\.jpg$")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """Six identities under two cameras, in a folder with a space and an accent."""
    root = tmp_path_factory.mktemp("data") / "Fußgänger im Test"
    render(root, identities=6, cameras=2)
    return root


def rows_of(root: Path) -> list[dict]:
    with (root / "attributes.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def mask_of(root: Path, row: dict) -> np.ndarray:
    """Part ids as stored: OpenCV would turn the palette into colours, Pillow does not."""
    image = pytest.importorskip("PIL.Image")
    with image.open(root / "masks" / row["folder"] / f"{Path(row['name']).stem}.png") as mask:
        assert mask.mode == "P"
        return np.array(mask)


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_default_plan_has_the_promised_size():
    shots = plan()
    by_folder = {folder: [s for s in shots if s.folder == folder] for folder in FOLDERS}
    train = {s.identity for s in by_folder["bounding_box_train"]}
    test = {s.identity for s in by_folder["query"]}
    gallery = Counter(min(s.identity, 1) for s in by_folder["bounding_box_test"])
    assert len(train) >= 200 and len(test) >= 100 and not train & test
    assert len(by_folder["query"]) >= 200
    assert gallery[1] >= 900 and gallery[0] >= 300 and 30 <= gallery[-1] <= 50
    assert len(shots) <= 3600
    assert {s.camera for s in shots} == set(range(1, 7))


@pytest.mark.parametrize(("identities", "cameras"), [(4, 2), (6, 2), (25, 9), (340, 6)])
def test_names_are_unique_and_every_query_can_be_found(identities, cameras):
    shots = plan(identities, cameras)
    assert len({(s.folder, s.name) for s in shots}) == len(shots)
    seen = defaultdict(set)
    for shot in shots:
        label, camera = NAME.match(shot.name).groups()[:2]
        assert (int(label), int(camera)) == (shot.identity, shot.camera)
        if shot.folder == "bounding_box_test":
            seen[shot.identity].add(shot.camera)
    for shot in shots:
        if shot.folder == "query":
            assert seen[shot.identity] - {shot.camera}


def test_layout_on_disk(small):
    shots = plan(6, 2)
    files = {(p.parent.name, p.name) for folder in FOLDERS for p in (small / folder).iterdir()}
    assert files == {(s.folder, s.name) for s in shots}
    assert [(r["folder"], r["name"]) for r in rows_of(small)] == [(s.folder, s.name) for s in shots]
    about = json.loads((small / "dataset.json").read_text(encoding="utf-8"))
    assert about == {
        "generator": "reid_core pedestrians",
        "version": 1,
        "identities": 6,
        "cameras": 2,
        "seed": 0,
        "size": [256, 128],
    }
    palette = json.loads((small / "masks" / "palette.json").read_text(encoding="utf-8"))
    assert {n: (p["id"], tuple(p["rgb"])) for n, p in palette.items()} == PARTS


def test_masks_fit_the_images_and_show_a_person(small):
    body = [number for number, _ in PARTS.values() if 1 <= number <= 9]
    for row in rows_of(small):
        image = cv2.imdecode(np.fromfile(small / row["folder"] / row["name"], np.uint8), 1)
        mask = mask_of(small, row)
        assert mask.shape == image.shape[:2] == (256, 128)
        assert mask.max() < len(PARTS)
        if row["identity"] != "-1":
            assert np.isin(mask, body).mean() > 0.05
            assert 0 <= float(row["occlusion"]) <= 1
        hidden = np.any(mask >= PARTS["occluder"][0])
        assert row["occluder"] != "none" or not hidden


def test_one_identity_wears_the_same_everywhere(small):
    worn = defaultdict(set)
    for row in rows_of(small):
        if int(row["identity"]) > 0:
            worn[row["identity"]].add(tuple(row[c] for c in ("hair", "upper", "bag", "shoes")))
    assert len(worn) == 6 and all(len(kinds) == 1 for kinds in worn.values())


@pytest.mark.parametrize("size", [(64, 32), (384, 128), (128, 64)])
def test_other_sizes(tmp_path, size):
    render(tmp_path / "data", identities=4, cameras=2, size=size)
    row = rows_of(tmp_path / "data")[0]
    image = cv2.imread(str(tmp_path / "data" / row["folder"] / row["name"]))
    assert image.shape[:2] == mask_of(tmp_path / "data", row).shape == size


def test_same_arguments_same_bytes(small, tmp_path, monkeypatch):
    monkeypatch.setattr(pedestrians, "SMALL", 0)  # now processes do the work
    render(tmp_path / "again", identities=6, cameras=2)
    assert digest(tmp_path / "again") == digest(small)


def test_another_seed_gives_other_pictures(small, tmp_path):
    render(tmp_path / "other", identities=6, cameras=2, seed=1)
    assert not set(digest(tmp_path / "other").values()) & {
        value for name, value in digest(small).items() if name.endswith(".jpg")
    }


def test_lookalikes_share_colours_and_differ_in_a_detail():
    people, train = looks(340), 340 - round(0.3 * 340)
    groups = defaultdict(list)
    for number, (look, group) in people.items():
        if group:
            groups[group].append((number, look))
    assert 0.4 < sum(map(len, groups.values())) / len(people) < 0.65
    for members in groups.values():
        assert 2 <= len(members) <= 4
        assert len({number <= train for number, _ in members}) == 1
        details = {"upper_texture", "lower_texture", "bag"}
        common = {tuple(v for k, v in m._asdict().items() if k not in details) for _, m in members}
        different = {(m.upper_texture, m.lower_texture, m.bag) for _, m in members}
        assert len(common) == 1 and len(different) == len(members)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cameras": 1}, "cameras must be from 2"),
        ({"identities": 3}, "identities must be from 4"),
        ({"size": (16, 16)}, "size must be at least 32 x 16"),
    ],
)
def test_bad_arguments_are_explained(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        render(tmp_path / "data", **{"identities": 4, "cameras": 2, **arguments})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        render(tmp_path, identities=4, cameras=2)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "data").mkdir()
    render(tmp_path / "data", identities=4, cameras=2)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("limit", [0, 10_000])
def test_an_interrupted_render_leaves_nothing(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(pedestrians, "SMALL", limit)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(tmp_path / "data", identities=6, cameras=2, progress=stop)
    assert not list(tmp_path.iterdir())


def test_progress_counts_to_the_end(tmp_path):
    calls = []
    render(tmp_path / "d", identities=4, cameras=2, progress=lambda *call: calls.append(call))
    total = len(plan(4, 2))
    assert calls == sorted(calls) and calls[-1] == (total, total)


def test_hsv_features_are_square_rooted_shares():
    image = np.random.default_rng(0).integers(0, 256, (256, 128, 3), dtype=np.uint8)
    features = hsv_features(image)
    assert features.shape == (768,)
    assert np.allclose((features.reshape(6, 128) ** 2).sum(1), 1)


def hsv_average_precision(root: Path) -> float:
    """Mean average precision of colour histograms under Market-1501's protocol."""
    features, people, cameras = {}, {}, {}
    for folder in FOLDERS[1:]:
        rows = [row for row in rows_of(root) if row["folder"] == folder]
        paths = [str(root / folder / row["name"]) for row in rows]
        images = [cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB) for path in paths]
        features[folder] = np.stack([hsv_features(image) for image in images])
        people[folder] = np.array([int(row["identity"]) for row in rows])
        cameras[folder] = np.array([int(row["camera"]) for row in rows])
    (who, whose), (where, whereabouts) = people.values(), cameras.values()
    precisions = []
    for query, person, camera in zip(features["query"], who, where, strict=True):
        keep = (whose >= 0) & ~((whose == person) & (whereabouts == camera))
        distance = np.linalg.norm(features["bounding_box_test"][keep] - query, axis=1)
        ranks = np.flatnonzero(whose[keep][np.argsort(distance, kind="stable")] == person) + 1
        precisions.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
    return float(np.mean(precisions))


@pytest.mark.long
def test_colours_alone_see_something_and_do_not_solve_it(tmp_path):
    render(tmp_path / "data")
    assert 0.10 < hsv_average_precision(tmp_path / "data") < 0.45
