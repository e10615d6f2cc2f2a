"""What several joined data sets have in common, and what one of them may lack."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from reid_core.data import Dataset
from reid_core.data.doctor.duplicates import Seen, examine_leakage, examine_shared
from reid_core.data.doctor.findings import WARNING, Finding
from reid_core.data.doctor.pictures import Scan
from reid_core.data.doctor.reading import called

Joined = dict[str, tuple[Dataset, list[np.ndarray]]]  # by name; rows of a scan for each split
Part = list[tuple[str, Dataset, np.ndarray]]


def tested_too(joined: Joined, seen: Scan) -> Iterator[Finding]:
    """What the test split of the first of joined data sets has in common with what the others train on."""
    (first, (tested, rows)), *others = joined.items()
    parts = [[(name, data, own[0]) for name, (data, own) in others]]
    parts += [[(first, tested, own)] for own in rows[1:]]
    # Each data set numbers its people anew, so their identities say nothing here.
    for told in examine_leakage(_seen(parts, seen, np.zeros(sum(map(_size, parts)), int))):
        message = (
            f"{told.message}; joined, all are trained on and {first}'s test split is evaluated"
        )
        yield _of(joined, replace(told, message=message))


def trained_twice(joined: Joined, seen: Scan) -> Iterator[Finding]:
    """What two of joined data sets both train on, by its bytes."""
    train = [(name, data, own[0]) for name, (data, own) in joined.items()]
    which = np.repeat(range(len(train)), [len(own) for _, _, own in train])
    for told in examine_shared(_seen([train, [], []], seen, which)):
        yield _of(joined, told)


def _seen(parts: list[Part], seen: Scan, identities: np.ndarray) -> Seen:
    """Three splits, each of parts of several data sets."""
    names = [
        [f"{name}: {called(seen.paths[row], data.root)}" for name, data, own in part for row in own]
        for part in parts
    ]
    rows = [np.concatenate([np.array([], int), *(own for _, _, own in part)]) for part in parts]
    return Seen.of(seen, names, rows, identities, identities)


def _size(part: Part) -> int:
    return sum(len(own) for _, _, own in part)


def _of(joined: Joined, told: Finding) -> Finding:
    cases = tuple(replace(case, identity=None, note="") for case in told.cases)
    return replace(told, dataset="+".join(joined), cases=cases)


def as_joined(findings: list[Finding], first: str, trains: bool) -> list[Finding]:
    """The findings on each by itself, for a training on all: one may have no training images where
    another has (trains), and the test splits of all but the first are not looked at."""

    def prevents(each: Finding) -> bool:
        if each.kind == "empty-split" and each.split == "train":
            return not trains
        return each.kind not in ("empty-split", "no-match") or each.dataset == first

    return [each if prevents(each) else replace(each, severity=WARNING) for each in findings]
