"""Time and memory of NFormer's attention against the size of the set, in three forms.

Dense: the masked N x N softmax of the official training code. Sparse: torch.sparse, as the official
test code does it. Gathered: this product's, which forms no N x N matrix. All three are given the same
queries, keys, values, landmarks and neighbours of the run's first layer, and must agree.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from reid_core.analysis.neighbours import alone, attend
from reid_core.knobs import knob
from reid_core.models.nformer import landmark_affinity, listen, reciprocal_softmax
from reid_core.runs import Run
from reid_core.studies import Arrays, Progress
from reid_core.studies.draws import own_seed

SIZES = (500, 1000, 2000, 4000, 8000, 16000, 32000)
TOLERANCE = 1e-4  # relative, between the forms' results
MEGABYTE = 2**20


@dataclass(frozen=True)
class Options:
    most: int = knob(16000, "The largest set.", "Sizes", least=500, most=32000)
    memory: int = knob(2048, "Megabytes that no form may exceed.", "Sizes", least=64)
    repeats: int = knob(5, "Repetitions that are timed; the median is kept.", "Sizes", least=1)


def compute(run: Run, options: Options, progress: Progress) -> Arrays:
    """n sizes; forms dense, sparse and gathered. Raises BadInput, and ArithmeticError where the forms
    don't agree.

    sizes (n,); seconds, megabytes (3, n), nan where a form would have exceeded the memory (judged by
    the square of N from the size before); disagreement (n,) the largest relative difference from the
    gathered form. Single numbers: own landmarks, k, images, heads, width (of a head), bits of a number:
    64 at every size where the model finds 32 too coarse at one.
    """
    found, model = run.embeddings(), run.model()
    alone(found)
    sizes = [size for size in SIZES if size <= options.most]
    seconds, megabytes = (np.full((len(FORMS), len(sizes)), np.nan) for _ in range(2))
    disagreement = np.zeros(len(sizes))
    layers = [first_layer(model, crowd(found.encoded, size), own_seed(run)) for size in sizes]
    exact = max((each[0].dtype for each in layers), key=lambda dtype: dtype.itemsize)
    for place, size in enumerate(sizes):
        given = tuple(x.to(exact) if x.is_floating_point() else x for x in layers[place])
        truth = None
        for row, (name, form) in enumerate(reversed(FORMS.items())):
            row = len(FORMS) - 1 - row
            progress(place * len(FORMS) + len(FORMS) - 1 - row, len(sizes) * len(FORMS))
            if expected(sizes, megabytes[row], place) > options.memory:
                continue
            result, megabytes[row, place] = allocated(lambda: form(*given))  # noqa: B023
            seconds[row, place] = timed(lambda: form(*given), options.repeats)  # noqa: B023
            truth = result if truth is None else truth
            off = float((result - truth).abs().max() / truth.abs().max())
            if not off <= TOLERANCE:
                raise ArithmeticError(f"{name} is off by {off:.1e} at {size} images")
            disagreement[place] = max(disagreement[place], off)
    progress(1, 1)
    own = run.experiment.options
    return dict(
        sizes=np.array(sizes),
        seconds=seconds,
        megabytes=megabytes,
        disagreement=disagreement,
        own=np.array(own.landmarks),
        k=np.array(own.neighbours),
        images=np.array(len(found.vectors)),
        heads=np.array(given[0].shape[1]),
        width=np.array(given[0].shape[3]),
        bits=np.array(8 * exact.itemsize),
    )


def crowd(vectors: np.ndarray, count: int, noise: float = 0.1) -> np.ndarray:
    """So many features: rows of a set drawn without repetition; beyond its size each further time with
    noise of that share of a feature's length, since equal features would be no set."""
    draw = np.random.default_rng(0)
    rows = np.concatenate(
        [draw.permutation(len(vectors)) for _ in range(-(-count // len(vectors)))]
    )[:count]
    picked = vectors[rows].copy()
    again = picked[len(vectors) :]
    scale = noise * np.linalg.norm(again, axis=1, keepdims=True) / sqrt(vectors.shape[1])
    again += scale * draw.standard_normal(again.shape, np.float32)
    return picked


def first_layer(model, vectors: np.ndarray, seed: int) -> tuple[Tensor, ...]:
    """q, k, v (1, H, N, E), landmarks (l,), neighbours and mutual (1, N, k) of the first layer."""
    seen = attend(model, vectors, projections=True, seed=seed)
    near, mutual = torch.from_numpy(seen.neighbours), torch.from_numpy(seen.mutual)
    drawn = torch.from_numpy(seen.landmarks[0])
    return (*seen.projections[0][:, None].contiguous(), drawn, near[None], mutual[None])


def dense(q: Tensor, k: Tensor, v: Tensor, drawn: Tensor, near: Tensor, mutual: Tensor) -> Tensor:
    """N x N affinities, those of others than mutual neighbours at -1e9 -> (1, H, N, E)."""
    affinity, mask = square(q, k, drawn, near, mutual)
    return (affinity * mask - 1e9 * (1 - mask)).softmax(dim=3) @ v


def sparse(q: Tensor, k: Tensor, v: Tensor, drawn: Tensor, near: Tensor, mutual: Tensor) -> Tensor:
    """The same N x N affinities, then made sparse -> (1, H, N, E)."""
    affinity, mask = square(q, k, drawn, near, mutual)
    weights = torch.sparse.softmax((affinity * mask)[0].to_sparse(), dim=2)  # (H, N, N)
    return torch.bmm(weights, v[0])[None]


def gathered(
    q: Tensor, k: Tensor, v: Tensor, drawn: Tensor, near: Tensor, mutual: Tensor
) -> Tensor:
    """The model's own: k affinities for each image -> (1, H, N, E)."""
    affinity = landmark_affinity(q, k, drawn, near)
    return listen(reciprocal_softmax(affinity, mutual[:, None], training=False), v, near)


def square(q: Tensor, k: Tensor, drawn: Tensor, near: Tensor, mutual: Tensor) -> tuple:
    """Landmark affinities of all pairs (1, H, N, N), and 1 for mutual neighbours (1, 1, N, N)."""
    affinity = (q @ k[:, :, drawn].mT) @ (q[:, :, drawn] @ k.mT) / sqrt(q.shape[-1])
    count = q.shape[2]
    mask = q.new_zeros(1, count, count).scatter(2, near, mutual.to(q.dtype))
    return affinity, mask[:, None]


FORMS: dict[str, Callable[..., Tensor]] = dict(dense=dense, sparse=sparse, gathered=gathered)


def allocated(call: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """What a call returns, and how many megabytes its tensors held at once at most.

    torch's profiler tells every allocation and release on the CPU. The process's resident memory agrees
    where it is large, but below about 100 MB tells what the allocator had kept, not what was needed.
    """
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        result = call()
    events = profile.profiler.kineto_results.events()
    moves = sorted(
        (e.start_ns(), place, e.nbytes())
        for place, e in enumerate(events)
        if e.name() == "[memory]"
    )
    return result, float(np.cumsum([0, *(size for _, _, size in moves)]).max()) / MEGABYTE


def timed(call: Callable[[], Tensor], repeats: int) -> float:
    """Median seconds of a call."""
    spent = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        spent.append(time.perf_counter() - started)
    return float(np.median(spent))


def expected(sizes: list[int], before: np.ndarray, place: int) -> float:
    """Megabytes at a size, if they grow with its square as they did so far; 0 for the first size and
    infinity once a form has been left out."""
    if not place:
        return 0.0
    if np.isnan(before[place - 1]):
        return float("inf")
    return before[place - 1] * (sizes[place] / sizes[place - 1]) ** 2
