"""One query against a gallery: the same distances and judgement that the scores are made of."""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from reid_core.embed import embed_images, refine
from reid_core.evaluate import Embeddings, Judged, distances, judge
from reid_core.experiment import Experiment
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


def retrieve_image(
    model: ReIDModel,
    experiment: Experiment,
    embeddings: Embeddings,
    image: Image.Image,
    camera: int | None = None,
) -> RankedList:
    """Rank the gallery for a picture that is in no data set.

    Where the model refines, the picture and the gallery are one set, so the gallery's own features
    move a little with each picture. Raises BadInput.
    """
    vector = embed_images(model, experiment, [image], [camera])
    if embeddings.encoded is not None:
        gallery = embeddings.gallery_rows
        refined = refine(model, np.concatenate([vector, embeddings.encoded[gallery]]))
        vectors = embeddings.vectors.copy()
        vector, vectors[gallery] = refined[:1], refined[1:]
        embeddings = replace(embeddings, vectors=vectors)
    return retrieve_vector(embeddings, vector[0], camera)


def _rank(
    embeddings: Embeddings, direction: np.ndarray, identity: int | None, camera: int | None
) -> RankedList:
    gallery = embeddings.gallery_rows
    row = distances(direction[None], embeddings.directions[gallery])[0]
    judged = judge(
        row, embeddings.identities[gallery], embeddings.cameras[gallery], identity, camera
    )
    return RankedList(**vars(judged), rows=gallery[judged.order])
