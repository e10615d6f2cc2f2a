"""VeRi-776 (Liu et al., ICME and ECCV 2016): vehicles under twenty cameras.

image_train/0001_c001_00016450_0.jpg    identity 1, camera 1; image_query, image_test
name_{train,query,test}.txt             the images' names, where they lie there
keypoint_{train,test}.txt               viewpoints (Wang et al., ICCV 2017), where they lie there

A query's own track lies in the gallery too: under its own camera, so that the protocol ignores it.
"""

import re
from pathlib import Path

from reid_core.data.base import Dataset, Family, Split, first_names
from reid_core.data.lists import all_there, lines_of, whole
from reid_core.data.market import mostly, parse_name, read_split
from reid_core.errors import BadInput

FOLDERS = {"train": "image_train", "query": "image_query", "test": "image_test"}
OFFICIAL = re.compile(r"\d+_c\d{3}_\d+_\d+\.jpg", re.IGNORECASE)
KEYPOINTS = ("keypoint_train.txt", "keypoint_test.txt")
# Wang et al., ICCV 2017 (Zhongdao/VehicleReIDKeyPointData): a line ends with one of these, from 0.
VIEWPOINTS = (
    *("front", "rear", "left", "left front", "left rear"),
    *("right", "right front", "right rear"),
)


def recognise(folder: Path) -> str | None:
    """Why a folder is VeRi-776, or None."""
    if not all((folder / name).is_dir() for name in FOLDERS.values()):
        return None
    names = first_names(folder / FOLDERS["query"])
    name = mostly(names, OFFICIAL)
    if not name:
        return None
    beside = [name for name in (*KEYPOINTS, "train_label.xml") if (folder / name).is_file()]
    more = f"; beside them {', '.join(beside)}" if beside else ""
    return f"{', '.join(FOLDERS.values())}, and names like {name}{more}"


def read(home: Path) -> Dataset:
    """The three folders, each held against its list of names, with viewpoints. Raises BadInput."""
    missing = [name for name in FOLDERS.values() if not (home / name).is_dir()]
    if missing:
        raise BadInput(f"expected {', '.join(missing)} in {home} for VeRi-776")
    views: dict[str, int] = {}
    for name in KEYPOINTS:
        if (home / name).is_file():
            views |= _viewpoints(home / name)
    return Dataset(home, *(_split(home, split, views) for split in FOLDERS))


def _split(home: Path, split: str, views: dict[str, int]) -> Split:
    folder, table = home / FOLDERS[split], home / f"name_{split}.txt"
    if table.is_file():
        all_there([folder / name for _, name in lines_of(table)], table)
    return read_split(folder, views, parse_name, "0001_c001_00016450_0.jpg")


def _viewpoints(table: Path) -> dict[str, int]:
    """ "folder/name" to a row of VIEWPOINTS, -1 for a number that none has (the published list holds
    an 8). Raises BadInput, with the line."""
    views = {}
    for where, line in lines_of(table):
        fields = line.split()
        if len(fields) < 2:
            raise BadInput(f"{where}: expected an image's name and numbers, got {line!r}")
        name, view = fields[0], whole(fields[-1], where, "the viewpoint at the end")
        view = view if 0 <= view < len(VIEWPOINTS) else -1
        folder, _, file = name.replace("\\", "/").rpartition("/")
        views[f"{folder.rpartition('/')[2]}/{file}"] = view
        if folder.endswith(FOLDERS["test"]):  # a query is an image of the test folder
            views.setdefault(f"{FOLDERS['query']}/{file}", view)
    return views


VERI = Family(
    "VeRi-776",
    "Liu et al., ECCV 2016: 776 vehicles under twenty cameras, seen from eight sides where the "
    "keypoint lists lie beside the images.",
    read,
    recognise,
    (tuple(FOLDERS.values()),),
    # Counts: JDAI-CV/VeRidataset; images also in fast-reid's and NFormer's veri.py.
    {"train": (37778, 576), "query": (1678, 200), "gallery": (11579, 200)},
    views=VIEWPOINTS,
)
