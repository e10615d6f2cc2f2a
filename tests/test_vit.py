"""Which trunks there are, and which files fill them."""

import pytest
import timm
import torch
import torch.nn.functional as F
from formula import filled
from timm.models.vision_transformer import Block, VisionTransformer

from reid_core.errors import BadInput
from reid_core.models import vit
from reid_core.probe import observe


@pytest.mark.long
def test_the_list_of_trunks_is_what_timm_has():
    """Plain ViTs with a class token, learned positions that include it, and a patch convolution."""
    found = []
    for name in timm.list_models(["vit_*", "deit_*"]):
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=0)
        plain = (
            isinstance(model, VisionTransformer)
            and model.cls_token is not None
            and model.reg_token is None
            and model.pos_embed is not None
            and not model.no_embed_class
            and type(model.blocks[0]) is Block
            and type(model.norm).__name__ == "LayerNorm"
            and hasattr(model.patch_embed, "proj")
            and isinstance(model.patch_embed.proj, torch.nn.Conv2d)
            and not hasattr(model.patch_embed, "backbone")
        )
        if plain:
            found.append(name)
    assert sorted(found) == sorted(vit.TRUNKS)


def test_every_listed_trunk_exists():
    assert set(vit.TRUNKS) <= set(timm.list_models(["vit_*", "deit_*"]))


def imagenet(width: int, depth: int = 1, mlp: int = 4, bias: bool = True, distilled=False) -> dict:
    """Weights by formula under the names of the files that the official recipes start from."""
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 198 if distilled else 197, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "head.weight": (1000, width),
        "head.bias": (1000,),
    }
    if distilled:
        shapes |= {"dist_token": (1, 1, width)}
        shapes |= {"head_dist.weight": (1000, width), "head_dist.bias": (1000,)}
    for number in range(depth):
        layer = {
            "norm1.weight": (width,),
            "norm1.bias": (width,),
            "attn.qkv.weight": (3 * width, width),
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
            "norm2.weight": (width,),
            "norm2.bias": (width,),
            "mlp.fc1.weight": (mlp * width, width),
            "mlp.fc1.bias": (mlp * width,),
            "mlp.fc2.weight": (width, mlp * width),
            "mlp.fc2.bias": (width,),
        }
        layer |= {"attn.qkv.bias": (3 * width,)} if bias else {}
        shapes |= {f"blocks.{number}.{key}": shape for key, shape in layer.items()}
    return {key: filled(key, shape) for key, shape in shapes.items()}


BASE, SMALL = "vit_base_patch16_224.orig_in21k_ft_in1k", "deit_small_patch16_224"
FILES = {
    # file of the official recipes: (trunks that take it, whether under "model", what it holds)
    "jx_vit_base_p16_224-80ecf9dd.pth": ((BASE,), False, dict(width=768)),
    "deit_base_distilled_patch16_224-df68dfff.pth": (
        (BASE, "deit_base_distilled_patch16_224"),
        True,
        dict(width=768, distilled=True),
    ),
    "deit_small_distilled_patch16_224-649709d9.pth": (
        (SMALL, "deit_small_distilled_patch16_224"),
        True,
        dict(width=384, distilled=True),
    ),
    "deit_base_patch16_224-b5f2ef4d.pth": ((BASE,), True, dict(width=768)),
    "deit_small_patch16_224-cd65a155.pth": ((SMALL,), True, dict(width=384)),
    "vit_small_p16_224-15ec54c9.pth": (
        (vit.OFFICIAL_SMALL,),
        False,
        dict(width=768, mlp=3, bias=False),
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_the_files_of_the_official_recipes_fill_their_trunk(tmp_path, name):
    """As the official code reads them: heads and the distillation token left out, the position after
    the class token's dropped with it, the others resized bilinearly to the grid."""
    trunks, wrapped, held = FILES[name]
    weights = imagenet(**held)
    torch.save({"model": weights} if wrapped else weights, tmp_path / name)
    positions = weights["pos_embed"]
    square = positions[:, -196:].transpose(1, 2).unflatten(2, (14, 14))
    resized = F.interpolate(square, size=(21, 10), mode="bilinear").flatten(2).transpose(1, 2)
    expected = {k: v for k, v in weights.items() if "head" not in k and "dist" not in k}
    expected["pos_embed"] = torch.cat([positions[:, :1], resized], dim=1)
    for trunk in trunks:
        options = vit.ViTOptions(trunk=trunk, pretrained=str(tmp_path / name), depth=1, stride=12)
        model, grid = vit.prepared(options, (256, 128))
        assert grid == (21, 10)
        found = model.state_dict()
        assert found.keys() == expected.keys()
        for key in found:
            torch.testing.assert_close(found[key], expected[key], rtol=0, atol=1e-6)


def test_a_file_from_before_patches_were_convolved(tmp_path):
    weights = imagenet(192)
    kernel = weights["patch_embed.proj.weight"]
    flat = weights | {"patch_embed.proj.weight": kernel.flatten(1)}  # (D, 3 * 16 * 16)
    torch.save(flat, tmp_path / "old.pth")
    trunk = vit.trunk("vit_tiny_patch16_224", str(tmp_path / "old.pth"), depth=1)
    assert torch.equal(trunk.patch_embed.proj.weight, kernel)


def test_a_file_of_another_trunk_says_what_differs(tmp_path):
    torch.save(imagenet(384), tmp_path / "small.pth")
    with pytest.raises(BadInput, match="another width"):
        vit.trunk("vit_base_patch16_224", str(tmp_path / "small.pth"), depth=1)
    with pytest.raises(BadInput, match="blocks"):
        vit.trunk("vit_small_patch16_224", str(tmp_path / "small.pth"), depth=2)


def test_the_official_small_vit():
    """Figures of the official code: 8 layers and heads, MLPs three times as wide as a token, no bias
    on q, k and v, scores divided by the root of the whole width."""
    with torch.device("meta"):
        trunk = vit.trunk(vit.OFFICIAL_SMALL, "none")
    layer = trunk.blocks[0]
    assert (len(trunk.blocks), trunk.embed_dim, layer.attn.num_heads) == (8, 768, 8)
    assert layer.mlp.fc1.out_features == 2304 and layer.attn.qkv.bias is None
    assert {block.attn.scale for block in trunk.blocks} == {768**-0.5}
    with pytest.raises(BadInput, match="give a file"):
        vit.trunk(vit.OFFICIAL_SMALL, "timm")


def test_attention_has_its_own_scale_watched_or_not():
    torch.manual_seed(0)
    trunk = vit.trunk(vit.OFFICIAL_SMALL, "none", depth=1, embed_dim=32, num_heads=2).eval()
    tokens = 5 * torch.randn(2, 6, 32)
    layer = trunk.blocks[0].attn
    with torch.no_grad():
        fused = layer(tokens)
        with observe(layer, "attention") as seen:
            watched = layer(tokens)
    torch.testing.assert_close(fused, watched)
    q, k, _ = layer.qkv(tokens).unflatten(2, (3, 2, 16)).permute(2, 0, 3, 1, 4)
    expected = (q @ k.transpose(2, 3) / 32**0.5).softmax(dim=-1)
    torch.testing.assert_close(seen["attention"], expected)


def test_the_width_of_the_mlps_is_a_knob():
    options = vit.ViTOptions(
        trunk="vit_tiny_patch16_224", pretrained="none", depth=1, mlp_ratio=2.0
    )
    with torch.device("meta"):
        trunk, _ = vit.prepared(options, (64, 32))
    assert trunk.blocks[0].mlp.fc1.out_features == 2 * trunk.embed_dim


@pytest.mark.parametrize("own", [{}, dict(qk_norm=True, init_values=0.1)])
@pytest.mark.parametrize("gradient", [True, False])  # the map is formed, or the fused kernel runs
def test_the_class_token_alone_is_that_of_the_whole_layer(own, gradient):
    """In training, with its draws, to the gradient of every weight; and watched, its whole map."""
    torch.manual_seed(0)
    layer = vit.WatchedBlock(
        32, 2, qkv_bias=True, drop_path=0.4, attn_layer=vit.WatchedAttention, **own
    )
    x = torch.randn(6, 11, 32, requires_grad=True)

    def found(**asked):
        torch.manual_seed(1)
        with torch.set_grad_enabled(gradient):
            token = layer(x, **asked)[:, :1]
        if not gradient:
            return [token]
        wanted = [x, *layer.parameters()]
        return [token, *torch.autograd.grad(token.square().sum(), wanted)]

    alone, whole = found(queries=1), found()
    assert layer(x, queries=1).shape == (6, 1, 32)
    for one, other in zip(alone, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    with observe(layer, "*attention", "tokens") as seen:
        watched = found(queries=1)
    assert seen["attn.attention"].shape == (6, 2, 11, 11) and seen["tokens"].shape == (6, 11, 32)
    torch.testing.assert_close(watched[0], whole[0], rtol=1e-5, atol=1e-5)
