"""OH-Former: Omni-Relational High-Order Transformer for Person Re-Identification (Chen et al., 2021).

Shapes: B images, D width, H heads, h x w grid of N = h * w patches, h' x w' coarse grid of
M = h' * w' cells, K points of a kernel, P parts; tokens are (B, 1 + N, D), class token first.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

from reid_core.divergence import TINY, js_divergence, pooled_map
from reid_core.errors import BadInput
from reid_core.knobs import knob
from reid_core.models import vit
from reid_core.models.base import Batch, Facts, Output, ReIDModel, Tokens, Window
from reid_core.models.neck import BNNeck, halved
from reid_core.models.transreid import TransReID
from reid_core.probe import Probe

HIGH, HEADS = "High orders", "Parts"


@dataclass(frozen=True)
class OHFormerOptions(vit.TrunkOptions):
    """What OH-Former adds to the common knobs."""

    oh_layers: str = knob(
        "middle",
        "Which layers are OH layers: middle (all but the first and the last) or their numbers from 1, "
        "such as 3,4. The first and the last layer stay plain.",
        HIGH,
    )
    orders: int = knob(2, "The highest order of attention (m).", HIGH, least=2, most=8)
    lrp_stride: int = knob(
        2,
        "Patches between the positions at which local relations are perceived; above 1 the high "
        "orders live on a coarser grid.",
        HIGH,
        least=1,
    )
    sharing: Literal["shared", "prior-mixed", "independent", "weighted"] = knob(
        "prior-mixed",
        "Where a high-order map comes from. shared: it is the first-order map. prior-mixed: that map "
        "and a learned prior. independent: queries and keys of its own. weighted: of its own, held to "
        "the first-order map times a learned weight matrix.",
        HIGH,
        choices=("shared", "prior-mixed", "independent", "weighted"),
    )
    js_weight: float = knob(
        0.1,
        "Weight of the JS divergence between the first-order and each high-order map.",
        HIGH,
        least=0,
    )
    offset_learning_rate: float = knob(
        1.0,
        "Learning rate of what gives the offsets, as a multiple of the base. At 1 they may leave the "
        "image, where there is nothing to see.",
        HIGH,
        least=0,
    )
    parts: int = knob(4, "Part tokens: horizontal stripes of the last layer.", HEADS, least=1)


def oh_layers(text: str, depth: int) -> tuple[int, ...]:
    """The numbers from 1 of the OH layers in `text`. Raises BadInput."""
    if depth < 3:
        raise BadInput(
            f"depth: expected 3 or more layers, the first and the last being plain, got {depth}"
        )
    if text.strip() == "middle":
        return tuple(range(2, depth))
    try:
        numbers = tuple(sorted(int(part) for part in text.split(",")))
    except ValueError:
        numbers = ()
    if not numbers or len(set(numbers)) < len(numbers) or not 1 < numbers[0] <= numbers[-1] < depth:
        raise BadInput(
            f"oh_layers: expected middle or different numbers from 2 to {depth - 1} with commas "
            f"between, got {text!r}"
        )
    return numbers


# Local relation perception


class Deformable(DeformConv2d):
    """torchvision's deformable convolution (Dai et al. 2017); float32 only.

    On a CPU it samples with `grid_sample` instead: the same numbers, a forward pass that is twice as
    fast there and a backward pass that is more than ten times as fast.
    """

    def forward(self, x: Tensor, offsets: Tensor) -> Tensor:
        """x (B, D, h, w) and offsets (B, 2K, h', w'), rows before columns -> (B, D, h', w')."""
        if not x.is_cpu or torch.compiler.is_exporting():
            if torch.is_grad_enabled() and torch.are_deterministic_algorithms_enabled():
                # torchvision says so too, of a function that only it knows.
                raise RuntimeError("deform_conv2d does not have a deterministic implementation")
            return super().forward(x, offsets)
        (height, width), (rows, columns) = x.shape[-2:], offsets.shape[-2:]
        size, stride, padding = self.kernel_size[0], self.stride[0], self.padding[0]
        tap = torch.arange(size * size)
        row = (torch.arange(rows) * stride - padding)[:, None] + (tap // size)[:, None, None]
        column = torch.arange(columns) * stride - padding + (tap % size)[:, None, None]
        y, x_ = offsets[:, 0::2] + row, offsets[:, 1::2] + column  # (B, K, h', w') each
        where = torch.stack([(2 * x_ + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
        seen = F.grid_sample(x, where.flatten(2, 3), align_corners=False)  # (B, D, K, M)
        out = self.weight.flatten(1) @ seen.flatten(1, 2) + self.bias[:, None]  # (B, D, M)
        return out.unflatten(2, (rows, columns))


class LocalRelations(nn.Module):
    """Local relation perception: a deformable and a depthwise convolution of the same map, summed."""

    def __init__(self, width: int, stride: int):
        super().__init__()
        self.to_offsets = nn.Conv2d(width, 2 * 9, 3, stride, padding=1)
        nn.init.zeros_(self.to_offsets.weight)  # so it starts as a convolution
        nn.init.zeros_(self.to_offsets.bias)
        self.offsets = Probe("offsets")
        self.deformable = Deformable(width, width, 3, stride, padding=1)
        self.depthwise = nn.Conv2d(width, width, 3, stride, padding=1, groups=width, bias=False)

    def forward(self, patches: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, D, h', w'), in float32: offsets are finer than bf16, and a CPU is many
        times slower at depthwise convolutions in it."""
        with torch.autocast(patches.device.type, enabled=False):
            patches = patches.float()
            offsets = self.offsets(self.to_offsets(patches))  # (B, 2K, h', w')
            return self.deformable(patches, offsets) + self.depthwise(patches)


# Omni-relational high-order attention


def mixed(first: Tensor, prior: Tensor) -> Tensor:
    """Prior mixing: softmax(log A + P), that is A times exp(P) with rows that sum to 1 again.

    first (B, H, M, M) has rows that sum to 1; prior is (H, M, M). A prior of zero changes nothing.
    """
    return (first.clamp(min=TINY).log() + prior).softmax(dim=-1)


class HighOrderAttention(nn.Module):
    """Attention of one order: the patches of the order before, perceived locally, attend by a map
    that comes from the first order or is held to it."""

    def __init__(self, width: int, heads: int, cells: int, stride: int, sharing: str):
        super().__init__()
        self.heads, self.sharing = heads, sharing
        self.local = LocalRelations(width, stride)
        self.norm = nn.LayerNorm(width)
        self.value, self.proj = nn.Linear(width, width), nn.Linear(width, width)
        if sharing in ("independent", "weighted"):
            self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        if sharing in ("prior-mixed", "weighted"):
            self.mixing = nn.Parameter(torch.zeros(heads, cells, cells))
            self.prior = Probe("prior")
        self.attention = Probe("attention")
        for linear in (each for each in self.children() if isinstance(each, nn.Linear)):
            trunc_normal_(linear.weight, std=0.02)  # as timm starts a ViT's
            nn.init.zeros_(linear.bias)

    def forward(
        self, patches: Tensor, first: Tensor | None, measured: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """One order up: (B, D, h, w) -> (B, D, h', w'); and, where it is measured, how far its map
        is from the first one, a mean over images, heads and rows.

        first is the first-order map on the coarse grid (B, H, M, M), or None where nobody needs it.
        """
        local = self.local(patches)  # (B, D, h', w')
        tokens = self.norm(local.flatten(2).transpose(1, 2))  # (B, M, D)
        prior = self.prior(self.mixing) if hasattr(self, "mixing") else None  # (H, M, M)
        nearest = first if prior is None or first is None else mixed(first, prior)
        own = self.sharing in ("independent", "weighted")
        attention = self.attention(self.own_map(tokens) if own else nearest)  # (B, H, M, M)
        attended = attention @ self.in_heads(self.value(tokens))  # (B, H, M, D/H)
        attended = self.proj(attended.transpose(1, 2).flatten(2))  # (B, M, D)
        patches = attended.transpose(1, 2).unflatten(2, local.shape[-2:])  # (B, D, h', w')
        if not measured:
            return patches, None
        held_to = nearest if self.sharing == "weighted" else first
        return patches, js_divergence(held_to, attention).mean()

    def own_map(self, tokens: Tensor) -> Tensor:
        """(B, M, D) -> (B, H, M, M) from queries and keys of this order."""
        q, k = self.in_heads(self.query(tokens)), self.in_heads(self.key(tokens))
        return (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).float().softmax(dim=-1)

    def in_heads(self, tokens: Tensor) -> Tensor:
        """(B, M, D) -> (B, H, M, D/H)."""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


class OHLayer(nn.Module):
    """A ViT's layer with attention of higher orders between its attention and its MLP.

    Its own parts keep the names that they have in a ViT, so that ImageNet weights fit.
    """

    is_layer = True

    def __init__(self, layer: nn.Module, grid: tuple[int, int], options: OHFormerOptions):
        super().__init__()
        for name, part in layer.named_children():
            self.add_module(name, part)
        self.grid, self.stride = grid, options.lrp_stride
        cells = -(-grid[0] // self.stride) * -(-grid[1] // self.stride)
        width, heads = layer.attn.attn_dim, layer.attn.num_heads
        self.mapped = options.sharing in ("shared", "prior-mixed")
        # The first high order makes the grid coarse, the next ones keep it.
        self.orders = nn.ModuleDict(
            {
                str(m): HighOrderAttention(
                    width, heads, cells, self.stride if m == 2 else 1, options.sharing
                )
                for m in range(2, options.orders + 1)
            }
        )

    def forward(self, tokens: Tensor, measured: bool = False) -> tuple[Tensor, list[Tensor]]:
        """(B, 1 + N, D) -> the same; and, where they are measured, each high order's divergence."""
        tokens, first = self.first_order(tokens, self.mapped or measured)
        patches = tokens[:, 1:].transpose(1, 2).unflatten(2, self.grid)  # (B, D, h, w)
        fused, divergences = tokens[:, 1:], []
        for order in self.orders.values():
            patches, divergence = order(patches, first, measured)  # (B, D, h', w')
            fused = fused + self.drop_path1(self.upsampled(patches))  # (B, N, D)
            divergences.append(divergence)
        tokens = torch.cat([tokens[:, :1], fused], dim=1)
        tokens = tokens + self.drop_path2(self.ls2(self.mlp(self.norm2(tokens))))
        return self.tokens(tokens), divergences if measured else []

    def first_order(self, tokens: Tensor, mapped: bool) -> tuple[Tensor, Tensor | None]:
        """Plain attention; and, where it is wanted, its map between the cells of the coarse grid."""
        attended, first = self.norm1(tokens), None
        if mapped:
            attended, attention = self.attn.with_map(attended)  # (B, H, 1 + N, 1 + N)
            first = pooled_map(attention[:, :, 1:, 1:], self.grid, self.stride)  # (B, H, M, M)
        else:
            attended = self.attn(attended)
        return tokens + self.drop_path1(self.ls1(attended)), first

    def upsampled(self, cells: Tensor) -> Tensor:
        """(B, D, h', w') -> (B, N, D): each patch takes what its cell has."""
        (height, width), side = self.grid, self.stride
        cells = cells.permute(0, 2, 3, 1)[:, :, None, :, None]  # (B, h', 1, w', 1, D)
        patches = cells.expand(-1, -1, side, -1, side, -1).flatten(3, 4).flatten(1, 2)
        return patches[:, :height, :width].flatten(1, 2)


class OHFormer(ReIDModel):
    """A vision transformer whose middle layers also attend in higher orders, by one shared map.

    A convolutional stem (5x5 with stride 5, then 3x3 with stride 2) makes patch tokens; a class
    token and learned positions join them. The first and the last layer are plain. In an OH layer
    between them, first-order attention is followed by local relation perception (a deformable and a
    depthwise convolution of the patches) and attention of the next order over what came of it, up to
    the order m. Prior mixing takes the first-order map A for every order, strengthened by a learned
    prior P: attention of any order for the price of one map. The high orders are brought back to the
    grid of patches by nearest-neighbour upsampling and summed with the first; the class token is put
    back, LayerNorm and an MLP follow. The JS divergence between the first-order map and each
    high-order one is minimised. Stripes of the last layer's patches are averaged to part tokens;
    class and part tokens each have BNNeck, cross-entropy and triplet. At test they are concatenated.

    There is no official code. Ours, not the paper's, where our sources leave it open:
    the stem's first convolution has half of the width, its second one pads by 1, and nothing stands
    between the two;
    local perception sums its two convolutions, which have 3x3 kernels and stride 2 at order 2, and 1
    at the orders after it; the offsets start at zero;
    the shared map leaves the class token's row and column out, is averaged over keys and queries to
    the coarse grid, and its rows are made to sum to 1 again;
    a high order has a LayerNorm, values and a projection of its own, and no residual path but the
    sum, from which drop_path drops it as it drops attention;
    prior mixing is softmax(log A + P) with a P for each head, the same for every image;
    P starts at zero, so that training starts from the shared map;
    the divergence is in nats, a mean over images, heads, rows, orders and layers, with a weight of
    0.1, and its gradient reaches both maps;
    half of the loss is the class token's, the other half the mean of the part tokens';
    m is 2, all layers but the first and the last are OH layers, there are 4 parts;
    the transformer starts from a ViT's ImageNet weights (not the stem, nor what an OH layer adds),
    its positions resized bilinearly; the recipe is TransReID's.

    Of the sharing modes, prior-mixed is the paper's; shared and independent are what we compare it
    with. weighted is an idea of one of the paper's readers, its form ours: a map of the order's own,
    whose divergence is taken from softmax(log A + P), the first-order map times the learned weight
    matrix exp(P). So a difference that is the same in every image costs nothing, and keeps the
    orders diverse; what changes from image to image is held to A.
    """

    title = "OH-Former"
    paper = (
        "Chen et al., OH-Former: Omni-Relational High-Order Transformer for Person "
        "Re-Identification, arXiv 2109.11159, 2021"
    )
    idea = (
        "A vision transformer that attends again to what attention came to: orders of attention for the "
        "price of one map."
    )
    Options = OHFormerOptions
    paper_recipe = (
        "Ours: TransReID's official recipe for Market-1501. The authors' own is not in our sources, and "
        "there is no official code; for other data sets, what TransReID changes is a place to start."
    )
    recipes = {
        # Ours: TransReID's official recipe for Market-1501. The authors' is not known to us.
        "paper": TransReID.recipes["paper"] | {"offset_learning_rate": 0.1},
        # Ours: that of TransReID, narrower and less deep.
        "demo": {key: value for key, value in TransReID.recipes["demo"].items() if key != "stride"}
        | {"depth": 4, "width": 112, "parts": 3, "offset_learning_rate": 0.1},
    }

    def __init__(self, options: OHFormerOptions, size: tuple[int, int], facts: Facts):
        super().__init__()
        self.options, self.facts = options, facts
        self.trunk = vit.chosen(options)
        width = self.trunk.embed_dim
        self.trunk.patch_embed = nn.Sequential(
            nn.Conv2d(3, max(1, width // 2), 5, stride=5),
            nn.Conv2d(max(1, width // 2), width, 3, stride=2, padding=1),
        )
        self.grid = tuple((side // 5 + 1) // 2 for side in size)
        # Windows of 3 x 3 outputs of 5 x 5 pixels each, and the first begins outside of the image.
        self.prefix_tokens, self.window = 1, Window(15, 10, -5)
        vit.fit_positions(self.trunk, self.grid, options)
        if options.parts > self.grid[0]:
            raise BadInput(
                f"parts: {self.grid[0]} rows of patches can't fill {options.parts} parts; give fewer "
                "parts or higher images"
            )
        if options.lrp_stride >= max(self.grid):
            raise BadInput(
                f"lrp_stride: {options.lrp_stride} leaves one cell of {self.grid[0]}x{self.grid[1]} "
                "patches; give a smaller stride or larger images"
            )
        self.oh_layers = oh_layers(options.oh_layers, len(self.trunk.blocks))
        for number in self.oh_layers:
            plain = self.trunk.blocks[number - 1]
            self.trunk.blocks[number - 1] = OHLayer(plain, self.grid, options)
        for local in [each for each in self.modules() if isinstance(each, LocalRelations)]:
            local.to_offsets.learning_rate_scale = options.offset_learning_rate
        self.necks = nn.ModuleList(BNNeck(width, facts.classes) for _ in range(1 + options.parts))

    def forward(self, batch: Batch) -> Output:
        tokens, divergences = self.embed(batch.image), []  # (B, 1 + N, D)
        for number, layer in enumerate(self.trunk.blocks, start=1):
            if number in self.oh_layers:
                tokens, found = layer(tokens, measured=batch.identity is not None)
                divergences += found
            else:
                tokens = layer(tokens)
        tokens = self.trunk.norm(tokens)

        features = [tokens[:, 0], *self.part_tokens(tokens[:, 1:])]  # (B, D) each
        heads = halved(self.necks, features)
        if self.neck == "after":
            features = [normalised for normalised, _ in heads]
        losses = {}
        if divergences:
            losses["divergence"] = self.options.js_weight * torch.stack(divergences).mean()
        embedding = torch.cat(features, dim=1)  # (B, (1 + P) * D)
        return Output(embedding, [branch for _, branch in heads], losses)

    def tokens(self, probe: str) -> Tokens:
        """The high orders have no class token, and cells of several patches as positions."""
        tokens, stride = super().tokens(probe), self.options.lrp_stride
        if ".orders." not in probe:
            return tokens
        patch = tokens.window
        size = patch.size + (stride - 1) * patch.stride
        coarse = tuple(-(-each // stride) for each in self.grid)
        return Tokens(coarse, (), Window(size, stride * patch.stride, patch.start))

    def pieces(self) -> dict[str, Tensor | None]:
        """The class token and the part tokens: each of these is the mean of a stripe of patches."""
        one_each = torch.eye(self.grid[0] * self.grid[1])[
            None
        ]  # (1, N, N): patch i is the i-th axis
        parts = self.part_tokens(one_each)  # (1, N) each
        shares = {f"part {i}": part.view(self.grid) for i, part in enumerate(parts, start=1)}
        return {"class": None} | shares

    def embed(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> class token and patch tokens with their positions (B, 1 + N, D)."""
        patches = self.trunk.patch_embed(image).flatten(2).transpose(1, 2)  # (B, N, D)
        cls = self.trunk.cls_token.expand(patches.shape[0], -1, -1)  # (B, 1, D)
        tokens = torch.cat([cls, patches], dim=1) + self.trunk.pos_embed
        return self.trunk.norm_pre(self.trunk.pos_drop(tokens))

    def part_tokens(self, patches: Tensor) -> tuple[Tensor, ...]:
        """(B, N, D) -> P stripes' means (B, D), from top to bottom; they share rows where P does
        not divide their number."""
        patches = patches.transpose(1, 2).unflatten(2, self.grid)  # (B, D, h, w)
        return F.adaptive_avg_pool2d(patches, (self.options.parts, 1)).flatten(2).unbind(2)
