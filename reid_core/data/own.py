"""Any folder of one's own: a table, or Market-1501's folders and names.

The table is a CSV (commas, semicolons or tabs) with a header, anywhere named, in the folder: columns
path, identity, split and, if known, camera. path is below the folder; split is train, query or gallery. Identities and cameras are
whole numbers or words; words are numbered from 1 in sorted order, over all splits. Identity 0 is a
distractor and -1 junk, which is left out, also among words; 0000 and 0.0 are 0. A camera that is empty,
missing, "unknown", -1 or what programs write for nothing (nan, NA, None, null, ?) is unknown.
Without any query and gallery the table serves for training with a holdout.
"""

import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from reid_core.data.base import Dataset, Family, Split, entries
from reid_core.data.lists import all_there
from reid_core.data.market import FOLDERS, NAME, has_folders, read_market, some_names
from reid_core.errors import BadInput, from_system

COLUMNS = ("path", "identity", "split")
SPLITS = ("train", "query", "gallery")
NUMBER = re.compile(r"\d{1,18}")  # what 64 bits hold; anything else is a word
WITH_POINT = re.compile(r"(-?\d+)\.0*")  # a whole number as a column with a gap in it is saved
ZERO, MINUS_ONE = re.compile(r"-?0+"), re.compile(r"-0*1")
SEPARATORS = ",;\t"  # as spreadsheets of all countries write them
NOTHING = ("", "nan", "na", "n/a", "none", "null", "?")  # as programs write that nothing is there
UNKNOWN = (*NOTHING, "unknown", "-1")
SHEETS = (".csv", ".tsv", ".xlsx", ".xls", ".ods")  # what a table may have been saved as


def tables(folder: Path) -> list[Path]:
    """The CSV files of a folder that have our columns."""
    return [file for file in _sheets(folder, ".csv") if set(COLUMNS) <= set(_header(file))]


def _sheets(folder: Path, suffixes: str | tuple[str, ...]) -> list[Path]:
    names = [entry.name for entry in entries(folder)]
    return [folder / name for name in names if name.lower().endswith(suffixes)]


def _header(table: Path) -> Sequence[str]:
    """The names of a CSV's columns; none of what is no CSV or can't be read."""
    if not table.name.lower().endswith(".csv"):
        return []
    try:
        with table.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            rows = csv.reader(file, delimiter=_separator(file))
            return [name.strip().lower() for name in next(rows, [])]
    except (OSError, csv.Error):
        return []


def _separator(file: TextIO) -> str:
    """What parts the columns: of SEPARATORS the most frequent one in the header."""
    header = file.readline()
    file.seek(0)
    return max(SEPARATORS, key=header.count)


def closed_tables(folder: Path) -> list[Path]:
    """The CSV files of a folder that this user may not read."""
    return [file for file in _sheets(folder, ".csv") if not os.access(file, os.R_OK)]


def near_misses(folder: Path, meant: bool = False) -> list[str]:
    """Of each CSV that is no table of images, though it has one of our columns or can't be read as
    text: what it lacks. meant: of every CSV and spreadsheet there, whatever it holds."""
    sheets = _sheets(folder, SHEETS if meant else ".csv")
    headers = {sheet: _header(sheet) for sheet in sheets if os.access(sheet, os.R_OK)}
    return [
        f"{sheet.name} {_lacking(sheet, header)}"
        for sheet, header in headers.items()
        if not set(COLUMNS) <= set(header)
        and not {"folder", "name"} <= set(header)  # the attributes beside drawn pedestrians
        and (meant or set(COLUMNS) & set(header) or _no_text(header))
    ]


def _no_text(header: Sequence[str]) -> bool:
    return any("\0" in name or "\ufffd" in name for name in header)


def _lacking(sheet: Path, header: Sequence[str]) -> str:
    """Why a file is no table of images."""
    if not sheet.name.lower().endswith(".csv"):
        return "is no CSV"
    if _no_text(header):
        return "is no text in UTF-8"
    lacks = f"lacks {', '.join(column for column in COLUMNS if column not in header)}"
    return (
        f"{lacks} (its columns are {', '.join(header)})"
        if any(header)
        else "has no header in its first line"
    )


def recognise(folder: Path) -> str | None:
    """Why a folder is one's own data set, or None."""
    found = tables(folder)
    if found:
        return f"{found[0].name} with the columns {', '.join(COLUMNS)}"
    if has_folders(folder):
        name = next((n for n in some_names(folder) if NAME.match(n)), "")
        return (
            f"{', '.join(FOLDERS)}, and names with identity and camera like {name}"
            if name
            else None
        )
    return None


def read(home: Path) -> Dataset:
    """The images of the table, or of Market-1501's folders. Raises BadInput."""
    found = tables(home)
    if len(found) > 1:
        names = ", ".join(table.name for table in found)
        raise BadInput(
            f"expected one table of images in {home}, found {names}: move the others away"
        )
    if found:
        return _read_table(found[0])
    if has_folders(home):
        return read_market(home)
    raise BadInput(
        f"expected a CSV with the columns {', '.join(COLUMNS)} (and camera) in {home}, or the folders "
        f"{', '.join(FOLDERS)} with names like 0002_c1_000451.jpg"
    )


def _read_table(table: Path) -> Dataset:
    lines = _lines(table)
    identities = _numbers([line["identity"] for line in lines], known=("0", "-1"))
    cameras = _numbers([line["camera"] for line in lines], known=())
    rows: dict[str, list[tuple[Path, int, int]]] = {split: [] for split in SPLITS}
    for line in lines:
        identity, camera = identities[line["identity"]], cameras[line["camera"]]
        if identity != -1:
            rows[line["split"]].append((line["path"], identity, camera))
    if not rows["train"] and not rows["query"]:
        raise BadInput(
            f"{table} has neither training images nor queries: name them in column split"
        )
    if bool(rows["query"]) != bool(rows["gallery"]):
        lacking = "gallery" if rows["query"] else "query"
        raise BadInput(f"{table} has no image of split {lacking}: add some, or leave both out")
    remedy = f"mend the paths in {table.name}, capitals count, or put the images there"
    all_there([path for split in SPLITS for path, *_ in rows[split]], table, remedy)
    return Dataset(table.parent, *(Split.of(rows[split]) for split in SPLITS), listed=True)


def _lines(table: Path) -> list[dict]:
    """The rows of a table, checked. Raises BadInput, with the line."""
    found = []
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter=_separator(file))
            names = [name.strip().lower() for name in reader.fieldnames or ()]
            if twice := [n for n in (*COLUMNS, "camera") if names.count(n) > 1]:
                raise BadInput(f"{table} has the column {twice[0]} twice: rename or remove one")
            reader.fieldnames = names
            start = reader.line_num + 1
            for row in reader:
                where = _place(table, start, reader.line_num, row)
                start = reader.line_num + 1
                found.append(
                    _line({k: (row.get(k) or "").strip() for k in (*COLUMNS, "camera")}, where)
                )
                found[-1]["path"] = _below(table.parent, found[-1]["path"], where)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(
            f"{table} is no CSV in UTF-8 ({error}): save it anew, with all quotation marks closed"
        ) from None
    except OSError as error:
        raise from_system(error) from None
    if not found:
        raise BadInput(f"{table} is empty: list the images in it")
    return found


def _place(table: Path, start: int, end: int, row: dict) -> str:
    """Where a row stands. Without its second quotation mark a cell goes on over the lines below."""
    if any("\n" in str(cell) for cell in row.values()):
        return f"{table}, lines {start} to {end}, which a quotation mark makes one"
    return f"{table}, line {end}"


def _line(row: dict[str, str], where: str) -> dict:
    for name in COLUMNS:
        if not row[name]:
            raise BadInput(f"{where}: no {name}; each line needs {', '.join(COLUMNS)}")
    row["split"] = row["split"].lower()
    if row["split"] not in SPLITS:
        raise BadInput(f"{where}: expected split {', '.join(SPLITS)}, got {row['split']!r}")
    if row["identity"].lower() in NOTHING:
        raise BadInput(
            f"{where}: identity {row['identity']} says nobody: give a number, a word, or -1 for junk"
        )
    row["identity"], row["camera"] = _plain(row["identity"]), _plain(row["camera"])
    row["camera"] = "-1" if row["camera"].lower() in UNKNOWN else row["camera"]
    return row


def _plain(text: str) -> str:
    """A whole number without a point, 0 and -1 without further noughts; other words as they are."""
    match = WITH_POINT.fullmatch(text)
    text = match[1] if match else text
    if ZERO.fullmatch(text):
        return "0"
    return "-1" if MINUS_ONE.fullmatch(text) else text


def _below(home: Path, name: str, where: str) -> Path:
    """A path of the table below its folder. Raises BadInput for one that leads out."""
    name = name.replace("\\", "/")
    path = home / name
    rooted = name.startswith("/") or os.path.splitdrive(name)[0]
    if ".." in name.split("/") or (rooted and not path.is_relative_to(home)):
        raise BadInput(f"{where}: {name} leads out of {home}: give paths below it")
    return path


def _numbers(said: list[str], known: tuple[str, ...]) -> dict[str, int]:
    """A number for each: their own, or, where one is a word, from 1 in sorted order."""
    words = sorted(set(said) - {*known, "-1"})
    if all(NUMBER.fullmatch(word) for word in words):
        return {word: int(word) for word in said}
    return (
        {word: row for row, word in enumerate(words, 1)} | {"-1": -1} | {w: int(w) for w in known}
    )


OWN = Family(
    "A folder of one's own",
    "A table (CSV) with path, identity, split and, if known, camera; or Market-1501's folders and "
    "names. Identities may be words, cameras unknown.",
    read,
    recognise,
    (("a CSV with path, identity and split",), FOLDERS),
)
