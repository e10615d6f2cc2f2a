"""Divergences against SciPy and loops, pairs against the training's own loss, costs against another path."""

import numpy as np
import pytest
import torch
from conftest import TINY
from scipy.spatial.distance import jensenshannon
from torch import nn

from reid_core.analysis import orders
from reid_core.analysis.costs import flops, one_image, parameters
from reid_core.analysis.intervals import bootstrap, interval, paired
from reid_core.divergence import js_divergence, pooled_map
from reid_core.errors import BadInput
from reid_core.experiment import Experiment
from reid_core.look import look_at
from reid_core.models import Facts
from reid_core.models.base import Batch
from reid_core.runs import build, open_run
from reid_core.studies import orders as study
from reid_core.studies.orders import compute, joined, measured

MODES = ("shared", "prior-mixed", "independent", "weighted")


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    """Distributions along the last axis."""
    random = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(*shape, generator=random)).softmax(dim=-1)


def ohformer(sharing: str, **more):
    """A small OH-Former whose priors have learned something; three orders, a grid that 2 doesn't divide."""
    known = dict(TINY, depth=3, parts=2, orders=3, sharing=sharing, size="70x30", **more)
    for name in ("stride", "evaluate_every", "warmup_epochs"):
        known.pop(name)
    asked = Experiment.create(model="ohformer", recipe="demo", settings=known)
    torch.manual_seed(0)
    model = build(asked, Facts(5)).eval()
    for name, weight in model.named_parameters():
        if name.endswith(("mixing", "to_offsets.weight")):
            nn.init.normal_(weight, std=0.5)
    return model


def batch(count: int = 2, **more) -> Batch:
    unknown = torch.full((count,), -1)
    torch.manual_seed(1)
    return Batch(torch.rand(count, 3, 70, 30), unknown, unknown, **more)


@torch.no_grad()
def seen(model, count: int = 2):
    given = batch(count)
    return look_at(model, given, given.image, ("attention", "prior"))


def test_divergence_is_zero_bounded_symmetric_and_scipys():
    p, q = rows(2, 4, 9), rows(2, 4, 9, seed=1)
    assert js_divergence(p, p).abs().max() == 0
    apart = torch.eye(2)
    assert js_divergence(apart[0], apart[1]) == pytest.approx(orders.BOUND, abs=1e-7)
    assert orders.BOUND * orders.UNITS["bits"] == pytest.approx(1)
    assert torch.equal(js_divergence(p, q), js_divergence(q, p))
    assert np.allclose(js_divergence(p, q), jensenshannon(p, q, axis=-1) ** 2, atol=1e-6)


def test_every_two_maps_against_a_loop():
    maps = rows(2, 4, 6, 6)
    found = orders.between(maps)
    for image, a, b, row in np.ndindex(2, 4, 4, 6):
        slow = jensenshannon(maps[image, a, row], maps[image, b, row]) ** 2 if a != b else 0
        assert found[image, a, b, row] == pytest.approx(slow, abs=1e-6)
    slow = [found[0, a, b].mean() for a in range(4) for b in range(a + 1, 4)]
    assert orders.diversity(maps)[0] == pytest.approx(np.mean(slow), abs=1e-6)
    assert orders.diversity(maps[:, :1]).isnan().all()


def test_baselines_against_loops():
    p, q = rows(1, 2, 7, 7), rows(1, 2, 7, 7, seed=1)
    uniform, draws = orders.to_uniform(p), orders.shuffled(p, q, 3, seed=5)
    again = torch.Generator().manual_seed(5)
    for draw in range(3):
        order = torch.randperm(7, generator=again).tolist()
        for head, row in np.ndindex(2, 7):
            moved = [q[0, head, row, key] for key in order]
            slow = jensenshannon(p[0, head, row], moved) ** 2
            assert draws[draw, 0, head, row] == pytest.approx(slow, abs=1e-6)
            slow = jensenshannon(p[0, head, row], np.full(7, 1 / 7)) ** 2
            assert uniform[0, head, row] == pytest.approx(slow, abs=1e-6)
    both = orders.between_shuffled(torch.stack([p[:, 0], q[:, 0]], 1), 3, seed=5)
    assert torch.allclose(both[0, 0, 1], draws[:, 0, 0].mean(dim=0), atol=1e-6)
    flat = torch.full((1, 2, 7, 7), 1 / 7)
    assert orders.shuffled(flat, flat, 2).max() == 0  # uniform maps have no order to lose


@pytest.mark.parametrize("sharing", MODES)
@torch.no_grad()
def test_pairs_are_what_the_training_loss_compares(sharing):
    model = ohformer(sharing, js_weight=0.7)
    looked = seen(model)
    pairs = orders.pairs(looked)
    assert [(pair.layer, pair.order) for pair in pairs] == [(2, 2), (2, 3)]
    terms = [p.reweighted_js() if sharing == "weighted" else p.js() for p in pairs]
    told = model(batch(identity=torch.tensor([0, 1]))).losses["divergence"] / 0.7
    assert float(torch.stack([term.mean() for term in terms]).mean()) == pytest.approx(
        float(told), abs=1e-6
    )
    for pair in pairs:
        assert torch.allclose(pair.first.sum(dim=-1), torch.ones(1), atol=1e-5)
        assert pair.first.shape == pair.high.shape
        assert (pair.reweighted_js() is None) == (sharing in ("shared", "independent"))
        if sharing == "shared":
            assert pair.js().max() == 0
        if sharing == "prior-mixed":
            assert pair.js().max() > 0 and pair.reweighted_js().max() < 1e-6


def test_layers_are_numbered_and_grouped():
    looked = seen(ohformer("prior-mixed"))
    assert list(orders.numbered(looked).values()) == [1, 2, 3]
    assert len(orders.comparable(looked)) == 3
    mean = orders.over_heads(list(orders.layers(looked).values()))
    assert torch.allclose(mean.sum(dim=-1), torch.ones(1), atol=1e-5)


def test_one_picture_has_the_numbers_of_the_study():
    looked = seen(ohformer("independent"), count=1)
    kept = measured(looked, draws=2, seed=3)
    one = orders.orders_apart(orders.pairs(looked)[1], draws=2, seed=3)
    assert np.allclose(kept["js"][0, 1], one.js.mean(axis=-1), atol=1e-6)
    assert np.allclose(kept["shuffled"][0, 1], one.shuffled.mean(axis=-1), atol=1e-6)
    assert np.allclose(kept["uniform"][0, 1], one.uniform.mean(axis=-1).T, atol=1e-6)
    maps = orders.over_heads(list(orders.comparable(looked).values()))[0]
    layers = orders.apart(maps, draws=2, seed=3)
    assert np.allclose(kept["between_layers"][0, ..., 0], layers.js[..., 0], atol=1e-6)
    assert np.allclose(kept["layers_shuffled"][0, ..., 1], layers.shuffled.mean(-1), atol=1e-6)
    assert np.allclose(kept["layers_uniform"][0, ..., 1], layers.uniform.mean(-1), atol=1e-6)


def test_batches_join_into_one_set():
    looked = seen(ohformer("weighted"), count=3)
    parts = [measured(looked, 2), measured(looked, 2)]
    whole = joined(parts)
    js = orders.pairs(looked)[0].js().detach().numpy()  # (3, H, M)
    assert whole["js"].shape[0] == 6 and whole["shuffled"].shape[:2] == (2, 6)
    assert np.allclose(whole["cells"][0], js.mean(axis=0), atol=1e-6)
    counts = np.histogram(js[:, 0], bins=study.BINS, range=(0, orders.BOUND))[0]
    assert np.abs(whole["histogram"][0, 0] - 2 * counts).sum() <= 4  # float32 at the edges of bins
    assert whole["histogram"][0, 0].sum() == 2 * js[:, 0].size
    slow = np.quantile(js[0, 1], study.QUANTILES)
    assert np.allclose(whole["quantiles"][0, 0, 1], slow, atol=1e-6)


def test_a_set_is_measured(tiny_run):
    told = []
    found = compute(
        open_run(tiny_run), study.Options(images=6, draws=2), lambda *at: told.append(at)
    )
    assert told[-1] == (6, 6) and len(found["query"]) == 6 and "js" not in found
    assert found["between_layers"].shape == (6, 2, 2, 2)
    assert found["between_heads"].shape == (6, 2, 2, 2, 2)
    assert found["layer"].tolist() == [1, 2]
    assert (
        0 <= np.nanmin(found["between_heads"]) <= np.nanmax(found["between_heads"]) <= orders.BOUND
    )


def test_nothing_to_compare_is_told():
    asked = Experiment.create(model="rga", recipe="demo", settings=dict(size="64x32"))
    torch.manual_seed(0)
    model = build(asked, Facts(5)).eval()
    image = torch.rand(1, 3, 64, 32)
    given = Batch(image, torch.tensor([-1]), torch.tensor([-1]))
    looked = look_at(model, given, image, ("attention", "prior"))
    assert orders.pairs(looked) == [] and orders.comparable(looked) == {}
    with pytest.raises(BadInput, match="transformer"):
        measured(looked, 1)


def test_operations_are_counted():
    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.cut, self.map = nn.Conv2d(3, 4, 2, stride=2), nn.Linear(4, 5)

        def forward(self, given):
            return self.map(self.cut(given.image).flatten(2).transpose(1, 2))

    small = Small()
    assert flops(small, one_image(6, 4)) == 2 * 6 * (4 * 3 * 2 * 2) + 2 * 6 * 4 * 5
    assert parameters(small) == 4 * 12 + 4 + 4 * 5 + 5


def test_deformable_convolutions_count_as_plain_ones():
    """The training path is made of operations that PyTorch counts by itself."""
    from torch.utils.flop_counter import FlopCounterMode

    model = ohformer("prior-mixed")
    with FlopCounterMode(display=False) as counter:
        model(one_image(70, 30))
    assert flops(model, one_image(70, 30)) == counter.get_total_flops()


def test_pooling_is_a_mean_over_cells():
    fine = rows(1, 1, 6, 6)  # 3 x 2 patches, cells of 2 x 2: rows 0-1 and row 2
    cells = [[0, 1, 2, 3], [4, 5]]
    slow = np.array([[fine[0, 0][np.ix_(q, k)].mean() for k in cells] for q in cells])
    slow /= slow.sum(axis=1, keepdims=True)
    assert np.allclose(pooled_map(fine, (3, 2), 2)[0, 0], slow, atol=1e-6)


# Intervals


def test_bootstrap_of_two_values_is_the_binomial():
    drawn = bootstrap(np.array([0.0, 1.0]), draws=20_000)
    for value, share in ((0, 0.25), (0.5, 0.5), (1, 0.25)):
        assert (drawn == value).mean() == pytest.approx(share, abs=0.015)
    assert np.array_equal(drawn, bootstrap(np.array([0.0, 1.0]), draws=20_000))


def test_interval_of_many_values_is_the_normal_one():
    values = np.random.default_rng(2).normal(3, 2, 400)
    low, high = interval(values, draws=4000)
    error = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.03)
    assert interval(np.append(values, np.nan), draws=4000) == (low, high)
    assert interval(np.full(9, 0.3)) == pytest.approx((0.3, 0.3))
    scipys = bootstrap(values, np.median, draws=500)
    assert scipys.mean() == pytest.approx(np.median(values), abs=0.1)
    with pytest.raises(BadInput, match="got none"):
        interval(np.array([np.nan]))


def test_pairs_are_drawn_together():
    hard = np.random.default_rng(3).normal(0, 10, 50)
    difference, low, high = paired(hard + 0.5, hard)
    assert (difference, low, high) == pytest.approx((0.5, 0.5, 0.5))
    with pytest.raises(BadInput, match="two values for each"):
        paired(hard, hard[:3])
