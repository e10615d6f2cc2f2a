"""RGA: Relation-Aware Global Attention for Person Re-identification (Zhang et al., CVPR 2020).

Shapes: B images, C channels, h x w grid of a stage; an attention module sees N nodes of width D:
over space N = h * w and D = C, over channels N = C and D = h * w.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from reid_core.errors import BadInput
from reid_core.knobs import knob
from reid_core.models import cnn
from reid_core.models.attentions import CBAM, NonLocal, SimplifiedNonLocal
from reid_core.models.base import Batch, Facts, Output, ReIDModel, Tokens
from reid_core.models.neck import BNNeck
from reid_core.probe import Probe


@dataclass(frozen=True)
class RGAOptions(cnn.TrunkOptions):
    """What RGA adds to the common knobs. Defaults are the paper's RGA-SC on a ResNet-50."""

    bnneck: bool = knob(
        True, "BNNeck: normalise between the triplet and the identity loss.", "Trunk"
    )
    attention: Literal["rga", "cbam", "nl", "snl", "none"] = knob(
        "rga",
        "After each stage: relation-aware global attention, or what the paper compares it with: CBAM, "
        "a non-local block, a simplified one, nothing.",
        "Attention",
        choices=("rga", "cbam", "nl", "snl", "none"),
    )
    spatial: bool = knob(
        True, "RGA-S, section 3.2: attention over positions (CBAM's half of them too).", "Attention"
    )
    channel: bool = knob(
        True, "RGA-C, section 3.3: attention over channels (CBAM's half of them too).", "Attention"
    )
    spatial_ratio: int = knob(
        8, "By how much the embeddings reduce the number of positions.", "Attention", least=1
    )
    channel_ratio: int = knob(
        8, "By how much the embeddings reduce the number of channels.", "Attention", least=1
    )
    down_ratio: int = knob(
        8,
        "By how much the last but one convolution of the attention reduces.",
        "Attention",
        least=1,
    )


def embedding(inputs: int, outputs: int) -> nn.Sequential:
    """A 1x1 convolution, batch normalisation and ReLU: every learned function of section 3."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class RelationAware(nn.Module):
    """One attention value for each of N nodes, from its relations with all others (section 3.2).

    Nodes (B, D, rows, columns) with rows * columns = N -> (B, 1, rows, columns) between 0 and 1.
    The embeddings reduce D by width_ratio and N by node_ratio, the last but one layer by down_ratio.
    """

    def __init__(
        self,
        width: int,
        nodes: int,
        width_ratio: int,
        node_ratio: int,
        down_ratio: int,
        kind: str = "relation",
    ):
        super().__init__()
        inner, fewer = max(1, width // width_ratio), max(1, nodes // node_ratio)
        down = max(1, (1 + fewer) // down_ratio)
        self.theta, self.phi = embedding(width, inner), embedding(width, inner)
        self.own = embedding(width, inner)
        self.related = embedding(2 * nodes, fewer)
        self.weigh = nn.Sequential(
            *embedding(1 + fewer, down), nn.Conv2d(down, 1, 1, bias=False), nn.BatchNorm2d(1)
        )
        self.relation = Probe(kind)
        self.both = Probe(kind.replace("relation", "own and related"))

    def forward(self, x: Tensor) -> Tensor:
        theta, phi, own = self.embedded(x)
        own = own.mean(dim=1, keepdim=True)  # (B, 1, N)
        first = self.related[0].weight[:, :, 0, 0]  # (N/8, 2N)
        if self.relation.watched:  # the official order of sums
            related = first @ self.relation(self.relations(theta, phi))  # (B, N/8, N)
        else:
            related = without_relations(first, theta, phi)
        related = normalised(self.related, related)
        if self.both.watched:
            self.both(torch.cat([own, related], dim=1))  # (B, 1 + N/8, N)
        return self.weighed(own, related).unflatten(2, x.shape[2:])

    def weighed(self, own: Tensor, related: Tensor) -> Tensor:
        """The attention (B, 1, N) of nodes, from the mean of their own embedded feature (B, 1, N) and
        their embedded relations (B, N/8, N)."""
        joined = self.weigh[0].weight[:, :, 0, 0]  # (N/64, 1 + N/8)
        of_own, of_related = joined.split([1, related.shape[1]], dim=1)
        weights = (related.mT @ of_related.mT).mT + of_own * own  # nodes are rows, as they lie
        weights = normalised(self.weigh[:3], weights)  # (B, N/64, N)
        last = self.weigh[3].weight[:, :, 0, 0]  # (1, N/64)
        return normalised(self.weigh[3:], (weights.mT @ last.mT).mT).sigmoid()

    def embedded(self, x: Tensor) -> list[Tensor]:
        """theta, phi and the own feature of every node, (B, D/8, N) each."""
        layers = self.theta, self.phi, self.own
        # One product for the three: nodes are read, and where need be laid out anew, once.
        weight = torch.cat([layer[0].weight[:, :, 0, 0] for layer in layers])  # (3 D/8, D)
        found = (weight @ x.flatten(2)).chunk(3, dim=1)
        return [normalised(layer, each) for layer, each in zip(layers, found, strict=True)]

    @staticmethod
    def relations(theta: Tensor, phi: Tensor) -> Tensor:
        """(B, 2N, N): column i is the relation vector of node i, first the relations of i to every
        node, theta_i . phi_j, then those of every node to i, theta_j . phi_i."""
        outward = phi.transpose(1, 2) @ theta  # (B, N, N): [j, i] is theta_i . phi_j
        return torch.cat([outward, outward.transpose(1, 2)], dim=1)


def without_relations(first: Tensor, theta: Tensor, phi: Tensor) -> Tensor:
    """(B, N/8, N): the first layer (N/8, 2N) over the relations of theta and phi (B, D/8, N), without
    forming them.

    Both are products of matrices, so that those of few columns can be multiplied first. The N x N
    relations of 64 images of 256x128 would take 1 GiB after stage 1, and so after stage 4. In memory
    a node's numbers lie together, as what follows reads them.
    """
    to, back = first.chunk(2, dim=1)  # (N/8, N) each
    few = torch.cat([to @ phi.mT, back @ theta.mT], dim=2)  # (B, N/8, D/4)
    nodes = torch.cat([theta, phi], dim=1)  # (B, D/4, N)
    return (nodes.mT @ few.mT).mT


def normalised(layer: nn.Sequential, nodes: Tensor) -> Tensor:
    """(B, D', N): what follows the 1x1 convolution of a learned function, which is a product of
    matrices here and reads nodes as they lie."""
    return layer[1:](nodes.unsqueeze(2)).squeeze(2)


class RGAModule(nn.Module):
    """Spatial attention, then channel attention on what it left (section 3.3).

    (B, C, h, w) -> the same, each position and each channel scaled by its attention.
    """

    is_layer = True

    def __init__(self, channels: int, grid: tuple[int, int], options: RGAOptions):
        super().__init__()
        positions, down = grid[0] * grid[1], options.down_ratio
        ratios = options.channel_ratio, options.spatial_ratio
        self.spatial = self.channel = None
        if options.spatial:
            self.spatial = RelationAware(channels, positions, *ratios, down)
            self.spatial_gate = Probe("spatial")
        if options.channel:
            self.channel = RelationAware(
                positions, channels, *reversed(ratios), down, kind="channel relation"
            )
            self.channel_gate = Probe("channel")

    def forward(self, x: Tensor) -> Tensor:
        if self.spatial is not None:
            x = x * self.spatial_gate(self.spatial(x))  # (B, 1, h, w)
        if self.channel is not None:
            nodes = x.flatten(2).transpose(1, 2)[..., None]  # (B, h * w, C, 1)
            gate = self.channel_gate(self.channel(nodes).flatten(1))  # (B, C)
            x = x * gate[..., None, None]
        return x


def attention_after(channels: int, grid: tuple[int, int], options: RGAOptions) -> nn.Module:
    """The attention module that follows a stage of that many channels and that grid."""
    if options.attention == "rga":
        return RGAModule(channels, grid, options)
    if options.attention == "cbam":
        return CBAM(channels, options.spatial, options.channel)
    return {"nl": NonLocal, "snl": SimplifiedNonLocal}.get(options.attention, nn.Identity)(channels)


class RGA(ReIDModel):
    """A ResNet-50 whose stages are followed by attention that knows how each position relates to
    all others.

    For each of the N positions of a stage the relations with all N positions, in both directions, are
    stacked in a fixed order to a vector of 2N numbers. With the position's own feature it goes
    through a few 1x1 convolutions to one attention value (RGA-S). Then the same over channels
    (RGA-C). Attention scales the features; there is no residual path around it. The global average
    of the last stage is the feature: label-smoothed cross-entropy after BNNeck, batch-hard triplet
    with margin 0.3 before it. At test the feature before BNNeck is compared; the official test prints
    both.

    As the official code does it: channel attention sees what spatial attention left; every
    convolution of the attention, also the last one before the sigmoid, is followed by batch
    normalisation and has no bias. The size of the images decides the attention's shapes, so weights
    belong to one size.

    Ours, not the paper's: an embedding keeps at least one channel where ratios would leave none; the
    trunk can be any ResNet of timm, of any width. CBAM, the non-local block and its simplified form,
    which the paper compares with, stand at the same four places, rebuilt from their own papers.
    """

    title = "RGA"
    paper = "Zhang et al., Relation-Aware Global Attention for Person Re-identification, CVPR 2020"
    idea = "Attention that weighs each position and channel by how it relates to all others."
    Options = RGAOptions
    other_sets = (
        "The official script trains on CUHK03-NP (labelled), the only data set that its code reads. "
        "It holds no settings for Market-1501, so there the recipe is the same."
    )
    recipes = {
        # The official script for CUHK03, the only one in its repository. Its epochs count from 0, hence
        # 81 where it says 80; warm-up is one epoch ahead of it.
        "paper": {
            "size": (256, 128),
            "normalisation": "imagenet",
            "resize": "bilinear",
            "identities_per_batch": 16,
            "images_per_identity": 4,
            "sampler": "identities",
            "translate": 0.5,
            "pad": 0,
            "erase": 0.5,
            "erase_area": 0.4,
            "erase_fill": "zero",
            "epochs": 600,
            "optimizer": "adam",
            "learning_rate": 8e-4,
            "bias_learning_rate": 1.0,
            "weight_decay": 5e-4,
            "schedule": "multistep",
            "steps": "81,121,161,201,241,281,321,361",
            "decay": 0.5,
            "warmup_epochs": 20,
            "warmup_start": 0.01,
            "label_smoothing": 0.1,
            "margin": "0.3",
            "evaluate_every": 40,
        },
        # Ours: narrow, from scratch, for two CPU cores and the pedestrians.
        "demo": {
            "size": (128, 64),
            "normalisation": "imagenet",
            "identities_per_batch": 8,
            "images_per_identity": 4,
            "pad": 5,
            "erase": 0.0,
            "epochs": 16,
            "optimizer": "adam",
            "learning_rate": 2e-3,
            "bias_learning_rate": 1.0,
            "weight_decay": 5e-4,
            "schedule": "cosine",
            "warmup_epochs": 2,
            "warmup_start": 0.1,
            "final_learning_rate": 0.01,
            "label_smoothing": 0.1,
            "margin": "0.3",
            "evaluate_every": 4,
            "trunk": "resnet10t",
            "pretrained": "none",
            "width": 32,
        },
    }

    def __init__(self, options: RGAOptions, size: tuple[int, int], facts: Facts):
        super().__init__()
        if options.attention in ("rga", "cbam") and not (options.spatial or options.channel):
            raise BadInput(
                f"attention={options.attention}: neither spatial nor channel is on; turn one on, or "
                "give attention=none"
            )
        self.options, self.facts = options, facts
        self.trunk = cnn.trunk(
            options.trunk, options.pretrained, options.width, options.last_stride
        )
        widths = cnn.widths(self.trunk)
        self.grids = cnn.grids_of(size, options.last_stride)
        self.grid = self.grids[-1]
        self.attentions = nn.ModuleDict(
            {
                name: attention_after(width, grid, options)
                for name, width, grid in zip(cnn.STAGES, widths, self.grids, strict=True)
            }
        )
        self.features = nn.ModuleDict({name: Probe("features") for name in cnn.STAGES})
        self.head = BNNeck(widths[-1], facts.classes)
        if not options.bnneck:
            self.head.norm = nn.Identity()

    def tokens(self, probe: str) -> Tokens:
        return cnn.tokens_of(probe, self.grids)

    def forward(self, batch: Batch) -> Output:
        x = cnn.stem(self.trunk, batch.image)  # (B, C, H/4, W/4)
        for name, stage in cnn.stages(self.trunk):
            x = self.features[name](self.attentions[name](stage(x)))  # (B, C, h, w)
        feature = x.mean(dim=(2, 3))  # (B, C)
        normalised, branch = self.head(feature, weight=1.0)
        return Output(normalised if self.neck == "after" else feature, [branch])
