"""What a folder is where no layout is recognised in it, and whether a layout is the one it claims."""

from collections.abc import Iterator
from pathlib import Path

from reid_core.data.base import ARCHIVES, DEPTH, SUFFIXES, Found, entries, masks_only, walk
from reid_core.data.doctor.findings import ERROR, WARNING, Case, Finding, few, number
from reid_core.data.market import parse_name
from reid_core.data.own import near_misses
from reid_core.errors import BadInput

ABOVE = 3  # folders above the given one that are tried
MANY = 20  # archives and folders named in a report


def looked_for(families) -> list[str]:
    """The layouts that are known: the names that make one, and the data sets that have it."""
    titles: dict[str, list[str]] = {}
    for family in families.values():
        for layout in family.layouts:
            titles.setdefault(", ".join(layout), []).append(family.title)
    return [f"{names} ({', '.join(these)})" for names, these in titles.items()]


def closed(root: Path) -> Iterator[Finding]:
    """The folders below root that may not be read."""
    shut = []
    for folder in walk(root):
        try:
            entries(folder)
        except BadInput as problem:
            shut.append(Case(_below(folder, root), note=str(problem)))
    if shut:
        yield Finding(
            "permission",
            ERROR,
            f"{number(shut, 'folder')} may not be read, so nobody knows what is inside",
            "give this user the right to read them (chmod -R u+rX FOLDER)",
            cases=tuple(shut),
        )


def unrecognised(root: Path, families) -> Iterator[Finding]:
    """Why nothing was recognised in root, as far as names tell."""
    above = list(_above(root, families))
    yield Finding(
        "not-recognised",
        ERROR,
        masks_only(root) or f"no known layout lies in {root} or up to {DEPTH} folders below it",
        "give the folder above" if above else "give the folder that holds one of the known layouts",
    )
    yield from above
    if above:
        return
    refused = next(_refused(root, families), None)
    if refused is not None:
        yield refused
        return
    misses = list(_tables(root))
    yield from misses or _partial(root, families)
    archives, images = _files(root)
    if archives:
        yield Finding(
            "archive",
            ERROR,
            f"not extracted yet: {few((case.file for case in archives), 3)}",
            "extract it here, then check again",
            cases=tuple(archives[:MANY]),
        )
    if images and not misses and not parse_name(Path(images).name):
        yield Finding(
            "misnamed",
            ERROR,
            f"there are images such as {images}, but neither folders nor names nor a table say who "
            "they show",
            "put them into bounding_box_train, query and bounding_box_test with names like "
            "0002_c1s1_000451_03.jpg, or write a table with the columns path, identity, camera, split",
            cases=(Case(images),),
        )
    if not entries(root):
        yield Finding("half-extracted", ERROR, f"{root} is empty", "extract the archive into it")


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
            if any(all((folder / each).exists() for each in layout) for layout in family.layouts):
                try:
                    family.read(folder)
                except (BadInput, OSError) as problem:
                    kind = kind_of(str(problem))
                    remedy = f"mend that, or give another folder than {folder}"
                    yield Finding(kind, ERROR, str(problem), remedy, dataset=name)


# What a reader says of a folder -> the kind of finding that it is; else its layout is wrong.
SAID = {
    "is called like another version": "wrong-version",
    "is named like": "misnamed",
    "there is no image in it": "empty-split",
    "of them are missing": "missing-file",
}


def kind_of(problem: str) -> str:
    """The kind of finding that a reader's complaint is."""
    return next((kind for words, kind in SAID.items() if words in problem), "layout")


def _partial(root: Path, families) -> Iterator[Finding]:
    """The layouts of which most names are there, if some are missing; root may be one of them."""
    best: tuple[float, Path, list[str], list[str]] = (0.0, root, [], [])
    titles: list[str] = []
    above = root.absolute().parent
    for folder in (above, *walk(root)):
        for family in families.values():
            for layout in family.layouts:
                there = [name for name in layout if (folder / name).exists()]
                missing = [name for name in layout if name not in there]
                if not there or not missing or (folder == above and root.name not in there):
                    continue
                share = len(there) / len(layout)
                if share > best[0]:
                    best, titles = (share, folder, there, missing), []
                if (share, folder, there, missing) == best and family.title not in titles:
                    titles.append(family.title)
    _, folder, there, missing = best
    if there:
        yield Finding(
            "half-extracted",
            ERROR,
            f"there is {few(there)} in {folder}, but not {few(missing)}, which belongs to it in "
            f"{' or '.join(titles)}",
            "extract the whole archive again, and give the folder that holds all of them",
            cases=tuple(Case(name) for name in missing),
        )


def _tables(root: Path) -> Iterator[Finding]:
    """Tables that nearly are tables of images."""
    for folder in walk(root):
        try:
            misses = near_misses(folder)
        except BadInput:
            continue
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
                archives.append(Case(_below(Path(entry.path), root)))
            elif name.endswith(SUFFIXES) and not image:
                image = _below(Path(entry.path), root)
    return archives, image


def wrong_version(found: list[Found], asked: str | None, families) -> Iterator[Finding]:
    """Where the folder holds something else than asked for."""
    names = [each.name for each in found]
    if asked and asked not in names:
        related = [each for each in found if each.name.split("-")[0] == asked.split("-")[0]]
        here = families[(related or found)[0].name].title
        yield Finding(
            "wrong-version" if related else "not-recognised",
            ERROR,
            f"asked for {families[asked].title}, but the folder holds {here}: "
            f"{(related or found)[0].why}",
            f"train on {(related or found)[0].name}, or give the folder of {families[asked].title}; "
            "their scores can't be compared",
        )


def left_out(dataset, file) -> Iterator[Finding]:
    """Images beside a split's own that are in no split, junk apart.

    Only where a split is one whole folder: beside a list's images others may lie on purpose.
    """
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
        kinds = (*SUFFIXES, ".bmp", ".webp", ".tif", ".tiff", ".gif")
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


def _below(path: Path, root: Path) -> str:
    try:
        return path.relative_to(root).as_posix() or "."
    except ValueError:
        return str(path)
