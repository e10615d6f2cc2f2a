"""Reads what was found, as far as it can be read; what can't is a finding."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from reid_core.data import ALIKE, DATASETS, Dataset, Found, joined, located
from reid_core.data.doctor.findings import ERROR, Case, Finding
from reid_core.data.doctor.folders import kind_of
from reid_core.data.doctor.labels import SPLITS
from reid_core.data.doctor.pictures import Progress
from reid_core.data.lists import absent_allowed
from reid_core.data.places import OWN
from reid_core.errors import BadInput
from reid_core.words import number


def read_as(name: str, found: list[Found]) -> list[Found]:
    """The same, and where another can be read as what is asked for, that one as it too."""
    if name not in ALIKE or name in [each.name for each in found]:
        return found
    homes = {each.home: each for each in found if each.name in ALIKE}
    return [*found, *(replace(each, name=name) for each in homes.values())]


def read(found: Found, progress: Progress | None) -> tuple[Dataset, list[Finding]]:
    """The images that are there, and what is said of those that a list names and that are not."""
    family = DATASETS[found.name]
    if family.extract is not None:
        family.extract(found.home, progress)
    with absent_allowed() as absent:
        data = family.read(found.home)
    gone = {path for _, paths, _ in absent for path in paths}
    listed = {split: {*getattr(data, split).paths} for split in SPLITS} if gone else {}
    for split in SPLITS if gone else ():
        images = getattr(data, split)
        there = np.array([path not in gone for path in images.paths], bool)
        data = replace(data, **{split: images.take(there)})
    return data, [_absent(found, data, listed, *each) for each in absent]


def own_one(root: Path, found: list[Found]) -> tuple[list[Found], list[Finding]]:
    """Of what can be one's own folder that which a training would take; where several are meant alike,
    all, and that it can't be told."""
    if not any(each.name == OWN for each in found):
        return found, []
    try:
        home = located(OWN, root)
    except BadInput as problem:
        return found, [Finding("wrong-level", ERROR, str(problem), "give the folder that is meant")]
    return [each for each in found if each.name != OWN or each.home == home], []


def unjoined(names: list[str], parts: list[Dataset]) -> list[Finding]:
    """Why data sets can't be joined, as a training would say it."""
    try:
        joined.join(names, [DATASETS[name] for name in names], parts)
    except BadInput as problem:
        kind, remedy = "label-conflict", "join sets that share no image"
        if "too large to be joined" in str(problem):
            kind, remedy = "layout", "number its identities and cameras anew, from 1"
        if "queries or gallery of" in str(problem):
            kind = "duplicate"
        return [Finding(kind, ERROR, str(problem), remedy, "train", "+".join(names))]
    return []


def _absent(
    found: Found,
    data: Dataset,
    listed: dict[str, set[Path]],
    table: Path,
    paths: list[Path],
    remedy: str,
) -> Finding:
    images = f"{number(paths, 'image')} that {'is' if len(paths) == 1 else 'are'} missing"
    return Finding(
        "missing-file",
        ERROR,
        f"{table.name} names {images}; the others were examined",
        remedy,
        "+".join(split for split in SPLITS if not listed[split].isdisjoint(paths)),
        dataset=found.name,
        folder=str(data.root),
        cases=tuple(Case(called(path, data.root)) for path in paths),
    )


def called(path: Path, root: Path) -> str:
    """How a file is called in a report."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def closed(found: Found, problem: str) -> Finding:
    """What is said of a data set that can't be read."""
    title = DATASETS[found.name].title
    own = found.name == OWN  # nobody has an archive of it
    remedy = "mend that, then check again" if own else f"mend that, or extract {title} again"
    kind = kind_of(problem)
    if kind == "permission":
        remedy = "allow this user to read it, then check again"
    return Finding(kind, ERROR, f"{title}: {problem}", remedy, "", found.name, str(found.home))
