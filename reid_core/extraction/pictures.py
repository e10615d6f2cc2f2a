"""Pictures that somebody names: a file, a folder with all that lies below it, or a test split.

Who is on them, under which camera and from which side is what their names or their layout tell.
N images.
"""

import os
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from reid_core.data import Dataset, find, open_dataset
from reid_core.data.base import masks_only
from reid_core.data.market import SUFFIXES, parse_name, read_views
from reid_core.errors import BadInput

KINDS = tuple(dict.fromkeys((*SUFFIXES, ".bmp", ".webp", ".tif", ".tiff")))
QUERIES = "query"  # what Market-1501 and those after it call their folder of queries
JUNK = -1


@dataclass(frozen=True)
class Pictures:
    """Images in the order of their names. N images.

    paths N files; names (N,) below the folder that was named; identities, cameras, views (N,) int,
    -1 unknown; is_query (N,) bool. aside counts the images of no query and no gallery, where a data
    set was recognised: they have identity -1, which every protocol leaves out.
    """

    paths: tuple[Path, ...]
    names: np.ndarray
    identities: np.ndarray
    cameras: np.ndarray
    views: np.ndarray
    is_query: np.ndarray
    aside: int = 0

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def labelled(self) -> bool:
        """Whether anything is known of who is on them."""
        return bool((self.identities != JUNK).any() or (self.cameras >= 0).any())

    def told(self, camera: int | None = None) -> "Pictures":
        """The same, all of a camera that somebody names."""
        if camera is None:
            return self
        return replace(self, cameras=np.full(len(self), camera))

    def without(self, rows: Collection[int]) -> "Pictures":
        """All but some."""
        kept = np.array([row for row in range(len(self)) if row not in rows], dtype=int)
        known = {name: values[kept] for name, values in self.labels().items()}
        paths = tuple(self.paths[row] for row in kept)
        return replace(self, paths=paths, names=self.names[kept], **known)

    def labels(self) -> dict[str, np.ndarray]:
        """What is known of them, by name."""
        return {k: getattr(self, k) for k in ("identities", "cameras", "views", "is_query")}


def pictures_at(place: Path) -> Pictures:
    """A file, or all images below a folder. Raises BadInput where there is none."""
    if not place.exists():
        raise BadInput(f"no file or folder {place}")
    if not place.is_dir():
        return _named([place], place.parent)
    files = sorted(below(place))
    if not files:
        raise BadInput(f"no image ({', '.join(KINDS)}) in {place} or below it")
    named = _named(files, place)
    return _recognised(named, place) or named


def below(folder: Path) -> Iterator[Path]:
    """The images in a folder and below it. Links are followed, each folder once; hidden files and
    part masks are left out. Raises BadInput where a folder may not be read."""
    seen = {os.path.realpath(folder)}

    def refused(error: OSError) -> None:
        raise BadInput(
            f"not allowed to look into {error.filename}: choose another folder"
        ) from None

    for here, folders, names in os.walk(folder, onerror=refused, followlinks=True):
        # Links last: a folder has its own name where both are there.
        order = sorted(folders, key=lambda name: (os.path.islink(os.path.join(here, name)), name))
        folders.clear()
        for name in order:
            real = os.path.realpath(os.path.join(here, name))
            masks = masks_only(Path(here, name))
            if real not in seen and not name.startswith(".") and not masks:
                seen.add(real)
                folders.append(name)
        for name in names:
            if name.lower().endswith(KINDS) and not name.startswith("."):
                yield Path(here, name)


def pictures_of(dataset: Dataset) -> Pictures:
    """The queries of a data set and then its gallery."""
    parts = (dataset.query, dataset.gallery)
    paths = tuple(path for part in parts for path in part.paths)
    identities, cameras, views = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("identities", "cameras", "views")
    )
    names = np.array([_below(path, dataset.root) for path in paths])
    is_query = np.arange(len(paths)) < len(dataset.query)
    return Pictures(paths, names, identities, cameras, views, is_query)


def _named(files: list[Path], root: Path) -> Pictures:
    """What Market-1501's names tell, and the table of views beside a data set's image folders."""
    parsed = [parse_name(path.name) or (JUNK, -1) for path in files]
    identities, cameras = np.array(parsed, dtype=int).T
    table = cache(lambda folder: read_views(folder / "attributes.csv"))
    whole = [path.absolute() for path in files]
    views = [table(p.parent.parent).get(f"{p.parent.name}/{p.name}", -1) for p in whole]
    is_query = np.array([path.parent.name == QUERIES for path in whole])
    names = np.array([_below(path, root) for path in files])
    return Pictures(tuple(files), names, identities, cameras, np.array(views), is_query)


def _recognised(named: Pictures, root: Path) -> Pictures | None:
    """The same as a data set's test split tells it, where exactly one lies in the folder. What the split
    has twice, as query and gallery image, is there twice."""
    splits = []
    for found in find(root):
        try:
            test = pictures_of(open_dataset(found.name, found.home))
        except BadInput:
            continue  # not whole: the names may tell
        if len(test) and test.paths not in [each.paths for each in splits]:
            splits.append(test)
    if len(splits) != 1:
        return None
    (test,) = splits
    folder = cache(os.path.realpath)

    def place(path: Path) -> tuple[str, str]:
        return folder(path.parent), path.name  # a folder may have several names, by links

    tested = defaultdict(list)
    for row, path in enumerate(test.paths):
        tested[place(path)].append(row)
    listed = {place(path): (row, path) for row, path in enumerate(named.paths)}
    for key, (row, *_) in tested.items():  # a table may name images of other kinds
        if key not in listed:
            if not test.paths[row].is_relative_to(root):  # they lie elsewhere
                return None
            listed[key] = -1, test.paths[row]
    rows = [
        (path, row, other) for key, (row, path) in listed.items() for other in tested.get(key, [-1])
    ]
    paths, mine, theirs = zip(*sorted(rows), strict=True)
    mine, theirs = np.array(mine), np.array(theirs)
    inside = theirs >= 0
    known = {
        name: np.where(inside, values[theirs], False if name == "is_query" else -1)
        for name, values in test.labels().items()
    }
    for name in ("cameras", "views"):
        known[name] = np.where(inside, known[name], getattr(named, name)[mine])
    names = np.array([_below(path, root) for path in paths])
    return Pictures(paths, names, **known, aside=int((~inside).sum()))


def _below(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
