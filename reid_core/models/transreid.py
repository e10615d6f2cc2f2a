"""TransReID: Transformer-based Object Re-Identification (He et al., ICCV 2021).

Shapes: B images, N patches, D width, P parts, C classes; tokens are (B, 1 + N, D), class token first.
"""

import copy
from dataclasses import dataclass, replace
from typing import Literal

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from reid_core.errors import BadInput
from reid_core.knobs import knob
from reid_core.models import vit
from reid_core.models.base import Batch, Facts, Output, ReIDModel, Tokens
from reid_core.models.neck import BNNeck, halved


@dataclass(frozen=True)
class TransReIDOptions(vit.ViTOptions):
    """What TransReID adds to the trunk's knobs. Defaults are the paper's."""

    sie: Literal["none", "camera", "view", "both"] = knob(
        "camera",
        "Side information embedding (section 3.3): a learned vector for each camera, view, or pair "
        "of both, added to every token.",
        "Side information",
        choices=("none", "camera", "view", "both"),
    )
    sie_coefficient: float = knob(
        3.0, "Weight of the side information embedding (lambda, eq. 5).", "Side information"
    )
    jpm: bool = knob(
        True,
        "Jigsaw patch module (section 3.2): a second branch of local features over shifted and "
        "shuffled patches.",
        "Jigsaw patches",
    )
    rearrange: bool = knob(
        True, "Shift and shuffle the patches; otherwise parts are stripes.", "Jigsaw patches"
    )
    shift: int = knob(
        5,
        "Patches moved to the end before shuffling. The official code moves shift - 1 (its index "
        "counts the class token); so do we.",
        "Jigsaw patches",
        least=1,
    )
    groups: int = knob(2, "Groups of the patch shuffle.", "Jigsaw patches", least=1)
    parts: int = knob(4, "Local features.", "Jigsaw patches", least=1)

    @property
    def knows_cameras(self) -> bool:
        """Whether an image's camera changes its embedding."""
        return self.sie in ("camera", "both")

    @property
    def knows_views(self) -> bool:
        """Whether the side from which a person is seen changes the embedding."""
        return self.sie in ("view", "both")


def jigsaw_order(patches: int, shift: int, groups: int) -> list[int]:
    """Which patch stands where after shift and shuffle (section 3.2): a fixed permutation.

    Rotates left by shift - 1, splits into equal groups and interleaves them. Where the groups don't
    come out even, the official code repeats the second to last token of the rotated row once; so
    one patch appears twice. Raises BadInput where even that does not fill the groups.
    """
    order = list(range(patches))
    order = order[shift - 1 :] + order[: shift - 1]
    if patches % groups:
        order.append(order[-2])
    if len(order) % groups:
        raise BadInput(
            f"groups: {patches} patches can't be shuffled in {groups} groups; "
            "give a divisor of that number or of one more"
        )
    rows = [order[i : i + len(order) // groups] for i in range(0, len(order), len(order) // groups)]
    return [patch for column in zip(*rows, strict=True) for patch in column]


def part_patches(patches: int, options: TransReIDOptions) -> list[list[int]]:
    """The patches of each local feature, parts x (patches // parts); the remainder is left out."""
    length = patches // options.parts
    if length == 0 or patches < 2:
        raise BadInput(
            f"parts: {patches} patches can't fill {options.parts} parts; give fewer parts, a smaller "
            "stride or larger images"
        )
    order = list(range(patches))
    if options.rearrange:
        order = jigsaw_order(patches, options.shift, options.groups)
    return [order[i * length : (i + 1) * length] for i in range(options.parts)]


class TransReID(ReIDModel):
    """A pure transformer for re-identification: overlapping patches, a jigsaw of patches, and side
    information.

    The image is cut into overlapping patches; a learned vector for its camera and view is added to
    every token (SIE). The last layer exists twice: one copy reads all tokens and gives the global
    feature, the other reads P shuffled groups of patches, each with the class token before it, and
    gives P local features (JPM). Each feature has its own BNNeck, cross-entropy without label
    smoothing and soft-margin batch-hard triplet; the loss is half global, half the mean of the
    local ones. At test the features before BNNeck are concatenated, the local ones divided by P.

    As the official code does it, where the paper is silent or differs:
    the shift rotates by shift - 1; position embeddings are resized bilinearly; the side information
    reaches the class token too; patches that do not fill a part are left out; triplet distances are
    Euclidean, not squared.

    Ours, not the paper's: an unknown camera or view takes the mean of its embedding; with JPM the
    trunk's own last layer, which the official code keeps and never runs, is not kept, and of what
    leaves the two copies only the class token is computed, unless somebody watches: no other is
    read; from scratch the position embedding starts at the size it needs.
    """

    title = "TransReID"
    paper = "He et al., TransReID: Transformer-based Object Re-Identification, ICCV 2021"
    idea = (
        "A vision transformer whose last layer also looks at shuffled groups of patches, and which "
        "is told which camera took the picture."
    )
    Options = TransReIDOptions
    other_sets = (
        "The recipe is Market-1501's. Official elsewhere: DukeMTMC-reID and MSMT17 the same; "
        "Occluded-Duke stride=11; VeRi-776 size=256x256 sie=both shift=8 learning_rate=0.01; with a "
        "DeiT trunk on Market-1501 erase=0.8. The variants at 384x128 keep the rest."
    )
    recipes = {
        # Official vit_transreid_stride.yml for Market-1501 (256x128, ViT-B/16, stride 12).
        "paper": {
            "size": (256, 128),
            "normalisation": "half",
            "identities_per_batch": 16,
            "images_per_identity": 4,
            "pad": 10,
            "erase": 0.5,
            "epochs": 120,
            "optimizer": "sgd",
            "learning_rate": 0.008,
            "bias_learning_rate": 2.0,
            "weight_decay": 1e-4,
            "schedule": "cosine",
            "warmup_epochs": 5,
            "warmup_start": 0.01,
            "final_learning_rate": 0.002,
            "label_smoothing": 0.0,
            "margin": "soft",
            "evaluate_every": 10,
        },
        # Ours: small, from scratch, for two CPU cores and the pedestrians.
        "demo": {
            "size": (128, 64),
            "normalisation": "half",
            "identities_per_batch": 8,
            "images_per_identity": 4,
            "pad": 5,
            "erase": 0.0,
            "epochs": 24,
            "optimizer": "adamw",
            "learning_rate": 1e-3,
            "bias_learning_rate": 1.0,
            "weight_decay": 0.05,
            "schedule": "cosine",
            "warmup_epochs": 2,
            "warmup_start": 0.1,
            "final_learning_rate": 0.01,
            "evaluate_every": 4,
            "trunk": "vit_tiny_patch16_224",
            "pretrained": "none",
            "depth": 6,
            "width": 128,
            "heads": 2,
            "stride": 12,
            "drop_path": 0.0,
        },
    }

    def __init__(self, options: TransReIDOptions, size: tuple[int, int], facts: Facts):
        super().__init__()
        self.options, self.facts = options, facts
        if options.depth == 1:
            raise BadInput(
                "depth: expected 2 or more layers (the last one is the branches'), got 1"
            )
        self.trunk, self.grid = vit.prepared(options, size)
        self.prefix_tokens, self.window = 1, vit.window(self.trunk)
        width = self.trunk.embed_dim
        rows = side_rows(options.sie, facts)
        self.side = nn.Parameter(torch.zeros(rows, 1, width)) if rows else None
        if rows:
            trunc_normal_(self.side, std=0.02)

        # Copied after the trunk's weights are in, or the branches would start untrained.
        if options.jpm:
            last = nn.Sequential(self.trunk.blocks[-1], self.trunk.norm)
            self.parts = part_patches(self.grid[0] * self.grid[1], options)
            self.global_layer, self.local_layer = copy.deepcopy(last), copy.deepcopy(last)
            self.trunk.blocks, self.trunk.norm = self.trunk.blocks[:-1], nn.Identity()
            self.register_buffer("part_index", torch.tensor(self.parts), persistent=False)  # (P, n)
        self.necks = nn.ModuleList(
            BNNeck(width, facts.classes) for _ in range(1 + options.parts * options.jpm)
        )

    def forward(self, batch: Batch) -> Output:
        return self.heads(self.encode(self.embed(batch)))

    def tokens(self, probe: str) -> Tokens:
        """The local layer sees one group of patches at a time."""
        tokens = super().tokens(probe)
        if not probe.startswith("local_layer"):
            return tokens
        return replace(tokens, groups=tuple(map(tuple, self.parts)))

    def pieces(self) -> dict[str, Tensor | None]:
        """The global feature and the local ones: each of these is made of its group of patches."""
        local = {}
        for number, group in enumerate(self.parts if self.options.jpm else (), start=1):
            counts = torch.bincount(torch.tensor(group), minlength=self.grid[0] * self.grid[1])
            local[f"local {number}"] = (counts / len(group)).unflatten(0, self.grid)  # (h, w)
        return super().pieces() | local

    def embed(self, batch: Batch) -> Tensor:
        """Image to tokens with position and side information (section 3.1 and eq. 5)."""
        tokens = vit.cut(self.trunk, batch.image) + self.trunk.pos_embed  # (B, 1 + N, D)
        if self.side is not None:
            tokens = tokens + self.options.sie_coefficient * self.side_information(batch)
        return self.trunk.norm_pre(self.trunk.pos_drop(tokens))

    def encode(self, tokens: Tensor) -> Tensor:
        """The layers of the trunk; with JPM all but the last one, and no norm yet."""
        return self.trunk.norm(self.trunk.blocks(tokens))  # (B, 1 + N, D)

    def heads(self, tokens: Tensor) -> Output:
        """The global feature and, with JPM, the local ones, each before its BNNeck."""
        features = [self.global_feature(tokens)]  # (B, D) each
        if self.options.jpm:
            features += self.local_features(tokens)
        heads = halved(self.necks, features)
        shown = [norm if self.neck == "after" else branch.feature for norm, branch in heads]
        local = [feature / self.options.parts for feature in shown[1:]]
        embedding = torch.cat([shown[0], *local], dim=1)  # (B, (1 + P) * D)
        return Output(embedding, [branch for _, branch in heads])

    def global_feature(self, tokens: Tensor) -> Tensor:
        """(B, D): the class token after the last layer."""
        return class_token(self.global_layer, tokens) if self.options.jpm else tokens[:, 0]

    def side_information(self, batch: Batch) -> Tensor:
        """(B, 1, D): each image's camera and view embedding; the mean over what is unknown."""
        cameras = len(self.facts.cameras) if self.options.sie in ("camera", "both") else 1
        views = len(self.facts.views) if self.options.sie in ("view", "both") else 1
        table = self.side.unflatten(0, (cameras, views))  # (cameras, views, 1, D)
        camera = batch.camera if self.options.sie != "view" else torch.zeros_like(batch.camera)
        view = batch.view if self.options.sie != "camera" else torch.zeros_like(batch.view)
        chosen = (
            one_hot_or_mean(camera, cameras)[:, :, None] * one_hot_or_mean(view, views)[:, None]
        )
        return torch.einsum("bcv,cvod->bod", chosen.to(table.dtype), table)

    def local_features(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """P features (B, D): the shared last layer over each part, the class token before it."""
        count = tokens.shape[0]  # len() would fix the batch size of an exported graph
        # index_select, since the gradient of plain indexing is several times slower on a CPU.
        parts = tokens.index_select(1, 1 + self.part_index.flatten())  # (B, P * n, D)
        parts = parts.unflatten(1, self.part_index.shape)  # (B, P, n, D)
        cls = tokens[:, None, :1].expand(-1, parts.shape[1], -1, -1)  # (B, P, 1, D)
        joined = torch.cat([cls, parts], dim=2).flatten(0, 1)  # (B * P, 1 + n, D)
        return class_token(self.local_layer, joined).unflatten(0, (count, -1)).unbind(1)


def class_token(last: nn.Sequential, tokens: Tensor) -> Tensor:
    """(B, 1 + N, D) -> (B, D): the first token after a layer and its norm."""
    layer, norm = last
    return norm(layer(tokens, queries=1))[:, 0]


def side_rows(sie: str, facts: Facts) -> int:
    """Rows of the side information embedding: cameras, views, their product, or none.

    Raises BadInput where the data know no cameras or views to learn from.
    """
    cameras = len(facts.cameras) if sie in ("camera", "both") else 1
    views = len(facts.views) if sie in ("view", "both") else 1
    for count, name in ((cameras, "cameras"), (views, "views")):
        if count == 0:
            raise BadInput(f"sie={sie}: the training images have no {name}; choose another sie")
    return 0 if sie == "none" else cameras * views


def one_hot_or_mean(row: Tensor, rows: int) -> Tensor:
    """(B, rows): 1 at the row, or 1/rows everywhere where it is unknown (-1)."""
    known = nn.functional.one_hot(row.clamp(min=0), rows).float()
    return torch.where((row < 0)[:, None], 1.0 / rows, known)
