"""TransReID's mechanisms against the paper and the official code, by hand."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from formula import filled, images, renamed
from safetensors.torch import save_file

from reid_core.errors import BadInput
from reid_core.experiment import Experiment
from reid_core.losses import batch_hard_triplet, objective
from reid_core.models import MODELS, Batch, Branch, Facts, Output, vit
from reid_core.models.transreid import TransReID, TransReIDOptions, jigsaw_order, part_patches
from reid_core.models.vit import OFFICIAL_SMALL, resize_positions
from reid_core.official.names import NAMES
from reid_core.probe import observe

FACTS = Facts(classes=5, cameras=(1, 2, 5), views=(0, 1))
SMALL = dict(trunk="vit_tiny_patch16_224", pretrained="none", depth=3, width=32, heads=2, stride=8)


def build(**options) -> TransReID:
    torch.manual_seed(0)
    return TransReID(TransReIDOptions(**SMALL | options), (64, 32), FACTS)


def batch(count: int = 4, camera=0, view=0) -> Batch:
    image = torch.randn(count, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    return Batch(image, torch.full((count,), camera), torch.full((count,), view))


def test_jigsaw_of_eight_patches_in_two_groups():
    """Shift 5 rotates by 4: 4 5 6 7 0 1 2 3; two groups interleave: 4 0 5 1 6 2 7 3."""
    assert jigsaw_order(8, shift=5, groups=2) == [4, 0, 5, 1, 6, 2, 7, 3]
    # Shift 3 rotates by 2: 2 3 4 5 | 6 7 0 1.
    assert jigsaw_order(8, shift=3, groups=2) == [2, 6, 3, 7, 4, 0, 5, 1]


def test_jigsaw_of_an_odd_number_repeats_the_second_to_last():
    """7 patches, shift 5: 4 5 6 0 1 2 3 and once more 2: 4 5 6 0 | 1 2 3 2."""
    assert jigsaw_order(7, shift=5, groups=2) == [4, 1, 5, 2, 6, 3, 0, 2]


@pytest.mark.parametrize(
    "size, stride, patches, dropped",
    [((256, 128), 16, 128, 0), ((256, 128), 12, 210, 2), ((256, 128), 11, 242, 2)],
)
def test_parts_leave_the_remainder_out(size, stride, patches, dropped):
    options = TransReIDOptions(stride=stride)
    parts = part_patches(patches, options)
    assert len(parts) == 4 and {len(part) for part in parts} == {patches // 4}
    assert patches - len({p for part in parts for p in part}) == dropped


def test_parts_without_rearranging_are_stripes():
    assert part_patches(8, TransReIDOptions(rearrange=False)) == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_local_features_are_the_last_layer_over_each_part():
    """One part at a time, the class token put before it by hand."""
    model = build().eval()
    with torch.no_grad():
        tokens = model.trunk.norm(model.trunk.blocks(model.embed(batch())))
        for number, feature in enumerate(model.local_features(tokens)):
            rows = [0] + [1 + patch for patch in model.parts[number]]
            expected = model.local_layer(tokens[:, rows])[:, 0]
            torch.testing.assert_close(feature, expected, rtol=1e-5, atol=1e-6)


def test_the_test_feature_is_global_beside_a_quarter_of_each_local_one():
    model = build().eval()
    with torch.no_grad():
        output = model(batch())
    expected = [output.branches[0].feature] + [b.feature / 4 for b in output.branches[1:]]
    torch.testing.assert_close(output.embedding, torch.cat(expected, dim=1))
    model.neck = "after"
    with torch.no_grad():
        after = model(batch()).embedding
    expected = [model.necks[0].norm(output.branches[0].feature)]
    expected += [model.necks[i].norm(output.branches[i].feature) / 4 for i in range(1, 5)]
    torch.testing.assert_close(after, torch.cat(expected, dim=1))


def test_branches_are_copied_after_the_pretrained_weights(tmp_path):
    trunk = vit.trunk("vit_tiny_patch16_224", "none", depth=3, embed_dim=32, num_heads=2)
    weights = {k: torch.randn_like(v) for k, v in trunk.state_dict().items()}
    save_file(weights, tmp_path / "trunk.safetensors")
    model = build(pretrained=str(tmp_path / "trunk.safetensors"))
    for layer in (model.global_layer, model.local_layer):
        torch.testing.assert_close(layer[0].mlp.fc1.weight, weights["blocks.2.mlp.fc1.weight"])
        torch.testing.assert_close(layer[1].weight, weights["norm.weight"])
    assert len(model.trunk.blocks) == 2


def test_two_cameras_have_two_embeddings_added_to_every_token():
    model = build(sie_coefficient=3.0).eval()
    with torch.no_grad():
        first, second = (model.embed(batch(camera=c)) for c in (0, 1))
    difference = 3.0 * (model.side[1] - model.side[0]).detach()
    assert difference.abs().max() > 0
    torch.testing.assert_close(second - first, difference.expand_as(first), rtol=1e-4, atol=1e-5)


def test_an_unknown_camera_takes_the_mean_embedding():
    model = build().eval()
    with torch.no_grad():
        unknown = model.side_information(batch(camera=-1))
    torch.testing.assert_close(unknown[0, 0], model.side.mean(dim=(0, 1)))


def test_camera_and_view_together_are_row_camera_times_views_plus_view():
    model = build(sie="both").eval()
    assert len(model.side) == len(FACTS.cameras) * len(FACTS.views)
    with torch.no_grad():
        found = model.side_information(batch(camera=2, view=1))
        no_view = model.side_information(batch(camera=2, view=-1))
    torch.testing.assert_close(found[0, 0], model.side[2 * 2 + 1, 0])
    torch.testing.assert_close(no_view[0, 0], model.side[4:6].mean(dim=(0, 1)))


def test_side_information_needs_cameras():
    with pytest.raises(BadInput, match="no views"):
        TransReID(TransReIDOptions(**SMALL, sie="view"), (64, 32), Facts(5, (1, 2)))


def test_positions_are_resized_bilinearly_without_antialiasing():
    """Halving a grid takes the mean of each four cells; antialiasing would weigh twelve more."""
    positions = torch.randn(1, 1 + 16, 3)
    resized = resize_positions(positions, (2, 2))
    grid = positions[0, 1:].reshape(4, 4, 3)
    for row in range(2):
        for column in range(2):
            cell = grid[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean(dim=(0, 1))
            torch.testing.assert_close(resized[0, 1 + 2 * row + column], cell)
    torch.testing.assert_close(resized[:, 0], positions[:, 0])


def test_a_distilled_trunk_loses_its_second_token():
    options = TransReIDOptions(**SMALL | dict(trunk="deit_tiny_distilled_patch16_224", depth=3))
    model = TransReID(options, (64, 32), FACTS).eval()
    assert model.embed(batch()).shape[1] == 1 + model.grid[0] * model.grid[1]


@pytest.mark.parametrize(
    "name", ["resnet50", "vit_base_patch16_siglip_224", "vit_bass_patch16_224"]
)
def test_other_trunks_are_refused_with_the_list(name):
    with pytest.raises(BadInput, match="vit_tiny_patch16_224"):
        build(trunk=name)


def test_weights_of_another_trunk_are_refused(tmp_path):
    save_file({"blocks.0.norm1.weight": torch.zeros(7)}, tmp_path / "w.safetensors")
    with pytest.raises(BadInput, match="does not fit"):
        build(pretrained=str(tmp_path / "w.safetensors"))
    with pytest.raises(BadInput, match="no weights at"):
        build(pretrained=str(tmp_path / "none.pth"))


@pytest.mark.parametrize("wrap", ["", "model", "state_dict"])
def test_weights_in_half_precision_become_whole(tmp_path, wrap):
    trunk = vit.trunk("vit_tiny_patch16_224", "none", depth=3, embed_dim=32, num_heads=2)
    weights = {f"module.{k}": v.half() for k, v in trunk.state_dict().items()}
    weights["module.head.weight"] = torch.zeros(1000, 32)
    torch.save({wrap: weights} if wrap else weights, tmp_path / "w.pth")
    model = build(pretrained=str(tmp_path / "w.pth"))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    torch.testing.assert_close(
        model.trunk.cls_token, trunk.cls_token.half().float(), rtol=0, atol=0
    )


@pytest.mark.parametrize(
    "content", [{0: torch.zeros(1)}, {"pos_embed": torch.zeros(1, 197, 99)}, [1], {"a": 1}]
)
def test_files_that_are_no_weights_of_this_trunk(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(BadInput):
        build(pretrained=str(tmp_path / "w.pth"))
    (tmp_path / "w.pth").write_bytes(b"")
    with pytest.raises(BadInput, match="can't be read"):
        build(pretrained=str(tmp_path / "w.pth"))


def test_a_pickle_is_never_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"a": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(BadInput, match="no code of a file is ever executed"):
        build(pretrained=str(tmp_path / "trap.pth"))
    assert not (tmp_path / "sprung").exists()


def test_cross_entropy_and_soft_margin_by_hand():
    """Four points on a line, two identities: 0, 1 against 3, 7."""
    features = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    identities = torch.tensor([0, 0, 1, 1])
    hardest = [(1, 3), (1, 2), (4, 2), (4, 6)]  # farthest positive, nearest negative of each
    expected = sum(math.log(1 + math.exp(p - n)) for p, n in hardest) / 4
    assert batch_hard_triplet(features, identities, None).item() == pytest.approx(
        expected, abs=1e-5
    )
    expected = sum(max(0, 0.3 + p - n) for p, n in hardest) / 4
    assert batch_hard_triplet(features, identities, 0.3).item() == pytest.approx(expected, abs=1e-5)

    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    terms = objective(
        Output(features, [Branch(features, logits, 0.5)]),
        identities,
        margin=None,
        label_smoothing=0.0,
    )
    expected = 0.5 * (math.log(1 + math.exp(-2)) + 3 * math.log(2)) / 4
    assert terms["identity"].item() == pytest.approx(expected, abs=1e-6)


def test_the_loss_is_half_global_half_the_mean_of_the_local_ones():
    weights = [b.weight for b in build()(batch()).branches]
    assert weights == [0.5, 0.125, 0.125, 0.125, 0.125]
    assert [b.weight for b in build(jpm=False)(batch()).branches] == [1.0]


def test_a_batch_of_one_identity_has_no_triplet():
    features = torch.randn(4, 3, requires_grad=True)
    loss = batch_hard_triplet(features, torch.zeros(4, dtype=torch.long), None)
    loss.backward()
    assert loss.item() == 0 and torch.isfinite(features.grad).all()


@pytest.mark.parametrize("options", [{}, {"jpm": False}, {"sie": "both"}, {"sie": "none"}])
def test_contract(options):
    """Shapes, determinism, gradients, watched equals unwatched, state round trip."""
    model = build(**options)
    asked = batch()
    asked.identity = torch.tensor([0, 0, 1, 1])
    output = model(asked)
    assert len(output.embedding) == 4 and sum(b.weight for b in output.branches) == pytest.approx(1)
    sum(objective(output, asked.identity, margin=None, label_smoothing=0.1).values()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without

    model.eval()
    with torch.no_grad():
        embedding = model(asked).embedding
        torch.testing.assert_close(embedding, model(asked).embedding, rtol=0, atol=0)
        with observe(model, "*attention") as seen:
            watched = model(asked).embedding
    torch.testing.assert_close(watched, embedding, rtol=1e-5, atol=1e-5)
    for attention in seen.values():
        torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))
    assert len(seen) == len(model.trunk.blocks) + 2 * model.options.jpm

    copy = build(**options).eval()
    copy.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(copy(asked).embedding, embedding, rtol=0, atol=0)


def test_every_bnneck_bias_is_frozen_at_zero():
    for neck in build().necks:
        assert not neck.norm.bias.requires_grad and not neck.norm.bias.any()


def test_recipes_are_complete_and_buildable():
    for name, model in MODELS.items():
        assert {"paper", "demo"} <= set(model.recipes)
        for recipe in model.recipes:
            Experiment.create(model=name, recipe=recipe)


def test_paper_recipe_is_the_official_one():
    """Figures read off the official configuration for Market-1501 with stride 12."""
    e = Experiment.create(model="transreid", recipe="paper")
    t, o = e.training, e.options
    assert (t.size, t.optimizer, t.learning_rate, t.weight_decay) == (
        (256, 128),
        "sgd",
        0.008,
        1e-4,
    )
    assert (t.identities_per_batch, t.images_per_identity, t.epochs) == (16, 4, 120)
    assert (t.label_smoothing, t.margin, t.bias_learning_rate, t.neck) == (0, "soft", 2, "before")
    assert (o.trunk, o.stride, o.drop_path, o.sie, o.sie_coefficient) == (
        "vit_base_patch16_224.orig_in21k_ft_in1k",  # the official jx_vit_base_p16_224-80ecf9dd
        12,
        0.1,
        "camera",
        3.0,
    )
    assert (o.jpm, o.shift, o.groups, o.parts) == (True, 5, 2, 4)
    np.testing.assert_equal(t.triplet_margin, None)


# The official code's numbers for weights by formula, how obtained: tests/golden/README.md.

GOLDEN = Path(__file__).parent / "golden" / "transreid.npz"
DEIT_SMALL = dict(trunk="deit_small_patch16_224")
CASES = {
    "stride-12 jpm camera": dict(sie="camera"),
    "stride-16": dict(stride=16, jpm=False),
    "stride-12": dict(jpm=False),
    "stride-16 jpm": dict(stride=16),
    "stride-12 jpm both": dict(sie="both"),
    "stride-16 jpm view": dict(stride=16, sie="view"),
    "stride-16 camera": dict(stride=16, jpm=False, sie="camera"),
    "stride-11 jpm camera": dict(stride=11, sie="camera"),
    "stride-12 jpm camera 384x128": dict(sie="camera"),
    "stride-12 jpm both 256x256 shift-8": dict(sie="both", shift=8),
    "stride-16 jpm stripes": dict(stride=16, rearrange=False),
    "whole stride-12 jpm camera": dict(sie="camera", depth=0),
    "vit-small whole": dict(trunk=OFFICIAL_SMALL, stride=16, jpm=False, depth=0),
    "vit-small jpm camera": dict(trunk=OFFICIAL_SMALL, stride=16, sie="camera"),
    "deit-small whole camera": DEIT_SMALL | dict(stride=16, jpm=False, sie="camera", depth=0),
}


def official(case: str) -> TransReID:
    """The model of a case with the official weights by formula, renamed as an import does it."""
    usual = dict(trunk="vit_base_patch16_224", pretrained="none", depth=2, drop_path=0, sie="none")
    with torch.device("meta"):
        options = TransReIDOptions(**usual | CASES[case])
        model = TransReID(options, size_of(case), Facts(11, tuple(range(6)), (0, 1, 2)))
    given = renamed(str(np.load(GOLDEN)[f"{case}/keys"]), NAMES["transreid"])
    own = set(model.state_dict())
    never_run = {name for name in given if re.match(r"trunk\.(fc|norm|blocks)\.", name)} - own
    assert own == set(given) - never_run
    model.load_state_dict({name: filled(*given[name]) for name in own}, assign=True)
    if options.jpm:
        model.part_index = torch.tensor(model.parts)
    return model


def size_of(case: str) -> tuple[int, int]:
    found = re.search(r"(\d+)x(\d+)", case)
    return (int(found[1]), int(found[2])) if found else (256, 128)


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=pytest.mark.long) if "whole" in c else c for c in CASES]
)
def test_the_official_features(case):
    golden, model = np.load(GOLDEN), official(case).eval()
    asked = Batch(images(2, size_of(case)), torch.tensor([1, 4]), torch.tensor([2, 0]))
    for neck, norm in zip(("before", "after"), golden[f"{case}/norms"], strict=True):
        model.neck = neck
        with torch.no_grad():
            found = model(asked).embedding
        expected = torch.from_numpy(golden[f"{case}/{neck}"])
        assert (found[:, ::8] - expected).norm() / expected.norm() < 1e-5
        assert found.norm().item() == pytest.approx(norm, rel=1e-5)


def test_the_official_training_losses_and_gradients():
    """Two images of each of two people, three cameras."""
    golden, model = np.load(GOLDEN), official("stride-12 jpm camera").train()
    for parameter in model.parameters():
        parameter.requires_grad_()
    identities, cameras = torch.tensor([3, 3, 7, 7]), torch.tensor([0, 2, 5, 5])
    asked = Batch(images(4, (256, 128)), cameras, torch.full((4,), -1), identities)
    terms = objective(model(asked), identities, margin=None, label_smoothing=0.0)
    for name, term in terms.items():
        assert term.item() == pytest.approx(float(golden[f"loss/{name}"]), rel=1e-5)
    sum(terms.values()).backward()
    for key in [key for key in golden if key.startswith("gradient/")]:
        name = key.removeprefix("gradient/")
        pattern = next(each for each in NAMES["transreid"] if re.match(each, name))
        found = model.get_parameter(re.sub(pattern, NAMES["transreid"][pattern], name)).grad
        found = found.flatten()[:: max(1, found.numel() // 256)][:256]
        expected = torch.from_numpy(golden[key])
        assert (found - expected).norm() / expected.norm() < 1e-4, name
