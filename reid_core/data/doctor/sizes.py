"""Findings on files and sizes, from what a scan saw. M images of one split."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from reid_core.data.doctor.findings import ERROR, WARNING, Case, Finding

SMALLEST = (16, 8)  # height and width in pixels below which nobody is recognised
STRETCHED, LARGER, USUAL = 3.0, 25.0, 0.95

# Kind of problem -> what is said of that many images, and what to do.
PROBLEMS = {
    "permission": ("images: may not be read", "give this user the right to read them"),
    "missing-file": ("images: named by the data set, but not there", "extract it again"),
    "truncated": (
        "images: they end too early, as half copied or half extracted ones do",
        "copy or extract them again",
    ),
    "unreadable": ("files: they can't be read as images", "replace or remove them"),
}


def examine_files(problem: np.ndarray, notes: list[str], names: list[str], split: str) -> Iterator:
    """Findings on the images that could not be decoded. problem, notes, names (M,)."""
    for kind, (message, remedy) in PROBLEMS.items():
        rows = np.flatnonzero(problem == kind)
        if len(rows):
            cases = tuple(Case(names[row], note=notes[row]) for row in rows)
            message_ = f"{len(rows):,} of {len(names):,} {message}"
            yield Finding(kind, ERROR, message_, remedy, split, cases=cases)


def examine_sizes(sizes: np.ndarray, names: list[str], split: str) -> Iterator[Finding]:
    """Findings on suspicious sizes. sizes (M, 2) int height and width, names (M,)."""
    if not len(sizes):
        return
    height, width = sizes.T.astype(float)
    shape, area = np.log(height / width), np.log(height * width)
    (usual, often), *_ = Counter(map(tuple, sizes.tolist())).most_common(1)
    checks = [
        (
            (height < SMALLEST[0]) | (width < SMALLEST[1]),
            f"smaller than {SMALLEST[0]} x {SMALLEST[1]} pixels",
        ),
        (
            np.abs(shape - np.median(shape)) > np.log(STRETCHED),
            "of quite another shape than the others of the split",
        ),
        (
            np.abs(area - np.median(area)) > np.log(LARGER),
            f"more than {LARGER:g} times larger or smaller than is usual in the split",
        ),
        (
            (often >= USUAL * len(sizes)) & (sizes != usual).any(axis=1),
            f"not {usual[0]} x {usual[1]} as nearly all others are",
        ),
    ]
    told = np.zeros(len(sizes), bool)
    for odd, words in checks:
        rows = np.flatnonzero(odd & ~told)
        told |= odd
        if len(rows):
            cases = [Case(names[r], note=f"{sizes[r, 0]} x {sizes[r, 1]} pixels") for r in rows]
            yield Finding(
                "odd-size",
                WARNING,
                f"{len(rows):,} of {len(sizes):,} images: {words}",
                "look at them: a wrong crop or a thumbnail teaches nothing; every image is resized to "
                "one size",
                split,
                cases=tuple(cases),
            )
