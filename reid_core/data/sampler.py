"""P x K batches: P identities, K images of each, so that every image has its triplet."""

import numpy as np

from reid_core.errors import BadInput


def batches(
    identities: np.ndarray, p: int, k: int, generator: np.random.Generator, once: bool = False
) -> list[np.ndarray]:
    """One epoch of batches, each (P * K,) rows with the K images of an identity side by side.

    As in the official sampler: every identity's images are shuffled and cut into chunks of K (with
    fewer than K, drawn with repetition); P identities that still have a chunk are drawn again and
    again until fewer than P are left. So the number of batches varies a little. once keeps only one
    chunk of each identity, as in RGA's sampler.
    """
    chunks: dict[int, list[np.ndarray]] = {}
    for identity in np.unique(identities):
        rows = np.flatnonzero(identities == identity)
        if len(rows) < k:
            rows = generator.choice(rows, k, replace=True)
        rows = generator.permutation(rows)
        found = [rows[i : i + k] for i in range(0, len(rows) - k + 1, k)]
        chunks[int(identity)] = found[:1] if once else found
    epoch = []
    while len(chunks) >= p:
        drawn = generator.choice(list(chunks), p, replace=False)
        epoch.append(np.concatenate([chunks[int(identity)].pop() for identity in drawn]))
        chunks = {identity: left for identity, left in chunks.items() if left}
    return epoch


def sequences(
    vectors: np.ndarray, length: int, count: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """NFormer's training sequences: count times (length,) rows of vectors (N, D), shuffled.

    As in the official code: a random row is the centre; of the rows nearest to it by scalar product,
    between one and two times as many as needed, `length` are drawn. Lengths shrink to N.
    """
    length = min(length, len(vectors))
    found = []
    for _ in range(count):
        center = vectors[generator.integers(len(vectors))]
        nearest = np.argsort(-(vectors @ center), kind="stable")
        pool = nearest[: int(length * (1 + generator.random()))]
        found.append(generator.choice(pool, length, replace=False))
    return found


def check_division(p: int, processes: int, mining: str) -> None:
    """P identities of a batch must divide among the processes. Raises BadInput."""
    if p % processes:
        near = max(processes, p - p % processes)
        fewer = next(n for n in range(min(processes, p), 0, -1) if p % n == 0)
        raise BadInput(
            f"identities_per_batch: {p} identities can't be divided among {processes} processes; "
            f"give {near}, say, or {fewer} processes (devices x nodes)"
        )
    if mining == "local" and processes > 1 and p // processes < 2:
        raise BadInput(
            f"mining=local: {p} identities on {processes} processes leave {p // processes} to each, "
            "and so no negatives; give more, or mining=global"
        )
