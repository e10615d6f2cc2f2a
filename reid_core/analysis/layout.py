"""Maps of embeddings in two or three dimensions, and how two of them are laid over one another.

N images. A layout is a picture of neighbourhoods; what it keeps is measured in `analysis.projection`.
"""

import threading
from collections.abc import Callable

import numpy as np

from reid_core.analysis.projection import Spread, Tell
from reid_core.errors import BadInput

METHODS = ("umap", "pca", "tsne")


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


def enclosed(places: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """(N,) which places (N, 2) lie within a polygon (V, 2), closed by itself, by the even-odd rule."""
    x, y = np.asarray(places, np.float64).T
    inside = np.zeros(len(x), bool)
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, 1, axis=0), strict=True):
        if y1 != y2:
            crosses = (y1 > y) != (y2 > y)
            inside ^= crosses & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return inside


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
    tall = len(points) >= points.shape[1]  # exact either way; the usual solver may be a random one
    return PCA(dimensions, svd_solver="covariance_eigh" if tall else "full").fit_transform(points)


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

    tell(0.0)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.3)
        tell(0.0)
    if "error" in box:
        raise box["error"]
    return box["result"]
