"""Where data sets lie below a folder, and what to say where the one that is looked for does not."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from reid_core.data.base import ARCHIVES, DEPTH, Family, Found, entries, masks_only, walk
from reid_core.data.market import FOLDERS
from reid_core.errors import BadInput

ABOVE = 2  # folders above the given one that are tried
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
    return BadInput(f"no folder {root}")


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
        return BadInput(
            f"{message}; {family.title} also needs {', '.join(lacks)}"
            if there and lacks
            else message
        )
    looked = " or ".join(", ".join(layout) for layout in family.layouts)
    message = f"{family.title} is not in {root} or {DEPTH} levels below: looked for {looked}"
    return BadInput("; ".join([message, *_hints(family, root)]))


def _nearly(family: Family, folder: Path) -> tuple[int, list[str]]:
    """Of the family's layout that a folder has most of: how many names are there, and which are not."""
    lacking = [
        (len(layout), [name for name in layout if not os.path.exists(folder / name)])
        for layout in family.layouts
    ]
    return max(((size - len(lacks), lacks) for size, lacks in lacking), key=lambda each: each[0])


def _otherwise(family: Family, folder: Path) -> str:
    """Why a folder with all the names of a layout is not recognised."""
    try:
        family.read(folder)
    except BadInput as problem:
        return str(problem)
    return f"its images are not named as in {family.title}"


def _hints(family: Family, root: Path) -> Iterator[str]:
    """What else there is to say: the folder that has most of it, archives, closed folders."""
    best: tuple[int, list[str], Path] = (0, [], root)
    packed, closed = [], []
    for folder in walk(root, was_drawn):
        best = max(best, (*_nearly(family, folder), folder), key=lambda each: each[0])
        try:
            packed += [e.path for e in entries(folder) if e.name.lower().endswith(ARCHIVES)]
        except BadInput:
            closed.append(folder)
    for above in list(root.absolute().parents)[:ABOVE]:
        if _why(family, above):
            yield f"it lies inside of one: give {above}"
    if best[0] and best[1]:
        yield f"{best[2]} lacks {', '.join(best[1])}: is it half extracted?"
    elif best[0]:
        yield f"{best[2]} has these, but {_otherwise(family, best[2])}"
    if packed:
        yield f"{packed[0]} is not unpacked: unpack it first"
    if closed:
        yield f"not allowed to look into {closed[0]}: give yourself the right to read it"
    if not (best[0] or packed or closed):
        names = [entry.name for entry in entries(root)[:5]]
        yield f"found {', '.join(names) or 'nothing'} there"
