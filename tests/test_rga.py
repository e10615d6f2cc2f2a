"""RGA's attention against double loops over nodes and against the official code's numbers, and what
it is compared with against loops."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from formula import filled, images
from torch import nn

from reid_core.errors import BadInput
from reid_core.losses import objective
from reid_core.models import Batch, Facts
from reid_core.models.attentions import CBAM, NonLocal, SimplifiedNonLocal
from reid_core.models.rga import RGA, RelationAware, RGAModule, RGAOptions
from reid_core.probe import observe, probes

GOLDEN = Path(__file__).parent / "golden" / "rga.npz"
SMALL = dict(trunk="resnet10t", pretrained="none", width=8)
# Of the official names; a pattern and what it becomes.
NAMES = {
    r"backbone\.(conv1|bn1|layer\d)\.": r"trunk.\1.",
    r"backbone\.rga_att(\d)\.(theta|phi)_(spatial|channel)\.": r"attentions.layer\1.\3.\2.",
    r"backbone\.rga_att(\d)\.gx_(spatial|channel)\.": r"attentions.layer\1.\2.own.",
    r"backbone\.rga_att(\d)\.gg_(spatial|channel)\.": r"attentions.layer\1.\2.related.",
    r"backbone\.rga_att(\d)\.W_(spatial|channel)\.": r"attentions.layer\1.\2.weigh.",
    r"feat_bn\.": "head.norm.",
    r"cls\.": "head.classifier.",
}


def build(size=(64, 32), classes=5, **options) -> RGA:
    torch.manual_seed(0)
    return RGA(RGAOptions(**SMALL | options), size, Facts(classes))


def batch(image: torch.Tensor) -> Batch:
    nothing = torch.zeros(len(image), dtype=torch.long)
    return Batch(image, nothing, nothing)


def ours(key: str) -> str:
    """The name here of a tensor of the official model."""
    found = [
        re.sub(pattern, name, key) for pattern, name in NAMES.items() if re.match(pattern, key)
    ]
    return found[0]


def official(kind: str, size: tuple[int, int]) -> tuple[RGA, np.lib.npyio.NpzFile]:
    """A model with weights by formula from the official names, in double precision: over so many
    normalised layers of formula weights, single precision leaves three digits."""
    golden = np.load(GOLDEN)
    shapes = json.loads(str(golden["shapes"]))[kind]
    trunk = "resnet26" if kind == "loss" else "resnet50"
    more = dict(spatial=kind != "rgac", channel=kind != "rgas", trunk=trunk, width=0)
    if size == (128, 64):  # too small for the official code with ratios of 8
        more |= dict(spatial_ratio=4, channel_ratio=4, down_ratio=4)
    with torch.device("meta"):
        model = build(size, shapes["cls.weight"][0], **more)
    weights = {ours(key): filled(key, tuple(shape)) for key, shape in shapes.items()}
    model.load_state_dict(weights, assign=True)
    return model.double(), golden


@pytest.mark.parametrize(
    "kind, size", [("rgas", (128, 64)), ("rgac", (128, 64)), ("rgasc", (256, 128))]
)
def test_features_are_the_official_ones(kind, size):
    """After a pass over the same images has set the running statistics, without which gates by
    formula are all open or all shut."""
    model, golden = official(kind, size)
    model.neck = "after"
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(batch(images(2, size).double()))
        output = model.eval()(batch(images(2, size).double()))
    for neck, found in (("before", output.branches[0].feature), ("after", output.embedding)):
        expected = golden[f"{neck}_{kind}"]
        assert np.linalg.norm(found.numpy() - expected) < 1e-6 * np.linalg.norm(expected)


def test_features_in_single_precision_are_the_official_ones():
    """With weights that leave the gates half open, single precision keeps its digits."""
    model, golden = official("rgasc", (256, 128))
    model, gentle = model.float(), ("theta", "phi", "weigh")
    for name, parameter in model.attentions.named_parameters():
        if parameter.dim() > 1 and any(f"{part}." in name for part in gentle):
            parameter.data *= 0.6
    model.neck = "after"
    with torch.no_grad():
        output = model.eval()(batch(images(2, (256, 128))))
    for neck, found in (("before", output.branches[0].feature), ("after", output.embedding)):
        expected = golden[f"gentle_{neck}"]
        assert np.linalg.norm(found.numpy() - expected) < 1e-5 * np.linalg.norm(expected)


def test_losses_and_gradients_are_the_official_ones():
    """On the official modules over a trunk of half the depth."""
    model, golden = official("loss", (128, 64))
    identity = torch.tensor([3, 3, 7, 7])
    output = model.train()(batch(images(4, (128, 64)).double()))
    terms = objective(output, identity, margin=0.3, label_smoothing=0.1)
    found = [terms[name].item() for name in ("identity", "triplet")]
    np.testing.assert_allclose(found, golden["losses"], rtol=1e-5)
    sum(terms.values()).backward()
    parameters = dict(model.named_parameters())
    kept = [key for key in golden.files if key.startswith("gradient:")]
    assert len(kept) == 11
    for key in kept:
        gradient = parameters[ours(key.removeprefix("gradient:"))].grad.numpy()
        assert np.linalg.norm(gradient - golden[key]) < 1e-4 * np.linalg.norm(golden[key]), key


def attention(width: int, nodes: int) -> RelationAware:
    torch.manual_seed(0)
    module = RelationAware(width, nodes, width_ratio=2, node_ratio=3, down_ratio=2).double()
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.2, 1.2)
    return module.eval()


def test_relation_vectors_against_a_double_loop():
    """theta_i . phi_j to every node j, then theta_j . phi_i from every node j."""
    module, x = attention(4, 6), torch.randn(2, 4, 3, 2).double()
    theta, phi = module.theta(x), module.phi(x)
    found = module.relations(theta.flatten(2), phi.flatten(2))
    cells = [(row, column) for row in range(3) for column in range(2)]
    for image in range(2):
        for i, here in enumerate(cells):
            to = [sum(theta[image, :, *here] * phi[image, :, *there]) for there in cells]
            back = [sum(theta[image, :, *there] * phi[image, :, *here]) for there in cells]
            torch.testing.assert_close(found[image, :, i], torch.stack(to + back))
    assert not torch.allclose(found[:, :6], found[:, 6:])


def test_watched_relations_and_those_never_formed_give_the_same_attention():
    module, x = attention(4, 6), torch.randn(2, 4, 3, 2).double()
    expected = module(x)
    with observe(module, "relation") as seen:
        torch.testing.assert_close(module(x), expected)
    torch.testing.assert_close(seen["relation"], module.relations(*module.embedded(x)[:2]))


def test_attention_of_a_node_from_its_own_feature_and_its_relations():
    """One node at a time, as if there were no convolutions."""
    module, x = attention(4, 6), torch.randn(1, 4, 3, 2).double()

    def layer(sequence, vector):
        convolution, norm = sequence[0], sequence[1]
        vector = convolution.weight[:, :, 0, 0] @ vector
        vector = (vector - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        return vector * norm.weight + norm.bias

    gate, relations = module(x), module.relations(*module.embedded(x)[:2])
    for i in range(6):
        own = layer(module.own, x[0].flatten(1)[:, i]).relu().mean()
        related = layer(module.related, relations[0, :, i]).relu()
        hidden = layer(module.weigh[:2], torch.cat([own[None], related])).relu()
        expected = layer(module.weigh[3:], hidden).sigmoid()
        torch.testing.assert_close(gate[0].flatten(1)[:, i], expected)


def test_channel_attention_relates_channels_by_their_positions():
    """A double loop over channels, on what spatial attention left."""
    torch.manual_seed(0)
    module = RGAModule(5, (3, 2), RGAOptions(spatial_ratio=2, channel_ratio=2, down_ratio=1))
    module, x = module.double().eval(), torch.randn(1, 5, 3, 2).double()
    with observe(module, "*") as seen:
        found = module(x)
    attended = x * seen["spatial_gate"]
    nodes = attended.flatten(2).transpose(1, 2)[..., None]  # (1, positions, channels, 1)
    theta, phi = module.channel.theta(nodes)[0, :, :, 0], module.channel.phi(nodes)[0, :, :, 0]
    for i in range(5):
        to = [theta[:, i] @ phi[:, j] for j in range(5)]
        back = [theta[:, j] @ phi[:, i] for j in range(5)]
        relation = seen["channel.relation"][0, :, i]
        torch.testing.assert_close(relation, torch.stack(to + back))
    torch.testing.assert_close(found, attended * seen["channel_gate"][:, :, None, None])
    assert seen["spatial_gate"].shape == (1, 1, 3, 2) and seen["channel_gate"].shape == (1, 5)
    assert seen["spatial.relation"].shape == (1, 12, 6)


def test_official_reductions():
    """At 256x128 in stage 1: 2048 positions, 256 channels, all by 8."""
    with torch.device("meta"):
        first = build((256, 128), trunk="resnet50", width=0).attentions["layer1"]
    assert first.spatial.theta[0].weight.shape == (32, 256, 1, 1)
    assert first.spatial.related[0].weight.shape == (256, 4096, 1, 1)
    assert first.spatial.weigh[0].weight.shape == (32, 257, 1, 1)
    assert first.channel.theta[0].weight.shape == (256, 2048, 1, 1)
    assert first.channel.related[0].weight.shape == (32, 512, 1, 1)
    assert first.channel.weigh[0].weight.shape == (4, 33, 1, 1)


def test_any_size_and_stride():
    for size, stride in (((64, 32), 1), ((70, 50), 2), ((40, 88), 1)):
        model = build(size, last_stride=stride)
        with observe(model, "features.layer4") as seen:
            model(batch(torch.randn(2, 3, *size)))
        assert seen["features.layer4"].shape[2:] == model.grid


SPATIAL = ("spatial", "relation", "own and related")
CHANNEL = ("channel", "channel relation", "channel own and related")


@pytest.mark.parametrize(
    "options, kinds",
    [
        (dict(), {"features", *SPATIAL, *CHANNEL}),
        (dict(channel=False), {"features", *SPATIAL}),
        (dict(spatial=False), {"features", *CHANNEL}),
        (dict(attention="cbam"), {"features", "spatial", "channel"}),
        (dict(attention="nl"), {"features", "attention"}),
        (dict(attention="snl"), {"features", "pooling"}),
        (dict(attention="none"), {"features"}),
    ],
)
def test_every_attention_at_the_same_four_places(options, kinds):
    model = build(**options)
    windows = probes(model)
    assert {probe.kind for probe in windows.values()} == kinds
    with observe(model, "*") as seen:
        model(batch(torch.randn(2, 3, 64, 32)))
    for name in ("layer1", "layer2", "layer3", "layer4"):
        attended = [key for key in seen if f"attentions.{name}" in key]
        assert len(attended) == len(kinds) - 1


def test_none_and_the_untrained_non_local_blocks_are_the_bare_trunk():
    """The non-local blocks start as the identity."""
    image = images(2, (64, 32))
    features = []
    for attention in ("none", "nl", "snl"):
        model = build(attention=attention).eval()
        plain = build(attention="none").eval()
        model.trunk.load_state_dict(plain.trunk.state_dict())
        with torch.no_grad():
            features.append(model(batch(image)).embedding)
    torch.testing.assert_close(features[1], features[0])
    torch.testing.assert_close(features[2], features[0])


def test_neither_spatial_nor_channel_is_refused():
    with pytest.raises(BadInput, match="neither spatial nor channel"):
        build(spatial=False, channel=False)


def test_without_bnneck_both_features_are_the_same():
    model = build(bnneck=False).eval()
    before = model(batch(images(2, (64, 32)))).embedding
    model.neck = "after"
    torch.testing.assert_close(model(batch(images(2, (64, 32)))).embedding, before)


def test_cbam_against_loops():
    torch.manual_seed(0)
    module, x = CBAM(4, ratio=2).double(), torch.randn(1, 4, 3, 5).double()
    first, _, second = module.mlp
    gates = sum(
        second.weight @ (first.weight @ pooled).relu()
        for pooled in (
            torch.stack([x[0, c].mean() for c in range(4)]),
            torch.stack([x[0, c].max() for c in range(4)]),
        )
    )
    y = torch.stack([x[0, c] * gates[c].sigmoid() for c in range(4)])
    kernel = module.convolution.weight[0]
    expected = torch.empty_like(y)
    for row in range(3):
        for column in range(5):
            total = 0.0
            for i in range(7):
                for j in range(7):
                    r, c = row + i - 3, column + j - 3
                    if 0 <= r < 3 and 0 <= c < 5:
                        total += kernel[0, i, j] * y[:, r, c].mean()
                        total += kernel[1, i, j] * y[:, r, c].max()
            expected[:, row, column] = y[:, row, column] * total.sigmoid()
    torch.testing.assert_close(module(x)[0], expected)


def test_non_local_block_against_a_double_loop():
    torch.manual_seed(0)
    module, x = NonLocal(4).double().eval(), torch.randn(1, 4, 3, 2).double()
    module.out[1].weight.data.uniform_(0.5, 1.5)
    theta, phi, g = (f.weight[:, :, 0, 0] for f in (module.theta, module.phi, module.g))
    nodes = x[0].flatten(1).T  # (6, 4)
    found = module(x)[0].flatten(1).T
    for i in range(6):
        weights = F.softmax(torch.stack([(theta @ nodes[i]) @ (phi @ n) for n in nodes]), dim=0)
        seen = sum(w * (g @ n) for w, n in zip(weights, nodes, strict=True))
        added = module.out[1](module.out[0](seen[None, :, None, None]))[0, :, 0, 0]
        torch.testing.assert_close(found[i], nodes[i] + added)


def test_simplified_non_local_block_adds_the_same_to_every_position():
    torch.manual_seed(0)
    module, x = SimplifiedNonLocal(4).double(), torch.randn(1, 4, 3, 2).double()
    nn.init.normal_(module.value.weight)
    nodes = x[0].flatten(1).T
    weights = F.softmax(torch.stack([module.key.weight[0, :, 0, 0] @ n for n in nodes]), dim=0)
    added = module.value.weight @ sum(w * n for w, n in zip(weights, nodes, strict=True))
    torch.testing.assert_close(module(x)[0].flatten(1).T, nodes + added)
