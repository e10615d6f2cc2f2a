"""An embedding that joins several features, piece by piece: a class token and part tokens, say.

Shapes: D dimensions in P pieces of D / P each, G gallery images, Q queries.
"""

from dataclasses import dataclass, replace

import numpy as np

from reid_core.data.spaced import spaced
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, Evaluation, directions, evaluate


def squared(query: np.ndarray, gallery: np.ndarray, count: int) -> np.ndarray:
    """What each piece adds to the squared distances of a query (D,) and gallery images (G, D): (G, P).

    Vectors are brought to length 1 as a whole, as they are for every ranked list; so a row's sum is
    the square of the distance there. Raises BadInput where they can't be cut into so many pieces.
    """
    apart = directions(query[None]) - directions(gallery)
    return np.square(in_pieces(apart, count)).sum(axis=2)


def in_pieces(vectors: np.ndarray, count: int) -> np.ndarray:
    """(N, D) -> (N, P, D / P). Raises BadInput."""
    if vectors.shape[1] % count:
        raise BadInput(
            f"expected embeddings that are cut into {count} equal pieces, got {vectors.shape[1]} "
            "numbers: were they made by this model? Evaluate the run again"
        )
    return vectors.reshape(len(vectors), count, -1)


@dataclass(frozen=True)
class Scores:
    """A test split by all pieces, by each one alone, and by all but one.

    whole; alone and without, one for each of P pieces. lengths (P,): the share of an embedding's
    squared length in each piece, a mean over images: what it weighs in a cosine.
    """

    whole: Evaluation
    alone: list[Evaluation]
    without: list[Evaluation]
    lengths: np.ndarray


def scores(embeddings: Embeddings, count: int, most: int) -> Scores:
    """Rank by each piece alone, and without it, for the same queries: at most so many, evenly spaced.

    What is left of a vector is brought to length 1 again. Raises BadInput.
    """
    queries = embeddings.query_rows
    some = np.sort(
        np.concatenate([queries[spaced(len(queries), most)], embeddings.gallery_rows])
    )  # few copies of vectors that may be mapped from a file
    fields = ("vectors", "names", "identities", "cameras", "views", "is_query")
    taken = Embeddings(**{name: getattr(embeddings, name)[some] for name in fields})
    cut = in_pieces(np.asarray(taken.vectors), count)

    def ranked(vectors: np.ndarray) -> Evaluation:
        return evaluate(replace(taken, vectors=vectors.reshape(len(vectors), -1)))

    squares = np.square(cut.astype(np.float64)).sum(axis=2)  # (N, P)
    whole = np.maximum(squares.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return Scores(
        ranked(cut),
        [ranked(cut[:, piece]) for piece in range(count)],
        [ranked(np.delete(cut, piece, axis=1)) for piece in range(count)],
        (squares / whole).mean(axis=0),
    )


@dataclass(frozen=True)
class Culprit:
    """A query's mistake that one piece decides: without what it adds, the true match is nearer.

    query is its position; piece from 0; wrong, right (P,) what the pieces add to the squared distance
    of the first wrong image and of the first true match.
    """

    query: int
    piece: int
    wrong: np.ndarray
    right: np.ndarray


def culprit(
    embeddings: Embeddings, failed: np.ndarray, wrong: np.ndarray, right: np.ndarray, count: int
) -> Culprit | None:
    """The mistake that turns the most where one piece is left out of both distances.

    failed (Q,) says whether rank 1 is wrong; wrong and right (Q,) are rows of the embeddings. None
    where no single piece turns any.
    """
    best, most = None, 0.0
    for query in np.flatnonzero(failed):
        ends = embeddings.vectors[[wrong[query], right[query]]]
        away = squared(embeddings.vectors[embeddings.query_rows[query]], ends, count)  # (2, P)
        apart = away[1] - away[0]  # how much more the true match is away, by piece
        piece = int(apart.argmax())
        turned = apart[piece] - apart.sum()
        if apart.sum() > 0 and turned > most:
            best, most = Culprit(int(query), piece, *away), turned
    return best
