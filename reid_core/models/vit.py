"""timm's vision transformers as trunks: any size, any stride, attention that can be watched.

Shapes: B images, N tokens (class token first), D width, H heads, h x w grid of patches.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from timm.layers import Attention, trunc_normal_
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from reid_core.errors import BadInput
from reid_core.knobs import knob, unknown
from reid_core.models.base import Window
from reid_core.models.weights import fill, read_weights
from reid_core.probe import Probe

# timm's plain ViTs and DeiTs with a class token and learned positions, as `tests/test_vit.py` finds
# them by building each; a name may carry one of timm's weight tags ("vit_base_patch16_224.dino").
TRUNKS = tuple(
    f"{family}_{name}"
    for family, names in {
        "deit": "tiny_patch16_224 small_patch16_224 base_patch16_224 base_patch16_384 "
        "tiny_distilled_patch16_224 small_distilled_patch16_224 base_distilled_patch16_224 "
        "base_distilled_patch16_384",
        "vit_tiny": "patch16_224 patch16_384",
        "vit_small": "patch8_224 patch16_224 patch16_384 patch16_36x1_224 patch32_224 patch32_384 "
        "patch14_dinov2",
        "vit_base": "patch8_224 patch16_224 patch16_224_miil patch16_384 patch16_plus_240 "
        "patch32_224 patch32_384 patch32_plus_256 patch14_dinov2 patch16_clip_224 "
        "patch16_clip_384 patch16_clip_quickgelu_224 patch16_plus_clip_240 patch32_clip_224 "
        "patch32_clip_256 patch32_clip_384 patch32_clip_448 patch32_clip_quickgelu_224",
        "vit_large": "patch14_224 patch16_224 patch16_384 patch32_224 patch32_384 patch14_dinov2 "
        "patch14_clip_224 patch14_clip_336 patch14_clip_quickgelu_224 patch14_clip_quickgelu_336",
        "vit_huge": "patch14_224 patch14_clip_224 patch14_clip_336 patch14_clip_378 "
        "patch14_clip_quickgelu_224 patch14_clip_quickgelu_378",
        "vit_giant": "patch14_224 patch14_dinov2 patch14_clip_224",
        "vit_gigantic": "patch14_224 patch14_clip_224 patch14_clip_378 patch14_clip_quickgelu_224",
        "vit_xsmall": "patch16_clip_224",
        "vit_medium": "patch16_clip_224 patch32_clip_224",
        "vit_betwixt": "patch32_clip_224",
    }.items()
    for name in names.split()
)

# The small ViT of TransReID's experiments is older than timm's: wider, shallower, no bias on q, k, v.
OFFICIAL_SMALL = "vit_small_patch16_224_transreid"
_OFFICIAL_SMALL = dict(embed_dim=768, depth=8, num_heads=8, mlp_ratio=3.0, qkv_bias=False)


@dataclass(frozen=True)
class TrunkOptions:
    """The knobs of a trunk. The default is TransReID's ViT-B/16."""

    trunk: str = knob(
        "vit_base_patch16_224.orig_in21k_ft_in1k",
        "The timm name of a plain ViT or DeiT; the part after the dot names its ImageNet weights. "
        f"{OFFICIAL_SMALL} is the official TransReID's own small ViT.",
        "Trunk",
    )
    pretrained: str = knob(
        "timm", "Weights of the trunk: none, timm (ImageNet, downloaded), or a file.", "Trunk"
    )
    depth: int = knob(0, "Number of layers; 0 is the trunk's own.", "Trunk", least=0, most=256)
    width: int = knob(0, "Width of a token; 0 is the trunk's own.", "Trunk", least=0, most=8192)
    heads: int = knob(0, "Attention heads; 0 is the trunk's own.", "Trunk", least=0)
    mlp_ratio: float = knob(
        0.0,
        "Width of the MLPs as a multiple of a token's; 0 is the trunk's own.",
        "Trunk",
        least=0,
        most=64,
    )
    drop_path: float = knob(
        0.1,
        "Share of residual paths dropped in the last layer, growing from 0.",
        "Trunk",
        least=0,
        most=0.9,
    )


@dataclass(frozen=True)
class ViTOptions(TrunkOptions):
    """The knobs of a trunk and of how it cuts images. Defaults are TransReID's: stride 12."""

    patch: int = knob(0, "Patch size in pixels; 0 is the trunk's own.", "Trunk", least=0, most=4096)
    stride: int = knob(
        12,
        "Pixels between patches (TransReID, section 3.1). Below the patch size patches overlap; equal "
        "to it, they tile the image.",
        "Trunk",
        least=1,
    )


class WatchedAttention(Attention):
    """timm's attention with a window on its map.

    Unwatched it runs the fused kernel and stores nothing; watched it forms the (B, H, N, N) map. So
    does training on a CPU, where the fused kernel's backward pass is several times slower.
    """

    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        self.attention, self.values = Probe("attention"), Probe("values")

    def forward(self, x: Tensor, queries: int | None = None, **keywords) -> Tensor:
        """(B, N, D) -> (B, N, D), or with queries only the first so many tokens of it."""
        if self.watched or (x.is_cpu and torch.is_grad_enabled()):
            return self.with_map(x, queries)[0]
        # timm's own leaves the scale to the kernel, which knows only the usual one.
        dropout = self.attn_drop.p if self.training else 0.0
        q, k, v = self.split(x, queries)
        return self.join(
            F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=self.scale)
        )

    @property
    def watched(self) -> bool:
        return self.attention.watched or self.values.watched

    def with_map(self, x: Tensor, queries: int | None = None) -> tuple[Tensor, Tensor]:
        """(B, N, D) -> the same as `forward`, and the (B, H, N, N) map, of queries its first rows."""
        q, k, v = self.split(x, queries)
        weights = (q * self.scale @ k.transpose(-2, -1)).softmax(dim=-1)  # (B, H, N, N)
        return self.join(self.attn_drop(self.attention(weights)) @ self.values(v)), weights

    def split(self, x: Tensor, queries: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, D) -> queries, all or the first so many, keys and values, (B, H, N, D/H) each."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return self.q_norm(q[:, :, :queries]), self.k_norm(k), v

    def join(self, heads: Tensor) -> Tensor:
        """(B, H, N, D/H) -> (B, N, D)."""
        return self.proj_drop(self.proj(self.norm(heads.transpose(1, 2).flatten(2))))


class WatchedBlock(Block):
    """timm's layer with a window on the tokens that leave it, (B, 1 + N, D).

    Where only the class token of a last layer is used, queries=1 leaves out what nobody would read,
    the other tokens' attention and MLP, unless somebody watches.
    """

    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        self.tokens = Probe("tokens")

    def forward(self, x: Tensor, *args, queries: int | None = None, **keywords) -> Tensor:
        """(B, N, D) -> (B, N, D), or with queries only the first so many tokens of it."""
        if queries is None or self.tokens.watched or self.attn.watched:
            return self.tokens(super().forward(x, *args, **keywords))[:, :queries]
        first = x[:, :queries]
        first = first + self.drop_path1(self.ls1(self.attn(self.norm1(x), queries)))
        return first + self.drop_path2(self.ls2(self.mlp(self.norm2(first))))


def prepared(options: ViTOptions, size: tuple[int, int]) -> tuple[nn.Module, tuple[int, int]]:
    """A trunk for images of this size, with its stride and its positions; and its grid. Raises
    BadInput."""
    vit = chosen(options, patch_size=options.patch)
    projection = vit.patch_embed.proj
    projection.stride = (options.stride, options.stride)
    grid = grid_of(size, projection.kernel_size[0], options.stride)
    fit_positions(vit, grid, options)
    return vit, grid


def chosen(options: TrunkOptions, **more) -> nn.Module:
    """The trunk that its knobs ask for. Raises BadInput."""
    own = dict(
        depth=options.depth,
        embed_dim=options.width,
        num_heads=options.heads,
        mlp_ratio=options.mlp_ratio,
        **more,
    )
    own = {name: value for name, value in own.items() if value}
    return trunk(options.trunk, options.pretrained, drop_path_rate=options.drop_path, **own)


def fit_positions(vit: nn.Module, grid: tuple[int, int], options: TrunkOptions) -> None:
    """Position embeddings are resized as TransReID's code does it; from scratch they start at the
    size they need."""
    vit.pos_embed = nn.Parameter(resize_positions(vit.pos_embed.detach(), grid))
    if options.pretrained == "none":
        trunc_normal_(vit.pos_embed, std=0.02)


def window(vit: nn.Module) -> Window:
    """The pixels of a patch."""
    projection = vit.patch_embed.proj
    return Window(projection.kernel_size[0], projection.stride[0])


def cut(vit: nn.Module, image: Tensor) -> Tensor:
    """(B, 3, H, W) -> the class token and the patches (B, 1 + N, D), without positions."""
    patches = vit.patch_embed.proj(image)  # (B, D, h, w)
    patches = patches.flatten(2).transpose(1, 2)  # (B, N, D)
    cls = vit.cls_token.expand(patches.shape[0], -1, -1)  # (B, 1, D)
    return torch.cat([cls, patches], dim=1)  # (B, 1 + N, D)


def trunk(name: str, pretrained: str, **overrides) -> nn.Module:
    """A timm ViT without its classifier.

    pretrained is "none", "timm" (downloads the weights of that name) or the path of a safetensors
    or torch file with the trunk's weights, read without executing anything in it. overrides are
    timm's own arguments (depth, embed_dim, num_heads, mlp_ratio, patch_size, drop_path_rate). Raises
    BadInput.
    """
    official_small = name == OFFICIAL_SMALL
    known = (*TRUNKS, OFFICIAL_SMALL)
    if name.split(".")[0] not in TRUNKS and not official_small:
        of = "plain vit_* and deit_* with a class token"
        raise BadInput(f"trunk: {unknown('trunk', name, known, of)}")
    if official_small:
        if pretrained == "timm":
            raise BadInput(f"pretrained: timm has no weights of {name}; give a file, or none")
        overrides = _OFFICIAL_SMALL | overrides
    try:
        vit = timm.create_model(
            "vit_base_patch16_224" if official_small else name,
            pretrained=pretrained == "timm",
            num_classes=0,
            attn_layer=WatchedAttention,
            block_fn=WatchedBlock,
            **overrides,
        )
    except (OSError, RuntimeError, AssertionError) as error:
        if "divisible by num_heads" in str(error):
            own = "0 (the trunk's own)"
            width, heads = (overrides.get(each, own) for each in ("embed_dim", "num_heads"))
            raise BadInput(
                f"heads: width={width} can't be divided by heads={heads}; give another of the two"
            ) from None
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if pretrained == "timm":
            reason += "; without a network give a file (pretrained=FILE) or pretrained=none"
        raise BadInput(f"trunk {name} could not be built: {reason}") from error
    if official_small:  # its heads divide by the root of the whole width
        for block in vit.blocks:
            block.attn.scale = vit.embed_dim**-0.5
    if pretrained not in ("none", "timm"):
        load_trunk(vit, Path(pretrained))
    if getattr(vit, "dist_token", None) is not None:
        drop_distillation_token(vit)
    return vit


def drop_distillation_token(vit: nn.Module) -> None:
    """Official TransReID drops a distilled DeiT's second token and its position."""
    vit.pos_embed = nn.Parameter(torch.cat([vit.pos_embed[:, :1], vit.pos_embed[:, 2:]], dim=1))
    vit.dist_token = None


def load_trunk(vit: nn.Module, file: Path) -> None:
    """Fill a trunk from a file. Classifier heads are ignored; anything else must fit.

    Accepts a bare state dict or one inside "model" or "state_dict", with "module." prefixes. The
    position embedding may be of any size: it is resized later. Raises BadInput.
    """
    weights = read_weights(file)
    weights = {key: value for key, value in weights.items() if "head" not in key}
    weights = {k: v for k, v in weights.items() if not k.startswith(("fc.", "pre_logits."))}
    projection = weights.get("patch_embed.proj.weight")
    if projection is not None and projection.ndim == 2:  # files from before patches were convolved
        own = vit.patch_embed.proj.weight
        if projection.numel() == own.numel():
            weights["patch_embed.proj.weight"] = projection.reshape(own.shape)
    if "dist_token" in weights and getattr(vit, "dist_token", None) is None:
        positions = weights["pos_embed"]
        weights["pos_embed"] = torch.cat([positions[:, :1], positions[:, 2:]], dim=1)
        del weights["dist_token"]
    if "pos_embed" in weights:
        shape = tuple(weights["pos_embed"].shape)
        if len(shape) != 3 or shape[0] != 1 or shape[2] != vit.embed_dim:
            raise BadInput(
                f"{file} has position embeddings {shape} of another width or kind of trunk"
            )
        vit.pos_embed = nn.Parameter(torch.empty_like(weights["pos_embed"]))
    fill(vit, weights, file)


def grid_of(size: tuple[int, int], patch: int, stride: int) -> tuple[int, int]:
    """Rows and columns of patches of a (height, width) image; overlapping where stride < patch."""
    if min(size) < patch:
        raise BadInput(
            f"size: images of {size[0]}x{size[1]} hold no patch of {patch}x{patch}; give a larger size"
        )
    return (size[0] - patch) // stride + 1, (size[1] - patch) // stride + 1


def resize_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize a position embedding (1, 1 + s*s, D) to (1, 1 + h*w, D), as the official code does.

    Bilinear and without antialiasing; timm's own resampling is bicubic and antialiased. The class
    token's row is kept.
    """
    cls, patches = positions[:, :1], positions[:, 1:]
    side = math.isqrt(patches.shape[1])
    if side * side != patches.shape[1] != grid[0] * grid[1]:
        raise BadInput(
            f"a position embedding of {patches.shape[1]} patches is neither square nor of this "
            f"grid, {grid[0]}x{grid[1]}: give weights of another size"
        )
    if (side, side) == grid or side * side != patches.shape[1]:
        return positions
    return torch.cat([cls, resized(patches, (side, side), grid)], dim=1)  # (1, 1 + h*w, D)


def resized(patches: Tensor, grid: tuple[int, int], to: tuple[int, int]) -> Tensor:
    """The position embeddings of one grid for another: (1, h*w, D) -> (1, h'*w', D), bilinear."""
    image = patches.transpose(1, 2).unflatten(2, grid)  # (1, D, h, w)
    image = F.interpolate(image, size=to, mode="bilinear", align_corners=False)  # (1, D, h', w')
    return image.flatten(2).transpose(1, 2)
