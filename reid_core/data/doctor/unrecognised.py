"""Why nothing is recognised in a folder, as far as names tell."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from reid_core.data.base import ARCHIVES, DEPTH, SUFFIXES, entries, masks_only, walk
from reid_core.data.doctor.findings import ERROR, Case, Finding
from reid_core.data.doctor.folders import below, kind_of
from reid_core.data.market import has_folders, parse_name
from reid_core.data.own import closed_tables, near_misses
from reid_core.data.places import apart, in_small, spelled
from reid_core.errors import BadInput, as_told
from reid_core.words import few

ABOVE = 3  # folders above the given one that are tried
MANY = 20  # archives and folders named in a report
TABLES = 3  # tables named that may be none
EVERYDAY = {"query", "train", "test", "image"}  # names that anybody gives to a folder of pictures


def unusable(root: Path, problem: str) -> Finding:
    """What is said of a root that is no folder, or a closed one."""
    if os.path.isdir(root):
        return Finding("permission", ERROR, problem, "give a folder that this user may read")
    if os.path.isfile(root) and root.name.lower().endswith(ARCHIVES):
        remedy = "extract it, then give the folder that comes out of it"
        return Finding("archive", ERROR, problem, remedy)
    remedy = "give the folder of a data set, or one above it; look whether its name is right"
    return Finding("not-recognised", ERROR, problem, remedy)


def unrecognised(root: Path, families) -> Iterator[Finding]:
    """Why nothing was recognised in root."""
    above = list(_above(root, families))
    yield Finding(
        "not-recognised",
        ERROR,
        masks_only(root) or f"no known layout lies in {root} or up to {DEPTH} folders below it",
        "give the folder above" if above else "give the folder that holds one of the known layouts",
    )
    why = above or list(islice(_refused(root, families), 1))
    yield from why
    if why:
        return
    archives, image = _files(root)
    why = list(_tables(root)) or list(_partial(root, families, image))
    if image and not why:
        why = list(islice(_tables(root, meant=True), TABLES))
    yield from why
    if archives:
        yield Finding(
            "archive",
            ERROR,
            f"not extracted yet: {few((case.file for case in archives), 3)}",
            "extract it here, then check again",
            cases=tuple(archives[:MANY]),
        )
    if image and not why and not parse_name(Path(image).name):
        yield _nameless(image)
    if not entries(root):
        yield Finding("half-extracted", ERROR, f"{root} is empty", "extract the archive into it")


def _nameless(image: str) -> Finding:
    return Finding(
        "misnamed",
        ERROR,
        f"there are images such as {image}, but neither folders nor names nor a table say who they show",
        "if they belong to a published data set, extract all of it; if they are yours, write a table "
        "(CSV) with the columns path, identity, camera, split, or put them into bounding_box_train, query "
        "and bounding_box_test with names like 0002_c1s1_000451_03.jpg",
        cases=(Case(image),),
    )


def _above(root: Path, families) -> Iterator[Finding]:
    """Whether root lies inside a data set."""
    for folder in list(root.absolute().parents)[:ABOVE]:
        for family in families.values():
            try:
                why = family.recognise(folder)
            except (OSError, BadInput):
                continue
            if why:
                yield Finding(
                    "wrong-level",
                    ERROR,
                    f"this folder lies inside {family.title}: {why}",
                    f"give the folder above: {folder}",
                )
                return


def _refused(root: Path, families) -> Iterator[Finding]:
    """Folders that have all names of a layout and are still not that data set: why, as its reader says
    (called like another version, images with other names)."""
    for folder in walk(root):
        for name, family in families.items():
            if any(
                all(os.path.exists(folder / each) for each in layout) for layout in family.layouts
            ):
                try:
                    family.read(folder)
                except (BadInput, OSError) as problem:
                    said = str(as_told(problem))
                    kind = kind_of(said)
                    remedy = f"mend that, or give another folder than {folder}"
                    # Market's folders are those of several data sets, and no name says of which.
                    whose = "" if has_folders(folder) else name
                    yield Finding(kind, ERROR, said, remedy, "", whose, str(folder))


@dataclass(frozen=True)
class Part:
    """A layout of which a folder has some names: there as they are spelled there, missing as they are
    expected (spelled otherwise too); the data sets that have the layout."""

    folder: Path
    there: tuple[str, ...]
    missing: tuple[str, ...]
    share: float
    titles: tuple[str, ...] = ()


def _parts(root: Path, families) -> Iterator[Part]:
    """All layouts that lie in part in root, in a folder below, or in the one that root belongs to."""
    above = root.absolute().parent
    for folder in (above, *walk(root)):
        inside = in_small(folder)
        for family in families.values():
            for layout in family.layouts:
                seen = [spelled(folder, name, inside) for name in layout]
                there = tuple(filter(None, seen))
                missing = tuple(n for n, each in zip(layout, seen, strict=True) if n != each)
                if there and missing and (folder != above or root.name in there):
                    yield Part(folder, there, missing, len(there) / len(layout), (family.title,))


def _partial(root: Path, families, image: str) -> Iterator[Finding]:
    """The layout of which most names are there, if some are missing; image is the first one below."""
    parts = list(_parts(root, families))
    best = max(parts, key=lambda part: part.share, default=None)  # the first of equals
    if best is None:
        return
    vague = best.share < 0.5 and {name.lower() for name in best.there} <= EVERYDAY
    if vague and not parse_name(Path(image).name):
        return  # pictures in folders called query and gallery are no half of Market-1501
    same = best.folder, best.there, best.missing
    alike = [part.titles[0] for part in parts if (part.folder, part.there, part.missing) == same]
    titles = " or ".join(dict.fromkeys(alike))
    inside = in_small(best.folder)
    others = {n: other for n in best.missing if (other := spelled(best.folder, n, inside))}
    if others:
        yield Finding(
            "misnamed",
            ERROR,
            f"there is {few(others.values())} in {best.folder}, but {titles} has {few(others)}: capitals "
            "count",
            f"rename {', '.join(f'{has} to {name}' for name, has in others.items())}",
            cases=tuple(Case(has) for has in others.values()),
        )
    missing = [name for name in best.missing if name not in others]
    if missing:
        yield _half(best, missing, titles, families)


def _half(part: Part, missing: list[str], titles: str, families) -> Finding:
    remedy = "extract the whole archive again, and give the folder that holds all of them"
    names, where = apart(families, part.folder, missing)
    if where:
        titles = " or ".join(each.title for each in families.values() if {*each.apart} & {*names})
        remedy = f"no archive holds {'it' if len(names) == 1 else 'them'}: download "
        remedy += f"{' and '.join(names)} and put them into {part.folder}; {where}"
    missing = names or missing
    return Finding(
        "half-extracted",
        ERROR,
        f"there is {few(part.there)} in {part.folder}, but not {few(missing)}, which belongs to it in "
        f"{titles}",
        remedy,
        cases=tuple(Case(name) for name in missing),
    )


def _tables(root: Path, meant: bool = False) -> Iterator[Finding]:
    """Tables that nearly are tables of images; meant: any, as nothing else says who the images show."""
    for folder in walk(root):
        try:
            misses, closed = near_misses(folder, meant), closed_tables(folder)
        except BadInput:
            continue
        if closed and meant:
            problem = f"not allowed to read {few(map(str, closed))}"
            yield Finding("permission", ERROR, problem, "allow this user to, then check again")
        for said in misses:
            yield Finding(
                "layout",
                ERROR,
                f"there is a table in {folder}, but {said}",
                "give it a header with the columns path, identity, split and, if known, camera, and "
                "save it as CSV in UTF-8",
            )


def _files(root: Path) -> tuple[list[Case], str]:
    """The archives below root, and the first image."""
    archives, image = [], ""
    for folder in walk(root):
        try:
            inside = entries(folder)
        except BadInput:
            continue
        for entry in inside:
            name = entry.name.lower()
            if name.endswith(ARCHIVES):
                archives.append(Case(below(Path(entry.path), root)))
            elif name.endswith(SUFFIXES) and not image:
                image = below(Path(entry.path), root)
    return archives, image
