"""How embeddings lie, and what a map of them keeps and loses. N images.

What is true of the embeddings is measured where they live (`spread`); how much of it a layout shows
(`analysis.layout` makes them) is measured against that (`kept`, `trustworthiness`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from reid_core.data.matches import UNKNOWN
from reid_core.errors import BadInput
from reid_core.evaluate import directions

METRICS = ("cosine", "euclidean")
TRUSTED = 15  # neighbours that a point's trust is the kept share of
KINDS = ("same identity, same camera", "same identity, other camera", "other identities")
BINS = 16_000  # of the distances' histograms: a median is known to 1/32,000 of the largest possible one
Tell = Callable[[float], None]  # share done, 0 to 1; may raise to stop the work


@dataclass(frozen=True)
class Spread:
    """How N images lie in a space of any dimension.

    neighbours (N, k) int32 rows of the nearest others, nearest first, and reach (N, k) how far they
    are. own (N,) mean distance to the other images of an image's identity; other (N,) the smallest
    mean distance to those of another one, rival (N,); silhouette (N,) = (other - own) / the larger
    (Rousseeuw 1987). NaN (rival -1) for distractors and junk (identity below 1), which are nobody in
    particular; an identity's only image has silhouette 0, as in scikit-learn. counts (3, BINS) pairs
    of KINDS by distance, between edges (BINS + 1,).
    """

    neighbours: np.ndarray
    reach: np.ndarray
    own: np.ndarray
    other: np.ndarray
    rival: np.ndarray
    silhouette: np.ndarray
    counts: np.ndarray
    edges: np.ndarray


def space(vectors: np.ndarray, metric: str) -> np.ndarray:
    """(N, D) float64: the space whose straight distances a metric ranks by.

    cosine: the vectors at length 1, where every ranked list here is made; euclidean: as the model
    gives them. Raises BadInput for NaN.
    """
    along = directions(vectors)  # also refuses NaN
    return along if metric == "cosine" else vectors.astype(np.float64)


def spread(
    points: np.ndarray,
    identities: np.ndarray,
    cameras: np.ndarray,
    k: int,
    tell: Tell = lambda _: None,
) -> Spread:
    """Measure how points (N, D) of known identities and cameras (N,) lie, k neighbours each.

    k is less where there are fewer images. Raises BadInput for fewer than four.
    """
    count = len(points)
    if count < 4:
        raise BadInput(
            f"expected at least 4 embeddings, got {count}: evaluate the run on more images"
        )
    k = min(k, count - 1)
    who = np.unique(identities[identities > 0])
    groups = [np.flatnonzero(identities == each) for each in who]
    columns = np.concatenate([*groups, np.array([], int)]).astype(int)
    sizes = np.array([len(group) for group in groups])
    far = 2 * np.sqrt((points**2).sum(axis=1).max()) or 1.0
    edges = np.linspace(0, far, BINS + 1)
    neighbours, reach = np.empty((count, k), np.int32), np.empty((count, k), np.float32)
    own, other, silhouette = (np.full(count, np.nan) for _ in range(3))
    rival, counts = np.full(count, -1), np.zeros((3, BINS), np.int64)
    for rows, matrix in _blocks(points):
        itself = np.arange(len(rows)), rows
        if len(groups):
            judged = identities[rows] > 0
            starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
            sums = np.add.reduceat(matrix[judged][:, columns], starts, axis=1)  # (b, identities)
            found = _silhouette(sums, sizes, np.searchsorted(who, identities[rows][judged]))
            for kept, values in zip((own, other, silhouette), found[:3], strict=True):
                kept[rows[judged]] = values
            rival[rows[judged]] = np.where(found[3] < 0, -1, who[found[3]])
            counts += _pairs(matrix, rows, identities, cameras, edges)
        matrix[itself] = np.inf
        nearest = np.argpartition(matrix, k - 1, axis=1)[:, :k]
        length = np.take_along_axis(matrix, nearest, axis=1)
        order = np.lexsort((nearest, length), axis=1)  # equal distances: the earlier row first
        neighbours[rows] = np.take_along_axis(nearest, order, axis=1)
        reach[rows] = np.take_along_axis(length, order, axis=1)
        tell(float(rows[-1] + 1) / count)
    return Spread(neighbours, reach, own, other, rival, silhouette, counts, edges)


def kept(original: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """(N,) the share of each image's neighbours (N, k) that are neighbours (N, k) elsewhere too."""
    return (original[:, :, None] == shown[:, None, :]).any(axis=2).mean(axis=1)


def trustworthiness(points: np.ndarray, shown: np.ndarray, tell: Tell = lambda _: None) -> float:
    """How rarely a layout makes neighbours of strangers, 0 to 1 (Venna and Kaski 2001).

    shown (N, k) are the neighbours on the layout of points (N, D); each costs as many steps as its
    rank in the original space exceeds k. Equal to `sklearn.manifold.trustworthiness`, which wants
    N x N numbers at once. NaN unless k < N / 2.
    """
    count, k = shown.shape
    if 2 * k >= count:
        return float("nan")
    penalty = 0
    for rows, matrix in _blocks(points):
        matrix[np.arange(len(rows)), rows] = np.inf
        length = np.take_along_axis(matrix, shown[rows], axis=1)
        ranks = np.stack([(matrix < each[:, None]).sum(axis=1) + 1 for each in length.T])
        penalty += int(np.maximum(ranks - k, 0).sum())
        tell(float(rows[-1] + 1) / count)
    return 1 - penalty * 2 / (count * k * (2 * count - 3 * k - 1))


def median(counts: np.ndarray, edges: np.ndarray) -> float:
    """The median of a histogram, (BINS,) counts between edges, to within one bin; NaN if empty."""
    total = np.cumsum(counts)
    if not total[-1]:
        return float("nan")
    places = np.searchsorted(total, [(total[-1] + 1) // 2, total[-1] // 2 + 1])  # the middle two
    return float((edges[places] + edges[places + 1]).mean() / 2)


def _blocks(points: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows (b,) and their Euclidean distances (b, N) float64, block by block: about 64 MB each."""
    squares = (points**2).sum(axis=1)
    size = max(1, 8_000_000 // len(points))
    for start in range(0, len(points), size):
        rows = np.arange(start, min(start + size, len(points)))
        matrix = points[rows] @ points.T
        matrix *= -2
        matrix += squares
        matrix += squares[rows, None]
        # As in evaluate.distances: the last digits of a product vary with the shape of the block.
        np.round(matrix, 10, out=matrix)
        np.maximum(matrix, 0, out=matrix)
        np.sqrt(matrix, out=matrix)
        matrix[np.arange(len(rows)), rows] = 0
        yield rows, matrix


def _silhouette(sums: np.ndarray, sizes: np.ndarray, mine: np.ndarray) -> tuple[np.ndarray, ...]:
    """own, other, silhouette and rival's place from summed distances (b, I) to each identity."""
    rows = np.arange(len(mine))
    lonely = sizes[mine] == 1
    own = np.where(lonely, np.nan, sums[rows, mine] / np.maximum(sizes[mine] - 1, 1))
    means = sums / sizes
    means[rows, mine] = np.inf
    rival = means.argmin(axis=1)
    other = means[rows, rival]
    if len(sizes) == 1:
        nobody = np.full(len(mine), np.nan)
        return own, nobody, nobody, np.full(len(mine), -1)
    value = (other - own) / np.maximum(np.maximum(own, other), 1e-12)
    return own, other, np.where(lonely, 0, value), rival


def _pairs(matrix, rows, identities, cameras, edges) -> np.ndarray:
    """Counts (3, BINS) of the pairs of KINDS in a block, each pair of images once."""
    known = (
        (identities[rows, None] > 0)
        & (identities > 0)
        & (np.arange(len(identities)) > rows[:, None])
    )
    same = known & (identities[rows, None] == identities)
    beside = same & (cameras[rows, None] == cameras) & (cameras != UNKNOWN)
    count = lambda mask: np.bincount(_bins(matrix[mask], edges), minlength=BINS)  # noqa: E731
    return np.stack([count(beside), count(same & ~beside), count(known & ~same)])


def _bins(lengths: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.minimum(lengths * (BINS / edges[-1]), BINS - 1).astype(np.int32)
