"""The same picture twice: by its bytes, and nearly the same by its look, across splits.

M decoded or at least read images of a data set's three splits, one after the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from reid_core.data.doctor.findings import WARNING, Case, Finding
from reid_core.data.doctor.pictures import Scan

DIFFERENT_BITS, ALIKE = 4, 0.98  # of 64 bits; correlation of 16 x 16 grey pictures
PAIRS_AT_ONCE = 2_000_000
TRAIN, QUERY, GALLERY = range(3)


@dataclass(frozen=True)
class Seen:
    """A data set's images as a scan saw them. names, digests, looks, thumbs as in `pictures.Scan`;
    identities, cameras, split (M,): 0 train, 1 query, 2 gallery; decoded (M,) bool."""

    names: list[str]
    digests: np.ndarray
    looks: np.ndarray
    thumbs: np.ndarray
    decoded: np.ndarray
    identities: np.ndarray
    cameras: np.ndarray
    split: np.ndarray

    @classmethod
    def of(
        cls,
        scan: Scan,
        names: list[list[str]],
        rows: list[np.ndarray],
        identities: np.ndarray,
        cameras: np.ndarray,
    ) -> "Seen":
        """Of three splits: how their images are called, and where in a scan they are."""
        every = np.concatenate(rows)
        return cls(
            [name for some in names for name in some],
            np.where(scan.decoded, scan.digests, "")[every],
            scan.looks[every],
            scan.thumbs[every],
            scan.decoded[every],
            identities,
            cameras,
            np.repeat(range(3), [len(some) for some in rows]),
        )


def examine_leakage(seen: Seen) -> Iterator[Finding]:
    """Findings on pictures of the training split that are in the test split, too."""
    pairs = identical(seen.digests)
    yield from _told(
        seen,
        pairs[_tested(seen, pairs)],
        "leakage",
        "the same picture is in train and in the test split: the scores are partly those of memory",
        "remove it from one of them",
    )
    train = seen.split == TRAIN
    groups = [np.flatnonzero(seen.decoded & part) for part in (train, ~train)]
    yield from _told(
        seen,
        alike(seen, *groups),
        "leakage",
        "nearly the same picture is in train and in the test split: the scores are partly those of "
        "memory",
        "look at both; if they are one picture, remove it from one of the splits",
    )


def examine_shared(seen: Seen) -> Iterator[Finding]:
    """Findings on pictures that two of several joined data sets train on; identities are theirs here."""
    pairs = identical(seen.digests)
    first, second = seen.identities[pairs].T
    yield from _told(
        seen,
        pairs[first != second],
        "label-conflict",
        "the same picture is trained on in two of the joined data sets, as two people",
        "remove it from one of them, or join other sets",
    )


def _tested(seen: Seen, pairs: np.ndarray) -> np.ndarray:
    """(P,) bool: one of the pair is trained on, the other is not."""
    return (seen.split[pairs] == TRAIN).sum(axis=1) == 1


def examine_duplicates(seen: Seen) -> Iterator[Finding]:
    """Findings on pictures that are there twice, but for leakage."""
    pairs = identical(seen.digests)
    first, second = pairs[:, 0], pairs[:, 1]
    split, other = seen.split[first], seen.split[second]
    tested = _tested(seen, pairs)
    conflict = seen.identities[first] != seen.identities[second]
    yield from _told(
        seen,
        pairs[conflict & ~tested],
        "label-conflict",
        "the same picture stands under two identities, so one of them is wrong",
        "find out who it is and remove the other file",
    )
    rest = ~conflict & ~tested
    across = (split == QUERY) & (other == GALLERY)
    unseen = (seen.cameras[first] == seen.cameras[second]) & (seen.cameras[first] != -1)
    yield from _told(
        seen,
        pairs[rest & across & unseen],
        "duplicate",
        "a query is also in the gallery under its own camera: the protocol leaves that one out, so the "
        "scores stay as they are",
        "nothing has to be done; remove it from the gallery if the data set is yours",
    )
    yield from _told(
        seen,
        pairs[rest & across & ~unseen],
        "duplicate",
        "a query is also in the gallery, and no common camera tells the protocol to leave it out: it "
        "is found at distance 0 and raises every score",
        "remove it from the gallery, or name the camera",
    )
    yield from _told(
        seen,
        pairs[rest & ~across],
        "duplicate",
        "the same picture is there twice within a split: it counts twice",
        "remove one of the two",
    )
    yield from _alike(seen)


def _alike(seen: Seen) -> Iterator[Finding]:
    groups = [np.flatnonzero(seen.decoded & (seen.split == part)) for part in (QUERY, GALLERY)]
    pairs = alike(seen, *groups)
    first, second = pairs[:, 0], pairs[:, 1]
    same = seen.identities[first] == seen.identities[second]
    ignored = same & (seen.cameras[first] == seen.cameras[second]) & (seen.cameras[first] != -1)
    yield from _told(
        seen,
        pairs[~ignored],
        "near-duplicate",
        "nearly the same picture is a query and in the gallery under another camera or identity: that "
        "match is too easy, or one of the two is labelled wrongly",
        "look at both; if they are one picture, correct its label or remove one",
    )


def _told(seen: Seen, pairs: np.ndarray, kind: str, message: str, remedy: str) -> Iterator[Finding]:
    """One finding for each two splits that the pairs (P, 2) are of."""
    names = np.array(["train", "query", "gallery"])
    both = seen.split[pairs]
    for split in np.unique(both, axis=0):
        cases = []
        for first, second in pairs[(both == split).all(axis=1)]:
            who, other = int(seen.identities[first]), int(seen.identities[second])
            note = f"identities {who} and {other}" if who != other else ""
            cases.append(Case(seen.names[first], who, seen.names[second], note))
        where = "+".join(dict.fromkeys(names[split].tolist()))
        yield Finding(kind, WARNING, message, remedy, where, cases=tuple(cases))


def identical(digests: np.ndarray) -> np.ndarray:
    """Pairs (P, 2) of rows with the same bytes, each row with the first like it; "" is nobody's."""
    known = np.flatnonzero(digests != "")
    _, first, back = np.unique(digests[known], return_index=True, return_inverse=True)
    pairs = np.stack([known[first[back]], known], axis=1)
    return pairs[pairs[:, 0] != pairs[:, 1]]


def alike(seen: Seen, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pairs (P, 2) that look nearly the same, other bytes: of each of the others the nearest row.

    Candidates have perceptual hashes that differ in at most DIFFERENT_BITS bits; then the pictures
    themselves decide, since people cut out alike and standing alike have near hashes too.
    """
    candidates = near(seen.looks[rows], seen.looks[others])
    first, second = rows[candidates[:, 0]], others[candidates[:, 1]]
    apart = seen.digests[first] != seen.digests[second]
    first, second = first[apart], second[apart]
    correlation = np.concatenate(
        [np.empty(0)]
        + [
            (_centred(seen.thumbs[first[block]]) * _centred(seen.thumbs[second[block]])).sum(1)
            for block in _blocks(len(first), 100_000)
        ]
    )
    order = np.argsort(-correlation, kind="stable")
    order = order[correlation[order] >= ALIKE]
    _, best = np.unique(second[order], return_index=True)
    return np.stack([first[order][best], second[order][best]], axis=1)


def near(looks: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pairs (P, 2) of places whose hashes (A,) and (B,) uint64 differ in at most DIFFERENT_BITS bits.

    Cut into one band more than bits may differ, such hashes agree in a whole band: so only those that
    share a band are compared, and the work does not grow with A times B.
    """
    edges = np.linspace(0, 64, DIFFERENT_BITS + 2).astype(np.uint64)
    found = [np.empty((0, 2), np.int64)]
    for low, high in pairwise(edges):
        mask = (np.uint64(1) << (high - low)) - np.uint64(1)
        keys, other_keys = (looks >> low) & mask, (others >> low) & mask
        order = np.argsort(other_keys, kind="stable")
        ordered = other_keys[order]
        starts = np.searchsorted(ordered, keys, "left")
        counts = np.searchsorted(ordered, keys, "right") - starts
        for block in _blocks_of(counts):
            left = np.repeat(np.arange(len(looks))[block], counts[block])
            within = np.arange(len(left)) - np.repeat(
                np.cumsum(counts[block]) - counts[block], counts[block]
            )
            right = order[np.repeat(starts[block], counts[block]) + within]
            close = np.bitwise_count(looks[left] ^ others[right]) <= DIFFERENT_BITS
            found.append(np.stack([left[close], right[close]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _blocks(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


def _blocks_of(counts: np.ndarray) -> list[slice]:
    """Neighbouring rows whose counts add up to about PAIRS_AT_ONCE."""
    number = np.cumsum(counts) // PAIRS_AT_ONCE
    edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(counts)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _centred(thumbs: np.ndarray) -> np.ndarray:
    """(P, 16, 16) as vectors (P, 256) of mean 0 and length 1; an even picture becomes zero."""
    flat = thumbs.reshape(len(thumbs), -1).astype(np.float32)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
