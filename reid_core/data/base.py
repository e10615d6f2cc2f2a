"""What every data set is: three splits of images, and a family that knows its folder.

N images. A family reads the folder it is given and never writes into it.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reid_core.errors import BadInput, from_system

ROOT = Path(__file__).resolve().parents[2]
VIEWS = ("front", "side", "back")
SUFFIXES = (".jpg", ".jpeg", ".png")
OTHERS = (".bmp", ".webp", ".tif", ".tiff", ".gif")  # images too, that no data set is made of
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
DEPTH, FOLDERS_AT_MOST = 4, 4000  # how far `walk` looks
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Split:
    """Images of one split. N images.

    paths N files; identities, cameras (as in the names), views (rows of the family's views) are (N,)
    int arrays, -1 where unknown.
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

    @classmethod
    def of(cls, rows: Sequence[tuple]) -> "Split":
        """From rows (path, identity, camera) or (path, identity, camera, view), or from none. Raises
        BadInput for numbers that no integer of 64 bits holds."""
        if not rows:
            return cls((), *(np.empty(0, int) for _ in range(3)))
        paths, *numbers = zip(*((*row, -1)[:4] for row in rows), strict=True)
        try:
            return cls(tuple(paths), *(np.array(each, dtype=int) for each in numbers))
        except OverflowError:
            row = next(row for row in rows if max(map(abs, row[1:])) > np.iinfo(int).max)
            raise BadInput(
                f"{row[0]}: identity {row[1]} or camera {row[2]} is too large; number them anew"
            ) from None

    @classmethod
    def chain(cls, splits: Sequence["Split"]) -> "Split":
        """Splits after one another, as one."""
        paths = tuple(path for split in splits for path in split.paths)
        names = ("identities", "cameras", "views")
        return cls(paths, *(np.concatenate([getattr(s, name) for s in splits]) for name in names))


@dataclass(frozen=True)
class Dataset:
    """Training images and the test split's queries and gallery, below one root.

    In a joined set only the queries and the gallery lie below it (`joined`). listed: a list or a table
    names the images, so that others may lie beside them on purpose.
    """

    root: Path
    train: Split
    query: Split
    gallery: Split
    listed: bool = False


@dataclass(frozen=True)
class Family:
    """A kind of data set: what it is called, what it is, how its folder is known and read.

    recognise(folder) says in one sentence why the folder is one, or None; it looks at names alone and
    raises OSError where it may not. read(home) gives the images and raises BadInput for what is
    missing. layouts are the sets of names that a home may hold, for messages. published are the
    (images, identities) that the data set's authors give, per split, as `read` counts them (junk is
    left out); a split that is not there is not known for certain. views names the rows of
    Split.views. restarts: the test split counts its identities anew, so that a number there is
    somebody else in training. extract(home, progress) unpacks images into a folder of the user's own
    where they lie inside one file; `read` does the same, silently. apart names the files of the layouts
    that are no part of the authors' archive, and where they are.
    """

    title: str
    about: str
    read: Callable[[Path], Dataset]
    recognise: Callable[[Path], str | None]
    layouts: tuple[tuple[str, ...], ...]
    published: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    views: tuple[str, ...] = VIEWS
    restarts: bool = False
    extract: Callable[[Path, Progress | None], None] | None = None
    apart: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """A data set somewhere below a root: its name in DATASETS, its folder, and why it is that."""

    name: str
    home: Path
    why: str


def own_place() -> Path:
    """The user's own folder of data sets, the only one that is ever written to."""
    return Path(os.environ.get("REID_DATA") or ROOT / "data")


def entries(folder: Path) -> list[os.DirEntry]:
    """What a folder holds, by name. Raises BadInput where it may not be read."""
    try:
        with os.scandir(folder) as inside:
            return sorted(inside, key=lambda entry: entry.name)
    except OSError as error:
        raise from_system(error) from None


def image_files(folder: Path) -> list[Path]:
    """The images right inside a folder, by name. Raises BadInput."""
    return [
        folder / entry.name
        for entry in entries(folder)
        if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".")
    ]


def first_names(folder: Path, count: int = 20) -> list[str]:
    """The first images' names of a folder, or none where it can't be read."""
    try:
        return [path.name for path in image_files(folder)[:count]]
    except BadInput:
        return []


def masks_only(folder: Path) -> str:
    """What to say of a folder of part masks, else "": their layout and names are the photographs' own."""
    if os.path.isfile(folder / "palette.json") or _repeats(folder.absolute()):
        return f"{folder} holds part masks (a palette.json, or the folders beside it again), no photographs"
    return ""


def _repeats(folder: Path) -> bool:
    """Whether a folder called masks has folders of the same names as lie beside it."""
    if folder.name.lower() != "masks":
        return False
    seen: set[str] = set()
    inside, beside = (_folders_in(each, seen) for each in (folder, folder.parent))
    return bool({each.name for each in inside} & {each.name for each in beside} - {folder.name})


def _nowhere(folder: Path) -> bool:
    return False


def walk(root: Path, stop: Callable[[Path], bool] = _nowhere) -> Iterator[Path]:
    """root and the folders below it, nearest first; not below one that `stop` says ends it.

    At most DEPTH levels and FOLDERS_AT_MOST folders; links are followed, each folder comes once, and
    hidden, closed and masks' ones are left out. Raises BadInput where root itself may not be read.
    """
    entries(root)
    level, seen, count = [root], {os.path.realpath(root)}, 0
    for depth in range(DEPTH + 1):
        below = []
        for folder in level:
            count += 1
            if count > FOLDERS_AT_MOST:
                return
            if masks_only(folder):
                continue
            yield folder
            if depth < DEPTH and not stop(folder):
                below += _folders_in(folder, seen)
        level = below


def _folders_in(folder: Path, seen: set[str]) -> list[Path]:
    found = []
    try:
        inside = entries(folder)
    except BadInput:
        return []
    for entry in inside:
        if entry.name.startswith(".") or entry.name.lower().endswith(SUFFIXES):
            continue
        try:
            real = os.path.realpath(entry.path) if entry.is_dir() else ""
        except OSError:
            continue
        if real and real not in seen and os.access(real, os.R_OK | os.X_OK):
            seen.add(real)
            found.append(folder / entry.name)
    return found
