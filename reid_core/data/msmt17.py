"""MSMT17 (Wei et al., CVPR 2018): lists of images in folders per identity.

V1: train/, test/, list_{train,val,query,gallery}.txt      (`MSMT17_V1/`, `MSMT17/`)
V2: mask_train_v2/, mask_test_v2/, the same lists          (`MSMT17_V2/`: faces are masked)
list_train.txt: 0000/0000_000_01_0303morning_0008_0.jpg 0   identity 0, camera 01

Scores on V1 and V2 are not comparable, nor are those of models trained on list_train (fast-reid,
torchreid, NFormer) and on list_train and list_val (TransReID, PHA): four names. Identities of the
test split are counted anew from 0.
"""

from functools import partial
from pathlib import Path

from reid_core.data.base import Dataset, Family, Split
from reid_core.data.lists import all_there, lines_of, whole
from reid_core.errors import BadInput

FOLDERS = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}
LISTS = {split: f"list_{split}.txt" for split in ("train", "val", "query", "gallery")}


def _needs(version: str, parts: tuple[str, ...]) -> tuple[str, ...]:
    return (*FOLDERS[version], *(LISTS[split] for split in (*parts, "query", "gallery")))


def recognise(version: str, parts: tuple[str, ...], folder: Path) -> str | None:
    """Why a folder is MSMT17 in this version, or None."""
    needs = _needs(version, parts)
    if _belied(version, folder) or not all((folder / name).exists() for name in needs):
        return None
    return f"{', '.join(needs)}: the names of {version}"


def _belied(version: str, folder: Path) -> bool:
    """Whether a folder with V1's names calls itself V2, or the other way round."""
    other = "V2" if version == "V1" else "V1"
    return folder.name.lower().endswith(f"_{other.lower()}")


def read(version: str, parts: tuple[str, ...], home: Path) -> Dataset:
    """The lists of these parts as training images, and the test split. Raises BadInput."""
    missing = [name for name in _needs(version, parts) if not (home / name).exists()]
    if missing:
        raise BadInput(f"expected {', '.join(missing)} in {home} for MSMT17 {version}")
    if _belied(version, home):
        raise BadInput(
            f"{home} is called like another version, but {', '.join(FOLDERS[version])} in it are "
            f"the names of {version}, whose scores are not comparable: rename what is wrong"
        )
    train, test = (home / name for name in FOLDERS[version])
    rows = [row for part in parts for row in _rows(home / LISTS[part], train)]
    query, gallery = (_rows(home / LISTS[split], test) for split in ("query", "gallery"))
    return Dataset(home, Split.of(rows), Split.of(query), Split.of(gallery), listed=True)


def _rows(table: Path, folder: Path) -> list[tuple[Path, int, int]]:
    """(path, identity, camera) of a list. Raises BadInput, with the line."""
    rows = []
    for where, line in lines_of(table):
        name, _, identity = line.replace("\\", "/").rpartition(" ")
        fields = name.split("_")
        if not name or len(fields) < 3 or ".." in name or name.startswith("/"):
            raise BadInput(
                f"{where}: expected a path and an identity like "
                f"0000/0000_000_01_0303morning_0008_0.jpg 0, got {line!r}"
            )
        camera = whole(fields[2], where, "the camera after the second underscore")
        rows.append((folder / name, whole(identity, where, "an identity"), camera))
    all_there([path for path, *_ in rows], table)
    return rows


# Counts: Wei et al., CVPR 2018 (32,621 images of 1,041 identities for training); the lists' 30,248
# and 2,373 in torchreid's and NFormer's logs. V2 has the same lists.
TEST = {"query": (11659, 3060), "gallery": (82161, 3060)}
TRAIN = {("train",): (30248, 1041), ("train", "val"): (32621, 1041)}


def family(version: str, parts: tuple[str, ...]) -> Family:
    """MSMT17 in a version, trained on these lists."""
    lists = " and ".join(LISTS[part].removesuffix(".txt") for part in parts)
    whose = {"V1": "", "V2": " Faces are masked in this version."}[version]
    return Family(
        f"MSMT17 {version}" + (" (train + val)" if len(parts) > 1 else ""),
        f"Wei et al., CVPR 2018: 4,101 people under fifteen cameras; trains on {lists}.{whose} Scores "
        "of V1 and V2, and of both ways to train, are not comparable.",
        partial(read, version, parts),
        partial(recognise, version, parts),
        (_needs(version, parts),),
        {"train": TRAIN[parts], **TEST},
        restarts=True,
    )
