"""What every row of the table of models must hold to."""

import inspect
import math

import pytest
import torch

from reid_core.experiment import Experiment, knobs
from reid_core.losses import objective
from reid_core.models import MODELS, Batch, Facts
from reid_core.probe import observe, probes

FACTS = Facts(classes=4, cameras=(1, 2), views=(0, 1))
SIZE = (64, 32)
VIT = dict(trunk="vit_tiny_patch16_224", depth=3, width=32, heads=2, stride=8)
CNN = dict(trunk="resnet18", width=8)
# Models of another shape than the recipe's, so that a test takes a moment.
SMALL = {
    "transreid": VIT,
    "vit-bot": VIT,
    "pha": VIT,
    "pha official": VIT | dict(variant="official"),
    "resnet-bot": CNN,
    "rga": CNN,
    "rga cbam": CNN | dict(attention="cbam"),
    "rga nl": CNN | dict(attention="nl"),
    "rga snl": CNN | dict(attention="snl"),
    "rga none": CNN | dict(attention="none"),
    "nformer": dict(trunk="resnet18", trunk_width=8, width=16, layers=2),
} | {
    f"ohformer {sharing}": dict(depth=3, width=32, heads=2, sharing=sharing)
    for sharing in ("shared", "prior-mixed", "independent", "weighted")
}


def build(case: str):
    name = case.split()[0]
    settings = dict(pretrained="none", size="64x32", drop_path=0.0) | SMALL[case]
    known = {knob.name for knob in knobs(name)}
    settings = {key: value for key, value in settings.items() if key in known}
    asked = Experiment.create(model=name, recipe="demo", settings=settings)
    torch.manual_seed(0)
    return MODELS[name](asked.options, asked.training.size, FACTS)


def batch() -> Batch:
    """Eight images of four people, two of each side by side."""
    draw = torch.Generator().manual_seed(1)
    clean = torch.rand(8, 3, *SIZE, generator=draw)
    rows = torch.arange(8) % 2
    made = Batch((clean - 0.5) / 0.5, rows, rows, torch.arange(8) // 2, progress=5, clean=clean)
    made.plain, made.finish = clean, lambda image, erase=0.0: (image - 0.5) / 0.5
    return made


def asked_at_test() -> Batch:
    made = batch()
    return Batch(made.image, made.camera, made.view)


def loss(model) -> torch.Tensor:
    made = batch()
    terms = objective(model(made), made.identity, margin=None, label_smoothing=0.1)
    assert all(torch.isfinite(term) for term in terms.values())
    return sum(terms.values())


def second_stage(model) -> torch.Tensor:
    vectors = torch.randn(2, 8, 16)
    identity = (torch.arange(8) // 2).repeat(2)
    made = Batch(None, torch.empty(0), torch.empty(0), identity, 1, vectors=vectors)
    return sum(objective(model(made), identity, margin=None, label_smoothing=0.1).values())


@pytest.mark.parametrize("name", MODELS)
def test_it_says_what_it_is(name):
    model = MODELS[name]
    assert model.title and model.idea and model.__doc__
    assert all(knob.help and knob.group for knob in knobs(name))
    assert name in {case.split()[0] for case in SMALL}
    source = inspect.getsource(inspect.getmodule(model))
    assert "isinstance" not in inspect.getsource(model.forward) and "Shapes" in source


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("recipe", ["paper", "demo"])
def test_its_recipes_are_complete_and_buildable(name, recipe):
    asked = Experiment.create(model=name, recipe=recipe)
    settings = {"pretrained": "none"}
    asked = Experiment.create(model=name, recipe=recipe, settings=settings)
    with torch.device("meta"):
        MODELS[name](asked.options, asked.training.size, FACTS)


@pytest.mark.parametrize("case", SMALL)
def test_shapes_and_determinism(case):
    model = build(case).eval()
    with torch.no_grad():
        for neck in ("before", "after"):
            model.neck = neck
            found = model(asked_at_test())
            assert found.embedding.shape[0] == 8 and found.embedding.dim() == 2
            again = model(asked_at_test()).embedding
            torch.testing.assert_close(found.embedding, again, rtol=0, atol=0)
            # An image's feature is its own, whoever stands beside it.
            asked = asked_at_test()
            one = Batch(asked.image[:1], asked.camera[:1], asked.view[:1])
            alone = model(one).embedding
            torch.testing.assert_close(found.embedding[:1], alone, rtol=1e-4, atol=1e-4)
        for branch in found.branches:
            assert branch.feature.shape[0] == 8 and branch.logits.shape == (8, 4)
    assert all(side > 0 for side in model.grid)


@pytest.mark.parametrize("case", SMALL)
def test_a_gradient_reaches_every_parameter(case):
    model = build(case).train()
    with torch.no_grad():  # what starts at zero would hide what stands behind it
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    loss(model).backward()
    if model.refines:
        second_stage(model).backward()
    dead = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not dead
    flat = [n for n, p in model.named_parameters() if p.requires_grad and not p.grad.any()]
    assert not flat
    still = [
        n for n, p in model.named_parameters() if p.requires_grad and not p.grad.isfinite().all()
    ]
    assert not still


@pytest.mark.parametrize("case", SMALL)
def test_watched_equals_unwatched(case):
    model = build(case).eval()
    with torch.no_grad():
        unwatched = model(asked_at_test()).embedding
        names = [n for n, p in probes(model).items() if p.kind in KINDS and "transformer" not in n]
        assert names
        with observe(model, *names) as seen:
            watched = model(asked_at_test()).embedding
    torch.testing.assert_close(watched, unwatched, rtol=1e-4, atol=1e-5)
    for name in names:
        kind, stands = probes(model)[name].kind, model.tokens(name)
        KINDS[kind](seen[name])
        groups, count = max(1, len(stands.groups)), math.prod(stands.grid)
        length = len(stands.prefix) + (len(stands.groups[0]) if stands.groups else count)
        if kind in ("features", "spatial", "pooling", "high frequency"):
            assert seen[name].shape[2:] == stands.grid
        if kind in ("attention", "values"):
            assert seen[name].shape[:1] + seen[name].shape[2:3] == (8 * groups, length)
        if kind == "tokens":
            assert seen[name].shape[:2] == (8 * groups, length)
        if window := stands.window:
            last = window.start + (stands.grid[0] - 1) * window.stride
            assert last < SIZE[0] <= last + window.size + window.stride


def _attention(x):
    assert x.dim() == 4 and x.shape[2] == x.shape[3]
    torch.testing.assert_close(x.sum(-1), torch.ones(x.shape[:-1]))


def _features(x):
    assert x.dim() == 4 and x.shape[0] == 8


def _spatial(x):
    assert x.dim() == 4 and x.shape[1] == 1 and x.min() >= 0 and x.max() <= 1


def _pooling(x):
    _spatial(x)
    torch.testing.assert_close(x.sum((2, 3)), torch.ones(len(x), 1))


def _chosen(x):
    _spatial(x)
    assert set(x.unique().tolist()) == {0, 1}


def _channel(x):
    assert x.dim() == 2 and x.min() >= 0 and x.max() <= 1


def _values(x):
    assert x.dim() == 4


def _tokens(x):
    assert x.dim() == 3


def _relation(x):
    assert x.dim() == 3 and x.shape[1] == 2 * x.shape[2]


def _prior(x):
    assert x.dim() == 3 and x.shape[1] == x.shape[2]


def _offsets(x):
    assert x.dim() == 4 and x.shape[:2] == (8, 18)


KINDS = {
    "attention": _attention,
    "values": _values,
    "tokens": _tokens,
    "features": _features,
    "spatial": _spatial,
    "pooling": _pooling,
    "high frequency": _chosen,
    "channel": _channel,
    "relation": _relation,
    "channel relation": _relation,
    "prior": _prior,
    "offsets": _offsets,
}


@pytest.mark.parametrize("case", SMALL)
def test_its_state_goes_round(case):
    model, other = build(case).eval(), build(case).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
        other.load_state_dict(model.state_dict())
        expected = model(asked_at_test()).embedding
        torch.testing.assert_close(other(asked_at_test()).embedding, expected, rtol=0, atol=0)


@pytest.mark.parametrize("case", SMALL)
def test_every_bnneck_bias_is_frozen_at_zero(case):
    from reid_core.models.neck import BNNeck

    necks = [each for each in build(case).modules() if isinstance(each, BNNeck)]
    assert necks
    for neck in necks:
        assert not neck.norm.bias.requires_grad and not neck.norm.bias.any()


@pytest.mark.parametrize("case", SMALL)
def test_it_learns_in_bf16(case):
    model = build(case).train()
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(model)
    found.backward()
    assert torch.isfinite(found)
