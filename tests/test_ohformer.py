"""OH-Former's mechanisms against slow versions of them, by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torchvision.ops import DeformConv2d, deform_conv2d

from reid_core.divergence import js_divergence, pooled_map
from reid_core.errors import BadInput
from reid_core.experiment import Experiment
from reid_core.losses import objective
from reid_core.models import Batch, Facts, vit
from reid_core.models.ohformer import (
    Deformable,
    LocalRelations,
    OHFormer,
    OHFormerOptions,
    OHLayer,
    mixed,
    oh_layers,
)
from reid_core.optimize import optimizers_for
from reid_core.probe import observe, probes

MODES = ("shared", "prior-mixed", "independent", "weighted")
SIZE = (72, 50)  # a grid of 7 x 5: no side is even
SMALL = dict(
    trunk="vit_tiny_patch16_224",
    pretrained="none",
    depth=4,
    width=16,
    heads=2,
    drop_path=0.0,
    parts=3,
)


def build(size=SIZE, **options) -> OHFormer:
    torch.manual_seed(0)
    return OHFormer(OHFormerOptions(**SMALL | options), size, Facts(classes=5))


def stirred(**options) -> OHFormer:
    """A model that is away from its start: offsets, priors, everything."""
    model = build(**options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def batch(count: int = 4, size=SIZE, identity=True) -> Batch:
    image = torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))
    unknown = torch.full((count,), -1)
    return Batch(image, unknown, unknown, torch.arange(count) // 2 if identity else None)


def maps(*shape) -> torch.Tensor:
    return torch.randn(*shape).softmax(dim=-1)


# The divergence and the common support


def test_js_by_hand():
    p, q = maps(3, 2, 5), maps(3, 2, 5)
    found = js_divergence(p, q)
    assert found.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            expected = 0.0
            for a, b in zip(p[i, j].tolist(), q[i, j].tolist(), strict=True):
                expected += (a * math.log(2 * a / (a + b)) + b * math.log(2 * b / (a + b))) / 2
            assert found[i, j].item() == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(found, js_divergence(q, p), rtol=0, atol=0)


def test_js_of_disjoint_maps_is_ln_2_and_of_equal_ones_0():
    p = torch.tensor([[0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    q = torch.tensor([[0.0, 0.0, 0.1, 0.9], [0.0, 0.0, 0.0, 1.0]])
    torch.testing.assert_close(js_divergence(p, q), torch.full((2,), math.log(2)))
    same = maps(4, 7, 9)
    assert (js_divergence(same, same.clone()) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_js_has_finite_gradients_at_zeros(dtype):
    p = torch.tensor([[0.5, 0.5, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    q = torch.tensor([[0.0, 1.0, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    js_divergence(p, q).sum().backward()
    assert p.grad.isfinite().all() and q.grad.isfinite().all()
    assert p.grad[0, 0] > p.grad[0, 1]  # away from where q is not, towards where it is


def test_js_is_measured_in_float32_at_least():
    p, q = maps(3, 5), maps(3, 5)
    assert js_divergence(p.bfloat16(), q).dtype == torch.float32
    assert js_divergence(p.double(), q).dtype == torch.float64


def test_js_wants_a_common_support():
    with pytest.raises(BadInput, match="common support"):
        js_divergence(maps(3, 5), maps(3, 1))


@pytest.mark.parametrize("grid, stride", [((4, 6), 2), ((7, 5), 2), ((5, 4), 3), ((3, 2), 1)])
def test_a_pooled_map_is_the_mean_over_the_keys_and_queries_of_two_cells(grid, stride):
    """The cells by loops; the class token is out, so the rows it took from don't sum to 1."""
    height, width = grid
    attention = maps(2, 3, 1 + height * width, 1 + height * width)[:, :, 1:, 1:]
    cells = [
        [
            row * width + column
            for row in range(top, min(top + stride, height))
            for column in range(left, min(left + stride, width))
        ]
        for top in range(0, height, stride)
        for left in range(0, width, stride)
    ]
    expected = torch.empty(2, 3, len(cells), len(cells))
    for i, queries in enumerate(cells):
        for j, keys in enumerate(cells):
            entries = [attention[:, :, q, k] for q in queries for k in keys]
            expected[:, :, i, j] = sum(entries) / len(entries)
    expected = expected / expected.sum(dim=-1, keepdim=True)
    found = pooled_map(attention, grid, stride)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(-1), torch.ones(found.shape[:-1]))


# Local relation perception


def read(image, y: float, x: float):
    """Bilinear reading of (D, h, w) at (y, x), zero outside, by loops."""
    total = torch.zeros(len(image))
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * image[:, row, column]
    return total


@pytest.mark.parametrize("stride", [1, 2])
def test_deformable_convolution_by_loops(stride):
    torch.manual_seed(0)
    layer = Deformable(3, 4, 3, stride, padding=1)
    x = torch.randn(1, 3, 5, 4)
    rows, columns = -(-5 // stride), -(-4 // stride)
    offsets = 2 * torch.randn(1, 18, rows, columns)
    expected = torch.empty(1, 4, rows, columns)
    for i in range(rows):
        for j in range(columns):
            total = layer.bias.clone()
            for tap in range(9):
                y = i * stride - 1 + tap // 3 + offsets[0, 2 * tap, i, j].item()
                x_ = j * stride - 1 + tap % 3 + offsets[0, 2 * tap + 1, i, j].item()
                total = total + layer.weight[:, :, tap // 3, tap % 3] @ read(x[0], y, x_)
            expected[0, :, i, j] = total
    torch.testing.assert_close(layer(x, offsets), expected.detach(), rtol=1e-4, atol=1e-5)
    theirs = DeformConv2d.forward(layer, x, offsets)  # what runs on a GPU and is exported
    torch.testing.assert_close(theirs, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_sampled_and_torchvision_have_the_same_gradients(stride):
    torch.manual_seed(0)
    layer = Deformable(6, 6, 3, stride, padding=1).double()
    x = torch.randn(2, 6, 7, 5, dtype=torch.float64)
    size = (-(-7 // stride), -(-5 // stride))
    offsets = torch.randn(2, 18, *size, dtype=torch.float64)
    wanted = [each.requires_grad_() for each in (x, offsets, layer.weight, layer.bias)]
    theirs = deform_conv2d(x, offsets, layer.weight, layer.bias, stride, padding=1)
    ours = layer(x, offsets)
    torch.testing.assert_close(ours, theirs)
    push = torch.randn_like(ours)
    mine, others = (torch.autograd.grad(out, wanted, push) for out in (ours, theirs))
    for own, other in zip(mine, others, strict=True):
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_local_relations_start_as_two_convolutions(stride, grad):
    """Offsets start at zero: then a deformable convolution is a convolution."""
    layer, patches = LocalRelations(6, stride), torch.randn(2, 6, 7, 5)
    with torch.set_grad_enabled(grad), observe(layer, "offsets") as seen:
        found = layer(patches)
    assert not seen["offsets"].any() and seen["offsets"].shape == (2, 18, *found.shape[2:])
    weight, bias = layer.deformable.weight, layer.deformable.bias
    expected = F.conv2d(patches, weight, bias, stride, padding=1)
    expected += F.conv2d(patches, layer.depthwise.weight, None, stride, padding=1, groups=6)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# An OH layer


def test_order_1_is_plain_attention():
    """An OH layer without high orders, or whose high orders give nothing, is the layer it was."""
    torch.manual_seed(0)
    plain = vit.chosen(OHFormerOptions(**SMALL)).blocks[1].eval()
    tokens = torch.randn(2, 1 + 35, 16)
    layer = OHLayer(plain, (7, 5), OHFormerOptions(**SMALL)).eval()
    with torch.no_grad():
        assert not torch.allclose(layer(tokens)[0], plain(tokens), atol=1e-4)
        for order in layer.orders.values():
            order.proj.weight.zero_()
        torch.testing.assert_close(layer(tokens)[0], plain(tokens))
        layer.orders.clear()
        torch.testing.assert_close(layer(tokens)[0], plain(tokens))


def slow_high_order(order, patches, first, heads):
    """One high order, a head and a query at a time. patches (B, D, h, w) -> the same, coarser."""
    local = order.local(patches)
    tokens = order.norm(local.flatten(2).transpose(1, 2))  # (B, M, D)
    share = tokens.shape[2] // heads
    values = order.value(tokens)
    if order.sharing in ("independent", "weighted"):
        q, k = order.query(tokens), order.key(tokens)
    out = torch.zeros_like(tokens)
    for image in range(len(tokens)):
        for head in range(heads):
            of_head = slice(head * share, (head + 1) * share)
            for row in range(tokens.shape[1]):
                weights = first[image, head, row]
                if order.sharing == "prior-mixed":
                    weights = weights * order.mixing[head, row].exp()
                if order.sharing in ("independent", "weighted"):
                    similar = k[image, :, of_head] @ q[image, row, of_head] / math.sqrt(share)
                    weights = similar.exp()
                weights = weights / weights.sum()
                out[image, row, of_head] = weights @ values[image, :, of_head]
    return order.proj(out).transpose(1, 2).reshape(local.shape)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("sharing", MODES)
def test_an_oh_layer_by_loops(sharing, stride):
    """Three orders over an odd grid; each patch takes what its cell has, in every order."""
    model = stirred(sharing=sharing, orders=3, lrp_stride=stride)
    layer, tokens = model.trunk.blocks[1], torch.randn(2, 36, 16)
    with torch.no_grad():
        attended, attention = layer.attn.with_map(layer.norm1(tokens))
        x = tokens + attended
        first = pooled_map(attention[:, :, 1:, 1:], (7, 5), stride)
        patches = x[:, 1:].transpose(1, 2).reshape(2, 16, 7, 5)
        fused = x.clone()
        for m in ("2", "3"):
            patches = slow_high_order(layer.orders[m], patches, first, heads=2)
            assert patches.shape[2:] == (-(-7 // stride), -(-5 // stride))
            for row in range(7):
                for column in range(5):
                    fused[:, 1 + 5 * row + column] += patches[:, :, row // stride, column // stride]
        expected = fused + layer.mlp(layer.norm2(fused))
        found, divergences = layer(tokens)
        assert not divergences
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        measured, divergences = layer(tokens, measured=True)
        torch.testing.assert_close(measured, found, rtol=1e-5, atol=1e-5)
        assert len(divergences) == 2


def test_upsampling_is_nearest():
    layer = build().trunk.blocks[1]
    cells = torch.randn(2, 16, 4, 3)
    expected = F.interpolate(cells, size=(7, 5), mode="nearest").flatten(2).transpose(1, 2)
    torch.testing.assert_close(layer.upsampled(cells), expected, rtol=0, atol=0)


# Sharing


def test_prior_mixing_is_the_map_times_exp_prior():
    first, prior = maps(2, 3, 4, 4), torch.randn(3, 4, 4)
    weighed = first * prior.exp()
    torch.testing.assert_close(mixed(first, prior), weighed / weighed.sum(-1, keepdim=True))
    torch.testing.assert_close(mixed(first, torch.zeros(3, 4, 4)), first)


def test_prior_mixing_has_finite_gradients_at_zeros():
    first = torch.tensor([[[[1.0, 0.0], [0.5, 0.5]]]], requires_grad=True)
    prior = torch.zeros(1, 2, 2, requires_grad=True)
    mixed(first, prior).square().sum().backward()
    assert first.grad.isfinite().all() and prior.grad.isfinite().all()


@pytest.mark.parametrize("orders", [2, 4])
def test_shared_never_diverges(orders):
    model = stirred(sharing="shared", orders=orders)
    assert model(batch()).losses["divergence"].item() == 0
    with torch.no_grad(), observe(model, "*.attention") as seen:
        model(batch())
    coarse = pooled_map(seen["trunk.blocks.1.attn.attention"][:, :, 1:, 1:], (7, 5), 2)
    for m in range(2, orders + 1):
        torch.testing.assert_close(seen[f"trunk.blocks.1.orders.{m}.attention"], coarse)


def test_prior_mixed_starts_as_shared():
    shared, prior = (build(sharing=sharing).eval() for sharing in ("shared", "prior-mixed"))
    missing, extra = prior.load_state_dict(shared.state_dict(), strict=False)
    assert missing == [f"trunk.blocks.{i}.orders.2.mixing" for i in (1, 2)] and not extra
    with torch.no_grad():
        a, b = shared(batch()), prior(batch())
        torch.testing.assert_close(a.embedding, b.embedding, rtol=1e-5, atol=1e-5)
        assert b.losses["divergence"] < 1e-6
        prior.trunk.blocks[1].orders["2"].mixing.normal_()
        after = prior(batch())
    assert not torch.allclose(after.embedding, a.embedding, atol=1e-4)
    assert after.losses["divergence"] > 1e-4


@pytest.mark.parametrize("sharing", MODES)
def test_the_divergence_is_the_mean_over_what_the_windows_show(sharing):
    model = stirred(sharing=sharing, orders=3, js_weight=0.5)
    with torch.no_grad(), observe(model, "*.attention") as seen:
        found = model(batch()).losses["divergence"]
    expected = []
    for layer in (1, 2):
        first = seen[f"trunk.blocks.{layer}.attn.attention"][:, :, 1:, 1:]
        first = pooled_map(first, (7, 5), 2)
        for m in ("2", "3"):
            target = first
            if sharing == "weighted":
                target = first * model.trunk.blocks[layer].orders[m].mixing.exp()
                target = target / target.sum(-1, keepdim=True)
            high = seen[f"trunk.blocks.{layer}.orders.{m}.attention"]
            assert high.shape == (4, 2, 12, 12)
            expected.append(js_divergence(target, high).mean())
    assert found.item() == pytest.approx(0.5 * sum(expected).item() / 4, abs=1e-6)


def test_weighted_forgives_what_is_the_same_in_every_image():
    """Own maps that are the first-order one times a fixed matrix cost nothing once it is learned."""
    first, matrix = maps(6, 2, 4, 4), torch.randn(2, 4, 4).exp()
    own = first * matrix
    own = own / own.sum(-1, keepdim=True)
    assert js_divergence(first, own).mean() > 0.01
    assert js_divergence(mixed(first, matrix.log()), own).mean() < 1e-6


# The model


@pytest.mark.parametrize("size", [(256, 128), (128, 64), (72, 50), (31, 16), (64, 33)])
def test_the_stem_makes_the_grid(size):
    model = build(size=size, parts=1, lrp_stride=1)
    patches = model.trunk.patch_embed(torch.randn(1, 3, *size))
    assert patches.shape[2:] == model.grid
    assert [(m.kernel_size, m.stride, m.padding) for m in model.trunk.patch_embed] == [
        ((5, 5), (5, 5), (0, 0)),
        ((3, 3), (2, 2), (1, 1)),
    ]


def test_part_tokens_are_the_means_of_stripes():
    """Three parts of seven rows: 0 to 2, 2 to 4 and 4 to 6, as adaptive pooling has them."""
    model, patches = build(), torch.randn(2, 35, 16)
    rows = patches.reshape(2, 7, 5, 16)
    for part, (top, bottom) in zip(
        model.part_tokens(patches), [(0, 3), (2, 5), (4, 7)], strict=True
    ):
        torch.testing.assert_close(part, rows[:, top:bottom].mean(dim=(1, 2)))


def test_the_test_feature_is_class_beside_part_tokens():
    model = stirred()
    with torch.no_grad():
        output = model(batch())
        features = [branch.feature for branch in output.branches]
        torch.testing.assert_close(output.embedding, torch.cat(features, dim=1))
        assert output.embedding.shape == (4, 4 * 16)
        model.neck = "after"
        expected = [neck.norm(f) for neck, f in zip(model.necks, features, strict=True)]
        torch.testing.assert_close(model(batch()).embedding, torch.cat(expected, dim=1))
    assert [b.weight for b in output.branches] == pytest.approx([1 / 2, 1 / 6, 1 / 6, 1 / 6])


def test_without_identities_nothing_is_measured():
    for sharing in MODES:
        model = stirred(sharing=sharing)
        with torch.no_grad():
            plain, measured = model(batch(identity=False)), model(batch())
        assert not plain.losses and list(measured.losses) == ["divergence"]
        torch.testing.assert_close(plain.embedding, measured.embedding, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sharing", MODES)
def test_a_gradient_other_than_zero_reaches_every_parameter(sharing, stride):
    model = stirred(sharing=sharing, lrp_stride=stride, orders=3).train()
    asked = batch(8)
    terms = objective(model(asked), asked.identity, margin=None, label_smoothing=0.0)
    sum(terms.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not name.endswith("key.bias"):  # softmax does not see it
            assert parameter.grad.isfinite().all() and parameter.grad.any(), name


@pytest.mark.parametrize("sharing", MODES)
def test_it_learns_in_bf16_and_measures_in_float32(sharing):
    model, asked = build(sharing=sharing).train(), batch()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(asked)
    loss = objective(output, asked.identity, margin=None, label_smoothing=0.0)
    assert output.losses["divergence"].dtype == torch.float32
    sum(loss.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("sharing", MODES)
def test_windows_show_every_order_the_offsets_and_the_prior(sharing):
    model = stirred(sharing=sharing, orders=3)
    kinds = {name: probe.kind for name, probe in probes(model).items()}
    with torch.no_grad(), observe(model, "*") as seen:
        watched = model(batch(identity=False)).embedding
    with torch.no_grad():
        unwatched = model(batch(identity=False)).embedding
    torch.testing.assert_close(watched, unwatched, rtol=1e-4, atol=1e-5)
    assert set(seen) == set(kinds)
    shapes = {(kinds[name], tuple(tensor.shape)) for name, tensor in seen.items()}
    expected = {
        ("attention", (4, 2, 36, 36)),
        ("attention", (4, 2, 12, 12)),
        ("values", (4, 2, 36, 8)),
        ("tokens", (4, 36, 16)),
        ("offsets", (4, 18, 4, 3)),
    }
    with_prior = sharing in ("prior-mixed", "weighted")
    assert shapes == expected | ({("prior", (2, 12, 12))} if with_prior else set())
    for name, tensor in seen.items():
        if kinds[name] == "attention":
            torch.testing.assert_close(tensor.sum(-1), torch.ones(tensor.shape[:-1]))
    assert len([name for name in seen if name.endswith(".attention")]) == 4 + 2 * 2


def test_a_vits_weights_fill_the_layers(tmp_path):
    trunk = vit.trunk("vit_tiny_patch16_224", "none", depth=4, embed_dim=16, num_heads=2)
    weights = {key: torch.randn_like(value) for key, value in trunk.state_dict().items()}
    save_file(weights, tmp_path / "trunk.safetensors")
    state = build(pretrained=str(tmp_path / "trunk.safetensors")).trunk.state_dict()
    for key, value in weights.items():
        if key.startswith(("blocks.", "norm.", "cls_token")):
            torch.testing.assert_close(state[key], value, rtol=0, atol=0)
    expected = vit.resize_positions(weights["pos_embed"], (7, 5))
    torch.testing.assert_close(state["pos_embed"], expected)


def test_which_layers_are_oh_layers():
    assert oh_layers("middle", 12) == tuple(range(2, 12))
    assert oh_layers(" 4, 2", 5) == (2, 4)
    model = build(depth=5, oh_layers="3,4")
    kinds = [isinstance(layer, OHLayer) for layer in model.trunk.blocks]
    assert kinds == [False, False, True, True, False]


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(oh_layers="1,2"), "from 2 to 3"),
        (dict(oh_layers="4"), "from 2 to 3"),
        (dict(oh_layers="2,2"), "different"),
        (dict(oh_layers=""), "expected middle"),
        (dict(oh_layers="two"), "expected middle"),
        (dict(depth=2), "3 or more"),
        (dict(orders=1), "2 or more"),
        (dict(lrp_stride=0), "1 or more"),
        (dict(lrp_stride=7), "one cell"),
        (dict(sharing="mixed"), "prior-mixed"),
        (dict(js_weight=-1), "0 or more"),
        (dict(parts=8), "7 rows"),
        (dict(heads=3), "can't be divided by heads=3"),
        (dict(trunk="resnet50"), "plain vit"),
        (dict(pretrained="nowhere.pth"), "no weights at"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(BadInput, match=message):
        asked = Experiment.create(
            model="ohformer", recipe="demo", settings=SMALL | dict(size="72x50") | settings
        )
        OHFormer(asked.options, asked.training.size, Facts(classes=5))


def test_the_paper_recipe_is_transreids():
    ours = Experiment.create(model="ohformer", recipe="paper")
    theirs = Experiment.create(model="transreid", recipe="paper")
    assert ours.training == theirs.training and ours.options.trunk == theirs.options.trunk
    with torch.device("meta"):
        model = OHFormer(
            Experiment.create(
                model="ohformer", recipe="paper", settings=dict(pretrained="none")
            ).options,
            ours.training.size,
            Facts(classes=751),
        )
    assert model.grid == (26, 13) and model.trunk.embed_dim == 768
    assert model.oh_layers == tuple(range(2, 12))


@pytest.mark.parametrize(("recipe", "share"), (("paper", 0.1), ("demo", 0.1), (None, 1.0)))
def test_offsets_learn_at_a_share_of_the_learning_rate(recipe, share):
    """A step of SGD moves what gives them by that share of its gradient, everything else by all."""
    found = dict(optimizer="sgd", weight_decay=0.0, learning_rate=0.5, bias_learning_rate=2.0)
    asked = Experiment.create(
        model="ohformer",
        recipe=recipe or "demo",
        settings=SMALL | found | (dict(offset_learning_rate=1.0) if recipe is None else {}),
    )
    model = OHFormer(asked.options, SIZE, Facts(classes=5))
    optimizer = optimizers_for(model, asked.training)[0]
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    before = {name: p.detach().clone() for name, p in trained.items()}
    for p in trained.values():
        p.grad = torch.ones_like(p)
    for group in optimizer.param_groups:
        group["lr"] = 0.5 * group["scale"]
    optimizer.step()
    assert len(optimizer.param_groups) == (2 if share == 1 else 4)
    for name, p in trained.items():
        moved = 0.5 * (share if "to_offsets" in name else 1) * (2 if "bias" in name else 1)
        torch.testing.assert_close(before[name] - p.detach(), torch.full_like(p, moved))


def test_a_run_from_before_the_knob_goes_on_as_it_was():
    asked = Experiment.create(
        model="ohformer", recipe="demo", settings=SMALL | dict(offset_learning_rate=1.0)
    )
    written = asked.as_dict()
    del written["knobs"]["offset_learning_rate"]
    assert Experiment.from_dict(written) == asked
    written["model"] = "unheard"
    with pytest.raises(BadInput, match="unknown model 'unheard'"):
        Experiment.from_dict(written)
