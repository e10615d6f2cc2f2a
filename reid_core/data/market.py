"""Market-1501's layout and names (Zheng et al., ICCV 2015), which the pedestrians follow too.

bounding_box_train/0002_c1s1_000451_03.jpg    identity 2, camera 1
query/...
bounding_box_test/0000_...   a distractor: nobody's match, but in the ranking
bounding_box_test/-1_...     junk: left out of the gallery
"""

import csv
import re
from collections.abc import Callable
from pathlib import Path

from reid_core.data.base import (
    OTHERS,
    SUFFIXES,
    VIEWS,
    Dataset,
    Family,
    Split,
    entries,
    first_names,
    image_files,
)
from reid_core.errors import BadInput
from reid_core.words import number

FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
NAME = re.compile(r"(-?\d+)_c(\d+)")
OFFICIAL = re.compile(r"-?\d+_c[1-6]s\d+_\d+_\d+\.jpg", re.IGNORECASE)

__all__ = ["FOLDERS", "SUFFIXES", "VIEWS", "Dataset", "Split", "parse_name", "read_market"]


def parse_name(name: str) -> tuple[int, int] | None:
    """(identity, camera) of a Market-style file name, or None."""
    match = NAME.match(name)
    return (int(match[1]), int(match[2])) if match else None


def has_folders(folder: Path) -> bool:
    """Whether the three image folders lie here."""
    return all((folder / name).is_dir() for name in FOLDERS)


def named_like(folder: Path, pattern: re.Pattern) -> str:
    """The first query that is named like pattern, if most looked at there are, or ""."""
    return mostly(some_names(folder), pattern)


def some_names(folder: Path) -> list[str]:
    """Names of queries, or of the other images where there is no query."""
    each = (first_names(folder / name) for name in (FOLDERS[1], FOLDERS[0], FOLDERS[2]))
    return next(filter(None, each), [])


def mostly(names: list[str], pattern: re.Pattern) -> str:
    """The first name like pattern if more than half of them are (a stray copy may lie among them),
    or ""."""
    alike = [name for name in names if pattern.fullmatch(name)]
    return alike[0] if 2 * len(alike) > len(names) else ""


def is_drawn(folder: Path) -> bool:
    """Whether the pedestrians lie here."""
    return has_folders(folder) and (folder / "dataset.json").is_file()


def recognise_pedestrians(folder: Path) -> str | None:
    if not is_drawn(folder):
        return None
    return f"{', '.join(FOLDERS)}, and beside them the dataset.json that the command synth writes"


def recognise_market(folder: Path) -> str | None:
    if not has_folders(folder) or is_drawn(folder):
        return None
    name = named_like(folder, OFFICIAL)
    return f"{', '.join(FOLDERS)}, and names with sequence and frame like {name}" if name else None


def read_market(home: Path) -> Dataset:
    """Read a folder with Market-1501's three image folders. Raises BadInput where folders or images
    are missing."""
    missing = [name for name in FOLDERS if not (home / name).is_dir()]
    if missing:
        raise BadInput(f"expected {', '.join(missing)} in {home}; give the folder that holds them")
    views = read_views(home / "attributes.csv")
    return Dataset(home, *(read_split(home / name, views) for name in FOLDERS))


def read_split(
    folder: Path,
    views: dict[str, int],
    parse: Callable[[str], tuple[int, int] | None] = parse_name,
    example: str = "0002_c1s1_000451_03.jpg",
) -> Split:
    """The images of a folder, junk left out. Raises BadInput where there is none."""
    files = image_files(folder)
    named = [(path, *parsed) for path in files if (parsed := parse(path.name))]
    known = [row for row in named if row[1] != -1]
    if not files:
        raise BadInput(_without_images(folder))
    if not named:
        raise BadInput(
            f"no image in {folder} is named like {example} "
            f"({number(files, 'image')} there); rename them or give another folder"
        )
    if not known:
        raise BadInput(
            f"{folder} holds junk only (identity -1), there is no image in it that shows somebody: "
            "extract the archive again"
        )
    seen = [(*row, views.get(f"{folder.name}/{row[0].name}", -1)) for row in known]
    return Split.of(seen)


def _without_images(folder: Path) -> str:
    """What to say of a folder without images: what it holds instead."""
    inside = [entry.name for entry in entries(folder) if not entry.name.startswith(".")]
    for name in inside:
        if (folder / name).is_dir() and (count := len(image_files(folder / name))):
            return (
                f"no image lies right in {folder}, but {count:,} in its folder {name}: move them up into "
                f"{folder.name}"
            )
    if inside:
        other = inside[0].lower().endswith(OTHERS)
        return (
            f"{folder} holds {inside[0]}, there is no image in it{' that is read' if other else ''}: "
            f"expected files that end in {', '.join(SUFFIXES)}, "
            f"{'save them as one of these' if other else 'put them there'}"
        )
    return f"{folder} is empty, there is no image in it: extract the archive again"


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


# Counts: Zheng et al., ICCV 2015, and torchreid's and fast-reid's market1501.py, junk left out; the
# gallery's identities with the distractors' 0.
COUNTS = {"train": (12936, 751), "query": (3368, 750), "gallery": (15913, 751)}
PEDESTRIANS = Family(
    "Pedestrians (synthetic)",
    "Drawn people whose truth is known: identities, views, body parts, look-alikes. Ours, made "
    "for teaching; scores on it say nothing about a public benchmark.",
    read_market,
    recognise_pedestrians,
    (FOLDERS,),
)
MARKET = Family(
    "Market-1501",
    "Zheng et al., ICCV 2015: 1,501 people under six cameras before a supermarket. Junk (-1) is left "
    "out; distractors (0) stay in the gallery.",
    read_market,
    recognise_market,
    (FOLDERS,),
    COUNTS,
)
