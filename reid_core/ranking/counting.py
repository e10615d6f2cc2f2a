"""The loops of `ranks` that are compiled, by numba: importing this compiles them or loads them.

Each lets other threads run. Vectors (N, D) are float32 or float64, for lengths of at least 1e-12.
"""

import numpy as np
from numba import float32, float64, from_dtype, int32, int64, njit, types, void

# A true match: how similar it is to its query, its distance and place in the gallery, and how many
# images of others are before it.
HIT = np.dtype(
    [("similarity", "f8"), ("distance", "f4"), ("place", "i8"), ("nearer", "i8")], align=True
)
CHUNK = 512  # products that stay in the fastest cache while they are counted
PIECE = 64  # of them that are looked at one by one
LOOP = dict(nogil=True, cache=True, error_model="numpy")


def _given(kind, dimensions: int = 1):
    return types.Array(kind, dimensions, "C", readonly=True)


VECTORS, FLOATS, LONGS = [_given(float32, 2), _given(float64, 2)], _given(float64), _given(int64)


@njit(fastmath={"reassoc", "nsz", "contract"}, **LOOP)
def _dot(one, other):
    """In float64, where the product of two float32 numbers is exact."""
    total = 0.0
    for place in range(one.shape[0]):
        total += float64(one[place]) * float64(other[place])
    return total


@njit(float32(float64), **LOOP)
def _distance(similarity):
    """`evaluate.distances` of one pair."""
    square = np.rint((2 - 2 * similarity) * 1e10) / 1e10
    return float32(np.sqrt(square)) if square > 0 else float32(0)  # never -0, whose bits differ


@njit([void(each, float64[::1]) for each in VECTORS], **LOOP)
def lengths(vectors, found):
    """found (N,): not finite where a vector is not."""
    for row in range(vectors.shape[0]):
        found[row] = np.sqrt(_dot(vectors[row], vectors[row]))


@njit([void(each, FLOATS, float32[:, ::1]) for each in VECTORS], **LOOP)
def units(vectors, long, found):
    """found (N, D) of length 1, from vectors and their lengths (N,)."""
    for row in range(vectors.shape[0]):
        scale = 1 / long[row]
        for place in range(vectors.shape[1]):
            found[row, place] = float32(vectors[row, place] * scale)


@njit([void(each, FLOATS, each, FLOATS, LONGS, LONGS, float64[::1]) for each in VECTORS], **LOOP)
def similarities(queries, query_lengths, gallery, gallery_lengths, asked, places, found):
    """found (P,): of pairs of a query, asked (P,), and an image of the gallery, places (P,)."""
    for pair in range(asked.shape[0]):
        query, image = asked[pair], places[pair]
        long = query_lengths[query] * gallery_lengths[image]
        found[pair] = _dot(queries[query], gallery[image]) / long


@njit([void(FLOATS, float32[::1])], **LOOP)
def distances(similarity, found):
    """found (P,), rounded as everywhere."""
    for pair in range(similarity.shape[0]):
        found[pair] = _distance(similarity[pair])


@njit([void(float32[:, ::1], int64, LONGS, LONGS)], **LOOP)
def hide(block, start, own, ends):
    """A block (q, g) of products loses the images of the query's identity: no others are counted.

    Query q has own[ends[q] : ends[q + 1]], ascending; the block is of images from start on.
    """
    for query in range(block.shape[0]):
        mine = own[ends[query] : ends[query + 1]]
        for image in mine[np.searchsorted(mine, start) :]:
            if image >= start + block.shape[1]:
                break
            block[query, image - start] = -np.inf


@njit(types.UniTuple(int32, 2)(*2 * [_given(float32)], float32, float32), **LOOP)
def _above(row, long, low, high):
    """How many are at least low, and how many more than high, times a length each. In int32 it is
    vectorised."""
    possible, certain = int32(0), int32(0)
    for place in range(row.shape[0]):
        possible = int32(possible + int32(row[place] >= low * long[place]))
        certain = int32(certain + int32(row[place] > high * long[place]))
    return possible, certain


@njit(int64(*2 * [_given(float32)], int64, float32, float32), **LOOP)
def _next(row, long, place, low, high):
    """The first place from there on that is between low and high; there must be one."""
    while True:
        piece, their = row[place : place + PIECE], long[place : place + PIECE]
        possible, certain = _above(piece, their, low, high)
        if possible > certain:
            for step in range(piece.shape[0]):
                if low * their[step] <= piece[step] <= high * their[step]:
                    return place + step
        place += PIECE


@njit(
    [
        void(
            *(float32[:, ::1], int64, float64, _given(float32), _given(float32)),
            *(each, FLOATS, each, FLOATS, from_dtype(HIT)[::1], LONGS),
        )
        for each in VECTORS
    ],
    **LOOP,
)
def count(
    block,
    start,
    margin,
    rows,
    columns,
    queries,
    query_lengths,
    gallery,
    gallery_lengths,
    hits,
    ends,
):
    """Add to each true match's `nearer` the images of a block (q, g) of products before it.

    queries (q, D) and gallery (g, D) are what the block is of; the block is of images from start on,
    its products those of vectors as long as rows (q,) and columns (g,), each similarity within margin
    of the truth. Query q has hits[ends[q] : ends[q + 1]], nearest first. An image that may or may not
    be before one is compared in float64.
    """
    exact = np.empty(CHUNK, np.float32)
    for left in range(0, block.shape[1], CHUNK):
        long = columns[left : left + CHUNK]
        for query in range(block.shape[0]):
            row = block[query, left : left + CHUNK]
            fresh = True
            for number in range(ends[query + 1] - 1, ends[query] - 1, -1):
                hit = hits[number]
                low = float32((hit.similarity - margin) * rows[query])
                high = float32((hit.similarity + margin) * rows[query])
                possible, certain = _above(row, long, low, high)
                if possible == 0:
                    break  # and nothing here is before the nearer ones
                hit.nearer += certain
                if fresh and possible > certain:
                    exact[:], fresh = -1, False
                place = -1
                for _ in range(possible - certain):
                    place = _next(row, long, place + 1, low, high)
                    image = left + place
                    if exact[place] < 0:
                        both = query_lengths[query] * gallery_lengths[image]
                        exact[place] = _distance(_dot(queries[query], gallery[image]) / both)
                    hit.nearer += exact[place] < hit.distance or (
                        exact[place] == hit.distance and start + image < hit.place
                    )
