"""PHA's mechanism against slow versions of it, and against the official code's numbers."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import pywt
import torch
from conftest import TINY
from formula import filled, images, renamed

from reid_core import train
from reid_core.data.images import augment, finish
from reid_core.errors import BadInput
from reid_core.experiment import Experiment
from reid_core.losses import objective
from reid_core.models import Batch, Facts
from reid_core.models.pha import (
    PHA,
    PHAOptions,
    drop_low_frequency,
    high_frequency,
    official_enhanced,
    official_marks,
    official_patches,
    patch_contrast,
    patch_cosines,
    patch_energy,
    top_patches,
)
from reid_core.models.transreid import TransReID, TransReIDOptions
from reid_core.official.names import NAMES
from reid_core.probe import observe

FACTS = Facts(classes=5, cameras=(1, 2))
SMALL = dict(trunk="vit_tiny_patch16_224", pretrained="none", depth=3, width=32, heads=2, stride=12)
SMALL |= dict(drop_path=0.0)


def build(**options) -> PHA:
    torch.manual_seed(0)
    return PHA(PHAOptions(**SMALL | options), (64, 32), FACTS)


def pictures(count: int = 4, size: tuple[int, int] = (64, 32)) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(1))


def batch(picture: torch.Tensor | None = None, **fields) -> Batch:
    """Two images of each person; the model's view is the picture itself."""
    picture = pictures() if picture is None else picture
    rows = torch.arange(len(picture)) % 2
    made = Batch((picture - 0.5) / 0.5, rows, torch.full_like(rows, -1))
    made.identity = torch.arange(len(picture)) // 2
    made.clean = made.plain = picture
    made.finish = lambda image, erase=0.0: (image - 0.5) / 0.5
    made.progress = 5
    for name, value in fields.items():
        setattr(made, name, value)
    return made


# Wavelets


@pytest.mark.parametrize("size", [(64, 32), (33, 21)])
@pytest.mark.parametrize("wavelet", ["haar", "db3", "bior2.2"])
def test_nothing_dropped_is_the_image_itself(wavelet, size):
    image = pictures(size=size)
    torch.testing.assert_close(drop_low_frequency(image, wavelet, 0), image, rtol=0, atol=2e-6)


def test_the_high_frequency_image_is_pywavelets_without_ll():
    image = pictures()
    low, details = pywt.dwt2(image.numpy(), "haar", mode="zero")
    expected = pywt.idwt2((np.zeros_like(low), details), "haar", mode="zero")
    torch.testing.assert_close(
        high_frequency(image, "haar"), torch.from_numpy(expected), rtol=0, atol=1e-6
    )


def test_dropping_rounds_the_low_frequencies_and_keeps_the_high_ones():
    """By two by two blocks: Haar's LL is half their sum."""
    image = pictures()
    dropped = drop_low_frequency(image, "haar", 5)
    torch.testing.assert_close(
        high_frequency(dropped, "haar"), high_frequency(image, "haar"), rtol=0, atol=1e-6
    )
    block = dropped[2, 1, 10:12, 20:22].sum() / 2 * 255 / 5
    assert block.item() == pytest.approx(round(block.item()), abs=1e-3)
    before = image[2, 1, 10:12, 20:22].sum() / 2 * 255 / 5
    assert round(block.item()) == round(before.item())
    assert (dropped - image).abs().max() < 5 / 255  # what the eye does not see


def test_nothing_is_made_on_the_host_in_a_second_step(monkeypatch):
    """Or a GPU's whole queue of work would be waited for in each step."""
    image = torch.rand(1, 3, 32, 16)
    first = drop_low_frequency(image, "db2", 5)

    as_tensor = torch.as_tensor

    def watched(data, **how):
        assert isinstance(data, torch.Tensor), "a tensor was made of numbers"
        return as_tensor(data, **how)

    monkeypatch.setattr(torch, "as_tensor", watched)
    assert torch.equal(drop_low_frequency(image, "db2", 5), first)


def test_an_unknown_wavelet_is_refused_with_the_near_ones():
    with pytest.raises(BadInput, match="haar"):
        build(wavelet="har")
    with pytest.raises(BadInput):
        high_frequency(pictures(), "morl")  # a continuous one


# Which patches


@pytest.mark.parametrize("stride", [16, 12])
def test_the_strongest_patches_by_a_loop_over_patches(stride):
    """The norm of the coefficients of the three sub-bands that lie in a patch's own window."""
    image = pictures()
    _, details = pywt.dwt2(image.numpy(), "haar", mode="zero")
    details = np.stack(details, axis=2)  # (B, 3, 3, H/2, W/2)
    grid = ((64 - 16) // stride + 1, (32 - 16) // stride + 1)
    energy = patch_energy(high_frequency(image, "haar"), 16, stride)
    chosen = top_patches(energy, 0.4)
    for i in range(len(image)):
        norms = []
        for row in range(grid[0]):
            for column in range(grid[1]):
                y, x = row * stride // 2, column * stride // 2
                norms.append(np.linalg.norm(details[i, ..., y : y + 8, x : x + 8]))
        np.testing.assert_allclose(energy[i].flatten().numpy(), norms, rtol=1e-4)
        expected = sorted(np.argsort(norms)[::-1][: int(0.4 * len(norms))])
        assert chosen[i].tolist() == expected


def test_the_official_patches_by_a_loop():
    image = pictures()
    _, details = pywt.dwt2(image.numpy(), "haar", mode="zero")
    norm = np.linalg.norm(details[0] + details[1] + details[2], axis=1)  # (B, 32, 16)
    marks = official_marks(image, "haar", 0.4)
    grid, share = (5, 2), 0.4
    chosen = official_patches(marks, grid, share)
    for i in range(len(image)):
        threshold = np.sort(norm[i].ravel())[::-1][int(0.4 * norm[i].size) - 1]
        np.testing.assert_array_equal(marks[i].numpy(), norm[i] >= threshold)
        first, then = [], []
        for row in range(grid[0]):
            for column in range(grid[1]):
                y, x = math.floor(row * 32 / grid[0]), math.floor(column * 16 / grid[1])
                (first if marks[i, y, x] else then).append(row * grid[1] + column)
        assert chosen[i].tolist() == (first + then)[: int(share * 10)]


def test_the_official_view_is_coarse_where_marked():
    image = pictures()
    marks = official_marks(image, "haar", 0.4)
    enhanced = official_enhanced(image, marks, "haar", 5)
    low, before = (pywt.dwt2(each.numpy(), "haar", mode="zero")[0] for each in (enhanced, image))
    for y, x in ((3, 4), (20, 11), (31, 15), (0, 0)):
        step = 5 if marks[1, y, x] else 1
        steps = before[1, 2, y, x] * 255 / step
        part = steps - math.floor(steps)
        soft = (math.tanh((part - 0.5) * math.log(19)) / 0.9 + 1) / 2
        assert low[1, 2, y, x] * 255 == pytest.approx((math.floor(steps) + soft) * step, abs=2e-3)


def test_the_mask_is_of_the_view_that_the_model_sees():
    """A fine grating in the left half: it is found there, and after a flip on the right."""
    clean = torch.full((4, 3, 64, 32), 0.5)
    clean[..., :16] += 0.25 * (-1.0) ** torch.arange(16)
    model = build(stride=16, high_frequency_share=0.5).train()
    for view, column in ((clean, 0), (clean.flip(3), 1)):
        with observe(model, "high_frequency") as seen:
            model(batch(view))
        mask = seen["high_frequency"]
        assert mask.shape == (4, 1, 4, 2)
        assert mask[:, 0, :, column].all() and not mask[:, 0, :, 1 - column].any()


def test_erasing_neither_draws_nor_repels_the_places():
    images = (pictures() * 255).byte()
    end = dict(normalisation="half")
    torch.manual_seed(3)
    erased, clean = augment(images, flip=0.5, pad=4, erase=1.0, **end)
    torch.manual_seed(3)
    whole, same = augment(images, flip=0.5, pad=4, erase=0.0, **end)
    assert (erased != whole).any() and torch.equal(clean, same)
    model = build().train()
    masks = []
    for image in (erased, whole):
        with observe(model, "high_frequency") as seen:
            model(batch(clean, image=image))
        masks.append(seen["high_frequency"])
    assert torch.equal(*masks)


def test_what_the_loop_hands_over_ends_like_its_own_images():
    image = pictures()
    torch.testing.assert_close(finish(image, erase=0, normalisation="half"), (image - 0.5) / 0.5)
    assert (finish(image, erase=1, normalisation="half") != (image - 0.5) / 0.5).any()


# The loss


def test_the_contrastive_loss_by_a_loop_over_pairs():
    draw = torch.Generator().manual_seed(2)
    first, second = torch.randn(2, 6, 3, 4, generator=draw)
    identities = torch.tensor([7, 2, 7, 2, 2, 9])  # neither in order nor equally many
    terms = []
    for place in range(3):
        for a in range(6):
            same, other = [], []
            for b in range(6):
                u, v = first[a, place].numpy(), second[b, place].numpy()
                cosine = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
                (same if identities[a] == identities[b] else other).append(cosine)
            p, n = math.exp(np.mean(same)), math.exp(np.mean(other))
            terms.append(-math.log(p / (p + n)))
    found = patch_contrast(patch_cosines(first, second), identities)
    assert found.item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_the_contrastive_loss_takes_the_batch_in_any_order():
    first, second = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(2))
    identities, order = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([3, 0, 5, 1, 4, 2])
    found = patch_contrast(patch_cosines(first[order], second[order]), identities[order])
    torch.testing.assert_close(found, patch_contrast(patch_cosines(first, second), identities))
    # Nobody to be held away from.
    alone = patch_contrast(patch_cosines(first[:2], second[:2]), identities[:2])
    assert torch.isfinite(alone)


@pytest.mark.parametrize("epoch, weight", [(1, 0.05), (5, 0.25), (10, 0.5), (11, 0.5), (120, 0.5)])
@pytest.mark.parametrize("variant, count", [("paper", 1), ("official", 2)])
def test_the_weight_grows_with_the_epochs(variant, count, epoch, weight):
    branches = build(variant=variant).train()(batch(progress=epoch)).branches
    assert [b.weight for b in branches[:5]] == [0.5, 0.125, 0.125, 0.125, 0.125]
    assert [b.weight for b in branches[5:]] == pytest.approx([weight] * count)


# The model


def test_the_high_frequency_sequence_is_the_class_token_and_the_chosen_patches():
    """One image at a time, layer by layer."""
    model = build().eval()
    made = batch()
    with torch.no_grad():
        found = model(made)
        energy = patch_energy(high_frequency(made.clean, "haar"), 16, 12)
        view = (drop_low_frequency(made.clean, "haar", 5) - 0.5) / 0.5
        for i in range(4):
            one = Batch(view[i : i + 1], made.camera[i : i + 1], made.view[i : i + 1])
            order = energy[i].flatten().argsort(descending=True)
            chosen = sorted(order[: int(0.4 * len(order))].tolist())
            tokens = model.embed(one)[:, [0] + [1 + patch for patch in chosen]]
            for block in model.trunk.blocks:
                tokens = block(tokens)
            feature = model.global_layer(tokens)[:, 0]
            torch.testing.assert_close(
                found.branches[5].feature[i : i + 1], feature, rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_at_test_it_is_transreid_with_the_same_weights(variant):
    model = build(variant=variant).eval()
    other = TransReID(TransReIDOptions(**SMALL), (64, 32), FACTS).eval()
    extra = other.load_state_dict(model.state_dict(), strict=False).unexpected_keys
    assert {key.split(".")[0] for key in extra} <= {"high_neck", "enhanced_norm"}
    asked = batch(identity=None, clean=None, plain=None, finish=None)
    calls = []
    model.encode = lambda tokens: calls.append(1) or TransReID.encode(model, tokens)
    model.places = None  # nobody asks
    with torch.no_grad():
        found, expected = model(asked), other(asked)
    torch.testing.assert_close(found.embedding, expected.embedding, rtol=0, atol=0)
    assert len(found.branches) == 5 and not found.losses and len(calls) == 1


def test_the_high_frequency_losses_do_not_change_the_embedding():
    model = build().eval()
    with torch.no_grad():
        training = model(batch())
        torch.testing.assert_close(
            training.embedding, model(batch(identity=None)).embedding, rtol=0, atol=0
        )
    assert set(training.losses) == {"contrastive"}


@pytest.mark.parametrize("missing", ["clean", "finish"])
def test_training_without_the_clean_view_is_refused(missing):
    with pytest.raises(BadInput, match="clean view"):
        build()(batch(**{missing: None}))
    with pytest.raises(BadInput, match="plain view"):
        build(variant="official")(batch(plain=None))
    with pytest.raises(BadInput, match="more than 0"):
        build(variant="official", low_frequency_step=0.0)


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("options", [{}, {"jpm": False}, {"sie": "none"}])
def test_a_gradient_reaches_every_parameter(variant, options):
    model, made = build(variant=variant, **options).train(), batch()
    terms = objective(model(made), made.identity, margin=None, label_smoothing=0.0)
    sum(terms.values()).backward()
    for name, parameter in model.named_parameters():
        assert not parameter.requires_grad or parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_it_trains_in_the_loop(runs, variant):
    """The loop hands over what each variant needs."""
    settings = TINY | dict(variant=variant, erase=1.0)
    run = train.create(Experiment.create(model="pha", recipe="demo", settings=settings))
    train.train(run, quiet=True)
    terms = {key for key in run.history()[0] if key.startswith("loss_")}
    own = {
        "paper": {"loss_contrastive"},
        "official": {"loss_contrastive", "loss_contrastive_views"},
    }
    assert terms == {"loss_identity", "loss_triplet"} | own[variant]
    assert run.model().options.variant == variant


def test_paper_recipe_is_the_official_one():
    """Figures read off the official configuration for Market-1501."""
    e = Experiment.create(model="pha", recipe="paper")
    t, o = e.training, e.options
    assert (t.identities_per_batch, t.images_per_identity, t.epochs) == (12, 4, 120)
    assert (t.size, t.learning_rate, t.erase, t.margin) == ((256, 128), 0.008, 0.5, "soft")
    assert (o.stride, o.jpm, o.sie, o.variant, o.wavelet) == (12, True, "none", "paper", "haar")
    assert (o.high_frequency_share, o.low_frequency_step, o.contrastive_weight) == (0.4, 5, 1)


# The official code's numbers for weights by formula, how obtained: tests/golden/README.md.

GOLDEN = Path(__file__).parent / "golden" / "pha.npz"


def official(case: str) -> PHA:
    """The model of a case with the official weights by formula, renamed as an import does it."""
    sie, cameras = ("camera", (0, 1)) if case == "cuhk03" else ("none", ())
    options = PHAOptions(
        trunk="vit_base_patch16_224",
        pretrained="none",
        depth=2,
        drop_path=0.0,
        sie=sie,
        variant="official",
    )
    with torch.device("meta"):
        model = PHA(options, (256, 128), Facts(11, cameras))
    given = renamed(str(np.load(GOLDEN)[f"{case}/keys"]), NAMES["pha"])
    own = set(model.state_dict())
    assert own <= set(given)
    model.load_state_dict({name: filled(*given[name]) for name in own}, assign=True)
    model.part_index = torch.tensor(model.parts)
    return model


@pytest.mark.parametrize("case", ["market", pytest.param("cuhk03", marks=pytest.mark.long)])
def test_the_official_features(case):
    golden, model = np.load(GOLDEN), official(case).eval()
    asked = Batch(images(2, (256, 128)), torch.tensor([0, 1]), torch.tensor([-1, -1]))
    for neck, norm in zip(("before", "after"), golden[f"{case}/norms"], strict=True):
        model.neck = neck
        with torch.no_grad():
            found = model(asked).embedding
        expected = torch.from_numpy(golden[f"{case}/{neck}"])
        assert (found[:, ::8] - expected).norm() / expected.norm() < 1e-5
        assert found.norm().item() == pytest.approx(norm, rel=1e-5)


def official_batch() -> Batch:
    """Eight images of two people, in the fifth epoch; without erasing, whose noise is drawn."""
    pixels = np.random.RandomState(1).randint(0, 256, (8, 256, 128, 3))
    plain = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return batch(plain, image=images(8, (256, 128)), identity=torch.arange(8) // 4)


def test_the_official_places_and_quantised_view():
    golden, plain = np.load(GOLDEN), official_batch().plain
    marks = official_marks(plain, "haar", 0.4)
    resized = torch.nn.functional.interpolate(marks[None].float(), size=(21, 10))[0]
    expected = np.unpackbits(golden["market/marks"])[: resized.numel()]
    np.testing.assert_array_equal(resized.flatten().numpy(), expected)
    view = (official_enhanced(plain, marks, "haar", 5) - 0.5) / 0.5
    np.testing.assert_allclose(view.flatten()[::2048], golden["market/view"], atol=1e-4)


@pytest.mark.parametrize("case", ["market", pytest.param("cuhk03", marks=pytest.mark.long)])
def test_the_official_training_losses(case):
    golden, model, made = np.load(GOLDEN), official(case).train(), official_batch()
    with torch.no_grad():
        output = model(made)
    pairs = [output.losses["contrastive_views"].item(), output.losses["contrastive"].item()]
    assert pairs == pytest.approx(golden[f"{case}/pairs"].tolist(), rel=1e-5)
    # identity and triplet of TransReID, of the high-frequency sequence, and of its quantised view
    identity, triplet, *high = golden[f"{case}/losses"].tolist()
    identity, triplet = identity + 0.25 * (high[0] + high[2]), triplet + 0.25 * (high[1] + high[3])
    terms = objective(output, made.identity, margin=None, label_smoothing=0.0)
    assert terms["identity"].item() == pytest.approx(identity, rel=1e-5)
    assert terms["triplet"].item() == pytest.approx(triplet, rel=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("case", ["market", "cuhk03"])
def test_the_official_gradients(case):
    golden, model, made = np.load(GOLDEN), official(case).train(), official_batch()
    for parameter in model.parameters():
        parameter.requires_grad_()
    terms = objective(model(made), made.identity, margin=None, label_smoothing=0.0)
    sum(terms.values()).backward()
    for key in [key for key in golden if key.startswith(f"{case}/gradient/")]:
        name = key.removeprefix(f"{case}/gradient/")
        pattern = next(each for each in NAMES["pha"] if re.match(each, name))
        found = model.get_parameter(re.sub(pattern, NAMES["pha"][pattern], name)).grad
        found = found.flatten()[:: max(1, found.numel() // 256)][:256]
        expected = torch.from_numpy(golden[key])
        assert (found - expected).norm() / expected.norm() < 1e-4, name
