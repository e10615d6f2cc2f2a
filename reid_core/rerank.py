"""A ranked list made better by its neighbours: k-reciprocal encoding and query expansion.

Nobody's identity is used: a method sees vectors alone. N images (queries and gallery), Q queries,
G gallery images, D dimensions. Every method gives distances (q, G) of some queries to the gallery, as
`evaluate(embeddings, distances_to=...)` takes them; nothing of size N x N is ever kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec

import numpy as np
import torch
from scipy.sparse import csc_array, csr_array

from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, distances, judge
from reid_core.knobs import unknown
from reid_core.ranking.nearer import ranking_device, with_room
from reid_core.ranking.nearest import nearest, products
from reid_core.ranking.threads import in_parts
from reid_core.retrieve import RankedList

K1, K2, WEIGHT = 20, 6, 0.3  # Zhong et al. 2017, section 4.1
NEIGHBOURS, POWER = 5, 3.0  # of query expansion; the number is ours, for some ten true matches
# What is divided by the row's largest: squared Euclidean distances, as in Zhong et al.'s code, in
# TransReID, and in fast-reid's re_ranking of Euclidean distances; or the squares of those, as in
# torchreid, whose Euclidean distances are squared already when its re_ranking squares them.
POWERS = {"squared": 1, "fourth-power": 2}

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Reciprocal:
    """The k-reciprocal features of a test split (Zhong et al. CVPR 2017).

    features (N, N), sparse: row p is V_p of eq. 7 after the local expansion of eq. 11; longest (N,)
    the largest squared distance of each image, by which its distances are divided.

    Where the paper and the authors' code differ, this is the code, whose numbers everyone reports:
    squared distances divided by the row's largest, rows of V that sum to 1 (so eq. 10's maxima sum to
    2 - the minima), and "more than" instead of "at least" two thirds in eq. 5.
    """

    features: csr_array
    longest: np.ndarray
    convention: str = "squared"

    @classmethod
    def of(
        cls,
        directions: np.ndarray,
        k1: int = K1,
        k2: int = K2,
        progress: Progress | None = None,
        convention: str = "squared",
    ) -> "Reciprocal":
        """Encode unit vectors (N, D) float64; convention is one of POWERS.

        Raises BadInput for k1 or k2 below 1, another convention, or NaN.
        """
        if k1 < 1 or k2 < 1:
            raise BadInput(f"expected k1 and k2 of 1 or more, got {k1} and {k2}")
        if convention not in POWERS:
            raise BadInput(unknown("convention", convention, POWERS))
        units = torch.from_numpy(np.ascontiguousarray(directions))
        most = max(k1 + 1, k2)
        device = ranking_device(len(units) ** 2)
        found = with_room(lambda d: nearest(units.to(d), most, progress=progress), device)
        neighbours, longest = (each.cpu().numpy() for each in (found.rows, found.longest))
        near = _mutual(neighbours[:, : k1 + 1])  # R(p, k1), eq. 3; p itself is its first neighbour
        half = _mutual(neighbours[:, : int(np.around(k1 / 2)) + 1])  # R(q, k1 / 2)
        # |R(p, k1) and R(q, k1 / 2)|, q in R(p, k1)
        common = (near @ half.T).multiply(near).tocoo()
        sizes = np.diff(half.indptr)
        agree = common.data > 2 / 3 * sizes[common.col]  # eq. 5
        taken = _indicator(common.row[agree], common.col[agree], len(directions))
        expanded = (near + taken @ half).tocsr()  # R*(p, k1)
        away = _squares(units, expanded) / np.repeat(longest, np.diff(expanded.indptr))
        weights = np.exp(-(away ** POWERS[convention]))
        encoded = csr_array((weights, expanded.indices, expanded.indptr), shape=near.shape)  # eq. 7
        features = _to_one(encoded)
        if k2 > 1:
            features = _row_means(neighbours[:, :k2]) @ features  # eq. 11
        return cls(features.astype(np.float32), longest, convention)

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "Reciprocal":
        """What `as_arrays` gave."""
        size = len(arrays["longest"])
        parts = arrays["data"], arrays["indices"], arrays["indptr"]
        convention = str(arrays.get("convention", "squared"))
        return cls(csr_array(parts, shape=(size, size)), arrays["longest"], convention)

    def as_arrays(self) -> dict[str, np.ndarray]:
        """The same as plain arrays, for a file."""
        kept = self.features
        sparse = dict(data=kept.data, indices=kept.indices, indptr=kept.indptr)
        return sparse | dict(longest=self.longest, convention=np.array(self.convention))

    @cached_property
    def columns(self) -> csc_array:
        return self.features.tocsc()

    def distances(
        self, embeddings: Embeddings, rows: np.ndarray, weight: float = WEIGHT
    ) -> np.ndarray:
        """Distances (q, G) of rows of the embeddings to the gallery: eq. 12 with lambda = weight."""
        gallery, units = embeddings.gallery_rows, embeddings.directions
        products = units[rows] @ _part(units, gallery).T  # (q, G) float64: equal vectors must tie
        codes, power = (self.features, self.columns), POWERS[self.convention]
        if find_spec("numba"):
            from reid_core.ranking.compiled import blended

            found = np.empty(products.shape, np.float32)
            parts = [(each.indptr, each.indices, each.data) for each in codes]
            arrays = (products, np.asarray(rows), gallery, *parts, self.longest)
            in_parts(blended, len(rows), *arrays, float(weight), power, found)
            return found
        own = np.maximum(np.round(2 - 2 * products, 10), 0) / self.longest[rows, None]
        jaccard = np.stack([self.jaccard(row)[gallery] for row in rows])
        return ((1 - weight) * jaccard + weight * own**power).astype(np.float32)

    def jaccard(self, row: int) -> np.ndarray:
        """(N,) Jaccard distance of an image to all (eq. 10): only columns that it has can share."""
        here, columns = self.features, self.columns
        least = np.zeros(len(self.longest), np.float32)
        for place in range(here.indptr[row], here.indptr[row + 1]):
            column = here.indices[place]
            part = slice(columns.indptr[column], columns.indptr[column + 1])
            least[columns.indices[part]] += np.minimum(here.data[place], columns.data[part])
        return 1 - least / (2 - least)


def _part(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of an array, without a copy where they follow one another."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows) and (np.diff(rows) == 1).all():
        return array[rows[0] : rows[-1] + 1]
    return array[rows]


def expand(
    embeddings: Embeddings, rows: np.ndarray, neighbours: int = NEIGHBOURS, power: float = POWER
) -> np.ndarray:
    """Distances (q, G) after query expansion: each query becomes a mean with its nearest images.

    power 0 weighs them alike: average query expansion (Chum et al. ICCV 2007). Otherwise each weighs
    its cosine similarity to that power: alpha-weighted (Radenovic et al. TPAMI 2018, section 3.2).
    """
    gallery = embeddings.directions[embeddings.gallery_rows]
    queries = embeddings.directions[rows]
    away = distances(queries, gallery)
    mixed = queries.copy()
    for query, row in enumerate(away):
        near = gallery[_first(row, neighbours)]  # (n, D)
        mixed[query] += np.maximum(near @ queries[query], 0) ** power @ near
    return distances(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), gallery)


def ranked(embeddings: Embeddings, query: int, row: np.ndarray) -> RankedList:
    """The gallery ranked for the query at a position by other distances (G,) than its own."""
    gallery, asked = embeddings.gallery_rows, embeddings.query_rows[query]
    judged = judge(
        row,
        embeddings.identities[gallery],
        embeddings.cameras[gallery],
        int(embeddings.identities[asked]),
        int(embeddings.cameras[asked]),
    )
    return RankedList(**vars(judged), rows=gallery[judged.order])


def _first(row: np.ndarray, count: int) -> np.ndarray:
    """Positions of the smallest values, ascending, ties in order, without sorting all."""
    if count >= len(row):
        return np.argsort(row, kind="stable")
    candidates = np.flatnonzero(row <= np.partition(row, count - 1)[count - 1])
    return candidates[np.argsort(row[candidates], kind="stable")][:count]


def _mutual(neighbours: np.ndarray) -> csr_array:
    """(N, N) 1 where two images are among each other's neighbours."""
    count, near = neighbours.shape
    forward = _indicator(np.repeat(np.arange(count), near), neighbours.ravel(), count)
    return forward.multiply(forward.T).tocsr()


def _indicator(rows: np.ndarray, columns: np.ndarray, size: int) -> csr_array:
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=(size, size))


def _row_means(neighbours: np.ndarray) -> csr_array:
    """(N, N) which, times a matrix, takes the mean of each image's neighbours' rows."""
    count, near = neighbours.shape
    means = _indicator(np.repeat(np.arange(count), near), neighbours.ravel(), count)
    return means / near


def _to_one(matrix: csr_array) -> csr_array:
    """Rows that sum to 1."""
    sums = matrix.sum(axis=1)
    return csr_array(
        (matrix.data / np.repeat(sums, np.diff(matrix.indptr)), matrix.indices, matrix.indptr),
        shape=matrix.shape,
    )


def _squares(units: torch.Tensor, pairs: csr_array) -> np.ndarray:
    """Squared distances of the pairs of images that a sparse (N, N) holds, in its order."""
    coo = pairs.tocoo()
    rows, columns = (torch.from_numpy(each.astype(np.int64)) for each in (coo.row, coo.col))
    return np.maximum(np.round(2 - 2 * products(units, units, rows, columns).numpy(), 10), 0)
