"""How far a statistic may be trusted: percentile bootstrap over images or queries (Efron 1979).

Shapes: N images or queries, K quantities measured on each of them.
"""

from collections.abc import Callable

import numpy as np

from reid_core.errors import BadInput

LEVEL = 0.95
BLOCK = 2**22  # numbers resampled at a time, about 32 MB


def bootstrap(
    values: np.ndarray,
    statistic: Callable[..., np.ndarray] = np.mean,
    draws: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """A statistic of samples with replacement: values (N, ...) -> (draws, ...).

    Rows are drawn, so what is measured on one image stays together. statistic takes an array and an
    axis, as `np.mean` and `np.median` do. Rows with NaN are left out as a whole where values is
    (N,). Raises BadInput without any value.
    """
    values = np.asarray(values, np.float64)
    if values.ndim == 1:
        values = values[~np.isnan(values)]
    if not len(values):
        raise BadInput("expected one measured value or more to draw from, got none")
    picks = np.random.default_rng(seed)
    step = max(1, BLOCK // values.size)
    drawn = []
    for start in range(0, draws, step):
        rows = picks.integers(len(values), size=(min(step, draws - start), len(values)))
        drawn.append(statistic(values[rows], axis=1))  # (step, N, ...) -> (step, ...)
    return np.concatenate(drawn)


def interval(values: np.ndarray, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the mean of values (N,): low, high. NaN counts as not measured."""
    low, high = band(values, draws, seed)
    return float(low), float(high)


def band(values: np.ndarray, draws: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % intervals of the means over the first axis: (N, ...) -> low (...), high (...)."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(bootstrap(values, draws=draws, seed=seed), [tail, 1 - tail], axis=0)
    return low, high


def paired(
    a: np.ndarray, b: np.ndarray, draws: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """How much larger the mean of a is than that of b, on the same N things: difference, low, high.

    Differences are resampled, so what makes an image hard for both does not widen the interval.
    Raises BadInput for other numbers of things.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        raise BadInput(f"expected two values for each thing, got {a.shape} and {b.shape}")
    difference = a - b
    low, high = interval(difference, draws, seed)
    return float(np.nanmean(difference)), low, high
