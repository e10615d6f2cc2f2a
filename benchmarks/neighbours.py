"""How long the page Neighbours computes at the size of Market-1501: random features, random weights.

python benchmarks/neighbours.py [--queries 3368] [--gallery 19732] [--width 768] [--count 50]
"""

import argparse
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for reid_core

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from torch import nn

from reid_core.analysis import neighbours as near
from reid_core.evaluate import Embeddings
from reid_core.models.nformer import NeighbourTransformer, NFormerOptions
from reid_core.retrieve import retrieve


class Set(nn.Module):
    """The paper's neighbour transformer (4 layers, 2 heads, 256 wide, l = 5, k = 20), untrained."""

    def __init__(self, width: int):
        super().__init__()
        self.transformer = NeighbourTransformer(NFormerOptions(), width, 751).eval()

    def refine(self, vectors, seed=0, **counts):
        return self.transformer(F.normalize(vectors, dim=1)[None], seed, **counts)[0]


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("queries", 3368), ("gallery", 19732), ("width", 768), ("count", 50)):
        asked.add_argument(f"--{name}", type=int, default=default)
    asked = asked.parse_args()
    torch.manual_seed(0)
    found = crowd(asked.queries, asked.gallery, asked.width)
    model = Set(asked.width)
    spent, seen = took(lambda: near.attend(model, found.vectors))
    print(f"one pass over {len(found.vectors):,} images: {spent:.1f} s (kept per run and draw)")
    refined = replace(found, vectors=seen.refined, encoded=found.vectors)
    spent, _ = took(lambda: near.judged(refined))
    print(f"judging every query once: {spent:.1f} s (twice per run, for the gains)")
    alone = near.alone(refined)
    for each in (alone, refined):
        each.directions  # noqa: B018 - kept with the embeddings
    weights = seen.mean()
    picks = np.random.default_rng(0).integers(asked.queries, size=asked.count)
    show(
        "change of query",
        [took(lambda p=p: query(seen, weights, alone, refined, p))[0] for p in picks],
    )
    means = [took(lambda n=n: seen.mean(n % 4, n % 2))[0] for n in range(asked.count)]
    show("change of layer or head", means)
    print(f"memory: {psutil.Process().memory_info().rss / 1e9:.2f} GB")
    return 0


def query(seen, weights, alone: Embeddings, refined: Embeddings, position: int) -> None:
    """What a change of query computes: the graph, the shares and both ranked lists."""
    near.listened(seen, int(refined.query_rows[position]), weights)
    near.falls_on(seen, refined.identities, [refined.query_rows[position]])
    retrieve(alone, position), retrieve(refined, position)


def crowd(queries: int, gallery: int, width: int) -> Embeddings:
    """Random features of as many identities as Market-1501 has at test, 750 and distractors."""
    draw, count = np.random.default_rng(0), queries + gallery
    identities = np.concatenate([draw.integers(1, 751, queries), draw.integers(0, 751, gallery)])
    centres = draw.standard_normal((751, width), np.float32)
    return Embeddings(
        centres[identities] + 1.5 * draw.standard_normal((count, width), np.float32),
        names=np.array([f"{row}.jpg" for row in range(count)]),
        identities=identities,
        cameras=draw.integers(1, 7, count),
        views=np.full(count, -1),
        is_query=np.arange(count) < queries,
    )


def took(call):
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def show(name: str, seconds: list[float]) -> None:
    median, tail = statistics.median(seconds), statistics.quantiles(seconds, n=10)[-1]
    print(f"{name}: median {1000 * median:.0f} ms, 9th decile {1000 * tail:.0f} ms")


if __name__ == "__main__":
    sys.exit(main())
