"""NFormer: Robust Person Re-identification with Neighbor Transformer (Wang et al., CVPR 2022).

Shapes: B images, S sequences of N features each, D width, H heads, l landmarks, k neighbours, C classes.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_core.device import sent
from reid_core.distributed import from_first
from reid_core.errors import BadInput
from reid_core.knobs import knob
from reid_core.models.base import Batch, Facts, Output, ReIDModel, Tokens
from reid_core.models.neck import BNNeck, Centers
from reid_core.models.resnet_bot import ResNetBoT, ResNetBoTOptions
from reid_core.probe import Probe
from reid_core.ranking.nearest import among_all, nearest

GATHERED = 2**23  # numbers at once: 32 MB in float32
ROWS = 2048  # images at a time in a layer, at test
# A weight is the exponential of an affinity, so a rounding of the affinity by 1e-7 of itself is one of
# the weight by that many times the affinity: beyond this, float32 does not do.
LARGEST = 16.0


class Saturated(Exception):
    """An affinity in float32 is larger than LARGEST."""


@dataclass(frozen=True)
class NFormerOptions:
    """What NFormer adds to the common knobs, which are its encoder's. Defaults are the paper's."""

    encoder: str = knob(
        "",
        "The run whose embeddings are refined; images are then read as it reads them (size, "
        "normalisation). Empty: an encoder of its own (a ResNet with BNNeck) is trained first.",
        "Encoder",
        kind="run",
    )
    trunk: str = knob("resnet50.tv_in1k", "The timm name of the own encoder's ResNet.", "Encoder")
    pretrained: str = knob(
        "timm", "Weights of that trunk: none, timm (ImageNet, downloaded), or a file.", "Encoder"
    )
    trunk_width: int = knob(
        0,
        "Channels of that trunk's first stage; 0 is the trunk's own.",
        "Encoder",
        least=0,
        most=1024,
    )
    stem_relu: bool = knob(
        False,
        "A ReLU after that trunk's first normalisation. The official encoder leaves it out.",
        "Encoder",
    )
    width: int = knob(
        256,
        "Width of a feature. An own encoder projects to it; features of another run of another width "
        "are projected by a learned matrix (ours).",
        "Neighbour transformer",
        least=2,
        most=8192,
    )
    layers: int = knob(
        4, "Layers of the neighbour transformer.", "Neighbour transformer", least=1, most=256
    )
    heads: int = knob(2, "Attention heads; the width is divided.", "Neighbour transformer", least=1)
    landmarks: int = knob(
        5,
        "l: images drawn at random through which all others are compared (section 3.2).",
        "Neighbour transformer",
        least=1,
    )
    neighbours: int = knob(
        20,
        "k: an image attends to those among its k nearest that have it among theirs; itself counts "
        "(section 3.3).",
        "Neighbour transformer",
        least=1,
    )
    dropout: float = knob(
        0.1,
        "Dropout after attention and feed-forward.",
        "Neighbour transformer",
        least=0,
        most=0.9,
    )
    landmark_seed: int = knob(
        0,
        "Seed of the landmarks at test, so that a score can be repeated; -1 draws them anew at each "
        "pass, as the official code does.",
        "Neighbour transformer",
        least=-1,
        most=2**63 - 1,
    )
    passes: int = knob(
        20,
        "Second stage: passes over the stored training features.",
        "Second stage",
        least=1,
        most=1_000_000,
    )
    sequence: int = knob(
        7000,
        "Features in a sequence, at most as many as there are training images. They are drawn from "
        "the up to twice as many nearest to a random one.",
        "Second stage",
        least=2,
    )
    sequences_per_batch: int = knob(2, "Sequences in a batch.", "Second stage", least=1)
    images_per_sequence: int = knob(
        30, "A pass is one sequence for so many training images.", "Second stage", least=1
    )
    pass_learning_rate: float = knob(
        1e-5, "Learning rate of the second stage (Adam, constant).", "Second stage", least=0
    )
    normalise_training: bool = knob(
        False,
        "L2-normalise the features in training too. The official code does so at test only.",
        "Second stage",
    )
    center_weight: float = knob(
        5e-4,
        "Weight of the centre loss in both stages; its centres have an optimiser of their own.",
        "Second stage",
        least=0,
    )


class NeighbourAttention(nn.Module):
    """Landmark agent attention with a reciprocal neighbour softmax (sections 3.2 and 3.3).

    The affinity of images i and j is (q_i . k_L)(q_L . k_j) / sqrt(D / H), summed over l landmarks L:
    two thin products in place of N x N x D. It is taken only where i and j are among each other's k
    nearest, and the softmax runs over those alone. No N x N matrix is formed: everything lies on the
    k neighbours of an image.
    """

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.drawn = Probe("landmarks")
        self.projected = Probe("neighbour projections")
        self.weights = Probe("neighbours")

    def forward(self, x: Tensor, landmarks: Tensor, neighbours: Tensor, mutual: Tensor) -> Tensor:
        """x (S, N, D); landmarks (l,); neighbours (S, N, k) rows of the sequence; mutual (S, N, k)."""
        return self.hear(*self.projections(x, landmarks), neighbours, mutual)

    def projections(self, x: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """left and right (S, H, N, e), whose products are affinities, and v (S, H, N, D/H)."""
        landmarks = self.drawn(landmarks)
        whole = torch.is_grad_enabled() or self.training or torch.compiler.is_exporting()
        if whole or self.projected.watched:
            q, k, v = self.projected(self.split(x))  # (S, H, N, D/H) each
            return *through(q, k, q[:, :, landmarks], k[:, :, landmarks]), v
        return self.tables(x, *self.split(x[:, landmarks])[:2])

    def tables(
        self, x: Tensor, q_landmarks: Tensor, k_landmarks: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same without gradients, some images at a time: queries and keys need no memory."""
        tables: list[Tensor] = []
        for start, part in zip(range(0, x.shape[1], ROWS), x.split(ROWS, dim=1), strict=True):
            q, k, v = self.split(part)
            thin = through(q, k, q_landmarks, k_landmarks)
            parts = [each.transpose(1, 2) for each in (*thin, v)]  # (S, n, H, ...)
            # Images before heads in memory, as the rows of a table.
            tables = tables or [
                each.new_empty(len(x), x.shape[1], *each.shape[2:]) for each in parts
            ]
            for table, each in zip(tables, parts, strict=True):
                table[:, start : start + each.shape[1]] = each
        return tuple(table.transpose(1, 2) for table in tables)

    def hear(
        self, left: Tensor, right: Tensor, v: Tensor, neighbours: Tensor, mutual: Tensor
    ) -> Tensor:
        """What n of the images hear: left (S, H, n, e); neighbours, mutual (S, n, k) -> (S, n, D)."""
        affinity = affinities(left, right, neighbours) / math.sqrt(v.shape[-1])  # (S, H, n, k)
        if not self.training:
            refuse_saturated(affinity)
        weights = self.weights(reciprocal_softmax(affinity, mutual[:, None], self.training))
        said = listen(weights, v, neighbours)  # (S, H, n, D/H)
        return self.dropout(self.out(said.transpose(1, 2).flatten(2)))

    def split(self, x: Tensor) -> Tensor:
        """Queries, keys and values of images x (S, N, D): (3, S, H, N, D/H)."""
        qkv = self.qkv(x).unflatten(2, (3, self.heads, -1))  # (S, N, 3, H, D/H)
        return qkv.permute(2, 0, 3, 1, 4)


def landmark_affinity(q: Tensor, k: Tensor, landmarks: Tensor, neighbours: Tensor) -> Tensor:
    """(q_i . k_L)(q_L . k_j) / sqrt(D / H), summed over landmarks L, for the neighbours j of each i.

    q, k (S, H, N, D/H); landmarks (l,); neighbours (S, N, k) -> (S, H, N, k).
    """
    left, right = through(q, k, q[:, :, landmarks], k[:, :, landmarks])
    return affinities(left, right, neighbours) / math.sqrt(q.shape[-1])


def through(
    q: Tensor, k: Tensor, q_landmarks: Tensor, k_landmarks: Tensor
) -> tuple[Tensor, Tensor]:
    """left, right (S, H, N, e), the thinnest whose products are the affinities through landmarks.

    q, k (S, H, N, E) of images; q_landmarks, k_landmarks (S, H, l, E).
    """
    if torch.compiler.is_exporting() or q_landmarks.shape[2] <= q.shape[-1]:
        return q @ k_landmarks.mT, k @ q_landmarks.mT  # (S, H, N, l) each
    return q @ (k_landmarks.mT @ q_landmarks), k  # (S, H, N, E) each: over the landmarks first


def affinities(left: Tensor, right: Tensor, neighbours: Tensor) -> Tensor:
    """Products of each of n images' rows with its neighbours' rows: left (S, H, n, e), right
    (S, H, N, e), neighbours (S, n, k) -> (S, H, n, k)."""

    def affinity(rows: Tensor, near: Tensor) -> Tensor:
        return torch.einsum("shne,shnke->shnk", rows, gather(right, near))

    return by_rows(affinity, left, neighbours, right)


def listen(weights: Tensor, v: Tensor, neighbours: Tensor) -> Tensor:
    """What the neighbours say, by weight: (S, H, n, k), v (S, H, N, E) -> (S, H, n, E)."""
    if not torch.compiler.is_exporting() and not (torch.is_grad_enabled() and v.requires_grad):
        return _listen_at_test(weights, v, neighbours)

    def said(rows: Tensor, near: Tensor) -> Tensor:
        return torch.einsum("shnk,shnke->shne", rows, gather(v, near))

    return by_rows(said, weights, neighbours, v)


def _listen_at_test(weights: Tensor, v: Tensor, neighbours: Tensor) -> Tensor:
    """The same, 15 times as fast: torch's sum of weighted rows of a table copies no row."""
    sequences, heads, count, width = v.shape
    table = at_least_float32(v.transpose(1, 2).reshape(-1, width))  # (S * N * H, E)
    first = torch.arange(sequences, device=v.device)[:, None, None] * count
    head = torch.arange(heads, device=v.device)[:, None]
    rows = (neighbours + first)[:, :, None] * heads + head  # (S, n, H, k) of the table
    weights = weights.transpose(1, 2).to(table.dtype)  # (S, n, H, k)
    said = F.embedding_bag(
        rows.flatten(0, 2), table, per_sample_weights=weights.flatten(0, 2), mode="sum"
    )
    return said.view(sequences, -1, heads, width).transpose(1, 2).to(v.dtype)


def by_rows(function: Callable[..., Tensor], rows: Tensor, near: Tensor, x: Tensor) -> Tensor:
    """function(rows (S, H, n, ...), near (S, n, k)) for all N rows, as many at once as gathering
    from x (S, H, N, E) leaves memory for."""
    if torch.compiler.is_exporting():  # one graph serves every number of images
        return function(rows, near)
    size = max(1, GATHERED // (near.shape[2] * x[:, :, 0].numel()))
    parts = zip(rows.split(size, dim=2), near.split(size, dim=1), strict=True)
    return torch.cat([function(*part) for part in parts], dim=2)


def gather(x: Tensor, neighbours: Tensor) -> Tensor:
    """x (S, H, N, E) and neighbours (S, n, k) -> the neighbours' rows (S, H, n, k, E)."""
    sequence = torch.arange(len(x), device=x.device)[:, None, None]
    return x.movedim(1, 2)[sequence, neighbours].movedim(3, 1)


def reciprocal_softmax(affinity: Tensor, mutual: Tensor, training: bool) -> Tensor:
    """Softmax over the mutual neighbours alone (eq. 8). affinity, mutual broadcast to (..., k).

    At test an affinity of exactly 0 counts as no neighbour, as in the official code, whose sparse
    softmax can't tell the two apart; a row without any neighbour is 0.
    """
    support = mutual if training else mutual & (affinity != 0)
    weights = at_least_float32(affinity).masked_fill(~support, -torch.inf).softmax(dim=-1)
    return weights.nan_to_num(0.0).to(affinity.dtype)


def at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def refuse_saturated(affinity: Tensor) -> None:
    """Raises Saturated where float32 is too coarse; a graph can't ask, nor can lower precision help."""
    asked = affinity.dtype == torch.float32 and not torch.is_grad_enabled()
    if asked and not torch.compiler.is_compiling() and not torch.compiler.is_exporting():
        least, most = affinity.aminmax()
        if max(-least.item(), most.item()) > LARGEST:
            raise Saturated


@torch.compiler.disable
def mutual_neighbours(vectors: Tensor, k: int, wait: bool = True) -> tuple[Tensor, Tensor]:
    """Whom each image of a set resembles most, by cosine, and whether that is mutual (eq. 7).

    vectors (N, D) -> neighbours (N, k) rows, the image itself counted, nearest first, ties by row;
    and mutual (N, k) bool. k shrinks to N. Raises BadInput for NaN. No (N, N) matrix is formed.
    wait: a GPU may be asked whether float32 was enough; without, it takes float64 and NaN unasked.
    """
    units = F.normalize(vectors.detach().float(), dim=1)
    ask = wait or units.device.type == "cpu"
    neighbours = nearest(units, k).rows if ask else among_all(units, units, k)[0]
    return neighbours, is_mutual(neighbours)


def is_mutual(neighbours: Tensor) -> Tensor:
    """Whether each of its neighbours (N, k) has an image among its own: (N, k) bool."""
    own = torch.arange(len(neighbours), device=neighbours.device)[:, None, None]
    size = max(1, GATHERED // neighbours.shape[1] ** 2)
    parts = zip(neighbours.split(size), own.split(size), strict=True)
    return torch.cat([(neighbours[near] == row).any(dim=2) for near, row in parts])


class NeighbourLayer(nn.Module):
    """A post-norm transformer layer over images in place of tokens."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.attention = NeighbourAttention(width, heads, dropout)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.GELU(approximate="tanh"),
            nn.Linear(4 * width, width),
            nn.Dropout(dropout),
        )

    def forward(
        self,
        x: Tensor,
        landmarks: Tensor,
        neighbours: Tensor,
        mutual: Tensor,
        into: Tensor | None = None,
    ) -> Tensor:
        """x (S, N, D), the others as `NeighbourAttention` takes them -> (S, N, D). into: memory that
        may be used for it without gradients, x's own too."""
        if torch.is_grad_enabled() or torch.compiler.is_exporting():
            return self.think(x, self.attention(x, landmarks, neighbours, mutual))
        projections = self.attention.projections(x, landmarks)
        return self.in_parts(x, *projections, neighbours, mutual, into=into)

    def in_parts(
        self,
        x: Tensor,
        left: Tensor,
        right: Tensor,
        v: Tensor,
        *graph: Tensor,
        into: Tensor | None = None,
    ) -> Tensor:
        """What becomes of n images x (S, n, D), left (S, H, n, e), without gradients: some at a time,
        unless somebody watches whom they all listen to. into: memory for it, which may be x's own."""
        watched = self.attention.weights.watched or self.attention.projected.watched
        size = max(1, x.shape[1]) if watched else ROWS
        found = torch.empty_like(x) if into is None else into
        rows = (each.split(size, dim=1) for each in (found, x, left.transpose(1, 2), *graph))
        for out, image, own, *near in zip(*rows, strict=True):
            out.copy_(self.think(image, self.attention.hear(own.transpose(1, 2), right, v, *near)))
        return found

    def think(self, x: Tensor, said: Tensor) -> Tensor:
        """Each image by itself, x (S, n, D), after what its neighbours said (S, n, D)."""
        x = self.norm1(x + said)
        return self.norm2(x + self.feed_forward(x))


class NeighbourTransformer(nn.Module):
    """What is trained in the second stage: features of many images in, refined features out."""

    def __init__(self, options: NFormerOptions, width: int, classes: int):
        super().__init__()
        self.options = options
        self.graph = Probe("neighbour graph")
        self.project = nn.Identity()
        if width != options.width:
            self.project = nn.Linear(width, options.width, bias=False)
            nn.init.orthogonal_(self.project.weight)
        if options.width % options.heads:
            raise BadInput(
                f"heads: a width of {options.width} can't be divided by {options.heads} heads"
            )
        self.layers = nn.ModuleList(
            NeighbourLayer(options.width, options.heads, options.dropout)
            for _ in range(options.layers)
        )
        for linear in (m for m in self.layers.modules() if isinstance(m, nn.Linear)):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        self.neck = BNNeck(options.width, classes)
        if options.center_weight:
            self.centers = Centers(options.width, classes, options.center_weight)

    def forward(
        self,
        vectors: Tensor,
        seed: int | None = None,
        landmarks: int | None = None,
        neighbours: int | None = None,
    ) -> Tensor:
        """(S, N, D') -> (S, N, D) before BNNeck. seed of the landmarks; None draws from torch's.

        landmarks and neighbours are l and k where they are not to be the knobs'.
        """
        landmarks = landmarks or self.options.landmarks
        k = neighbours or self.options.neighbours
        graphs = [mutual_neighbours(each, k, wait=not self.training) for each in vectors]
        near, mutual = (torch.stack(part) for part in zip(*graphs, strict=True))  # (S, N, k)
        if self.graph.watched:
            self.graph(torch.stack([near, mutual.long()]))
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        count = vectors.shape[1]
        draw = cache(lambda layer: torch.randperm(count, generator=generator)[:landmarks])
        x = self.project(vectors)  # (S, N, D)
        try:
            return through_layers(self.layers, x, draw, near, mutual)
        except Saturated:
            layers = in_float64(self.layers)
            return through_layers(layers, x.double(), draw, near, mutual).to(x.dtype)


def through_layers(
    layers: nn.ModuleList, x: Tensor, draw: Callable[[int], Tensor], *graph: Tensor
) -> Tensor:
    """x (S, N, D) through the layers, each with landmarks (l,) of its own."""
    for number, layer in enumerate(layers):
        drawn = sent(draw(number), x.device)
        drawn = from_first(drawn) if layer.training else drawn
        x = layer(x, drawn, *graph, into=x if number else None)  # the first x is the caller's
    return x


def in_float64(layers: nn.ModuleList) -> nn.ModuleList:
    """The same layers, seen through the same windows."""
    windows = {id(each): each for each in layers.modules() if isinstance(each, Probe)}
    return deepcopy(layers, windows).double()


class NFormer(ReIDModel):
    """A transformer over images: each image's feature is refined by those that it resembles.

    An encoder (a ResNet-50 with last stride 1, a projection to 256 and BNNeck, or any run) gives each
    image a feature. The neighbour transformer takes the features of a whole set as one sequence.
    Landmark agent attention compares images through l random ones; reciprocal neighbour softmax
    lets an image attend only to those among its k nearest that have it among theirs. At test the
    queries and the gallery are one set.

    Training has two stages. First the encoder alone: identity loss with label smoothing, batch-hard
    triplet, centre loss. Then the neighbour transformer over stored features of the augmented
    training images, the encoder frozen: the same three losses over long sequences around a random
    image.

    As the official code does it, where the paper is silent or differs:
    neighbours are found once, by cosine on the encoder's features after BNNeck, and serve all layers;
    the features are L2-normalised at test but not in training; queries attend to each other, which the
    paper's text excludes (protocol `nformer-joint`; `nformer-per-query` is one set of a single query
    and the gallery for each query); an affinity of exactly 0 counts as no neighbour at test; the
    encoder's stem has no ReLU; its centres move by SGD of their own.

    Ours, not the paper's: the landmarks at test are drawn from a seed; where affinities are so large
    that float32 is too coarse for their softmax, the layers run in float64 at test; sequences and the numbers of
    landmarks and neighbours shrink to the set where it is smaller; the number of classes follows the
    data (the official one is always 751); the features of a run as encoder are projected by a learned
    matrix where their width differs.
    """

    title = "NFormer"
    paper = (
        "Wang et al., NFormer: Robust Person Re-identification with Neighbor Transformer, CVPR 2022"
    )
    idea = (
        "A transformer whose tokens are images: each is refined by its mutual nearest neighbours."
    )
    Options = NFormerOptions
    refines = True
    other_sets = "The recipe is Market-1501's, the only one that the authors publish."
    recipes = {
        # Official softmax_triplet_with_center.yml for Market-1501, both stages.
        "paper": ResNetBoT.recipes["paper"] | {"trunk": "resnet50.tv_in1k", "pretrained": "timm"},
        # Ours: small, from scratch, for two CPU cores and the pedestrians.
        "demo": ResNetBoT.recipes["demo"]
        | {
            "trunk_width": 32,
            "width": 128,
            "layers": 2,
            "landmarks": 5,
            "neighbours": 8,
            "passes": 6,
            "sequence": 600,
            "pass_learning_rate": 5e-4,
        },
    }

    def __init__(
        self,
        options: NFormerOptions,
        size: tuple[int, int],
        facts: Facts,
        encoder: ReIDModel | None = None,
    ):
        super().__init__()
        self.options, self.facts = options, facts
        self.encoder = encoder or ResNetBoT(own_encoder(options), size, facts)
        # What is refined is always the feature after BNNeck.
        self.encoder.neck = "after"
        self.grid, self.prefix_tokens = self.encoder.grid, self.encoder.prefix_tokens
        self.window = self.encoder.window
        width = embedding_width(self.encoder, size)
        self.transformer = NeighbourTransformer(options, width, facts.classes)

    def forward(self, batch: Batch) -> Output:
        """Images: the encoder's output. Sequences of stored features: the neighbour transformer's."""
        if batch.vectors is None:
            return self.encoder(batch)
        vectors = batch.vectors  # (S, N, D')
        if self.options.normalise_training:
            vectors = F.normalize(vectors, dim=2)
        feature = self.transformer(vectors).flatten(0, 1)  # (S * N, D)
        normalised, branch = self.transformer.neck(feature, weight=1.0)
        losses = {}
        if batch.identity is not None and self.options.center_weight:
            losses["center"] = self.transformer.centers(feature, batch.identity)
        return Output(normalised if self.neck == "after" else feature, [branch], losses)

    def tokens(self, probe: str) -> Tokens:
        """The encoder's, whose probes bear its name."""
        return self.encoder.tokens(probe.removeprefix("encoder."))

    def refine(self, vectors: Tensor, seed: int | None = None, **counts: int) -> Tensor:
        """(N, D') features of a whole set, from the encoder after BNNeck -> (N, D).

        seed of the landmarks; None is the knob's. counts: other landmarks or neighbours than the knobs'.
        """
        seed = self.options.landmark_seed if seed is None else seed
        vectors = F.normalize(vectors, dim=1)
        feature = self.transformer(vectors[None], None if seed < 0 else seed, **counts)[0]  # (N, D)
        return self.transformer.neck.norm(feature) if self.neck == "after" else feature


@torch.no_grad()
def embedding_width(model: ReIDModel, size: tuple[int, int]) -> int:
    """D of a model's embeddings, whichever model it is: that of one black image."""
    unknown = torch.full((1,), -1)
    training = model.training
    found = model.eval()(Batch(torch.zeros(1, 3, *size), unknown, unknown)).embedding
    model.train(training)
    return found.shape[1]


def own_encoder(options: NFormerOptions) -> ResNetBoTOptions:
    """The knobs of the encoder that is trained in the first stage."""
    return ResNetBoTOptions(
        trunk=options.trunk,
        pretrained=options.pretrained,
        width=options.trunk_width,
        stem_relu=options.stem_relu,
        projection=options.width,
        center_weight=options.center_weight,
    )
