"""Attention maps, rollouts, jigsaws and side information against slow loops and known cases."""

import threading

import numpy as np
import pytest
import torch
from bright import BRIGHT, GRID, SIZE, asked, picture
from conftest import TINY
from scipy.stats import entropy as scipy_entropy
from torch import nn

from reid_core.analysis import attention, side, survey
from reid_core.embed import batch_of
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings
from reid_core.experiment import Experiment, knobs
from reid_core.look import interior, look_at
from reid_core.models import Facts
from reid_core.models.base import Output, ReIDModel, Tokens, Window
from reid_core.models.transreid import jigsaw_order
from reid_core.probe import Probe
from reid_core.runs import build

FACTS = Facts(5, (1, 2, 3), (0, 1))


def made(model: str = "transreid", **settings) -> tuple[ReIDModel, Experiment]:
    """A small model with weights drawn at random."""
    known = {knob.name for knob in knobs(model)}
    settings = {key: value for key, value in (TINY | settings).items() if key in known}
    experiment = Experiment.create(model=model, recipe="demo", settings=settings)
    torch.manual_seed(0)
    made = build(experiment, FACTS).eval()
    for name, weight in made.named_parameters():
        if name == "side":
            nn.init.normal_(weight)
    return made, experiment


def pixels(count: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 64, 32, generator=torch.Generator().manual_seed(seed))


def looked(model, experiment, images, *kinds):
    cameras = [1] * len(images)
    with torch.no_grad():
        return look_at(model, batch_of(model, experiment, images, cameras), images, kinds)


# What is seen is what the embedding is made of


@pytest.mark.parametrize("model", ["transreid", "pha", "vit-bot", "ohformer"])
def test_watched_and_unwatched_agree_and_rows_sum_to_one(model):
    made_, experiment = made(model, depth=3)
    images = pixels()
    seen = looked(made_, experiment, images, "attention", "values")
    with torch.no_grad():
        plain = made_(batch_of(made_, experiment, images, [1, 1])).embedding
    assert (seen.embedding - plain).abs().max() < 1e-5
    maps = seen.of("attention")
    assert maps and all((each.sum(dim=-1) - 1).abs().max() < 1e-5 for each in maps.values())


def recomputed(layer, tokens):
    """(B, H, N, N) by loops, from the layer's weights and its input (B, N, D)."""
    attn = layer.attn
    count, length, width = tokens.shape
    with torch.no_grad():
        qkv = attn.qkv(layer.norm1(tokens)).reshape(count, length, 3, attn.num_heads, -1)
    found = np.zeros((count, attn.num_heads, length, length))
    scale = (width / attn.num_heads) ** -0.5
    for b in range(count):
        for h in range(attn.num_heads):
            for i in range(length):
                scores = [float(qkv[b, i, 0, h] @ qkv[b, j, 1, h]) for j in range(length)]
                weights = np.exp(np.array(scores) * scale)
                found[b, h, i] = weights / weights.sum()
    return found


def test_the_map_is_the_one_of_the_weights():
    model, experiment = made(depth=3, stride=16)
    seen = looked(model, experiment, pixels(), "attention", "tokens").seen
    first, second = (seen[f"trunk.blocks.{number}.tokens"] for number in (0, 1))
    for layer, tokens, name in (
        (model.trunk.blocks[1], first, "trunk.blocks.1"),
        (model.global_layer[0], second, "global_layer.0"),
    ):
        found = recomputed(layer, tokens)
        assert np.allclose(seen[f"{name}.attn.attention"].numpy(), found, atol=1e-5)
    groups = model.tokens("local_layer.0.attn.attention").groups
    parts = [
        torch.stack([second[b, 0], *(second[b, 1 + patch] for patch in group)])
        for b in range(2)
        for group in groups
    ]
    found = recomputed(model.local_layer[0], torch.stack(parts))
    assert np.allclose(seen["local_layer.0.attn.attention"].numpy(), found, atol=1e-5)


def test_a_transformers_live_last_layer_is_in_the_chain_and_its_copy_is_not():
    model, experiment = made(depth=3)
    found = attention.chain(looked(model, experiment, pixels(1), "attention"))
    assert list(found)[-1] == "global_layer.0.attn.attention"
    assert len(found) == 3 and not any("local" in name for name in found)


def test_high_orders_are_not_in_the_chain():
    model, experiment = made("ohformer", depth=4)
    found = attention.chain(looked(model, experiment, pixels(1), "attention"))
    assert len(found) == 4 and not any("orders" in name for name in found)


def test_a_cnn_has_no_chain():
    model, experiment = made("rga", attention="nl", trunk_width=8, layers=1)
    seen = looked(model, experiment, pixels(1), "attention")
    assert seen.of("attention") and not attention.chain(seen)


def test_the_interior_is_told_without_weights():
    model, experiment = made(depth=3)
    told = interior(experiment, FACTS)
    assert told["local_layer.0.attn.attention"] == (
        "attention",
        model.tokens("local_layer.0.attn.attention"),
    )
    assert len(told) == len([each for each in model.modules() if isinstance(each, Probe)])


# Rows


def test_rows_and_columns_are_those_of_the_map():
    maps = torch.rand(2, 7, 7, generator=torch.Generator().manual_seed(0))
    tokens = Tokens((2, 3), ("class",))
    given, got = attention.rows(maps, 3), attention.rows(maps, 3, received=True)
    for head in range(2):
        for other in range(7):
            assert given[1 + head, other] == maps[head, 3, other]
            assert got[1 + head, other] == maps[head, other, 3]
    assert np.allclose(given[0], maps.mean(dim=0)[3])
    spent, drawn = attention.placed(given, tokens)
    assert spent[1, 0] == maps[0, 3, 0] and drawn[2, 1, 2] == maps[1, 3, 6]
    assert attention.token_names(tokens)[:5] == [
        "class",
        "row 1, column 1",
        "row 1, column 2",
        "row 1, column 3",
        "row 2, column 1",
    ]


# Rollouts


def test_rollout_against_loops():
    maps = [torch.rand(2, 4, 4).softmax(dim=-1) for _ in range(3)]
    found = attention.rollout(maps)
    row = np.eye(4)
    for each in maps:  # what token i takes from j, through k
        mixed = [[(float(each[:, i, k].mean()) + (i == k)) / 2 for k in range(4)] for i in range(4)]
        row = np.array(
            [[sum(mixed[i][k] * row[k, j] for k in range(4)) for j in range(4)] for i in range(4)]
        )
    assert np.allclose(found, row) and np.allclose(found.sum(axis=1), 1)


def test_gradient_rollout_against_loops():
    maps, pulls = ([torch.randn(2, 4, 4) for _ in range(3)] for _ in range(2))
    relevance = np.eye(4)
    for each, pull in zip(maps, pulls, strict=True):
        before, relevance = relevance, relevance.copy()
        for i in range(4):
            for j in range(4):
                for k in range(4):
                    kept = [max(0.0, float(each[h, i, k] * pull[h, i, k])) for h in range(2)]
                    relevance[i, j] += np.mean(kept) * before[k, j]
    found = attention.gradient_rollout(maps, pulls)
    assert np.allclose(found, relevance - np.eye(4), atol=1e-6) and found.min() >= 0


def test_a_rollout_needs_the_same_tokens_in_every_layer():
    maps = [torch.eye(4)[None], torch.eye(5)[None]]
    with pytest.raises(BadInput, match=r"\[4, 5\].*sees? all"):
        attention.rollout(maps)
    with pytest.raises(BadInput, match="got none"):
        attention.rollout([])
    for wrong in ([], [torch.ones(2, 4, 4)]):
        with pytest.raises(BadInput, match="gradient of its shape for each of 1"):
            attention.gradient_rollout(maps[:1], wrong)
    for wrong in (torch.eye(4), torch.ones(2, 3, 4), torch.ones(1, 2, 4, 4)):
        with pytest.raises(BadInput, match=r"expected maps .heads, tokens, tokens., got"):
            attention.rollout([wrong])


def test_the_gradient_is_that_of_the_target():
    """By finite differences: the model copies, so its maps can be moved by hand."""
    model, found = Looks(), None
    found = attention.pulled(model, asked(), picture()[None], None, None)
    name = "last.attention"
    maps, value = found.looked.seen[name][0], model.seen_values[0].detach()
    embedding = maps[:, 0] @ value  # (H, D)
    assert np.isclose(found.score, float(embedding.mean(dim=0).square().sum()), atol=1e-5)
    for head, token in ((0, 0), (1, 4), (0, 3)):
        moved = maps.clone()
        moved[head, 0, token] += 1e-3
        there = float((moved[:, 0] @ value).mean(dim=0).square().sum())
        slope = (there - found.score) / 1e-3
        assert np.isclose(float(found.gradients[name][head, 0, token]), slope, atol=2e-2)


def test_a_target_of_another_run_is_refused():
    with pytest.raises(BadInput, match="3 dimensions, got 7"):
        attention.pulled(Looks(), asked(), picture()[None], None, None, np.ones(7, np.float32))


def test_tracing_back_leaves_the_shared_model_as_it_is():
    model, experiment = made()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    attention.pulled(model, experiment, pixels(1), 1, None)
    assert all(each.grad is None for each in model.parameters())
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


# One bright patch, copied: every method must point there


class Attends(nn.Module):
    """Two heads that attend to bright tokens, the second less sharply; tokens keep their colours."""

    def __init__(self):
        super().__init__()
        self.attention = Probe("attention")

    def forward(self, tokens, keep):
        scores = tokens.sum(dim=-1)[:, None, None].expand(-1, 2, tokens.shape[1], -1)
        own = torch.eye(tokens.shape[1]) * keep
        sharp = torch.tensor([8.0, 3.0])[:, None, None]
        maps = self.attention((sharp * (scores + own)).softmax(dim=-1))
        return (maps @ tokens[:, None]).mean(dim=1)


class Looks(ReIDModel):
    """A class token, two layers of attention, no weights to learn: the embedding is a patch's colour.

    In the first layer a patch keeps itself; in the last the class token takes the bright one.
    """

    def __init__(self):
        super().__init__()
        self.grid, self.prefix_tokens, self.facts = GRID, 1, Facts(2)
        self.window = Window(16, 16)
        self.start = nn.Parameter(torch.zeros(1, 1, 3))
        self.first, self.last = Attends(), Attends()
        self.seen_values = None

    def forward(self, batch):
        patches = nn.functional.avg_pool2d(batch.image, 16).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.start.expand(len(patches), -1, -1), patches], dim=1)
        tokens = self.first(tokens, keep=20)
        self.seen_values = tokens
        return Output(self.last(tokens, keep=0)[:, 0], [])


@pytest.mark.parametrize("towards", [None, np.array([1.0, 0.8, 0.0], np.float32)])
def test_every_method_points_at_the_patch_that_is_copied(towards):
    found = attention.pulled(Looks(), asked(), picture()[None], None, None, towards)
    tokens, maps = found.looked.tokens["last.attention"], found.maps
    rows = {
        "row": attention.rows(maps[-1], 0)[0],
        "heads": attention.rows(maps[-1], 0)[2],
        "rollout": attention.rollout(maps)[0],
        "gradient": attention.gradient_rollout(maps, list(found.gradients.values()))[0],
    }
    for name, row in rows.items():
        drawn = attention.placed(row, tokens)[1]
        assert np.unravel_index(drawn.argmax(), drawn.shape) == BRIGHT, name
    assert found.looked.pixels.shape[-2:] == SIZE


# Two threads, one model


def test_two_threads_never_see_each_others_tensors():
    model, experiment = made()
    images, wrong = [pixels(1, seed) for seed in range(2)], []
    alone = [looked(model, experiment, each, "attention") for each in images]
    with torch.no_grad():
        quieter = side.scaled(model, "side", 0.5)(
            batch_of(model, experiment, images[1], [2])
        ).embedding

    def same(found, expected, what):
        for name, tensor in expected.seen.items():
            if not torch.equal(found.seen[name], tensor):
                wrong.append(f"{what} {name}")
        if not torch.equal(found.embedding, expected.embedding):
            wrong.append(what)

    def other():
        if any(each.watched for each in model.modules() if isinstance(each, Probe)):
            wrong.append("a new thread starts watched")
        for turn in range(200):
            if turn % 3 == 0:
                found = attention.pulled(model, experiment, images[1], 1, None)
                if any(
                    (each - alone[1].seen[name]).abs().max() > 1e-6
                    for name, each in found.looked.seen.items()
                ):
                    wrong.append("gradients")
            with torch.no_grad():
                batch = batch_of(model, experiment, images[1], [2])
                if turn % 3 == 1:
                    less = side.scaled(model, "side", 0.5)(batch).embedding
                    if not torch.equal(less, quieter):
                        wrong.append("scaled")
                elif turn % 3 == 2:
                    same(looked(model, experiment, images[1], "attention"), alone[1], "other")

    thread = threading.Thread(target=other)
    thread.start()
    for _ in range(200):
        same(looked(model, experiment, images[0], "attention"), alone[0], "first")
    thread.join()
    assert not wrong


# Groups


@pytest.mark.parametrize(("grid", "groups"), [((2, 4), ((0, 5, 3), (6, 6, 1))), ((3, 3), ())])
def test_groups_are_drawn_where_their_patches_lie(grid, groups):
    tokens = Tokens(grid, ("class",), groups=groups)
    row = np.random.default_rng(0).random((len(groups), 4))
    drawn, member = attention.in_groups(row, tokens), attention.membership(tokens)
    assert drawn.shape == (len(groups), *grid)
    for group, positions in enumerate(groups):
        for place in range(grid[0] * grid[1]):
            there = divmod(place, grid[1])
            weights = [row[group, 1 + at] for at, each in enumerate(positions) if each == place]
            assert member[group][there] == len(weights)
            if weights:
                assert np.isclose(drawn[group][there], sum(weights))
            else:
                assert np.isnan(drawn[group][there])


def test_a_models_groups_are_its_jigsaw():
    """Nine patches in two groups: one stands twice, and the parts are runs of the shuffled row."""
    model, _ = made(stride=16, patch=16, size="48x48", shift=2, groups=2, parts=2)
    tokens = model.tokens("local_layer.0.attn.attention")
    order = jigsaw_order(9, 2, 2)
    assert sorted(order).count(max(order, key=order.count)) == 2
    assert tokens.groups == (tuple(order[:4]), tuple(order[4:8]))
    assert attention.membership(tokens).sum() == 8


# Side information


def test_a_scaled_coefficient_is_another_models_coefficient():
    model, experiment = made()
    image = pixels(1)
    ways = [(1, None), (3, None), (None, None)]
    for factor in (0.0, 0.5, 2.0):
        other, asked_ = made(sie_coefficient=3.0 * factor)
        other.load_state_dict(model.state_dict())
        found = side.told(side.scaled(model, "side", factor), experiment, image, ways)
        assert np.allclose(found, side.told(other, asked_, image, ways), atol=1e-5)
    found = side.told(side.scaled(model, "side", 0), experiment, image, ways)
    assert np.allclose(found, found[0], atol=1e-6)


def test_scaling_does_not_touch_the_model():
    model, _ = made()
    before = model.side.clone()
    other = side.scaled(model, "side", 2)
    assert torch.equal(model.side, before) and torch.equal(other.side, 2 * before)
    assert other.trunk is model.trunk
    with pytest.raises(BadInput, match="no parameter 'sides'"):
        side.scaled(model, "sides", 2)


def test_an_answer_is_judged_by_the_true_camera():
    vectors = np.array([[1, 0], [1, 0.1], [0.6, 0.8], [0, 1]], np.float32)
    found = Embeddings(
        vectors,
        np.array(["q", "a", "b", "c"]),
        np.array([1, 1, 1, 2]),
        np.array([1, 1, 2, 2]),
        np.full(4, -1),
        np.array([True, False, False, False]),
    )
    answer = side.answered(found, np.array([0.0, 1.0]), vectors[0], 1, 1, top=1)
    assert answer.cosine == 0 and answer.ranking.average_precision == 0.5
    assert list(answer.left) == [2] and list(answer.came) == [3]  # row 1 is ignored


# Measures


def test_entropy_against_scipy():
    model, experiment = made()
    seen = looked(model, experiment, pixels(), "attention")
    found = attention.entropy(seen)
    for layer, maps in enumerate(attention.chain(seen).values()):
        for image in range(2):
            for head in range(maps.shape[1]):
                row = maps[image, head, 0, 1:].double().numpy()
                expected = scipy_entropy(row / row.sum()) / np.log(len(row))
                assert np.isclose(found[image, layer, head], expected)


def test_the_share_on_the_person_against_loops():
    model, experiment = made(stride=8, patch=16)
    seen = looked(model, experiment, pixels(1), "attention")
    mask = np.zeros((64, 32), np.uint8)
    mask[10:50, 9:21] = 4
    found, even = attention.on_person(seen, [mask], [4])
    tokens, maps = model.tokens("any"), list(attention.chain(seen).values())
    inside = np.array(
        [
            [
                (mask[8 * r : 8 * r + 16, 8 * c : 8 * c + 16] == 4).mean()
                for c in range(tokens.grid[1])
            ]
            for r in range(tokens.grid[0])
        ]
    ).ravel()
    row = maps[1][0, 1, 0, 1:].double().numpy()
    assert np.isclose(found[0, 1, 1], (row * inside).sum() / row.sum(), atol=1e-6)
    assert np.isclose(even[0], inside.mean())


def test_how_far_patches_look_against_loops():
    model, experiment = made()
    seen = looked(model, experiment, pixels(1), "attention")
    found, even = survey.distance(seen)
    tokens = model.tokens("any")
    places = [divmod(each, tokens.grid[1]) for each in range(tokens.grid[0] * tokens.grid[1])]
    stride = tokens.window.stride
    away = [[stride * np.hypot(a - c, b - d) for c, d in places] for a, b in places]
    maps = next(iter(attention.chain(seen).values()))[0, 1, 1:, 1:].double().numpy()
    far = [np.average(away[i], weights=maps[i]) for i in range(len(places))]
    assert np.isclose(found[0, 0, 1], np.mean(far)) and np.isclose(even, np.mean(away))


def test_a_survey_with_and_without_masks():
    model, experiment = made()
    seen = looked(model, experiment, pixels(), "attention")
    mask = np.zeros((64, 32), np.uint8)
    mask[:32] = 4
    found = survey.survey([(seen, [mask, mask])], [4])
    assert found.has_masks and found.groups.shape == (2, 4)
    image, layer, head = found.strongest
    assert found.person[image, layer, head] == found.person.max()
    bare = survey.survey([(seen, [None, None])], [4])
    assert not bare.has_masks and np.isnan(bare.person).all()
    image, layer, head = bare.strongest
    assert bare.entropy[image, layer, head] == bare.entropy.min()
    cnn, asked_ = made("resnet-bot", trunk_width=8, layers=1)
    assert survey.survey([(looked(cnn, asked_, pixels(1), "attention"), [mask])], [4]) is None
