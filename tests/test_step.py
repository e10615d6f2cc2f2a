"""What changes how a step is computed leaves what it computes: against the plain step."""

import copy
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from conftest import TINY
from timm.models.resnet import BasicBlock
from timm.models.vision_transformer import Block
from torch import nn

from reid_core.data import ROOT
from reid_core.data.images import finish
from reid_core.errors import BadInput
from reid_core.experiment import Experiment, Training
from reid_core.models import MODELS, Batch, Facts
from reid_core.models.rga import RelationAware
from reid_core.optimize import fabric_for, optimizers_for
from reid_core.probe import observe
from reid_core.runs import open_run
from reid_core.train import equip as equips
from reid_core.train.equip import check_compiler, equip
from reid_core.train.parts import check_parts, divided
from reid_core.train.step import take_step

SMALL = {
    "transreid": dict(depth=3, width=32, heads=2, drop_path=0.3, trunk="vit_tiny_patch16_224"),
    "pha": dict(depth=3, width=32, heads=2, drop_path=0.3, trunk="vit_tiny_patch16_224"),
    "ohformer": dict(depth=3, width=32, heads=2, drop_path=0.3, trunk="vit_tiny_patch16_224"),
    "rga": dict(trunk="resnet10t", width=8),
    "resnet-bot": dict(trunk="resnet10t", width=8),
}
PLAIN = dict(device="cpu", precision="fp32", optimizer="sgd", learning_rate=0.1)


def model_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    settings = SMALL[name] | dict(pretrained="none", size=(64, 32))
    options = Experiment.create(model=name, recipe="paper", settings=settings).options
    return MODELS[name](options, (64, 32), Facts(5, (1, 2)))


def batch_of(count: int = 8) -> Batch:
    draw = torch.Generator().manual_seed(1)
    clean = torch.rand(count, 3, 64, 32, generator=draw)
    ends = partial(finish, erase=0.5, normalisation="half")
    row = torch.zeros(count, dtype=torch.long)
    image = ends(clean, erase=0)
    return Batch(image, row, row, torch.arange(count) // 2 % 5, 3, clean, clean, ends)


def stepped(model: nn.Module, training: Training, steps: int = 2, frozen: bool = False):
    """Terms and weights after some steps; frozen: batch normalisation as at test."""
    model = copy.deepcopy(model).train()
    for norm in model.modules() if frozen else ():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.eval()
    equip(model, training, "cpu")
    fabric = fabric_for(training)
    run = fabric.setup_module(model)
    optimizers = [fabric.setup_optimizers(each) for each in optimizers_for(model, training)]
    for step in range(steps):
        torch.manual_seed(step)
        terms, _ = take_step(fabric, run, optimizers, batch_of(), training)
    return terms, dict(model.state_dict())


@pytest.mark.parametrize("name", SMALL)
def test_checkpointing_changes_no_bit(name):
    """Drop path draws as before, BatchNorm's statistics see each image once."""
    model = model_of(name)
    terms, weights = stepped(model, Training(**PLAIN))
    again, others = stepped(model, Training(**PLAIN, checkpointing=True))
    assert terms == again
    assert weights.keys() == others.keys()
    for key, value in weights.items():
        assert torch.equal(value, others[key]), key


@pytest.mark.parametrize(
    ("layer", "shape"), ((Block(8, 2), (2, 3, 8)), (BasicBlock(4, 4), (2, 4, 6, 6)))
)
def test_checkpointing_and_compiling_go_together(layer, shape):
    found, images = [], torch.rand(shape)
    for compiled in (False, True):
        own = nn.Sequential(copy.deepcopy(layer))
        equip(own, Training(checkpointing=True, channels_last="off"), "cpu")
        if compiled:
            own.compile(backend="aot_eager")  # all of it but the compiler
        own(images).square().mean().backward()
        found.append([p.grad for p in own.parameters()] + list(own.buffers()))
    for plain, other in zip(*found, strict=True):
        torch.testing.assert_close(other, plain)


@pytest.mark.parametrize(("parts", "passes", "free"), ((1, 1, 1), (2, 4, 3)))
def test_no_gradient_is_held_while_the_next_batch_goes_forward(parts, passes, free):
    """Weights once more, where activations take the most. In parts, the first has its gradient when
    the second comes."""
    model, held = model_of("transreid").train(), []
    count = lambda *_: held.append(sum(p.grad is not None for p in model.parameters()))  # noqa: E731
    model.register_forward_pre_hook(count)
    training = Training(**PLAIN, accumulate=parts)
    fabric = fabric_for(training)
    run = fabric.setup_module(model)
    optimizers = [fabric.setup_optimizers(each) for each in optimizers_for(model, training)]
    for _ in range(2):
        take_step(fabric, run, optimizers, batch_of(), training)
    assert len(held) == 2 * passes
    assert held[passes : passes + free] == [0] * free


def test_checkpointing_keeps_less():
    model, kept = model_of("transreid").train(), []
    for wanted in (False, True):
        own = copy.deepcopy(model)
        equip(own, Training(checkpointing=wanted), "cpu")
        bytes_kept = []

        def packed(tensor, held=bytes_kept):
            held.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(packed, lambda tensor: tensor):
            own(batch_of())
        kept.append(sum(bytes_kept))
    assert kept[1] < 0.6 * kept[0]


@pytest.mark.parametrize("name", ("transreid", "resnet-bot", "rga"))
@pytest.mark.parametrize("margin", ("soft", "0.3"))
def test_a_batch_in_parts_has_the_gradient_of_the_whole(name, margin):
    """With batch normalisation as at test: in training it takes the statistics of a part. Triplets
    are the whole batch's, drop path off."""
    model = model_of(name)
    for module in model.modules():
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    usual = Training(**PLAIN, margin=margin)
    terms, weights = stepped(model, usual, steps=1, frozen=True)
    for parts in (2, 4):
        own, others = stepped(model, replace(usual, accumulate=parts), steps=1, frozen=True)
        assert own.keys() == terms.keys()
        for key in terms:
            torch.testing.assert_close(own[key], terms[key], rtol=1e-5, atol=1e-6)
        for key in weights:
            torch.testing.assert_close(others[key], weights[key], rtol=1e-4, atol=1e-6)


def test_the_second_pass_of_a_part_draws_as_the_first():
    """Else the gradient of the triplets would be that of other features. (Without gradient attention
    takes the fused kernel: the last digits differ.)"""
    model, seen = model_of("transreid"), []
    model.necks[0].register_forward_hook(lambda module, given, out: seen.append(given[0].detach()))
    stepped(model, Training(**PLAIN, accumulate=2), steps=1)
    torch.testing.assert_close(seen[:2], seen[2:], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(seen[0], seen[1], rtol=1e-2)


def test_parts_hold_whole_identities():
    assert [len(part.identity) for part in divided(batch_of(), 4)] == [2, 2, 2, 2]
    check_parts(Training(identities_per_batch=8, accumulate=4))
    with pytest.raises(BadInput, match=r"accumulate: 8 identities.*1, 2, 4, 8"):
        check_parts(Training(identities_per_batch=8, accumulate=3))


def test_channels_last_and_fused_are_the_same_within_rounding():
    model, off = model_of("rga"), dict(channels_last="off", fused="off")
    _, weights = stepped(model, Training(**PLAIN, **off), steps=1)
    for more in (off | dict(channels_last="on"), off | dict(fused="on"), {}):
        _, others = stepped(model, Training(**PLAIN, **more), steps=1)
        for key, value in weights.items():
            torch.testing.assert_close(others[key], value, rtol=1e-3, atol=1e-4)


def test_wide_1x1_convolutions_as_products_have_the_same_gradients():
    torch.manual_seed(0)
    layers = nn.Conv2d(128, 160, 1), nn.Conv2d(160, 128, 1, bias=False), nn.Conv2d(128, 128, 1, 2)
    model, x = nn.Sequential(*layers, nn.Conv2d(128, 64, 1)), torch.randn(3, 128, 6, 5)
    own = copy.deepcopy(model)
    equip(own, Training(channels_last="on"), "cpu")
    assert ["forward" in vars(layer) for layer in own] == [True, True, False, False]
    seen = []
    for each in (model, own):
        given = x.clone().requires_grad_()
        out = each(given)
        (out**2).sum().backward()
        seen.append([out, given.grad, *(weight.grad for weight in each.parameters())])
    torch.testing.assert_close(*seen, rtol=1e-4, atol=1e-4)
    equip(elsewhere := copy.deepcopy(model), Training(channels_last="on"), "cuda")
    assert not any("forward" in vars(layer) for layer in elsewhere)


@pytest.mark.parametrize("device", ("cpu", "mps"))
def test_the_faster_form_is_taken_where_it_is_known_to_be(device):
    model, expected = model_of("rga"), device == "cpu"
    equip(model, Training(), device)
    last = [
        w.is_contiguous(memory_format=torch.channels_last)
        for w in model.parameters()
        if w.dim() == 4
    ]
    assert all(last) == expected
    assert optimizers_for(model, Training())[0].defaults["fused"]
    equip(model, Training(channels_last="off", fused="off"), "cpu")
    assert not optimizers_for(model, Training(fused="off"))[0].defaults["fused"]


@pytest.mark.long
def test_a_compiler_that_fails(runs, monkeypatch, tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho nothing works >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "kept"))
    settings = TINY | {"compile": True}
    code = f"""
import torch._inductor.config as config
config.cpp.cxx = ({str(broken)!r},)
from reid_core.experiment import Experiment
from reid_core.train import create, train
train(create(Experiment.create(model="vit-bot", recipe="demo", settings={settings!r}), "one"))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert re.search(r"BadInput: compile: torch.compile failed \(.*compile=false", done.stderr)
    assert open_run("one").status().state == "failed"


def test_compiling_without_a_compiler(monkeypatch):
    monkeypatch.setattr(equips.shutil, "which", lambda name: None)
    monkeypatch.setattr(equips, "find_spec", lambda name: None)
    for device, missing in (("cpu", r"C\+\+ compiler"), ("cuda", "triton")):
        with pytest.raises(BadInput, match=f"compile: expected .*{missing}.*compile=false"):
            check_compiler(device)


def test_a_configuration_from_before_these_knobs_loads():
    made = Experiment.create(model="rga", recipe="demo").as_dict()
    for name in ("accumulate", "checkpointing", "compile", "channels_last", "fused"):
        del made["knobs"][name]
    training = Experiment.from_dict(made).training
    assert (training.accumulate, training.checkpointing, training.compile) == (1, False, False)


def test_relations_that_are_never_formed_give_the_same_attention_at_test():
    torch.manual_seed(0)
    module, nodes = RelationAware(16, 32, 2, 2, 2).eval(), torch.randn(2, 16, 8, 4)
    with torch.no_grad():
        short = module(nodes)
        with observe(module, "relation") as seen:
            formed = module(nodes)
    assert seen["relation"].shape == (2, 64, 32)
    torch.testing.assert_close(short, formed, rtol=1e-5, atol=1e-6)
