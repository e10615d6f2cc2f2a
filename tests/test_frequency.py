"""The Frequency lab's measures against slow versions of them, libraries, and PHA's own probe."""

import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from test_attention import made
from torch.nn.functional import cosine_similarity

from reid_core import wavelets
from reid_core.analysis import contrast, cutoffs, filters, frequency
from reid_core.analysis.occlusion import alone
from reid_core.data import Dataset, open_dataset
from reid_core.data.base import Split
from reid_core.data.images import normalise
from reid_core.embed import batch_of
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, evaluate
from reid_core.look import pixels_of
from reid_core.models import Batch, Facts
from reid_core.models.base import Tokens, Window
from reid_core.models.pha import PHA, PHAOptions
from reid_core.models.vit import WatchedAttention
from reid_core.probe import observe
from reid_core.retrieve import retrieve
from reid_core.runs import open_run
from reid_core.studies import Study
from reid_core.studies.filters import chance


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# Wavelets


@pytest.mark.parametrize("wavelet", ["haar", "db4", "bior2.2"])
@pytest.mark.parametrize("size", [(64, 32), (61, 37)])
def test_a_wavelet_transform_comes_back_exactly(wavelet, size):
    image = drawn(3, *size).double().numpy()
    for level in range(1, filters.levels(size, wavelet) + 1):
        split = filters.subbands(image, wavelet, level)
        assert len(split.details) == level
        np.testing.assert_allclose(split.image(), image, atol=1e-12)


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_one_level_is_phas_own(wavelet):
    """The page's bands, drop and detail are those that PHA trains with."""
    image = drawn(1, 3, 32, 16)
    split = filters.subbands(image[0].numpy(), wavelet, 1)
    low, details = wavelets.split(image, wavelet)
    np.testing.assert_allclose(split.low, low[0], atol=1e-5)
    np.testing.assert_allclose(split.details[0], details[0].transpose(0, 1), atol=1e-5)
    ours, theirs = split.dropped(5).image(), wavelets.drop_low_frequency(image, wavelet, 5)[0]
    assert np.median(np.abs(ours - theirs.numpy())) < 1e-6  # but where a half is rounded either way
    ours, theirs = split.dropped(None).image(), wavelets.high_frequency(image, wavelet)[0]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert split.dropped(0) is split


def test_haar_keeps_the_energy():
    image = drawn(3, 16, 8).double().numpy()
    assert filters.subbands(image, "haar", 3).energy.sum() == pytest.approx(np.square(image).sum())


@pytest.mark.parametrize(("wavelet", "level", "said"), [("haar", 9, "level"), ("no", 1, "wavelet")])
def test_a_transform_that_is_not(wavelet, level, said):
    with pytest.raises(BadInput, match=said):
        filters.subbands(np.zeros((3, 16, 16)), wavelet, level)


# Fourier


def test_low_pass_against_a_slow_transform():
    """Every frequency's wave by hand."""
    height, width = 6, 5
    image = drawn(1, 1, height, width).double()
    rows, columns = np.mgrid[:height, :width]
    kept = np.zeros((height, width), complex)
    for u in range(height):
        for v in range(width):
            fu, fv = min(u, height - u) / height, min(v, width - v) / width
            if 2 * math.hypot(fu, fv) > 0.7:
                continue
            wave = np.exp(2j * np.pi * (u * rows / height + v * columns / width))
            kept += (image[0, 0].numpy() * wave.conj()).mean() * wave
    assert np.abs(kept.imag).max() < 1e-12
    np.testing.assert_allclose(filters.low_pass(image, 0.7)[0, 0], kept.real, atol=1e-6)


@pytest.mark.parametrize("size", [(32, 16), (21, 15)])
def test_filters_that_keep_everything_or_nothing(size):
    image = drawn(2, 3, *size)
    assert torch.allclose(filters.low_pass(image, filters.ALL), image, atol=1e-5)
    assert torch.allclose(filters.filtered(image, "high-pass", 1.42), torch.tensor(0.5), atol=1e-5)
    mean = image.mean(dim=(2, 3), keepdim=True).expand_as(image)
    assert torch.allclose(filters.low_pass(image, 0), mean, atol=1e-5)
    both = filters.low_pass(image, 0.4) + filters.high_pass(image, 0.4)
    assert torch.allclose(both, image, atol=1e-6)
    assert torch.equal(filters.filtered(image, "low-pass", 0.4), filters.low_pass(image, 0.4))


@pytest.mark.parametrize("size", [(32, 16), (21, 15), (8, 9)])
def test_energy_by_parseval(size):
    image = drawn(3, *size).double()
    energy = filters.energy_below(image, cutoffs.FINE)
    varied = image - image.mean(dim=(1, 2), keepdim=True)
    for cutoff, share in zip(cutoffs.FINE, energy, strict=True):
        low = filters.low_pass(varied[None], cutoff)
        assert share == pytest.approx(float(low.square().sum() / varied.square().sum()), abs=1e-5)
    assert energy[-1] == pytest.approx(1)
    assert np.isnan(filters.energy_below(torch.ones(3, *size), [0.5])).all()


def test_wavelet_filters_add_up():
    image = drawn(1, 3, 16, 8)
    low, detail = (each(image, "haar") for each in (filters.wavelet_low, filters.wavelet_detail))
    assert torch.allclose(low + detail - filters.GRAY, image, atol=1e-6)
    blocks = image.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean(dim=(3, 5))  # 2 x 2 pixels each
    repeated = blocks.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(low, repeated, atol=1e-6)


def test_an_unknown_band():
    with pytest.raises(BadInput, match="band"):
        filters.filtered(drawn(1, 3, 8, 8), "mid-pass", 0.5)


# Which positions


@pytest.mark.parametrize("window", [Window(16, 12), Window(15, 10, -5), Window(8, 8)])
def test_energy_within_windows(window):
    height, width = 64, 32
    reach = 0 if window.start == 0 else window.size
    grid = tuple(
        (side - window.size - window.start + reach) // window.stride + 1 for side in (height, width)
    )
    pixels = drawn(2, 3, height, width)
    energy = frequency.energies(pixels, Tokens(grid, ("class",), window), "haar")
    detail = wavelets.high_frequency(pixels, "haar")
    assert energy.shape == (2, *grid)
    for row in range(grid[0]):
        for column in range(grid[1]):
            top, left = (window.start + place * window.stride for place in (row, column))
            part = detail[:, :, max(0, top) : top + window.size, max(0, left) : left + window.size]
            slow = part.square().sum(dim=(1, 2, 3)).sqrt()
            assert torch.allclose(energy[:, row, column], slow, atol=1e-5)


@pytest.mark.parametrize("grid", [(8, 4), (5, 3)])
def test_energy_within_the_cells_of_a_cnn(grid):
    detail = drawn(2, 3, 16, 8)
    energy = frequency.cell_energy(detail, grid)
    slow = torch.zeros(2, *grid)
    for row in range(16):
        for column in range(8):
            cell = int((row + 0.5) * grid[0] / 16), int((column + 0.5) * grid[1] / 8)
            slow[:, cell[0], cell[1]] += detail[:, :, row, column].square().sum(dim=1)
    assert torch.allclose(energy, slow.sqrt(), atol=1e-5)
    whole = frequency.energies(detail, Tokens(grid), "haar").square().sum()
    assert whole == pytest.approx(float(wavelets.high_frequency(detail, "haar").square().sum()))


@pytest.mark.parametrize("settings", [{}, dict(high_frequency_share=0.25, wavelet="db2")])
def test_the_selection_is_phas_own(settings):
    """What the page marks is what the probe of a PHA model says on the same picture."""
    known = PHAOptions.__dataclass_fields__
    options = PHAOptions(**{k: v for k, v in TINY.items() if k in known} | dict(pretrained="none"))
    options = replace(options, **settings)
    torch.manual_seed(0)
    model = PHA(options, (64, 32), Facts(3, (1, 2))).eval()
    pixels = drawn(3, 3, 64, 32)
    pixels[:, :, :, 20:] *= 0.1  # so that no two patches are close to a tie
    unknown = torch.full((3,), -1)
    with torch.no_grad(), observe(model, "high_frequency") as seen:
        model(Batch(normalise(pixels, "imagenet"), unknown, unknown, clean=pixels))
    energy = frequency.energies(pixels, Tokens(model.grid, (), model.window), options.wavelet)
    high = frequency.strongest(energy, options.high_frequency_share)
    assert torch.equal(high, seen["high_frequency"].flatten(1).bool())
    assert (high.sum(dim=1) == int(options.high_frequency_share * high.shape[1])).all()


def test_the_share_that_is_held():
    pixels, tokens = drawn(2, 3, 32, 16), Tokens((4, 2), (), Window(8, 8))
    square = frequency.energies(pixels, tokens, "haar").flatten(1).square().numpy()
    slow = [np.sort(each)[-4:].sum() / each.sum() for each in square]
    np.testing.assert_allclose(frequency.held(pixels, tokens, "haar", 0.5), slow, rtol=1e-5)
    assert frequency.held(pixels, tokens, "haar", 1) == pytest.approx([1, 1])


def test_random_splits_keep_the_sizes():
    high = frequency.strongest(drawn(4, 6, 3), 0.3)
    splits = frequency.shuffled(high, 5)
    assert splits.shape == (5, 4, 18)
    assert (splits.sum(dim=2) == high.sum(dim=1)).all()
    assert not torch.equal(splits[0], splits[1])
    assert torch.equal(splits, frequency.shuffled(high, 5))


# How alike


def test_group_means_and_cosines_against_loops():
    rows, high = drawn(3, 10, 4), frequency.strongest(drawn(3, 5, 2, seed=1), 0.3)
    up, down = frequency.group_means(rows, high)
    for image in range(3):
        first = torch.stack([rows[image, i] for i in range(10) if high[image, i]]).mean(dim=0)
        second = torch.stack([rows[image, i] for i in range(10) if not high[image, i]]).mean(dim=0)
        assert torch.allclose(up[image], first, atol=1e-6)
        assert torch.allclose(down[image], second, atol=1e-6)
        slow = float(first @ second / first.norm() / second.norm())
        assert frequency.mean_cosine(up, down)[image] == pytest.approx(slow, abs=1e-6)


@pytest.mark.parametrize("every", [True, False])
def test_an_empty_group(every):
    with pytest.raises(BadInput, match="share"):
        frequency.group_means(drawn(1, 4, 2), torch.full((1, 4), every))


def test_positions_are_what_tokens_say():
    tokens = Tokens((2, 3), ("class", "part"))
    assert torch.equal(frequency.positions(x := drawn(1, 8, 4), tokens), x[:, 2:])
    maps = drawn(1, 4, 2, 3)
    assert torch.equal(frequency.positions(maps, Tokens((2, 3)))[0, 4], maps[0, :, 1, 1])


def slow_cka(x: np.ndarray, y: np.ndarray) -> float:
    """As Kornblith et al. write it, from centred Gram matrices (eq. 2 to 4)."""
    n = len(x)
    centring = np.eye(n) - np.ones((n, n)) / n

    def hsic(k, l):  # noqa: E741
        return np.trace(k @ centring @ l @ centring) / (n - 1) ** 2

    k, l = x @ x.T, y @ y.T  # noqa: E741
    return hsic(k, l) / math.sqrt(hsic(k, k) * hsic(l, l))


def test_cka_against_its_formula():
    x, y = drawn(12, 5).double(), drawn(12, 7, seed=1).double()
    y[:, :5] += x
    assert frequency.linear_cka(x, y) == pytest.approx(slow_cka(x.numpy(), y.numpy()), abs=1e-10)
    turn = torch.linalg.qr(drawn(5, 5, seed=2).double())[0]
    assert frequency.linear_cka(x, 3 * x @ turn + 1) == pytest.approx(1)
    assert 0 <= frequency.linear_cka(x, drawn(12, 4, seed=3)) < 1


def test_the_band_of_cka_is_the_jackknife():
    x, y = drawn(10, 3).double(), drawn(10, 3, seed=1).double() + drawn(10, 3).double()
    low, high = frequency.cka_band(x, y)
    each = [
        slow_cka(np.delete(x.numpy(), left, 0), np.delete(y.numpy(), left, 0)) for left in range(10)
    ]
    wide = 1.96 * math.sqrt(9 / 10 * np.square(np.array(each) - np.mean(each)).sum())
    value = frequency.linear_cka(x, y)
    assert (low, high) == pytest.approx((max(0, value - wide), min(1, value + wide)))


def test_cka_of_too_few_images():
    with pytest.raises(BadInput, match="3 or more"):
        frequency.linear_cka(drawn(2, 4), drawn(2, 4))


# Attention


def test_the_split_of_attention_is_the_layers_output():
    torch.manual_seed(0)
    layer = WatchedAttention(8, num_heads=2).eval()
    x, high = torch.randn(2, 7, 8), frequency.strongest(drawn(2, 3, 2), 0.4)
    with torch.no_grad(), observe(layer, "*") as seen:
        output = layer(x)
    parts = frequency.split_outputs(
        seen["attention"], seen["values"], layer.proj.weight.detach(), high, prefix=1
    )
    assert torch.allclose(parts.sum(dim=0) + layer.proj.bias, output, atol=1e-6)
    slow = torch.zeros(3, 2, 7, 8)
    for image in range(2):
        for i in range(7):
            for j in range(7):
                group = 2 if j == 0 else 0 if high[image, j - 1] else 1
                heads = [
                    seen["attention"][image, head, i, j] * seen["values"][image, head, j]
                    for head in range(2)
                ]
                slow[group, image, i] += layer.proj.weight.detach() @ torch.cat(heads)
    assert torch.allclose(parts, slow, atol=1e-6)

    norms = frequency.attention_parts(
        seen["attention"], seen["values"], layer.proj.weight.detach(), high, prefix=1
    )
    shares = frequency.attention_shares(norms, high)
    np.testing.assert_allclose(shares.sum(axis=2), 1)
    for image in range(2):
        lengths = slow[:, image].norm(dim=2)  # (3, 7)
        some = lengths[:, 1:][:, high[image]].mean(dim=1)
        for row, mean in enumerate((lengths.mean(dim=1), some)):
            np.testing.assert_allclose(shares[image, row], mean / mean.sum(), atol=1e-6)


# Scores


def test_chance_where_cameras_are_unknown_is_that_of_the_scores():
    """Over many random orders, as the protocol scores them: one query's camera is known, one's not."""
    draw = np.random.default_rng(0)
    rows = [[(Path("x"), 1, 2), (Path("x"), 2, -1)], []]
    rows[1] = [
        (Path("x"), int(draw.integers(1, 4)), int(draw.choice([-1, 2, 3]))) for _ in range(12)
    ]
    query, gallery = map(Split.of, rows)
    expected = chance(Dataset(Path("x"), query, query, gallery))
    sides = (query.identities, gallery.identities), (query.cameras, gallery.cameras)
    labels = [np.concatenate(each) for each in sides]
    is_query, nothing = np.arange(14) < 2, np.zeros(14, int)
    found = []
    for _ in range(1500):
        vectors = draw.normal(size=(14, 3))
        scores = evaluate(Embeddings(vectors, nothing.astype(str), *labels, nothing, is_query))
        found.append([scores.average_precision, scores.first_hit == 1])
    np.testing.assert_allclose(np.mean(found, axis=0), expected, atol=0.04)


def test_chance_is_the_mean_over_all_orders():
    """Every way to place m matches among n images."""
    for matches, count in ((1, 4), (2, 5), (3, 6), (4, 4)):
        precisions = [
            np.mean([(i + 1) / rank for i, rank in enumerate(ranks)])
            for ranks in combinations(range(1, count + 1), matches)
        ]
        found = filters.chance_precision(np.array([matches]), np.array([count]))
        assert found[0] == pytest.approx(np.mean(precisions))
    assert np.isnan(filters.chance_precision(np.array([0]), np.array([5])))[0]


@pytest.mark.parametrize(
    ("more", "verdict"), [(0.2, "agrees"), (-0.2, "disagrees"), (0.0, "not significant")]
)
def test_the_verdict_follows_the_interval(more, verdict):
    noise = np.random.default_rng(0).normal(0, 0.05, 100)
    found = filters.compared(0.5 + more + noise - noise.mean(), np.full(100, 0.5))
    assert found.verdict == verdict
    assert found.difference == pytest.approx(more)


def test_where_a_list_breaks_most():
    curves = {
        (3, "low-pass"): np.array([0.2, 0.9, 1.0]),
        (5, "high-pass"): np.array([0.6, 0.1, 0.0]),
    }
    found = cutoffs.steepest(curves, (0.1, 0.2, 0.3))
    assert (found.query, found.band, found.start, found.cutoff) == (3, "low-pass", 0.2, 0.1)
    assert (found.before, found.after, found.searched) == (0.9, 0.2, 2)
    assert cutoffs.steepest({(0, "low-pass"): np.full(3, np.nan)}, (0.1, 0.2, 0.3)) is None
    assert set(cutoffs.COARSE) <= set(cutoffs.FINE)


# On a run


def test_a_swept_query_against_the_slow_way(tiny_run):
    run = open_run(tiny_run)
    model, asked, found = run.model(), run.experiment, run.embeddings()
    row = int(found.query_rows[1])
    dataset = open_dataset(asked.dataset, asked.data)
    pixels = pixels_of(asked, [dataset.root / str(found.names[row])])[0]
    embed = alone(model, asked, int(found.cameras[row]), int(found.views[row]))
    vectors = cutoffs.swept(embed, pixels, "low-pass", (*cutoffs.COARSE[-2:], 1.42))
    np.testing.assert_allclose(vectors[-1], found.vectors[row], atol=1e-4)
    whole = evaluate(found).average_precision[1]
    precision = cutoffs.precisions(found, vectors, row)
    assert precision[-1] == pytest.approx(whole, abs=1e-6)
    one = embed(filters.low_pass(pixels[None], cutoffs.COARSE[-1]))
    assert float(cosine_similarity(one, torch.from_numpy(vectors[1:2]))[0]) == pytest.approx(1)


def test_the_study_of_tokens(tiny_run):
    steps = []
    study = Study.asked(open_run(tiny_run), "tokens-frequency", dict(images=10, draws=3, share=0.3))
    found = study.compute(lambda done, total: steps.append((done, total)))
    layers = len(found["layers"])
    assert found["cosine"].shape == (layers, 10)
    assert found["cosine_random"].shape == (layers, 3, 10)
    assert found["cka_random"].shape == (layers, 3)
    assert found["attention"].shape == (len(found["attention_layers"]), 10, 2, 3)
    assert not [name for name in found["layers"] if name.startswith("local")]
    assert (found["cka_low"] <= found["cka"]).all() and (found["cka"] <= found["cka_high"]).all()
    assert steps[-1] == (11, 11)


def test_the_study_of_tokens_without_two_groups(tiny_run):
    with pytest.raises(BadInput, match="share"):
        Study.asked(open_run(tiny_run), "tokens-frequency", dict(share=1))


def test_the_study_of_filters(tiny_run):
    run = open_run(tiny_run)
    found = Study.asked(run, "filters").compute()
    ways = list(found["ways"])
    assert ways[:3] == ["original", "wavelet low", "wavelet detail"]
    np.testing.assert_allclose(
        found["precision"][0], evaluate(run.embeddings()).average_precision, atol=1e-6
    )
    assert str(found["family"]) == "ViT"
    assert found["precision"].shape == (3 + 2 * len(cutoffs.COARSE), len(found["names"]))
    some = Study.asked(run, "filters", dict(identities=2)).compute()
    assert some["gallery"] < found["gallery"]
    assert set(some["names"]) < set(found["names"])


# The contrastive loss of a few images


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_the_contrastive_loss_of_a_few_images_by_loops(variant):
    """From the tokens of two passes of the model's own, at places found by its own rule."""
    model, experiment = made("pha", variant=variant, contrastive_weight=2.0)
    images, identities = drawn(5, 3, 64, 32), [30, 7, 30, 7, 9]
    cameras = [1, 2, 1, 2, 1]
    seen = contrast.contrasted(model, experiment, images, cameras, [None] * 5, identities)
    batch = batch_of(model, experiment, images, cameras)
    batch = replace(
        batch, plain=images, progress=1, finish=lambda image, erase=0: (image - 0.5) / 0.5
    )
    with torch.no_grad():
        embedded = model.embed(batch)
        views = model.paper_views(batch) if variant == "paper" else None
        places, views = views or model.official_views(batch, embedded)
        whole, high = model.encode(embedded)[:, 1:], model.encode(views[0])[:, 1:]
    assert np.array_equal(seen.places, places)
    terms = []
    for a in range(5):
        for k in range(places.shape[1]):
            here = whole[a, places[a, k]]
            with_all = [float(cosine_similarity(here, high[b, k], dim=0)) for b in range(5)]
            assert np.allclose(seen.cosines[k, a], with_all, atol=1e-5)
            same = [c for c, who in zip(with_all, identities, strict=True) if who == identities[a]]
            other = [c for c, who in zip(with_all, identities, strict=True) if who != identities[a]]
            p, n = np.mean(same), np.mean(other)
            assert seen.positive[k, a] == pytest.approx(p, abs=1e-5)
            assert seen.negative[k, a] == pytest.approx(n, abs=1e-5)
            terms.append(-math.log(math.exp(p) / (math.exp(p) + math.exp(n))))
    assert seen.loss == pytest.approx(2 * np.mean(terms), rel=1e-4)
    assert not model.training
    assert (seen.second is None) == (variant == "paper")
    alone = contrast.contrasted(model, experiment, images[:2], [1, 2], [None] * 2, [4, 4])
    assert np.isnan(alone.negative).all() and np.isfinite(alone.positive).all()
    other, experiment = made("transreid")
    with pytest.raises(BadInput, match="is PHA's, got a TransReID"):
        contrast.contrasted(other, experiment, images, cameras, [None] * 5, identities)


def test_a_small_batch_is_a_query_and_its_nearest(tiny_run):
    found = open_run(tiny_run).embeddings()
    query = int(found.query_rows[0])
    ranking = retrieve(found, 0)
    rows = contrast.small_batch(found, ranking, query, 2)
    assert rows[0] == query and found.identities[rows[1]] == found.identities[query]
    assert found.cameras[rows[1]] != found.cameras[query]
    nearest, counts = [], {}
    for row, ignored in zip(ranking.rows, ranking.ignored, strict=True):
        who = int(found.identities[row])
        if not ignored and who != found.identities[query] and counts.get(who, 0) < 2:
            if who not in counts and len(counts) == 2:
                continue
            counts[who] = counts.get(who, 0) + 1
            nearest.append(int(row))
    assert sorted(nearest) == sorted(rows[2:].tolist()) and len(set(counts)) == 2
