"""Where data sets lie below a folder, and what to say where the one that is looked for does not."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from reid_core.data.base import (
    ARCHIVES,
    DEPTH,
    SUFFIXES,
    Family,
    Found,
    entries,
    masks_only,
    walk,
)
from reid_core.data.market import FOLDERS
from reid_core.data.own import closed_tables, near_misses
from reid_core.errors import BadInput

ABOVE = 2  # folders above the given one that are tried
LONGEST = 250  # characters of a folder that are repeated to its user
OWN = "folder"  # what any layout of Market's is when it is nothing else


def survey(families: Mapping[str, Family], root: Path) -> Iterator[list[Found]]:
    """What each folder at or below root is, nearest first; nothing is looked for inside of one that
    is something, or that was. Raises BadInput where root is no folder or may not be read."""
    if not os.path.isdir(root):
        raise no_folder(root)
    homes = set()
    for folder in walk(root, lambda folder: folder in homes or was_drawn(folder)):
        here = [
            Found(name, folder, why) for name in families if (why := _why(families[name], folder))
        ]
        if here:
            homes.add(folder)
            yield here


def was_drawn(folder: Path) -> bool:
    """Whether pedestrians lie here, whole or with a folder lost: what else lies below is not them."""
    about = folder / "dataset.json"
    return about.is_file() and any((folder / name).is_dir() for name in FOLDERS)


def _why(family: Family, folder: Path) -> str | None:
    try:
        return family.recognise(folder)
    except (OSError, BadInput):  # closed: what it holds can't be known
        return None


def no_folder(root: Path) -> BadInput:
    """What to say of a root that is none."""
    if os.path.isfile(root):
        kind = "an archive: unpack it" if root.name.lower().endswith(ARCHIVES) else "a file"
        return BadInput(f"{root} is {kind}; give the folder of the data set")
    name = str(root).replace("\0", "\\0")  # what no terminal shows, and no path may hold
    if len(name) > LONGEST:
        name = f"{name[:60]}... ({len(name):,} characters)"
    return BadInput(f"no folder {name}")


def not_found(
    families: Mapping[str, Family], name: str, root: Path, found: list[Found]
) -> BadInput:
    """Why a data set is not below a folder: another lies there, an archive, or only part of it."""
    if masks := masks_only(root):
        return BadInput(f"{masks}: give the folder above it, {root.absolute().parent}")
    family, others = families[name], {each.name: each for each in found}
    if others:
        other = next(iter(others.values()))
        message = (
            f"{other.home} is {families[other.name].title} ({other.why}), not {family.title}: say "
            f"{' or '.join(others)}, or give another folder"
        )
        there, lacks = _nearly(family, other.home)
        if there and lacks:
            where = apart({name: family}, other.home, lacks)[1]
            message += f"; {family.title} also needs {', '.join(lacks)}"
            message += f", a download of its own: {where}" if where else ""
        return BadInput(message)
    looked = " or ".join(", ".join(layout) for layout in family.layouts)
    message = f"{family.title} is not in {root} or {DEPTH} levels below: looked for {looked}"
    return BadInput("; ".join([message, *_hints(families, family, root)]))


def _nearly(family: Family, folder: Path) -> tuple[int, list[str]]:
    """Of the family's layout that a folder has most of: how many names are there, and which are not."""
    lacking = [
        (len(layout), [name for name in layout if not os.path.exists(folder / name)])
        for layout in family.layouts
    ]
    inside = in_small(folder)
    nearly = [
        (size - sum(not spelled(folder, name, inside) for name in lacks), lacks)
        for size, lacks in lacking
    ]
    return max(nearly, key=lambda each: each[0])


def in_small(folder: Path) -> dict[str, str]:
    """What lies in a folder beside images, by its name in small letters; nothing where it is closed."""
    try:
        names = [entry.name for entry in entries(folder)]
    except BadInput:
        return {}
    return {name.lower(): name for name in names if not name.lower().endswith(SUFFIXES)}


def spelled(folder: Path, name: str, inside: Mapping[str, str]) -> str:
    """What lies in a folder under a layout's name but for its capitals, or ""; inside is `in_small` of
    the folder."""
    first, _, rest = name.partition("/")
    there = inside.get(first.lower(), "")
    if not there or not rest:
        return there
    below = spelled(folder / there, rest, in_small(folder / there))
    return f"{there}/{below}" if below else ""


def apart(families: Mapping[str, Family], folder: Path, lacks: list[str]) -> tuple[list[str], str]:
    """Where all that a layout lacks is no part of its archive: the files of that kind that lie not in
    the folder, of other families too, and where they are. Else none."""
    where = {name: place for family in families.values() for name, place in family.apart.items()}
    if not lacks or not set(lacks) <= set(where):
        return [], ""
    return [name for name in where if not os.path.exists(folder / name)], where[lacks[0]]


def _otherwise(family: Family, folder: Path) -> str:
    """Why a folder with all the names of a layout is not recognised."""
    try:
        family.read(folder)
    except BadInput as problem:
        return str(problem)
    return f"its images are not named as in {family.title}"


def _lacking(families: Mapping[str, Family], folder: Path, lacks: list[str]) -> str:
    """What to say of a folder that has only some names of a layout."""
    inside = in_small(folder)
    if others := {name: other for name in lacks if (other := spelled(folder, name, inside))}:
        has, expected = ", ".join(others.values()), ", ".join(others)
        return f"{folder} has {has} instead of {expected}, and capitals count: rename what is wrong"
    names, where = apart(families, folder, lacks)
    if where:
        return f"{folder} lacks {', '.join(names)}, no part of its archive: download them apart; {where}"
    return f"{folder} lacks {', '.join(lacks)}: is it half extracted?"


def _hints(families: Mapping[str, Family], family: Family, root: Path) -> Iterator[str]:
    """What else there is to say: the folder that has most of it, archives, closed folders."""
    best: tuple[int, list[str], Path] = (0, [], root)
    packed, closed, tables = [], [], []
    for folder in walk(root, was_drawn):
        best = max(best, (*_nearly(family, folder), folder), key=lambda each: each[0])
        try:
            packed += [e.path for e in entries(folder) if e.name.lower().endswith(ARCHIVES)]
            if family is families[OWN]:
                tables += [f"not allowed to read {table}" for table in closed_tables(folder)]
                tables += [f"in {folder} {said}" for said in near_misses(folder, meant=True)]
        except BadInput:
            closed.append(folder)
    for above in list(root.absolute().parents)[:ABOVE]:
        if _why(family, above):
            yield f"it lies inside of one: give {above}"
    yield from tables[:1]
    if best[0] > bool(tables):  # beside a table one name, such as query, makes no layout
        _, lacks, folder = best
        if lacks:
            yield _lacking(families, folder, lacks)
        else:
            yield f"{folder} has these, but {_otherwise(family, folder)}"
    if packed:
        yield f"{packed[0]} is not unpacked: unpack it first"
    if closed:
        yield f"not allowed to look into {closed[0]}: give yourself the right to read it"
    if not (best[0] or packed or closed or tables):
        names = [entry.name for entry in entries(root)[:5]]
        yield f"found {', '.join(names) or 'nothing'} there"
