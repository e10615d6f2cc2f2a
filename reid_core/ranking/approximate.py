"""Approximate search with faiss, where somebody asks for it, with the share that it finds.

Q queries, G gallery images, D dimensions.
"""

from dataclasses import dataclass

import numpy as np
import torch

from reid_core.evaluate import Embeddings, check_sides, directions

COUNT = 100  # of a query's nearest images
PROBES = 16  # lists that are searched for a query
ASKED = 256  # queries that are also answered exactly
BLOCK = 4096


@dataclass(frozen=True)
class Approximate:
    """lists (Q, count) positions in the gallery, nearest first, without junk (identity -1), which takes
    no place; -1 where faiss found fewer. recall: the share of the exact nearest `count` that is among
    them, over up to 256 queries."""

    lists: np.ndarray
    recall: float


def approximate(embeddings: Embeddings, count: int = COUNT, probes: int = PROBES) -> Approximate:
    """Each query's nearest gallery images by cosine, by inverted lists (Johnson et al. 2019).

    The gallery is cut into 4 sqrt(G) cells by k-means, and a query looks into the nearest `probes`.
    More probes find more and take longer. Raises BadInput for NaN and for an empty side.
    """
    import faiss

    queries, gallery = embeddings.query_rows, embeddings.gallery_rows
    judged = np.flatnonzero(embeddings.identities[gallery] != -1)
    gallery = gallery[judged]
    check_sides(queries, gallery)
    width = embeddings.vectors.shape[1]
    cells = int(np.clip(4 * len(gallery) ** 0.5, 1, max(1, len(gallery) // 39)))  # faiss's least
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1  # it would print a warning of small sets
    draw = np.random.default_rng(0)
    sample = np.sort(draw.choice(len(gallery), min(len(gallery), 64 * cells), replace=False))
    index.train(_units(embeddings, gallery[sample]))
    for start in range(0, len(gallery), BLOCK):
        index.add(_units(embeddings, gallery[start : start + BLOCK]))
    index.nprobe = min(probes, cells)
    count = min(count, len(gallery))
    asked = range(0, len(queries), BLOCK)
    lists = [index.search(_units(embeddings, queries[at : at + BLOCK]), count)[1] for at in asked]
    lists = np.concatenate(lists)
    some = np.sort(draw.choice(len(queries), min(len(queries), ASKED), replace=False))
    exact = _nearest(embeddings, queries[some], gallery, count)
    shares = [np.isin(*pair).mean() for pair in zip(exact, lists[some], strict=True)]
    return Approximate(np.where(lists < 0, -1, judged[lists]), float(np.mean(shares)))


def _units(embeddings: Embeddings, rows: np.ndarray) -> np.ndarray:
    """(n, D) float32 of length 1: never more than these."""
    return directions(np.asarray(embeddings.vectors[rows])).astype(np.float32)


def _nearest(embeddings: Embeddings, rows, gallery: np.ndarray, count: int) -> np.ndarray:
    """(n, count) positions in the gallery of the most similar, in no order, block by block."""
    asked = torch.from_numpy(_units(embeddings, rows))
    best = torch.empty(len(rows), 0), torch.empty(len(rows), 0, dtype=torch.int64)
    for start in range(0, len(gallery), BLOCK):
        images = torch.from_numpy(_units(embeddings, gallery[start : start + BLOCK]))
        places = torch.arange(start, start + len(images)).expand(len(rows), -1)
        similar = torch.cat([best[0], asked @ images.T], dim=1)
        places = torch.cat([best[1], places], dim=1)
        best = similar.topk(min(count, similar.shape[1]), dim=1)
        best = best.values, places.gather(1, best.indices)
    return best[1].numpy()
