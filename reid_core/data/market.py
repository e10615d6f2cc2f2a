"""Market-1501's layout and names (Zheng et al., ICCV 2015), which the pedestrians follow too.

bounding_box_train/0002_c1s1_000451_03.jpg    identity 2, camera 1
query/...
bounding_box_test/0000_...   a distractor: nobody's match, but in the ranking
bounding_box_test/-1_...     junk: left out of the gallery
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_core.errors import BadInput

FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
VIEWS = ("front", "side", "back")
SUFFIXES = (".jpg", ".jpeg", ".png")
NAME = re.compile(r"(-?\d+)_c(\d+)")


@dataclass(frozen=True)
class Split:
    """Images in the order of their names. N images.

    paths N files; identities, cameras (from 1, as in the names), views (rows of VIEWS) are (N,) int
    arrays, -1 where unknown.
    """

    paths: tuple[Path, ...]
    identities: np.ndarray
    cameras: np.ndarray
    views: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: np.ndarray) -> "Split":
        """The rows of a boolean or integer index, as a split."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        paths = tuple(self.paths[row] for row in rows)
        return Split(paths, self.identities[rows], self.cameras[rows], self.views[rows])


@dataclass(frozen=True)
class Dataset:
    """Training images and the test split's queries and gallery, under one root."""

    root: Path
    train: Split
    query: Split
    gallery: Split


def parse_name(name: str) -> tuple[int, int] | None:
    """(identity, camera) of a Market-style file name, or None."""
    match = NAME.match(name)
    return (int(match[1]), int(match[2])) if match else None


def read_market(root: Path) -> Dataset:
    """Read a folder with Market-1501's three image folders, or its one subfolder that has them.

    Raises BadInput where folders or images are missing.
    """
    inside = [d for d in sorted(root.iterdir()) if d.is_dir()]
    home = next((d for d in (root, *inside) if (d / FOLDERS[0]).is_dir()), root)
    missing = [name for name in FOLDERS if not (home / name).is_dir()]
    if missing:
        found = ", ".join(d.name for d in inside[:5]) or "no folders"
        raise BadInput(
            f"expected {', '.join(missing)} in {home}, found {found}; give the folder above them"
        )
    views = read_views(home / "attributes.csv")
    return Dataset(home, *(read_split(home / name, views) for name in FOLDERS))


def read_split(folder: Path, views: dict[str, int]) -> Split:
    """The images of a folder, junk left out. Raises BadInput where there is none."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    known = [(path, *parsed) for path in files if (parsed := parse_name(path.name))]
    known = [row for row in known if row[1] != -1]
    if not known:
        raise BadInput(
            f"no image in {folder} is named like 0002_c1s1_000451_03.jpg "
            f"({len(files)} images there); rename them or give another folder"
        )
    paths, identities, cameras = zip(*known, strict=True)
    seen = [views.get(f"{folder.name}/{path.name}", -1) for path in paths]
    return Split(paths, np.array(identities), np.array(cameras), np.array(seen))


def read_views(table: Path) -> dict[str, int]:
    """ "folder/name" to a row of VIEWS, from a table with columns folder, name and view."""
    if not table.is_file():
        return {}
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if not {"folder", "name", "view"} <= set(rows.fieldnames or ()):
                return {}
            return {
                f"{row['folder']}/{row['name']}": VIEWS.index(row["view"])
                if row["view"] in VIEWS
                else -1
                for row in rows
            }
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(
            f"{table} is no table in UTF-8 ({error}): save it anew or remove it"
        ) from None
