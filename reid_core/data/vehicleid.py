"""PKU VehicleID (Liu et al., CVPR 2016): vehicles, no cameras, one test list per size.

image/0000001.jpg
train_test_split/train_list.txt, test_list_{800,1600,2400}.txt     image, identity: 0000001 42

A test list has no queries and no gallery: the protocol draws one image of each identity as the
gallery, asks with all others, and repeats that. The split here is one such draw, the same for
everybody; queries and gallery together are the list, in which protocol `vehicleid` draws anew.
"""

from functools import partial
from pathlib import Path

import numpy as np

from reid_core.data.base import Dataset, Family, Split
from reid_core.data.lists import all_there, lines_of, whole
from reid_core.errors import BadInput

TRAIN = "train_test_split/train_list.txt"
SIZES = (800, 1600, 2400)


def _needs(size: int) -> tuple[str, ...]:
    return ("image", TRAIN, f"train_test_split/test_list_{size}.txt")


def recognise(size: int, folder: Path) -> str | None:
    """Why a folder is VehicleID with the test list of this size, or None."""
    there = all((folder / name).exists() for name in _needs(size))
    return ", ".join(_needs(size)) if there else None


def read(size: int, home: Path) -> Dataset:
    """The lists. Raises BadInput for what is missing, or a test list without pairs."""
    missing = [name for name in _needs(size) if not (home / name).exists()]
    if missing:
        raise BadInput(f"expected {', '.join(missing)} in {home} for VehicleID")
    train, test = (Split.of(_rows(home, home / name)) for name in _needs(size)[1:])
    in_gallery = draw(test.identities, np.random.default_rng(0))
    if in_gallery.all():
        raise BadInput(f"{home / _needs(size)[2]} shows every identity once: nothing to ask with")
    return Dataset(home, train, test.take(~in_gallery), test.take(in_gallery), listed=True)


def draw(identities: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(N,) bool: one image of each identity, drawn at random, as a gallery (Liu et al., section 5)."""
    order = generator.permutation(len(identities))
    _, first = np.unique(identities[order], return_index=True)
    return np.isin(np.arange(len(identities)), order[first])


def _rows(home: Path, table: Path) -> list[tuple[Path, int, int]]:
    """(path, identity, camera unknown) of a list. Raises BadInput, with the line."""
    rows = []
    for where, line in lines_of(table):
        fields = line.split()
        if len(fields) != 2 or "/" in fields[0] or ".." in fields[0]:
            raise BadInput(
                f"{where}: expected an image and an identity like 0000001 42, got {line!r}"
            )
        path = home / "image" / f"{fields[0].removesuffix('.jpg')}.jpg"
        rows.append((path, whole(fields[1], where, "an identity"), -1))
    all_there([path for path, *_ in rows], table)
    return rows


# Counts of fast-reid's vehicleid.py; one image of each identity is the gallery.
IMAGES = {800: 6493, 1600: 13377, 2400: 19777}


def family(size: int) -> Family:
    """VehicleID with the test list of this size."""
    return Family(
        f"VehicleID ({size:,})",
        f"Liu et al., CVPR 2016: vehicles from the front or behind, cameras unknown; tested with "
        f"{size:,} of them, one image of each as the gallery.",
        partial(read, size),
        partial(recognise, size),
        (_needs(size),),
        {
            "train": (113346, 13164),
            "query": (IMAGES[size] - size, size),
            "gallery": (size, size),
        },
    )
