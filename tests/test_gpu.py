"""What a GPU would be asked to do, without one.

Two stand-ins: torch's FakeTensor, a CUDA tensor without numbers, which refuses to be mixed with those of
another device, to be looked at, or to have a shape that hangs on its numbers; and the meta device,
which refuses the same and has a backward pass too. What is asked of neither is how fast it is.
"""

import re
import weakref
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from test_ranks import case, same, slow
from test_step import SMALL, model_of
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reid_core import rerank
from reid_core.data.images import finish
from reid_core.errors import BadInput
from reid_core.experiment import Experiment, Training
from reid_core.input import Fast
from reid_core.losses import objective
from reid_core.models import MODELS, Batch, Facts
from reid_core.optimize import optimizers_for
from reid_core.ranking import nearer, nearest, ranks
from reid_core.train.accidents import determinism
from reid_core.train.equip import equip
from reid_core.train.step import take_step

GPU, META = torch.device("cuda", 0), torch.device("meta")
FAKE = FakeTensorMode()  # one for all tests: what is kept for a device outlives a test
HOW = ({}, dict(checkpointing=True), dict(accumulate=2))


class Listening(TorchDispatchMode):
    """What is asked, what of it passes between processor and GPU, and the most numbers in a tensor."""

    def __init__(self):
        super().__init__()
        self.waits, self.most, self.pinned, self.asked = [], 0, [], set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._pin_memory.default:  # a fake can't be
            self.pinned.append(found := args[0].detach())
            return found
        found = function(*args, **(kwargs or {}))
        self.asked.add(str(function))
        given, made = (
            [each for each in tree_leaves(tree) if isinstance(each, Tensor)]
            for tree in ((args, kwargs), found)
        )
        self.most = max([self.most, *(each.numel() for each in made)])
        if len({each.device.type for each in given + made}) > 1:
            quietly = (kwargs or {}).get("non_blocking") and given[0] in Same(self.pinned)
            self.waits += [] if quietly else [str(function)]
        return found


class Same(list):
    """Membership by identity: tensors compare by their numbers."""

    def __contains__(self, it) -> bool:
        return any(it is each for each in self)


def moved(model: nn.Module, device: torch.device) -> None:
    """Every parameter and buffer becomes one on the device, without numbers."""
    for module in model.modules():
        for name, own in module._parameters.items():
            if own is not None:
                new = torch.empty_strided(own.shape, own.stride(), dtype=own.dtype, device=device)
                module._parameters[name] = nn.Parameter(new, own.requires_grad)
        for name, own in module._buffers.items():
            if own is not None:
                module._buffers[name] = torch.empty(own.shape, dtype=own.dtype, device=device)


def batch(training: Training, device: torch.device) -> Batch:
    """Eight images as the fast input makes them, erased too."""
    pixels = torch.empty(8, 3, 64, 32, dtype=torch.uint8, device=device)
    given = SimpleNamespace(training=training, device=device)
    seen, clean, plain = Fast.made(given, pixels, (8, slice(0, 8)))
    row = torch.zeros(8, dtype=torch.long, device=device)
    ends = partial(finish, erase=0.5, normalisation="half")
    return Batch(seen, row, row, row, 3, clean, plain, ends)


@pytest.mark.parametrize("how", HOW[:2], ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_input_and_loss_wait_for_nothing(name, how):
    """Once what is kept on the device is there, nothing but pinned memory goes to it, and nothing
    comes back."""
    training = Training(device="cuda", precision="fp32", **how)
    model = model_of(name).train()
    equip(model, training, "cuda")
    with FAKE, Listening() as heard:
        moved(model, GPU)
        for _ in range(2):
            heard.waits.clear()
            made = batch(training, GPU)
            found = objective(model(made), made.identity, margin=None, label_smoothing=0.1)
    assert {term.device for term in found.values()} == {GPU}
    assert not heard.waits
    assert heard.pinned


def second_stage(device: torch.device) -> tuple[nn.Module, Batch]:
    """NFormer's neighbour transformer, and two sequences of stored features for it."""
    encoder = dict(trunk="resnet10t", trunk_width=8, pretrained="none", size=(64, 32), width=16)
    options = Experiment.create(
        model="nformer", recipe="paper", settings=encoder | dict(neighbours=5)
    ).options
    model = MODELS["nformer"](options, (64, 32), Facts(5, (1, 2))).train()
    moved(model, device)
    vectors = torch.empty(2, 40, 16, device=device)
    identity, nothing = (torch.zeros(n, dtype=torch.long, device=device) for n in (80, 0))
    return model, Batch(None, nothing, nothing, identity, 3, vectors=vectors)


def test_nformers_second_stage_waits_for_nothing():
    """Neither its neighbours nor its landmarks."""
    with FAKE, Listening() as heard:
        model, made = second_stage(GPU)
        found = objective(model(made), made.identity, margin=None, label_smoothing=0.1)
    assert set(found) == {"identity", "triplet", "center"}
    assert {term.device for term in found.values()} == {GPU}
    assert not heard.waits
    assert len(heard.pinned) == len(model.transformer.layers)


def test_a_step_of_nformers_second_stage_looks_at_no_number():
    model, made = second_stage(META)
    training = Training(fused="off")
    terms, _ = take_step(Aside, model, optimizers_for(model.transformer, training), made, training)
    assert {term.device for term in terms.values()} == {META}


def test_the_stand_in_hears_what_waits():
    with FAKE, Listening() as heard:
        x = torch.empty(3, device=GPU)
        x.cpu(), torch.empty(3).to(GPU), torch.empty(3).to(GPU, non_blocking=True)
        with pytest.raises(DataDependentOutputException):
            x.sum().item()
        with pytest.raises(RuntimeError, match=r"same device|different devices"):
            x + torch.empty(3)
        torch.empty(3).pin_memory().to(GPU, non_blocking=True)
    assert heard.waits == ["aten._to_copy.default"] * 3


class Aside:
    """As much of Fabric as a step takes."""

    device = META
    backward = staticmethod(torch.Tensor.backward)
    no_backward_sync = staticmethod(lambda model, enabled: nullcontext())


def step(name: str, how: dict) -> dict[str, Tensor]:
    """The terms of a second step on the meta device."""
    training = Training(fused="off", **how)  # a fused optimiser has no meta form
    model = model_of(name).train()
    equip(model, training, "cuda")
    moved(model, META)
    optimizers = optimizers_for(model, training)
    for _ in range(2):
        terms, _ = take_step(Aside, model, optimizers, batch(training, META), training)
    return terms


@pytest.fixture(autouse=True)
def no_autocast_on_meta(monkeypatch):
    known = torch.autocast
    aside = lambda kind, **how: nullcontext() if kind == "meta" else known(kind, **how)  # noqa: E731
    monkeypatch.setattr(torch, "autocast", aside)


IN_PARTS = [  # of every model in the long tests, of one here
    pytest.param(name, HOW[2], marks=[] if name == "transreid" else [pytest.mark.long], id=name)
    for name in SMALL
]


@pytest.mark.parametrize("name, how", IN_PARTS)
def test_a_step_in_parts_looks_at_no_number(name, how):
    assert {term.device for term in step(name, how).values()} == {META}


@pytest.mark.parametrize("how", HOW[:2], ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_a_step_looks_at_no_number(name, how):
    assert {term.device for term in step(name, how).values()} == {META}


# What `torch.use_deterministic_algorithms` lists as refused on a GPU, of what an image model might
# use, by its name inside.
REFUSED = re.compile(
    r"(adaptive_(avg|max)_pool.d|upsample_\w+|(reflection|grid_sampler_.)\w*|(avg|max)_pool3d\w*)"
    r"_backward|\.(put_?|histc|bincount|median|max_unpool.d|nll_loss2d_forward)\b"
)


@pytest.mark.parametrize("name", sorted(set(SMALL) - {"ohformer"}))
def test_deterministic_allows_all_that_a_step_does(name):
    with Listening() as heard, determinism(True):
        step(name, {})
    assert not [each for each in heard.asked if REFUSED.search(each)]


def test_deterministic_refuses_a_deformable_convolution_by_its_name():
    with pytest.raises(BadInput, match="deterministic: deform_conv2d has no deterministic form"):
        with determinism(True):
            step("ohformer", {})


def test_ranks_find_their_way_to_the_device_and_back(monkeypatch):
    """Up to where numbers would come back, which fakes have none of."""
    given = case(3)
    went = []

    def back(self):
        went.append(self.device)
        return torch.zeros(self.shape, dtype=self.dtype)

    real = nearer.torch.from_numpy
    with FAKE:
        monkeypatch.setattr(nearer.torch, "from_numpy", lambda x: FAKE.from_tensor(real(x)))
        monkeypatch.setattr(Tensor, "cpu", back)
        monkeypatch.setattr(Tensor, "numpy", lambda self: np.zeros(self.shape, np.int64))
        ranks.true_ranks(*given, device="cuda")
    assert went
    assert set(went) == {GPU}


def test_what_a_gpu_does_holds_no_square(monkeypatch):
    """Its code, on the processor: no tensor of N x N numbers, and the same neighbours."""
    count, held = 3000, 2**20
    units = torch.nn.functional.normalize(torch.randn(count, 16, dtype=torch.double), dim=1)
    expected = nearest.nearest(units, 21)
    monkeypatch.setattr(nearest, "NUMBERS", held)
    monkeypatch.setitem(nearer.SORTED, "cpu", held)
    monkeypatch.setattr(nearest, "find_spec", lambda name: None)
    with Listening() as heard:
        found = nearest.nearest(units, 21)
    assert heard.most <= held < count**2 / 8
    torch.testing.assert_close(found.rows, expected.rows)
    labels = np.arange(count) % 100
    split = units[:1000].numpy(), units[1000:].numpy(), labels[:1000], labels[1000:]
    cameras = labels[:1000] * 0, labels[1000:] * 0 + 1
    with Listening() as heard:
        there = ranks.true_ranks(*split, *cameras, device="cpu")
    assert heard.most <= held < 1000 * 2000
    same(there, slow(*split, *cameras))


@pytest.mark.parametrize("awake", (False, True))
def test_a_gpu_is_woken_for_much_and_asked_for_less_when_it_is_awake(awake, monkeypatch):
    market, msmt17 = 3368 * 19732, 11659 * 82161
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: awake)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = [nearer.ranking_device(pairs) for pairs in (100, market, msmt17)]
    assert found == ["cpu", "cuda" if awake else "cpu", "cuda"]


@pytest.mark.parametrize(
    ("kind", "said"),
    (
        (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2.00 GiB"),
        (torch.AcceleratorError, "CUDA error: out of memory"),  # no room for a context
        (
            RuntimeError,
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        ),
    ),
)
def test_what_a_full_gpu_held_is_let_go_before_the_processor_begins(kind, said):
    held = []

    def work(device: str) -> bool:
        if device == "cuda":
            there = torch.empty(8)
            held.append(weakref.ref(there))
            raise kind(said)
        return held[0]() is None

    assert nearer.with_room(work, "cuda")
    with pytest.raises(kind):
        nearer.with_room(mock.Mock(side_effect=kind(said)), "cpu")
    with pytest.raises(RuntimeError, match="illegal"):
        nearer.with_room(mock.Mock(side_effect=RuntimeError("illegal memory access")), "cuda")


@pytest.mark.parametrize("work", ("ranks", "many ranks", "neighbours"))
def test_a_gpu_that_is_full_leaves_it_to_the_processor(work, monkeypatch):
    asked = []

    def full(real):
        def run(*given, **named):
            device = (
                given[0].device.type if work == "neighbours" else named.get("device", given[-1])
            )
            asked.append(str(device))
            if device == "cuda":
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(*given, **named)

        return run

    units = np.eye(40, 8)
    if work != "neighbours":
        monkeypatch.setattr(ranks, "SMALL", 0 if work == "many ranks" else 2**22)
        monkeypatch.setattr(ranks, "in_float64", full(nearer.in_float64))
        monkeypatch.setattr(ranks, "ranking_device", lambda pairs: "cuda")
        given = case(3)
        same(ranks.true_ranks(*given), slow(*given))
    else:
        expected = rerank.Reciprocal.of(units)
        monkeypatch.setattr(rerank, "ranking_device", lambda pairs: "cuda")
        real = Tensor.to
        fake = SimpleNamespace(device=GPU)
        to = lambda self, where, *a, **n: fake if where == "cuda" else real(self, where, *a, **n)  # noqa: E731
        monkeypatch.setattr(Tensor, "to", to)
        monkeypatch.setattr(rerank, "nearest", full(nearest.nearest))
        found = rerank.Reciprocal.of(units)
        assert (found.features != expected.features).nnz == 0
    by_loops = work == "many ranks" and ranks.compiled()
    assert asked == ["cuda", "cpu"][: 1 if by_loops else 2]
