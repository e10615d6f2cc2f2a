"""The dataset doctor: what lies in a folder, and what is odd about it, before any training."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from reid_core.data import DATASETS, Dataset, Found, find, names_of
from reid_core.data.doctor import folders, reading, together
from reid_core.data.doctor.duplicates import Seen, examine_duplicates, examine_leakage
from reid_core.data.doctor.findings import (
    ERROR,
    KINDS,
    WARNING,
    Case,
    Counted,
    Finding,
    Recognised,
    Report,
)
from reid_core.data.doctor.labels import SPLITS, counted, examine_labels
from reid_core.data.doctor.pictures import Progress, Scan, scan
from reid_core.data.doctor.reading import called
from reid_core.data.doctor.sizes import examine_files, examine_sizes
from reid_core.data.doctor.unrecognised import unrecognised, unusable
from reid_core.data.places import OWN
from reid_core.errors import BadInput, as_told
from reid_core.words import number

# Where the first lies, the second holds the same images and more, and its findings are of both.
WIDER = {"market1501": "market1501-500k"} | {f"msmt17-v{n}": f"msmt17-v{n}-trainval" for n in "12"}


def examine(root: Path, name: str | None = None, progress: Progress | None = None) -> Report:
    """What lies in a folder and what is odd about it; name asks for one data set of DATASETS, or for
    several joined by "+": each is examined by itself, then the first one's test split beside what the
    others train on.

    Every image is decoded once; progress(done, total) tells how far that is. Whatever can't be read
    becomes a finding and the rest is examined all the same. Raises BadInput for an unknown name.
    """
    root = Path(root)
    asked = names_of(name) if name is not None else []
    known = tuple(folders.looked_for(DATASETS))
    try:
        found = find(root, asked)
        findings = list(folders.closed(root, beside=not found))
    except BadInput as problem:
        return Report(str(root), (), (unusable(root, str(problem)),), known)
    if not found:
        told = _ordered([*findings, *unrecognised(root, DATASETS)])
        return Report(str(root), (), tuple(told), known)
    for each in asked:
        found = reading.read_as(each, found)
        findings += folders.wrong_version(found, each, DATASETS)
    if OWN in asked:
        found, several = reading.own_one(root, found)
        findings += several
    if not asked:
        findings += folders.half_there(found, DATASETS)
    wanted = [each for each in found if not asked or each.name in asked]
    opened: list[tuple[Found, Dataset]] = []
    for each in wanted:
        try:
            data, absent = reading.read(each, progress)
            opened.append((each, data))
            findings += absent
        except (BadInput, OSError) as problem:
            findings.append(reading.closed(each, str(as_told(problem))))
    recognised = tuple(_recognised(each, None) for each in wanted)
    if opened:
        recognised, more = _examine(opened, wanted, asked, progress)
        # Where all that a list names is missing, a split is empty for no other reason.
        without = {each.dataset for each in findings if each.kind == "missing-file"}
        findings += [
            each for each in more if each.kind != "empty-split" or each.dataset not in without
        ]
    return Report(str(root), recognised, tuple(_ordered(findings)), known)


def _examine(
    opened: list[tuple[Found, Dataset]],
    wanted: list[Found],
    asked: list[str],
    progress: Progress | None,
) -> tuple[tuple[Recognised, ...], list[Finding]]:
    """All images of all data sets decoded once, then each data set examined."""
    splits = [getattr(data, split) for _, data in opened for split in SPLITS]
    paths = list(dict.fromkeys(path for split in splits for path in split.paths))
    seen, row_of = scan(paths, progress), {path: row for row, path in enumerate(paths)}
    rows = {
        found: [np.array([row_of[p] for p in getattr(data, s).paths], int) for s in SPLITS]
        for found, data in opened
    }
    here = {(found.name, found.home): data for found, data in opened}
    findings: list[Finding] = []
    for found, data in opened:
        wider = here.get((WIDER.get(found.name), found.home))
        told = [*_counts(found, data)]
        told += _of(found, data, seen, rows[found]) if wider is None else _fewer(data, wider)
        folder = str(data.root)
        findings += [replace(each, dataset=found.name, folder=folder) for each in told]
    by_name = {found.name: (data, rows[found]) for found, data in opened}
    if len(asked) > 1 and all(name in by_name for name in asked):
        refused = reading.unjoined(asked, [by_name[name][0] for name in asked])
        findings += refused or together.trained_twice({n: by_name[n] for n in asked}, seen)
        trains = any(by_name[name][0].train.paths for name in asked)
        findings = together.as_joined(findings, asked[0], trains)
    if len(asked) > 1 and asked[0] in by_name:
        there = {name: by_name[name] for name in asked if name in by_name}
        findings += together.tested_too(there, seen)
    read = dict(opened)
    recognised = [_recognised(each, read.get(each), seen, rows.get(each)) for each in wanted]
    return tuple(recognised), findings


def _fewer(data: Dataset, wider: Dataset) -> Iterator[Finding]:
    """What is odd about the labels of training images that are only a part of the wider set's."""
    if len(data.train) < len(wider.train):
        told = examine_labels(data, True, lambda path: called(path, data.root))
        yield from (each for each in told if each.split == "train")


def _of(found: Found, data: Dataset, seen: Scan, rows: list[np.ndarray]) -> Iterator[Finding]:
    """Everything that is odd about one data set."""

    def file(path: Path) -> str:
        return called(path, data.root)

    yield from examine_labels(data, DATASETS[found.name].restarts, file)
    yield from folders.left_out(data, file)
    names = [[file(seen.paths[row]) for row in some] for some in rows]
    for split, some, files in zip(SPLITS, rows, names, strict=True):
        yield from examine_files(seen.problem[some], [seen.notes[r] for r in some], files, split)
        good = some[seen.decoded[some]]
        readable = [name for name, row in zip(files, some, strict=True) if seen.decoded[row]]
        yield from examine_sizes(seen.sizes[good], readable, split)
    joined = {
        field: np.concatenate([getattr(getattr(data, split), field) for split in SPLITS])
        for field in ("identities", "cameras")
    }
    pictures = Seen.of(seen, names, rows, **joined)
    yield from examine_leakage(pictures)
    yield from examine_duplicates(pictures)


def _counts(found: Found, data: Dataset) -> Iterator[Finding]:
    """Where a split is not as large as published."""
    for split, (images, identities) in DATASETS[found.name].published.items():
        has = counted(getattr(data, split))
        if (has.images, has.identities) == (images, identities):
            continue
        fewer = has.images < images
        yield Finding(
            "count",
            WARNING,
            f"{split} has {number(range(has.images), 'image')} of "
            f"{number(range(has.identities), 'identity')}; published are "
            f"{images:,} of {identities:,}",
            "extract the archive again, it may be half extracted; or don't compare scores with papers"
            if fewer
            else "look for copies and foreign files, or another version of the data set",
            split,
        )


def _recognised(
    found: Found, data: Dataset | None, seen: Scan | None = None, rows: list | None = None
) -> Recognised:
    family = DATASETS[found.name]
    published = {
        split: Counted(images, identities, None)
        for split, (images, identities) in family.published.items()
    }
    about = found.name, family.title, str(found.home), found.why
    if data is None:
        return Recognised(*about, published=published)
    every = np.concatenate(rows)
    sizes = Counter(map(tuple, seen.sizes[every[seen.decoded[every]]].tolist()))
    frequent = [[*size, count] for size, count in sizes.most_common()]
    splits = {split: counted(getattr(data, split)) for split in SPLITS}
    return Recognised(*about, splits, published, frequent)


def _ordered(findings: list[Finding]) -> list[Finding]:
    """Errors first, kinds in the order of KINDS; what two data sets in a folder share is told once."""
    kinds = list(KINDS)
    unique: dict[tuple, Finding] = {}
    for each in findings:
        key = each.kind, each.split, each.message, each.cases, each.folder
        unique.setdefault(key, each)
    return sorted(
        unique.values(), key=lambda each: (each.severity != ERROR, kinds.index(each.kind))
    )


__all__ = [
    "ERROR",
    "KINDS",
    "SPLITS",
    "WARNING",
    "Case",
    "Counted",
    "Finding",
    "Recognised",
    "Report",
    "counted",
    "examine",
]
