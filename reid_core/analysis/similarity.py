"""Why two images are similar: what each position adds, and which positions answer each other.

Ours, for every model alike: leave-one-out (Zeiler and Fergus 2014 blank a square in this way), taken
from a class's score to the similarity of two embeddings.

Shapes: N = h * w positions of the query, M of the gallery image, D dimensions.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from reid_core.analysis.occlusion import Embed, cells, cosine, embedded, one_by_one
from reid_core.models.base import Tokens


@dataclass(frozen=True)
class LeftOut:
    """An image's embedding, and what it would be without a position.

    embedding (D,); blank (D,) of the image with nothing left; without (N, D), one position gone each.
    """

    embedding: np.ndarray
    blank: np.ndarray
    without: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> "LeftOut":
        """From embeddings (2 + N, D) in the order of `one_by_one`."""
        return cls(vectors[0], vectors[1], vectors[2:])

    @property
    def moved(self) -> np.ndarray:
        """(N, D) t_i = e - e without i: what position i adds to the embedding, the rest being there."""
        return self.embedding - self.without


class Link(NamedTuple):
    """Position `query` of the query and position `gallery` of the gallery image, and their share."""

    query: int
    gallery: int
    share: float


def left_out(embed: Embed, pixels: Tensor, tokens: Tokens) -> LeftOut:
    """Leave out each position of an image (3, H, W) in 0..1 in turn: 2 + N passes."""
    where = cells(tokens, pixels.shape[-2:])
    count = tokens.grid[0] * tokens.grid[1]
    return LeftOut.of(embedded(embed, pixels, where, one_by_one(count)))


def contributions(query: LeftOut, gallery: np.ndarray) -> np.ndarray:
    """(N,) c_i = s(q, g) - s(q without i, g), s the cosine; gallery is the embedding (D,)."""
    return cosine(query.embedding, gallery) - cosine(query.without, gallery)


def pairs(query: LeftOut, gallery: LeftOut) -> np.ndarray:
    """(N, M) P_ij = <t_i(q), t_j(g)> / (|e_q| |e_g|): how far two positions move the embeddings the
    same way. Their sum is s only where each embedding is the sum of what its positions add."""
    lengths = np.linalg.norm(query.embedding) * np.linalg.norm(gallery.embedding)
    return query.moved @ gallery.moved.T / max(lengths, 1e-12)


def strongest(shares: np.ndarray, count: int, apart: bool = False) -> list[Link]:
    """The pairs (N, M) that add most to the similarity, or take most from it, strongest first.

    Only those on that side of zero.
    """
    ranked = shares if apart else -shares
    chosen = np.argsort(ranked, axis=None, kind="stable")[:count]
    found = [Link(*divmod(int(at), shares.shape[1]), float(shares.flat[at])) for at in chosen]
    return [link for link in found if (link.share < 0 if apart else link.share > 0)]


@dataclass(frozen=True)
class Account:
    """What a similarity is made of, and what stays unexplained.

    similarity s(q, g); blank s of the query with nothing left and g; positions the sum of all c_i;
    pairs the sum of all P_ij.
    """

    similarity: float
    blank: float
    positions: float
    pairs: float

    @property
    def beyond_positions(self) -> float:
        """s - sum of c_i."""
        return self.similarity - self.positions

    @property
    def beyond_pairs(self) -> float:
        """s - sum of P_ij."""
        return self.similarity - self.pairs


def account(query: LeftOut, gallery: LeftOut) -> Account:
    """The sums of `contributions` and `pairs` beside the similarity itself."""
    target = gallery.embedding
    return Account(
        float(cosine(query.embedding, target)),
        float(cosine(query.blank, target)),
        float(contributions(query, target).sum()),
        float(pairs(query, gallery).sum()),
    )
