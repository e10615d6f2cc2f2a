"""Who attends to whom in a set of images, and what its landmarks change.

Shapes: N images of a set, k neighbours of each, L layers, H heads, E width of a head, l landmarks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, distances, judge
from reid_core.models.base import ReIDModel
from reid_core.probe import observe, probes

NEVER = -1  # in a list that is shorter than the others


@dataclass(frozen=True)
class Attention:
    """One pass over a set: who attended to whom.

    neighbours (N, k) rows of the set, nearest first, the image itself counted; mutual (N, k) whether
    it has the image among its own; weights (L, H, N, k), 0 where it is not mutual; landmarks (L, l)
    rows; refined (N, D) what came out. Asked for, projections (L, 3, H, N, E) are queries, keys and
    values.
    """

    neighbours: np.ndarray
    mutual: np.ndarray
    weights: np.ndarray
    landmarks: np.ndarray
    refined: np.ndarray
    projections: tuple[Tensor, ...] = ()

    def mean(self, layer: int | None = None, head: int | None = None) -> np.ndarray:
        """(N, k) weights of a layer and head, from 0; None is the mean over all of them."""
        chosen = self.weights if layer is None else self.weights[[layer]]
        chosen = chosen if head is None else chosen[:, [head]]
        return chosen.mean(axis=(0, 1))


@dataclass(frozen=True)
class Listened:
    """Whom one image attends to, largest weight first; the one-sided come last, nearest first.

    rows (k,) of the set; weights (k,); mutual (k,); back (k,) the weight that it gets in return.
    """

    rows: np.ndarray
    weights: np.ndarray
    mutual: np.ndarray
    back: np.ndarray


def attend(
    model: ReIDModel, vectors: np.ndarray, projections: bool = False, **how: int | None
) -> Attention:
    """Refine the features (N, D') of a set and keep who attended to whom.

    how: seed, landmarks or neighbours where they are not to be the run's. Raises BadInput for a
    model whose images don't look at one another.
    """
    kinds = {name: probe.kind for name, probe in probes(model).items()}
    wanted = {"neighbour graph", "neighbours", "landmarks"}
    wanted |= {"neighbour projections"} if projections else set()
    names = [name for name, kind in kinds.items() if kind in wanted]
    if "neighbours" not in kinds.values():
        raise BadInput("images don't look at one another in this model: choose a run of NFormer")
    with torch.no_grad(), observe(model, *names) as seen:
        refined = model.refine(torch.from_numpy(vectors), **how)
    of = lambda kind: [seen[name] for name in names if kinds[name] == kind]  # noqa: E731
    near, mutual = of("neighbour graph")[0][:, 0].numpy()  # (N, k) each
    weights = torch.cat(of("neighbours")).float()  # (L, H, N, k)
    drawn = torch.stack(of("landmarks"))  # (L, l)
    kept = tuple(each[:, 0] for each in of("neighbour projections"))  # L of (3, H, N, E)
    return Attention(
        near, mutual.astype(bool), weights.numpy(), drawn.numpy(), refined.float().numpy(), kept
    )


def listened(attention: Attention, row: int, weights: np.ndarray) -> Listened:
    """Whom the image at a row attends to; weights (N, k) are `attention.mean(...)`."""
    near, mutual = attention.neighbours[row], attention.mutual[row]
    order = np.lexsort((np.arange(len(near)), -weights[row], ~mutual))
    near = near[order]
    back = np.where(attention.neighbours[near] == row, weights[near], 0).sum(axis=1)
    return Listened(near, weights[row][order], mutual[order], back)


def falls_on(
    attention: Attention, identities: np.ndarray, rows: Sequence[int] | None = None
) -> dict[str, float]:
    """Where the weight of some images falls, by default of all of them; means over layers and heads.

    itself; right, other images of its identity; others, other people. Distractors and junk
    (identities 0 and -1) are other people to everyone. Without rows, nan.
    """
    rows = np.arange(len(identities)) if rows is None else np.asarray(rows, int)
    weights = attention.weights[:, :, rows].mean(axis=(0, 1))  # (R, k)
    near = attention.neighbours[rows]  # (R, k)
    own = near == rows[:, None]
    mine = identities[rows][:, None]
    same = (identities[near] == mine) & (mine > 0) & ~own
    share = lambda chosen: (  # noqa: E731
        float((weights * chosen).sum(axis=1).mean()) if len(rows) else float("nan")
    )
    return dict(itself=share(own), right=share(same), others=share(~same & ~own))


def effective_neighbours(weights: np.ndarray) -> np.ndarray:
    """How many neighbours count: the exponential of the weights' entropy, (..., k) -> (...).

    Equal weights on m neighbours give m; 1 where all the weight lies on one (Hill 1973, order 1);
    0 without any neighbour.
    """
    logs = np.log(weights, where=weights > 0, out=np.zeros(weights.shape, weights.dtype))
    found = np.exp(-(weights * logs).sum(axis=-1))
    return np.where(weights.any(axis=-1), found, 0)


def full_affinity(projections: Tensor, rows: np.ndarray) -> np.ndarray:
    """q_i . k_j / sqrt(E), what attention takes without landmarks: (3, H, N, E) -> (H, R, N)."""
    q, k, _ = projections
    return (q[:, rows] @ k.mT / q.shape[-1] ** 0.5).numpy()


def landmark_affinity(projections: Tensor, landmarks: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Sum over landmarks L of (q_i . k_L)(q_L . k_j) / sqrt(E), for all j: (3, H, N, E) -> (H, R, N).

    Taken over the landmarks first, it is q_i . (K_L' Q_L) k_j: a full affinity with an E x E matrix
    in the middle, which is not the identity, however many landmarks there are.
    """
    q, k, _ = projections
    middle = k[:, landmarks].mT @ q[:, landmarks]  # (H, E, E)
    return (q[:, rows] @ middle @ k.mT / q.shape[-1] ** 0.5).numpy()


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's correlation of the last axis: (..., N) twice -> (...). Ties share their mean rank;
    nan where all values are equal."""
    from scipy.stats import rankdata

    a, b = (rankdata(each, axis=-1) for each in (a, b))
    a, b = (each - each.mean(axis=-1, keepdims=True) for each in (a, b))
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return np.divide((a * b).sum(axis=-1), scale, where=scale > 0, out=np.full(scale.shape, np.nan))


def top_overlap(a: np.ndarray, b: np.ndarray, k: int) -> np.ndarray:
    """The share of the k largest that two rows have in common: (..., N) twice -> (...)."""
    k = min(k, a.shape[-1])
    marks = []
    for each in (a, b):
        top = np.argpartition(-each, k - 1, axis=-1)[..., :k]
        mark = np.zeros(each.shape, bool)
        np.put_along_axis(mark, top, True, axis=-1)
        marks.append(mark)
    return (marks[0] & marks[1]).sum(axis=-1) / k


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """How far a is from b, relative to b's length (Frobenius norms)."""
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))


def ladder(most: int, *marks: int) -> list[int]:
    """1, 2, 5, 10, 20, 50, ... up to most, which is the last one, with some marks between."""
    steps = chain.from_iterable((d, 2 * d, 5 * d) for d in (10**e for e in range(10)))
    return sorted({*(s for s in steps if s <= most), *(m for m in marks if m <= most), most})


def judged(
    embeddings: Embeddings, count: int = 10, block: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """Average precision (Q,), and the rows of the first `count` of each query's list (Q, count).

    The same judgement as `evaluate`: lists are without what the protocol ignores.
    """
    queries, gallery = embeddings.query_rows, embeddings.gallery_rows
    identities, cameras = embeddings.identities, embeddings.cameras
    precision, lists = np.empty(len(queries)), np.full((len(queries), count), NEVER)
    for start in range(0, len(queries), block):
        rows = queries[start : start + block]
        matrix = distances(embeddings.directions[rows], embeddings.directions[gallery])
        for place, (query, row) in enumerate(zip(rows, matrix, strict=True), start):
            found = judge(
                row, identities[gallery], cameras[gallery], identities[query], cameras[query]
            )
            top = found.order[~found.ignored][:count]
            precision[place], lists[place, : len(top)] = (
                found.average_precision,
                gallery[top],
            )
    return precision, lists


def in_common(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The share of lists of rows (Q, c) that two of them have in common, in any order -> (Q,)."""
    there = (a[:, :, None] == b[:, None]).any(axis=2) & (a != NEVER)
    return there.sum(axis=1) / np.maximum((a != NEVER).sum(axis=1), 1)


def alone(embeddings: Embeddings) -> Embeddings:
    """The same images before they looked at one another. Raises BadInput where they never did."""
    if embeddings.encoded is None:
        raise BadInput("images don't look at one another in this run: choose a run of NFormer")
    return replace(embeddings, vectors=embeddings.encoded, encoded=None)
