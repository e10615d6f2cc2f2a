"""What folders say before their images are opened: closed ones, other versions, images left out."""

import os
from collections.abc import Iterator
from pathlib import Path

from reid_core.data.base import OTHERS, SUFFIXES, Found, entries, walk
from reid_core.data.doctor.findings import ERROR, WARNING, Case, Finding
from reid_core.data.places import apart
from reid_core.errors import BadInput
from reid_core.words import few, number


def looked_for(families) -> list[str]:
    """The layouts that are known: the names that make one, and the data sets that have it."""
    titles: dict[str, list[str]] = {}
    for family in families.values():
        for layout in family.layouts:
            titles.setdefault(", ".join(layout), []).append(family.title)
    return [f"{names} ({', '.join(these)})" for names, these in titles.items()]


def closed(root: Path, beside: bool = False) -> Iterator[Finding]:
    """The folders below root that may not be read; beside: those as well in which nobody looks for a
    data set, such as a disk's lost+found."""
    shut = []
    for folder in walk(root):
        try:
            inside = entries(folder)
        except BadInput as problem:
            shut.append(Case(below(folder, root), note=str(problem)))
            continue
        for entry in inside if beside else ():
            if entry.is_dir() and not os.access(entry.path, os.R_OK | os.X_OK):
                shut.append(Case(below(Path(entry.path), root)))
    if shut:
        yield Finding(
            "permission",
            ERROR,
            f"{number(shut, 'folder')} may not be read, so nobody knows what is inside",
            "give this user the right to read them (chmod -R u+rX FOLDER)",
            cases=tuple(shut),
        )


# What a reader says of a folder -> the kind of finding that it is; else its layout is wrong.
SAID = {
    "is called like another version": "wrong-version",
    "is named like": "misnamed",
    "there is no image in it": "empty-split",
    "of them are missing": "missing-file",
    "not allowed to": "permission",
}


def kind_of(problem: str) -> str:
    """The kind of finding that a reader's complaint is."""
    return next((kind for words, kind in SAID.items() if words in problem), "layout")


def wrong_version(found: list[Found], asked: str | None, families) -> Iterator[Finding]:
    """Where the folder holds something else than asked for."""
    names = [each.name for each in found]
    if asked and asked not in names:
        related = [each for each in found if _alike(each.name, asked)]
        other = (related or found)[0]
        if half := next(filter(None, (_half(f, asked, families, ERROR) for f in related)), None):
            yield half
            return
        wanted, here = families[asked], families[other.name].title
        lacks = [name for name in wanted.apart if not os.path.exists(other.home / name)]
        where = apart({asked: wanted}, other.home, lacks)[1] if related else ""
        more = f"download {lacks[0]} and put it into {other.home}; {where}" if where else ""
        yield Finding(
            "wrong-version" if related else "not-recognised",
            ERROR,
            f"asked for {wanted.title}, but the folder holds {here}: {other.why}",
            f"train on {other.name}, whose scores can't be compared, or {more or 'give another folder'}",
        )


def half_there(found: list[Found], families) -> Iterator[Finding]:
    """Where beside a data set another of its kind lies in part: CUHK03-NP's other boxes."""
    names = {each.name for each in found}
    for each in found:
        for other in families:
            if other not in names and _alike(each.name, other):
                half = _half(each, other, families, WARNING)
                yield from [half] if half else []


def _alike(one: str, other: str) -> bool:
    """Whether two names are of one data set's versions."""
    return one.split("-")[0] == other.split("-")[0]


def _half(here: Found, other: str, families, severity: str) -> Finding | None:
    """Where some of what only the other one's layout has lies in the folder, and some is missing."""
    there = lambda layout: all(os.path.exists(here.home / n) for n in layout)  # noqa: E731
    whole = [layout for each in families.values() for layout in each.layouts if there(layout)]
    shared = {name for layout in (*whole, *families[here.name].layouts) for name in layout}
    for layout in families[other].layouts:
        own = [n for n in layout if n not in shared and n not in families[other].apart]
        lacks = [name for name in own if not os.path.exists(here.home / name)]
        if lacks and len(lacks) < len(own):
            has = [name for name in own if name not in lacks]
            return Finding(
                "half-extracted",
                severity,
                f"there is {few(has)} in {here.home}, but not {few(lacks)}, which belongs to it in "
                f"{families[other].title}",
                f"extract the archive again, or train on {here.name}, which is whole",
                cases=tuple(Case(name) for name in lacks),
            )
    return None


def left_out(dataset, file) -> Iterator[Finding]:
    """Images beside a split's own that are in no split, junk apart.

    Only where a split is one whole folder: beside a list's images others may lie on purpose.
    """
    if dataset.listed:
        return
    splits = {name: getattr(dataset, name) for name in ("train", "query", "gallery")}
    folders = {name: {path.parent for path in split.paths} for name, split in splits.items()}
    for name, split in splits.items():
        others = set().union(*(folders[other] for other in folders if other != name))
        if len(folders[name]) != 1 or folders[name] & others:
            continue
        (folder,) = folders[name]
        used = {path.name for path in split.paths}
        try:
            inside = entries(folder)
        except BadInput:  # gone or closed since its images were listed: they are told as missing
            continue
        kinds = SUFFIXES + OTHERS
        rest = [
            Path(entry.path)
            for entry in inside
            if entry.name.lower().endswith(kinds)
            and entry.name not in used
            and not entry.name.startswith(("-1", "."))
        ]
        if rest:
            yield Finding(
                "misnamed",
                WARNING,
                f"{number(rest, 'image')} in {folder.name} left out, as the reader takes no such name or "
                "ending",
                "name them like the others, or remove them",
                name,
                cases=tuple(Case(file(path)) for path in rest),
            )


def below(path: Path, root: Path) -> str:
    try:
        return path.relative_to(root).as_posix() or "."
    except ValueError:
        return str(path)
