"""Whether queries have a true match, and what to say where they have none.

Q queries, G gallery images. A query and a gallery are whatever has identities and cameras.
"""

from typing import NamedTuple

import numpy as np

from reid_core.errors import BadInput
from reid_core.words import few, number

JUNK, UNKNOWN = -1, -1
BY_NAME = "all query identities do not appear in gallery"


class Labels(NamedTuple):
    """identities (N,) and cameras (N,) of a side, -1 unknown."""

    identities: np.ndarray
    cameras: np.ndarray


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


def refuse_unmatched(query, gallery) -> None:
    """Raises BadInput where no query has a match that the protocol counts."""
    lost = unmatched(query, gallery)
    if np.logical_or(*lost).all():
        raise BadInput(
            f"none of {number(query.identities, 'query')} has a match that the protocol counts "
            f'("{BY_NAME}"): {why(*lost, query, gallery)}; to do: {remedy(*lost, query)}'
        )


def why(absent: np.ndarray, same_camera: np.ndarray, query, gallery) -> str:
    """The reasons in a sentence, of the two masks of `unmatched`."""
    words = []
    junk = query.identities == JUNK
    if junk.any():
        words.append(f"{number(np.flatnonzero(junk), 'query')} of identity -1, which is nobody's")
    if (absent & ~junk).any():
        ids = np.unique(query.identities[absent & ~junk])
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


def remedy(absent: np.ndarray, same_camera: np.ndarray, query) -> str:
    """What to do about them."""
    words = []
    junk = query.identities == JUNK
    if junk.any():
        words.append("give each query its identity, or leave it out")
    if (absent & ~junk).any():
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
