"""What a data set's identities and cameras tell before any image is opened.

N images of a split, Q queries, G gallery images.
"""

from collections.abc import Iterator

import numpy as np

from reid_core.data.doctor.findings import ERROR, WARNING, Case, Counted, Finding
from reid_core.data.matches import BY_NAME, UNKNOWN, remedy, unmatched, why
from reid_core.words import number

DISTRACTOR = 0
SPLITS = ("train", "query", "gallery")


def counted(split) -> Counted:
    """How many images, identities (a distractor's 0 is one) and known cameras a split has."""
    known = np.unique(split.cameras[split.cameras != UNKNOWN])
    return Counted(len(split), len(np.unique(split.identities)), len(known))


def examine_labels(dataset, restarts: bool, file) -> Iterator[Finding]:
    """Findings on identities and cameras; file(path) is how a path is called in a report.

    restarts: the test split numbers its identities anew, so that an equal number is somebody else.
    """
    alone = not len(dataset.query) and not len(dataset.gallery)
    if alone:
        yield Finding(
            "empty-split",
            WARNING,
            "there are training images only: what a training is scored on has to be held out of them",
            "set the knob holdout, or add queries and a gallery",
            "query+gallery",
        )
    for split in SPLITS[:1] if alone else SPLITS:
        yield from _split(getattr(dataset, split), split)
    yield from _unknown(dataset)
    train = dataset.train
    if len(train):
        yield from _training(train, file)
    if len(dataset.query) and len(dataset.gallery):
        yield from _queries(dataset.query, dataset.gallery, file)
    if not restarts:
        yield from _shared(dataset)


def _split(split, name: str) -> Iterator[Finding]:
    if not len(split):
        yield Finding(
            "empty-split",
            ERROR,
            f"{name} has no image",
            "put that split's images where the layout wants them, or its rows into the table; or extract "
            "the archive again",
            name,
        )
        return
    cameras = np.unique(split.cameras)
    if len(cameras) == 1 and cameras[0] != UNKNOWN:
        yield Finding(
            "one-camera",
            WARNING,
            f"every image of {name} says it is from camera {cameras[0]}",
            "check how the cameras are named; where nobody knows them, leave them unknown instead of "
            "giving all the same number",
            name,
        )


def _unknown(dataset) -> Iterator[Finding]:
    """Images of people whose camera nobody knows, distractors apart."""
    where, count, total = [], 0, 0
    for name in SPLITS:
        split = getattr(dataset, name)
        unknown = int(((split.cameras == UNKNOWN) & (split.identities != DISTRACTOR)).sum())
        where += [name] if unknown else []
        count, total = count + unknown, total + int((split.identities != DISTRACTOR).sum())
    if count:
        yield Finding(
            "unknown-camera",
            WARNING,
            f"{count:,} of {total:,} images of people have no known camera: no match of theirs is left out as "
            "taken by the query's own camera, and a model that is told of cameras is told nothing",
            "name the cameras (_c1, or the table's column camera), or read the scores as those of a "
            "test without cameras",
            "+".join(where),
        )


def _training(train, file) -> Iterator[Finding]:
    identities, first, counts = np.unique(train.identities, return_index=True, return_counts=True)
    if len(identities) < 2:
        yield Finding(
            "too-few",
            ERROR,
            f"train has {len(identities)} identity: a training compares at least two",
            "give images of more people, or check how the identities are named",
            "train",
        )
    if (alone := counts == 1).any():
        cases = [
            Case(file(train.paths[row]), int(identity))
            for identity, row in zip(identities[alone], first[alone], strict=True)
        ]
        yield Finding(
            "single-image",
            WARNING,
            f"{len(cases):,} of {len(identities):,} training identities with one image, which the "
            "triplet loss compares with itself",
            "add images of them, or take them out of train",
            "train",
            cases=tuple(cases),
        )


def _queries(query, gallery, file) -> Iterator[Finding]:
    absent, same_camera = unmatched(query, gallery)
    lost = absent | same_camera
    if not lost.any():
        return
    reason = why(absent, same_camera, query, gallery)
    if lost.all():
        message = f'"{BY_NAME}": no query has a match that the protocol counts, since {reason}'
    else:
        message = (
            f"{int(lost.sum()):,} of {len(query):,} queries without a match that the protocol counts, "
            f"which the scores leave out: {reason}"
        )
    notes = {True: "not in the gallery", False: "only under the query's own camera"}
    cases = [
        Case(file(query.paths[row]), int(query.identities[row]), note=notes[bool(absent[row])])
        for row in np.flatnonzero(lost)
    ]
    severity = ERROR if lost.all() else WARNING
    yield Finding(
        "no-match",
        severity,
        message,
        remedy(absent, same_camera, query),
        "query",
        cases=tuple(cases),
    )


def _shared(dataset) -> Iterator[Finding]:
    """Identities that are trained on and tested on."""
    tested = np.union1d(dataset.query.identities, dataset.gallery.identities)
    both = np.intersect1d(dataset.train.identities, tested)
    both = both[both > DISTRACTOR]
    if len(both):
        yield Finding(
            "leakage",
            WARNING,
            f"{number(both, 'identity')} in train and in the test split: scores on people seen in "
            "training say nothing about new ones",
            "keep train and test identities apart, or number them apart if they are other people",
            "train+test",
            cases=tuple(Case(identity=int(identity)) for identity in both),
        )
