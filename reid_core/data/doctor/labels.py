"""What a data set's identities and cameras tell before any image is opened.

N images of a split, Q queries, G gallery images.
"""

from collections.abc import Iterator

import numpy as np

from reid_core.data.doctor.findings import ERROR, WARNING, Case, Counted, Finding, few, number

JUNK, DISTRACTOR, UNKNOWN = -1, 0, -1
SPLITS = ("train", "query", "gallery")
BY_NAME = "all query identities do not appear in gallery"


def counted(split) -> Counted:
    """How many images, identities (a distractor's 0 is one) and known cameras a split has."""
    known = np.unique(split.cameras[split.cameras != UNKNOWN])
    return Counted(len(split), len(np.unique(split.identities)), len(known))


def unmatched(query, gallery) -> tuple[np.ndarray, np.ndarray]:
    """Two (Q,) masks of the queries without a true match: those whose identity the gallery lacks,
    and those whose matches all lie under the query's own camera.

    As `evaluate.judge` has it: unknown cameras ignore nothing, junk matches nothing.
    """
    same = _among(query.identities[:, None], gallery.identities[:, None])
    both = [np.stack([split.identities, split.cameras], 1) for split in (query, gallery)]
    ignored = np.where(query.cameras == UNKNOWN, 0, _among(*both))
    same = np.where(query.identities == JUNK, 0, same)
    return same == 0, (same > 0) & (ignored >= same)


def _among(asked: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(Q,) how many of the rows (G, C) equal each of the asked (Q, C)."""
    if not len(rows):
        return np.zeros(len(asked), int)
    kinds, back = np.unique(np.concatenate([rows, asked]), axis=0, return_inverse=True)
    return np.bincount(back[: len(rows)], minlength=len(kinds))[back[len(rows) :]]


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
        count, total = count + unknown, total + len(split)
    if count:
        yield Finding(
            "unknown-camera",
            WARNING,
            f"{count:,} of {total:,} images have no known camera: no match of theirs is left out as "
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
    why = _why(absent, same_camera, query, gallery)
    if lost.all():
        message = f'"{BY_NAME}": no query has a match that the protocol counts, since {why}'
    else:
        message = (
            f"{int(lost.sum()):,} of {len(query):,} queries without a match that the protocol counts, "
            f"which the scores leave out: {why}"
        )
    notes = {True: "not in the gallery", False: "only under the query's own camera"}
    cases = [
        Case(file(query.paths[row]), int(query.identities[row]), note=notes[bool(absent[row])])
        for row in np.flatnonzero(lost)
    ]
    remedy = _remedy(absent, same_camera, query, gallery)
    severity = ERROR if lost.all() else WARNING
    yield Finding("no-match", severity, message, remedy, "query", cases=tuple(cases))


def _why(absent: np.ndarray, same_camera: np.ndarray, query, gallery) -> str:
    words = []
    if absent.any():
        ids = np.unique(query.identities[absent])
        words.append(
            f"{len(ids):,} query identities are not in the gallery ({few(ids, 3)})"
            if len(ids) > 1
            else f"query identity {ids[0]} is not in the gallery"
        )
    if same_camera.any():
        theirs = gallery.cameras[np.isin(gallery.identities, query.identities)]
        cameras = np.unique(np.concatenate([query.cameras, theirs]))
        everything = f", and all of them say camera {cameras[0]}" if len(cameras) == 1 else ""
        words.append(
            f"the matches of {number(np.flatnonzero(same_camera), 'query')} lie under the query's own "
            f"camera only, where the protocol leaves them out{everything}"
        )
    return "; ".join(words)


def _remedy(absent: np.ndarray, same_camera: np.ndarray, query, gallery) -> str:
    words = []
    if absent.any():
        words.append(
            "put images of the missing identities into the gallery, under the same numbers as in the "
            "queries"
        )
    if same_camera.any():
        words.append(
            "give each image the camera that took it; if cameras are unknown, say so (leave them out) "
            "instead of giving query and gallery the same one"
        )
    return "; ".join(words)


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
