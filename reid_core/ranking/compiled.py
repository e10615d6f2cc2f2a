"""Loops that numba compiles: of nearest neighbours, pairs and shared codes. N vectors, D dimensions.

They release the interpreter's lock, so that `threads.in_parts` can give each thread some rows of its
own. Import this module late: loading it takes half a second, and the first time on a machine some
seconds more.
"""

import numba
import numpy as np

compiled = numba.njit(nogil=True, cache=True, fastmath=True)
CHUNK = 64  # columns that are compared at once, before one is looked at by itself


@compiled
def insert(values, places, value, place):
    """Put a value into its place among those kept (C,), largest first; the smallest drops out."""
    at = len(values) - 1
    while at > 0 and values[at - 1] < value:
        values[at], places[at] = values[at - 1], places[at - 1]
        at -= 1
    values[at], places[at] = value, place


@compiled
def keep_in_rows(tile, first, values, places, least, start, stop):
    """Keep each row's largest of a tile (n, m) of similarities, whose columns begin at `first`.

    values, places (n, C) what is kept of each row, largest first; least (n,) its smallest so far.
    """
    columns = tile.shape[1]
    low = np.empty(CHUNK, np.float32)  # of each place in a chunk: a form that vectorises
    for row in range(start, stop):
        line, floor = tile[row], values[row, -1]
        low[:] = least[row]
        for begin in range(0, columns, CHUNK):
            end = min(begin + CHUNK, columns)
            larger = False
            for column in range(begin, end):
                larger |= line[column] > floor
                low[column - begin] = min(low[column - begin], line[column])
            if larger:
                for column in range(begin, end):
                    if line[column] > floor:
                        insert(values[row], places[row], line[column], first + column)
                        floor = values[row, -1]
        least[row] = low.min()


@compiled
def keep_in_columns(tile, first, values, places, least, start, stop):
    """The same for each column of a tile, whose rows begin at `first`; start, stop are columns."""
    floors = values[:, -1].copy()
    for row in range(tile.shape[0]):
        line = tile[row]
        for begin in range(start, stop, CHUNK):
            end = min(begin + CHUNK, stop)
            larger = False
            for column in range(begin, end):
                larger |= line[column] > floors[column]
                least[column] = min(least[column], line[column])
            if larger:
                for column in range(begin, end):
                    if line[column] > floors[column]:
                        insert(values[column], places[column], line[column], first + row)
                        floors[column] = values[column, -1]


@compiled
def dots(left, right, rows, places, out, start, stop):
    """out (P,) float64: rows (P,) of left (N, D) times rows places (P,) of right (M, D)."""
    for pair in range(start, stop):
        one, other, total = rows[pair], places[pair], 0.0
        for part in range(left.shape[1]):
            total += np.float64(left[one, part]) * np.float64(right[other, part])
        out[pair] = total


@compiled
def blended(products, rows, gallery, codes, columns, longest, weight, power, out, start, stop):
    """out (q, G): distances of images `rows` (q,) to the gallery (G,), whose products with them are
    known: (1 - weight) * Jaccard distance (Zhong et al. 2017, eq. 10) + weight * their own.

    codes, columns: (indptr, indices, data) of the sparse (N, N) codes by row and by column.
    """
    starts, places, shares = codes
    tops, images, others = columns
    least = np.empty(len(longest), np.float32)  # the sum of the smaller of two images' shares
    for row in range(start, stop):
        least[:] = 0
        for place in range(starts[rows[row]], starts[rows[row] + 1]):
            code, own = places[place], shares[place]
            for at in range(tops[code], tops[code + 1]):
                least[images[at]] += min(own, others[at])
        scale = 1 / longest[rows[row]]
        for column in range(len(gallery)):
            square = np.floor((2 - 2 * products[row, column]) * 1e10 + 0.5) * 1e-10
            away = max(square, 0.0) * scale
            if power == 2:
                away *= away
            both = least[gallery[column]]
            out[row, column] = (1 - weight) * (1 - both / (2 - both)) + weight * away
