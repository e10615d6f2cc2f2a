"""Maps of embeddings in two or three dimensions, and what such a map keeps and loses. N images.

A layout is a picture of neighbourhoods. What is true of the embeddings is measured where they live
(`spread`); how much of it a layout shows is measured against that (`kept`, `trustworthiness`).
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from reid_core.errors import BadInput
from reid_core.evaluate import directions

METRICS = ("cosine", "euclidean")
METHODS = ("umap", "pca", "tsne")
TRUSTED = 15  # neighbours that a point's trust is the kept share of
KINDS = ("same identity, same camera", "same identity, other camera", "other identities")
BINS = 400  # of the distances' histograms
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


def lay_out(
    points: np.ndarray,
    found: Spread,
    *,
    method: str = "umap",
    metric: str = "cosine",
    dimensions: int = 2,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    seed: int = 0,
    start: np.ndarray | None = None,
    tell: Tell = lambda _: None,
) -> np.ndarray:
    """A layout (N, dimensions) float32 of points (N, D) of a `space`, centred; the same for a seed.

    umap: McInnes et al. 2018, on the exact neighbours of `found`, itself among the n_neighbors. tsne:
    van der Maaten and Hinton 2008, n_neighbors as its perplexity. pca: the directions of largest
    variance. start (N, dimensions): begin from these positions, for umap and tsne.
    """
    fits = {"umap": _umap, "tsne": _tsne, "pca": _pca}
    knobs = dict(dimensions=dimensions, seed=seed, start=start)
    knobs |= dict(metric=metric, n_neighbors=n_neighbors, min_dist=min_dist)
    layout = _meanwhile(lambda: fits[method](points, found, **knobs), tell)
    return (layout - layout.mean(axis=0)).astype(np.float32)


def aligned(layout: np.ndarray, to: np.ndarray) -> np.ndarray:
    """A centred layout (N, d) turned, mirrored and scaled onto another one, row by row (Procrustes).

    Distances within it keep their proportions: nothing is pulled towards its counterpart.
    """
    from scipy.linalg import orthogonal_procrustes

    turn, overlap = orthogonal_procrustes(layout, to)
    return (layout @ turn * (overlap / max((layout**2).sum(), 1e-12))).astype(np.float32)


def moved(layout: np.ndarray, to: np.ndarray) -> np.ndarray:
    """(N,) how far each point lies from its counterpart, in radii (root mean square) of the second."""
    radius = np.sqrt((to**2).sum(axis=1).mean()) or 1.0
    return np.linalg.norm(layout - to, axis=1) / radius


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
    place = int(np.searchsorted(total, total[-1] / 2))
    return float((edges[place] + edges[place + 1]) / 2)


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
    beside = same & (cameras[rows, None] == cameras) & (cameras > 0)
    count = lambda mask: np.bincount(_bins(matrix[mask], edges), minlength=BINS)  # noqa: E731
    return np.stack([count(beside), count(same & ~beside), count(known & ~same)])


def _bins(lengths: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.minimum(lengths * (BINS / edges[-1]), BINS - 1).astype(np.int32)


def _umap(points, found, *, metric, dimensions, n_neighbors, min_dist, seed, start):
    import warnings

    from umap import UMAP

    count = len(points)
    near = min(n_neighbors, count - 1, found.neighbours.shape[1] + 1)
    # UMAP counts an image among its own neighbours. With length 1, 1 - cosine is distance^2 / 2.
    rows = np.column_stack([np.arange(count), found.neighbours[:, : near - 1]]).astype(np.int32)
    reach = found.reach[:, : near - 1]
    reach = reach**2 / 2 if metric == "cosine" else reach
    reach = np.column_stack([np.zeros(count), reach]).astype(np.float32)
    fit = UMAP(
        n_neighbors=near,
        n_components=dimensions,
        min_dist=min_dist,
        metric=metric,
        random_state=seed,  # which makes it one thread, and the layout the same every time
        n_jobs=1,
        # With hardly more images than dimensions there is no spectrum to start from.
        init=start if start is not None else "spectral" if count > 20 else "pca",
        precomputed_knn=(rows, reach),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(knn_search_index|disconnected|Spectral).*")
        layout = fit.fit_transform(points.astype(np.float32))
    return np.nan_to_num(layout)  # an image that UMAP disconnects from all others


def _tsne(points, found, *, metric, dimensions, n_neighbors, min_dist, seed, start):
    from sklearn.manifold import TSNE

    # It wants to begin small (Kobak and Berens 2019), wherever it begins.
    init = "pca" if start is None else (start / (start[:, 0].std() or 1) * 1e-4).astype(np.float32)
    perplexity = min(float(n_neighbors), (len(points) - 1) / 3)
    fit = TSNE(dimensions, perplexity=perplexity, init=init, random_state=seed, n_jobs=1)
    return fit.fit_transform(points.astype(np.float32))


def _pca(points, found, *, metric, dimensions, n_neighbors, min_dist, seed, start):
    from sklearn.decomposition import PCA

    if points.shape[1] < dimensions:
        raise BadInput(f"expected at least {dimensions} dimensions, got {points.shape[1]}")
    return PCA(dimensions, random_state=seed).fit_transform(points)


def _meanwhile(work: Callable[[], np.ndarray], tell: Tell) -> np.ndarray:
    """What the work returns; while it computes, tell is called, which may raise and leave it behind.

    The libraries' fits can't be interrupted, and say nothing until they are done.
    """
    box: dict = {}

    def run() -> None:
        try:
            box["result"] = work()
        except BaseException as error:  # raised again where somebody waits for it
            box["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.3)
        tell(0.0)
    if "error" in box:
        raise box["error"]
    return box["result"]
