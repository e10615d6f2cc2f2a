"""What a data set's attributes.csv says of its images, beside the view that `market` reads.

The pedestrians bring one (`pedestrians.COLUMNS`); any folder in Market-1501's layout may: columns
folder and name, and what else is known.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from reid_core.data.depth import DAMAGED, regular, turned
from reid_core.errors import BadInput

KEYS = ("folder", "name")


def attributes(root: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns (N,) of text by their names, for images by their paths below the data set's root.

    "" for an image that the table leaves out; no columns where there is no table. Raises BadInput for
    one that can't be read.
    """
    table = root / "attributes.csv"
    if not table.is_file():
        return {}
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            columns = [column for column in rows.fieldnames or () if column not in KEYS]
            if not set(KEYS) <= set(rows.fieldnames or ()):
                return {}
            said = {f"{row['folder']}/{row['name']}": row for row in rows}
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(
            f"{table} is no table in UTF-8 ({error}): save it anew or remove it"
        ) from None
    empty: dict[str, str] = {}
    found = [said.get("/".join(str(name).split("/")[-2:]), empty) for name in names]
    return {column: np.array([row.get(column) or "" for row in found]) for column in columns}


def sizes(root: Path, names: Sequence[str]) -> np.ndarray:
    """(N, 2) height and width of image files in pixels, from their headers; -1 where one is gone."""
    return np.array([_size(root / str(name)) for name in names]).reshape(-1, 2)


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(regular(path)) as image:
            return image.size if turned(image) else image.size[::-1]
    except DAMAGED:
        return -1, -1
