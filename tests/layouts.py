"""The layouts of real data sets, made small from pedestrians: the real names and list files.

    home = build("msmt17-v1", pedestrians, tmp_path / "anywhere")

Identities and cameras are the pedestrians' (CUHK03: the cameras of a person become 1 and 2).
"""

import csv
import os
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from reid_core.data import Split, open_dataset
from reid_core.data.base import Dataset

FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
Shot = tuple[Path, int, int]  # file, identity, camera


def build(layout: str, pedestrians: Path, root: Path) -> Path:
    """Make a layout of LAYOUTS at or below root from a folder of pedestrians; returns its home."""
    root.mkdir(parents=True, exist_ok=True)
    return LAYOUTS[layout](open_dataset("pedestrians", pedestrians), root)


def shots(split: Split) -> list[Shot]:
    """The images of a split with who and where."""
    return list(zip(split.paths, split.identities.tolist(), split.cameras.tolist(), strict=True))


def parts(data: Dataset) -> list[list[Shot]]:
    """Training, query and gallery images, without distractors."""
    return [[shot for shot in shots(split) if shot[1] > 0] for split in splits(data)]


def splits(data: Dataset) -> tuple[Split, Split, Split]:
    return data.train, data.query, data.gallery


def put(source: Path, target: Path) -> None:
    """The image as a file of another name; as PNG where the name says so."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == source.suffix:
        shutil.copyfile(source, target)
    else:
        Image.open(source).save(target)


def market_like(name: Callable[[int, int, int], str], *, junk: bool = False):
    """A builder of Market-1501's three folders, images named name(identity, camera, number)."""

    def make(data: Dataset, home: Path) -> Path:
        for folder, split in zip(FOLDERS, splits(data), strict=True):
            for number, (path, identity, camera) in enumerate(shots(split)):
                put(path, home / folder / name(identity, camera, number))
        if junk:
            put(data.gallery.paths[0], home / FOLDERS[2] / "-1_c1s1_000001_00.jpg")
        return home

    return make


def market_name(identity: int, camera: int, number: int) -> str:
    return f"{identity:04d}_c{camera}s1_{number:06d}_00.jpg"


def duke_name(identity: int, camera: int, number: int) -> str:
    return f"{identity:04d}_c{camera}_f{number:07d}.jpg"


market = market_like(market_name, junk=True)
duke = market_like(duke_name)


def below(make: Callable[[Dataset, Path], Path], *folders: str):
    """The same in a folder below the root."""
    return lambda data, root: make(data, root.joinpath(*folders))


def market_500k(folder: str):
    """Market-1501 with a few distractors in a folder of its own."""

    def make(data: Dataset, root: Path) -> Path:
        home = market(data, root / "Market-1501-v15.09.15")
        for number, path in enumerate(data.train.paths[:5]):
            put(path, home / folder / f"{number:07d}.jpg")
        return home

    return make


def msmt17(version: str):
    """The lists and folders of a version; the test split counts its identities from 0."""
    train, test = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}[version]

    def make(data: Dataset, home: Path) -> Path:
        training, query, gallery = parts(data)
        lists = {"train": (train, training[1:]), "val": (train, training[:1])}
        lists |= {"query": (test, query), "gallery": (test, gallery)}
        rows = {
            which: _row_of(each) for which, each in ((train, training), (test, query + gallery))
        }
        number = 0
        for name, (folder, these) in lists.items():
            lines = []
            for path, identity, camera in these:
                number += 1
                row = rows[folder][identity]
                file = f"{row:04d}/{row:04d}_{number:03d}_{camera:02d}_0303morning_0008_0.jpg"
                put(path, home / folder / file)
                lines.append(f"{file} {row}\n")
            (home / f"list_{name}.txt").write_text("".join(lines))
        return home

    return make


def _row_of(these: list[Shot]) -> dict[int, int]:
    return {identity: row for row, identity in enumerate(sorted({shot[1] for shot in these}))}


def cuhk03_rows(data: Dataset) -> tuple[list[tuple[str, Path, int]], dict[str, list[int]]]:
    """Rows (name, file, label) of CUHK03 and its protocol's row numbers from 1: at most five images
    of a person by each of two cameras, the first of each camera the query."""
    people: dict[int, list[Shot]] = defaultdict(list)
    for shot in (shot for part in parts(data) for shot in part):
        people[shot[1]].append(shot)
    trained = {shot[1] for shot in parts(data)[0]}
    rows, numbers = [], {"train_idx": [], "query_idx": [], "gallery_idx": []}
    for person, identity in enumerate(sorted(people), 1):
        cameras = sorted({shot[2] for shot in people[identity]})
        for view in (1, 2):
            half = cameras[: len(cameras) // 2] if view == 1 else cameras[len(cameras) // 2 :]
            these = [shot for shot in people[identity] if shot[2] in half][:5]
            for image, (path, *_) in enumerate(these, 5 * view - 4):
                rows.append((f"1_{person:03d}_{view}_{image:02d}.png", path, person))
                test = "query_idx" if image == 5 * view - 4 else "gallery_idx"
                numbers["train_idx" if identity in trained else test].append(len(rows))
    return rows, numbers


def write_protocol(data: Dataset, folder: Path) -> None:
    """The two files of the new protocol, as its authors give them (MATLAB 5)."""
    from scipy.io import savemat

    rows, numbers = cuhk03_rows(data)
    names, _, labels = zip(*rows, strict=True)
    cameras = [int(name.split("_")[2]) for name in names]
    cells = np.array(names, dtype=object)[:, None]
    columns = {"labels": labels, "camId": cameras, **numbers}
    columns = {key: np.array(each, dtype=np.uint16)[:, None] for key, each in columns.items()}
    for kind in ("labeled", "detected"):
        target = folder / f"cuhk03_new_protocol_config_{kind}.mat"
        savemat(target, {"filelist": cells, **columns})


def cuhk03_folders(data: Dataset, root: Path) -> Path:
    """`cuhk03-np/{labeled,detected}` with Market-1501's folders of PNG images."""
    rows, numbers = cuhk03_rows(data)
    folders = zip(FOLDERS, ("train_idx", "query_idx", "gallery_idx"), strict=True)
    for folder, key in folders:
        for row in numbers[key]:
            name, path, label = rows[row - 1]
            camera, image = name.split("_")[2], int(name[-6:-4])
            for kind in ("labeled", "detected"):
                put(path, root / "cuhk03-np" / kind / folder / f"{label:04d}_c{camera}_{image}.png")
    return root / "cuhk03-np"


def cuhk03_images(data: Dataset, root: Path) -> Path:
    """`images_{labeled,detected}` and the protocol, as torchreid and fast-reid leave them."""
    for name, path, _ in cuhk03_rows(data)[0]:
        for kind in ("labeled", "detected"):
            put(path, root / f"images_{kind}" / name)
    write_protocol(data, root)
    return root


def cuhk03_mat(data: Dataset, root: Path) -> Path:
    """`cuhk03_release/cuhk-03.mat`, in HDF5 as MATLAB 7.3 writes it, and the protocol beside it."""
    import h5py

    rows, _ = cuhk03_rows(data)
    (root / "cuhk03_release").mkdir()
    with h5py.File(root / "cuhk03_release" / "cuhk-03.mat", "w", userblock_size=512) as mat:
        store, empty = mat.create_group("#refs#"), np.zeros(2, np.uint64)
        nothing = store.create_dataset("nothing", data=empty)  # an empty cell
        for kind in ("labeled", "detected"):
            people = np.full((10, max(row[2] for row in rows)), nothing.ref, dtype=h5py.ref_dtype)
            for name, path, person in rows:
                pixels = np.asarray(Image.open(path)).T  # (3, width, height)
                cell = store.create_dataset(f"{kind}_{name[:-4]}", data=pixels)
                people[int(name[-6:-4]) - 1, person - 1] = cell.ref
            pair = store.create_dataset(f"{kind}_1", data=people)
            none = store.create_dataset(
                f"{kind}_none", data=np.empty((10, 0), dtype=h5py.ref_dtype), dtype=h5py.ref_dtype
            )
            cells = np.array([[pair.ref] + [none.ref] * 4], dtype=h5py.ref_dtype)
            mat.create_dataset(kind, data=cells)
    write_protocol(data, root)
    return root


def veri776(data: Dataset, home: Path) -> Path:
    """The folders, lists and viewpoints; the queries lie in the test folder too."""
    lines: dict[str, list[str]] = defaultdict(list)
    label = ['<?xml version="1.0" encoding="gb2312"?>\n<TrainingImages>\n<Items number="0">']
    for split, these in zip(("train", "query", "test"), parts(data), strict=True):
        for number, (path, identity, camera) in enumerate(these):
            name = (
                f"{identity:04d}_c{camera:03d}_{number:08d}_{'1' if split == 'query' else '0'}.jpg"
            )
            put(path, home / f"image_{split}" / name)
            lines[f"name_{split}.txt"].append(name)
            where = [split] if split != "query" else ["query", "test"]
            if split == "query":
                put(path, home / "image_test" / name)
                lines["name_test.txt"].append(name)
            points = " ".join(["-1"] * 40)
            table = f"keypoint_{'train' if split == 'train' else 'test'}.txt"
            lines[table].append(f"VeRi/image_{where[-1]}/{name} {points} {number % 8}")
            if split == "train":
                label.append(
                    f'<Item imageName="{name}" vehicleID="{identity:04d}" cameraID="c{camera:03d}" />'
                )
    for name, these in lines.items():
        (home / name).write_text("\n".join(these) + "\n")
    (home / "train_label.xml").write_text("\n".join([*label, "</Items>", "</TrainingImages>"]))
    return home


def vehicleid(data: Dataset, home: Path) -> Path:
    """`image/` and the lists; all three test lists show the same images."""
    training, query, gallery = parts(data)
    number, lists = 0, {"train_list": training}
    lists |= {f"test_list_{size}": query + gallery for size in (800, 1600, 2400)}
    names: dict[Path, str] = {}
    (home / "train_test_split").mkdir(parents=True)
    for table, these in lists.items():
        lines = []
        for path, identity, _ in these:
            if path not in names:
                number += 1
                names[path] = f"{number:07d}"
                put(path, home / "image" / f"{number:07d}.jpg")
            lines.append(f"{names[path]} {identity}\n")
        (home / "train_test_split" / f"{table}.txt").write_text("".join(lines))
    return home


WORDS = ("ash", "birch", "cedar", "elm", "fir", "hazel", "larch", "maple", "oak", "pine", "rowan")


def table(data: Dataset, home: Path, *, words: bool = True, cameras: bool = True) -> Path:
    """A table of one's own: identities as words, cameras as words or not at all."""
    columns = ("path", "identity", *(["camera"] * cameras), "split")
    with (home / "people.csv").open("w", newline="") as file:
        out = csv.DictWriter(file, columns, extrasaction="ignore")
        out.writeheader()
        for split, these in zip(("train", "query", "gallery"), parts(data), strict=True):
            for number, (path, identity, camera) in enumerate(these):
                name = f"pictures/{split}/{number:03d}.jpg"
                put(path, home / name)
                who = f"{WORDS[identity % len(WORDS)]} {identity}" if words else str(identity)
                where = f"door {camera}"
                row = {"path": name, "identity": who, "camera": where, "split": split}
                out.writerow(row)
    return home


def table_without_cameras(data: Dataset, home: Path) -> Path:
    return table(data, home, words=False, cameras=False)


# Layout -> how it is made, in the folders that the official repositories expect.
LAYOUTS: dict[str, Callable[[Dataset, Path], Path]] = {
    "market1501": below(market, "Market-1501-v15.09.15"),
    "market1501-flat": below(market, "market1501"),
    "market1501-500k": market_500k("distractors_500k"),
    "market1501-500k-torchreid": market_500k("images"),
    "dukemtmc-reid": below(duke, "dukemtmc-reid", "DukeMTMC-reID"),
    "dukemtmc-reid-flat": below(duke, "dukemtmcreid"),
    "dukemtmc-reid-fastreid": below(duke, "DukeMTMC-reID"),
    "occluded-duke": below(duke, "Occluded_Duke"),
    "msmt17-v1": below(msmt17("V1"), "MSMT17_V1"),
    "msmt17-v1-transreid": below(msmt17("V1"), "MSMT17"),
    "msmt17-v2": below(msmt17("V2"), "msmt17", "MSMT17_V2"),
    "cuhk03-folders": cuhk03_folders,
    "cuhk03-images": cuhk03_images,
    "cuhk03-mat": cuhk03_mat,
    "veri776": below(veri776, "VeRi"),
    "vehicleid": below(vehicleid, "VehicleID_V1.0"),
    "folder": table,
    "folder-no-cameras": table_without_cameras,
    "folder-market-names": below(market_like(lambda i, c, n: f"{i:04d}_c{c}_{n}.png"), "mine"),
}
# Layout -> the names in DATASETS that it is.
NAMES: dict[str, tuple[str, ...]] = {
    **{layout: (layout,) for layout in ("market1501", "dukemtmc-reid", "occluded-duke", "veri776")},
    "market1501-flat": ("market1501",),
    "market1501-500k": ("market1501", "market1501-500k"),
    "market1501-500k-torchreid": ("market1501", "market1501-500k"),
    "dukemtmc-reid-flat": ("dukemtmc-reid",),
    "dukemtmc-reid-fastreid": ("dukemtmc-reid",),
    "msmt17-v1": ("msmt17-v1", "msmt17-v1-trainval"),
    "msmt17-v1-transreid": ("msmt17-v1", "msmt17-v1-trainval"),
    "msmt17-v2": ("msmt17-v2", "msmt17-v2-trainval"),
    **{
        f"cuhk03-{form}": ("cuhk03-labeled", "cuhk03-detected")
        for form in ("folders", "images", "mat")
    },
    "vehicleid": ("vehicleid-800", "vehicleid-1600", "vehicleid-2400"),
    **{layout: ("folder",) for layout in ("folder", "folder-no-cameras", "folder-market-names")},
}


def close(folder: Path) -> None:
    """Take the right to read a folder away (nothing to a superuser)."""
    os.chmod(folder, 0)
