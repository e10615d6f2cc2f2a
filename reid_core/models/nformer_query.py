"""NFormer where each query meets the gallery alone, without refining the gallery again for each.

Shapes: G gallery images, D' width of an encoder's feature, D of a refined one, k neighbours, H heads,
E width of a head, q queries. Tables have a row for each gallery image and a last one for the query.

The gallery is refined once by itself, and every layer's inputs and projections are kept. A query then
changes: its own row; the gallery images whose k nearest it enters, which lose their farthest, and
those farthest where that was mutual; and, layer by layer, whoever listens to somebody that changed.
Only those rows are computed again and everything else is taken as it was, so the result is that of
refining the 1 + G images, up to float32's rounding. The landmarks are the same images as there. Where
one of a layer's is among the changed, all affinities change: from that layer on all rows are computed.
Where the query itself is drawn as a landmark, or the gallery has fewer than k images, so is everything.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_core.models.nformer import (
    NeighbourLayer,
    NFormer,
    Saturated,
    in_float64,
    is_mutual,
)
from reid_core.ranking.nearest import first, nearest, rounded


@dataclass(frozen=True)
class Met:
    """A query and the gallery, refined as one set. query (D,); rows (m,) of the gallery that came out
    otherwise than without the query, and what came out, vectors (m, D); computed, how many rows all
    layers together computed."""

    query: Tensor
    rows: Tensor
    vectors: Tensor
    computed: int


@dataclass(frozen=True)
class Kept:
    """One layer's pass over the gallery. x (G + 1, D) inputs; left, right (1, G + 1, H, e) whose
    products are affinities; v (1, G + 1, H, E); landmarks (l,) rows of these tables, and their own
    queries and keys (1, H, l, E)."""

    layer: NeighbourLayer
    x: Tensor
    left: Tensor
    right: Tensor
    v: Tensor
    landmarks: Tensor
    through: tuple[Tensor, Tensor]


class GalleryPass:
    """A gallery that was refined by itself, ready to meet queries one at a time. Not for two threads
    at once: a query is written into its tables and taken out again."""

    @torch.no_grad()
    def __init__(self, model: NFormer, gallery: Tensor, seed: int | None = None):
        """gallery (G, D') features from the encoder; seed of the landmarks; None is the knob's. Where
        that draws them anew at each pass, they are drawn once here."""
        self.model, options = model, model.options
        seed = options.landmark_seed if seed is None else seed
        self.seed = seed if seed >= 0 else int(torch.randint(2**31, (1,)))
        self.gallery, self.count, self.k = gallery, len(gallery), options.neighbours
        drawn = self._draw()
        self.alone = self.count >= self.k and not any((rows == 0).any() for rows in drawn)
        if not self.alone:
            return
        normalised = F.normalize(gallery, dim=1)
        self.units = F.normalize(normalised.float(), dim=1)
        found = nearest(self.units, self.k)
        self.farthest = found.distances[:, -1]  # (G,) of the k nearest
        last = torch.zeros(1, self.k, dtype=torch.long, device=gallery.device)
        self.near = torch.cat([found.rows, last])  # (G + 1, k)
        self.mutual = torch.cat([is_mutual(found.rows), last.bool()])
        x, drawn = model.transformer.project(normalised), [r.to(gallery.device) - 1 for r in drawn]
        try:
            self._refine(model.transformer.layers, x, drawn)
        except Saturated:
            self._refine(in_float64(model.transformer.layers), x.double(), drawn)

    def _refine(self, layers: nn.ModuleList, x: Tensor, drawn: list[Tensor]) -> None:
        """Keep what each layer makes of the gallery (G, D), in the precision of x."""
        self.layers: list[Kept] = []
        rows = torch.arange(self.count, device=x.device)
        for layer, landmarks in zip(layers, drawn, strict=True):
            self.layers.append(_kept(layer, F.pad(x, (0, 0, 0, 1)), landmarks))
            x = self._next(self.layers[-1], rows)
        self.refined = self._out(x)  # (G, D)

    def _draw(self) -> list[Tensor]:
        """Rows (l,) of the set of 1 + G images for each layer, as `NeighbourTransformer` draws them."""
        generator, options = torch.Generator().manual_seed(self.seed), self.model.options
        return [
            torch.randperm(1 + self.count, generator=generator)[: options.landmarks]
            for _ in range(options.layers)
        ]

    @torch.no_grad()
    def meet(self, queries: Tensor) -> list[Met]:
        """Each of some queries (q, D') and the gallery as one set."""
        if not self.alone:
            return [self._whole(query) for query in queries]
        normalised = F.normalize(queries, dim=1)
        units = F.normalize(normalised.float(), dim=1).double()
        away = rounded(units @ self.units.double().T)  # (q, G)
        own = rounded((units * units).sum(1, keepdim=True))  # (q, 1)
        x = self.model.transformer.project(normalised)
        away, met = torch.cat([own, away], dim=1), []  # (q, 1 + G)
        for query, first_input, row in zip(queries, x, away, strict=True):
            try:
                met.append(self._one(first_input.to(self.layers[0].x.dtype), row))
            except Saturated:  # by this query alone
                met.append(self._whole(query))
        return met

    def _whole(self, query: Tensor) -> Met:
        """By refining the whole set."""
        found = self.model.refine(torch.cat([query[None], self.gallery]), seed=self.seed)
        rows = torch.arange(self.count, device=found.device)
        return Met(found[0], rows, found[1:], len(found) * self.model.options.layers)

    def _one(self, x: Tensor, away: Tensor) -> Met:
        """x (D,) the query's first input; away (1 + G,) its distances, to itself first."""
        old: list[tuple[Tensor, Tensor, Tensor]] = []
        try:
            support = self._enter(away, old)
            rows, values, computed = support[:1], x[None], 0  # what comes into a layer changed
            for number, kept in enumerate(self.layers):
                _put(kept.x, rows, values, old)
                if torch.isin(kept.landmarks, rows).any():
                    values = self._from(number)
                    rows = torch.arange(self.count + 1, device=x.device)
                    computed += (len(self.layers) - number) * len(rows)
                    break
                for table, new in zip(
                    (kept.left, kept.right, kept.v), _projected(kept, values), strict=True
                ):
                    _put(table[0], rows, new[0], old)
                listeners = self.near[rows][self.mutual[rows]]  # being mutual goes both ways
                rows = torch.cat([rows, support, listeners]).unique()
                values = self._next(kept, rows)
                computed += len(rows)
        finally:
            for table, where, what in reversed(old):
                table[where] = what
        out = self._out(values)
        return Met(out[-1], rows[:-1], out[:-1], computed)  # the query's row is the last of all

    def _enter(self, away: Tensor, old: list) -> Tensor:
        """Write the query into the k-sets. Rows whose mutual neighbours change, the query's first.

        The query is the first image of its set: it goes before those at the same distance.
        """
        own = self.count
        mine = first(away, self.k) - 1  # rows of the gallery; -1 is the query itself
        mine = torch.where(mine < 0, own, mine)
        entered = (away[1:] <= self.farthest).nonzero().flatten()
        pushed, was = self.near[entered, -1], self.mutual[entered, -1]
        both = torch.isin(entered, mine)
        last = torch.full_like(entered, self.k - 1)
        query = torch.tensor([own], device=away.device)
        _put(self.near, query, mine[None], old)
        _put(self.mutual, query, (torch.isin(mine, entered) | (mine == own))[None], old)
        _put(self.near, (entered, last), torch.full_like(entered, own), old)
        _put(self.mutual, (entered, last), both, old)
        place, column = (self.near[pushed] == entered[:, None]).nonzero(as_tuple=True)
        _put(self.mutual, (pushed[place], column), torch.zeros_like(place, dtype=torch.bool), old)
        return torch.cat([query, entered[both | was], pushed[was]])

    def _next(self, kept: Kept, rows: Tensor) -> Tensor:
        """What a layer makes of some rows (n,) of its tables: (n, D)."""
        near, mutual = self.near[rows][None], self.mutual[rows][None]  # (1, n, k)
        left, right, v = (t.transpose(1, 2) for t in (kept.left[:, rows], kept.right, kept.v))
        return kept.layer.in_parts(kept.x[rows][None], left, right, v, near, mutual)[0]

    def _from(self, number: int) -> Tensor:
        """All rows (G + 1, D), from the inputs of a layer on."""
        x = self.layers[number].x[None]
        for kept in self.layers[number:]:
            x = kept.layer(x, kept.landmarks, self.near[None], self.mutual[None])
        return x[0]

    def _out(self, x: Tensor) -> Tensor:
        x = x.to(self.gallery.dtype)
        return self.model.transformer.neck.norm(x) if self.model.neck == "after" else x


def _kept(layer: NeighbourLayer, x: Tensor, landmarks: Tensor) -> Kept:
    """A layer's tables for its inputs x (G + 1, D)."""
    q, k, _ = layer.attention.split(x[landmarks][None])
    kept = Kept(layer, x, *([torch.empty(0)] * 3), landmarks, (q, k))
    tables = _projected(kept, x)
    return Kept(layer, x, *tables, landmarks, (q, k))


def _projected(kept: Kept, x: Tensor) -> list[Tensor]:
    """left, right, v (1, n, H, ...) of rows x (n, D) that come into a layer."""
    tables = kept.layer.attention.tables(x[None], *kept.through)
    return [table.transpose(1, 2).contiguous() for table in tables]


def _put(table: Tensor, where, what: Tensor, old: list) -> None:
    """Write into a table, and remember what was there."""
    old.append((table, where, table[where].clone()))
    table[where] = what
