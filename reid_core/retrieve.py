"""One query against a gallery: the same distances and judgement that the scores are made of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from reid_core.evaluate import Embeddings, Judged, check_width, distances, judge

if TYPE_CHECKING:  # stored features are ranked without any model, which takes seconds to import
    from reid_core.models import ReIDModel


@dataclass(frozen=True)
class RankedList(Judged):
    """A query's gallery, nearest first, what the protocol ignores included.

    rows (G,) are rows of the Embeddings; the rest is as in `Judged`.
    """

    rows: np.ndarray


def retrieve(embeddings: Embeddings, query: int) -> RankedList:
    """Rank the gallery for the query at a position among the queries."""
    row = embeddings.query_rows[query]
    identity, camera = int(embeddings.identities[row]), int(embeddings.cameras[row])
    return _rank(embeddings, embeddings.directions[row], identity, camera)


def retrieve_vector(
    embeddings: Embeddings,
    vector: np.ndarray,
    camera: int | None = None,
    identity: int | None = None,
) -> RankedList:
    """Rank the gallery for a vector (D,) that is not part of it, such as an uploaded image's.

    Nothing matches an unknown identity, and nothing is ignored under an unknown camera.
    """
    vector = vector.astype(np.float64)
    direction = vector / max(np.linalg.norm(vector), 1e-12)
    return _rank(embeddings, direction, identity, camera)


def retrieve_encoded(
    model: "ReIDModel",
    embeddings: Embeddings,
    encoded: np.ndarray,
    camera: int | None = None,
    identity: int | None = None,
) -> RankedList:
    """Rank the gallery for a picture that is in no data set, (1, D') from `embed_images`.

    Where the gallery is refined, the picture and the gallery are one set, so the gallery's own
    features move a little with each picture.
    """
    from reid_core.embed import refine

    vector = encoded
    if embeddings.encoded is not None:
        gallery = embeddings.gallery_rows
        check_width(encoded, embeddings.encoded)
        refined = refine(model, np.concatenate([encoded, embeddings.encoded[gallery]]))
        vectors = embeddings.vectors.copy()
        vector, vectors[gallery] = refined[:1], refined[1:]
        embeddings = replace(embeddings, vectors=vectors)
    return retrieve_vector(embeddings, vector[0], camera, identity)


def gallery_of(
    model: "ReIDModel",
    encoded: np.ndarray,
    names: Sequence[str],
    cameras: Sequence[int | None],
    refined: bool,
) -> Embeddings:
    """Pictures that are in no data set, as a gallery. encoded (N, D') from `embed_images`.

    Nobody knows who is on them, so all have the identity of distractors, which no query matches.
    refined: whether they look at one another, for a model that refines.
    """
    from reid_core.embed import refine

    count = len(encoded)
    return Embeddings(
        refine(model, encoded) if refined else encoded,
        names=np.array(names),
        identities=np.zeros(count, int),
        cameras=np.array([-1 if camera is None else camera for camera in cameras]),
        views=np.full(count, -1),
        is_query=np.zeros(count, bool),
        encoded=encoded if refined else None,
    )


def _rank(
    embeddings: Embeddings, direction: np.ndarray, identity: int | None, camera: int | None
) -> RankedList:
    gallery = embeddings.gallery_rows
    row = distances(direction[None], embeddings.directions)[0, gallery]  # no copy of the gallery
    judged = judge(
        row, embeddings.identities[gallery], embeddings.cameras[gallery], identity, camera
    )
    return RankedList(**vars(judged), rows=gallery[judged.order])
