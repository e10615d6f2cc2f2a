"""Galleries that a protocol draws from a test split. Q queries, R repeats."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from reid_core.errors import BadInput
from reid_core.evaluate import CMC_LENGTH, Embeddings
from reid_core.scores.measure import Measure

Draws = Iterator[tuple[Embeddings, np.ndarray]]


def as_it_is(embeddings: Embeddings, repeats: int, seed: int) -> Draws:
    """The split itself, and the place (Q,) of each of its queries in the table of results."""
    yield embeddings, np.arange(len(embeddings.query_rows))


def one_of_each(embeddings: Embeddings, repeats: int, seed: int) -> Draws:
    """Galleries of one image per identity, the others are the queries; drawn again and again.

    Queries and gallery are one pool. Cameras are unknown to all, so nothing is left out; images of
    identities that no query has stay in the gallery, junk (-1) is dropped. The places count the
    pool. Liu et al. CVPR 2016; TransReID's test draws ten times and takes the mean.
    """
    known = np.unique(embeddings.identities[embeddings.query_rows])
    pool = np.flatnonzero(embeddings.identities != -1)
    identities = embeddings.identities[pool]
    asked = np.isin(identities, known[known != -1])
    for draw in range(repeats):
        shuffled = np.random.default_rng([seed, draw]).permutation(len(pool))
        first = shuffled[np.unique(identities[shuffled], return_index=True)[1]]
        is_query = asked.copy()
        is_query[first] = False
        if not is_query.any():
            raise BadInput("expected identities of two images or more: one is the gallery's")
        drawn = _rows(embeddings, pool, is_query, np.full(len(pool), -1))
        yield drawn, np.flatnonzero(is_query)


def _rows(embeddings: Embeddings, rows, is_query, cameras) -> Embeddings:
    """Some rows of a split, with other parts to play."""
    arrays = ("vectors", "names", "identities", "views", "encoded")
    taken = {name: getattr(embeddings, name) for name in arrays}
    taken = {name: None if values is None else values[rows] for name, values in taken.items()}
    return replace(embeddings, **taken, is_query=is_query, cameras=cameras)


def single_shot(embeddings: Embeddings, measure: Measure, repeats: int, seed: int) -> np.ndarray:
    """(Q, 50) how often the true match is at rank r or before in galleries of one image per identity.

    What market leaves out is never drawn; distractors (identity 0) are one identity. 0 for a query
    without a true match.
    """
    gallery = embeddings.gallery_rows
    kept = np.flatnonzero(embeddings.identities[gallery] != -1)
    order = kept[np.argsort(embeddings.identities[gallery][kept], kind="stable")]  # by identity
    identities, starts, counts = np.unique(
        embeddings.identities[gallery][order], return_index=True, return_counts=True
    )
    draw = np.random.default_rng(seed)
    early = np.zeros((len(embeddings.query_rows), CMC_LENGTH))
    for query, row in enumerate(measure.rows(embeddings)):
        asked = embeddings.query_rows[query]
        who = np.flatnonzero(identities == embeddings.identities[asked])
        chance = draw.random((repeats, len(identities)))
        if not len(who):
            continue
        picks = order[starts + (chance * counts).astype(int)]  # (R, identities)
        own = order[starts[who[0]] :][: counts[who[0]]]
        camera = embeddings.cameras[asked]
        if camera != -1:
            own = own[embeddings.cameras[gallery][own] != camera]
        if not len(own):
            continue
        mine = own[(chance[:, who[0]] * len(own)).astype(int)]  # (R,)
        picks[:, who[0]] = mine
        nearer = row[picks] < row[mine, None]
        nearer |= (row[picks] == row[mine, None]) & (picks < mine[:, None])
        early[query] = (nearer.sum(axis=1)[:, None] < np.arange(1, CMC_LENGTH + 1)).mean(axis=0)
    return early
