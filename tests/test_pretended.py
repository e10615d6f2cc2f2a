"""Whole trainings on a GPU that is none, killed and resumed: see pretended.py."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from pretended import OnGPU, pretended
from test_kills import outcome, tiny

from reid_core import train
from reid_core.__main__ import main
from reid_core.ranking import nearer
from reid_core.runs import open_run
from reid_core.train import loop

LONG = ("transreid", "rga", "pha", "pha official", "ohformer shared", "resnet-bot")
MODELS = ("nformer", *(pytest.param(name, marks=pytest.mark.long) for name in LONG))


class Killed(Exception):
    pass


def on_gpu(name: str, run: str, monkeypatch, kill: int = 0, **how) -> dict:
    """What a training leaves; killed after so many steps, and resumed. how are other knobs."""
    given, take, seen = tiny(name), loop.take_step, []

    def taken(fabric, model, optimizers, batch, training):
        seen.append(isinstance(batch.identity, OnGPU))
        if len(seen) == kill:
            raise Killed
        return take(fabric, model, optimizers, batch, training)

    with pretended(), monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", taken)
        train.create(replace(given, training=replace(given.training, device="cuda", **how)), run)
        if kill:
            with pytest.raises(Killed):
                train.train(open_run(run))
        train.train(open_run(run))
    assert all(seen)
    return outcome(run)


def same(expected: dict, found: dict) -> None:
    for key, weight in expected["weights"].items():
        assert torch.equal(weight, found["weights"][key]), key
    np.testing.assert_array_equal(expected["embeddings"], found["embeddings"])
    assert expected["metrics"] == found["metrics"] and expected["history"] == found["history"]


@pytest.mark.parametrize("name", MODELS)
def test_a_training_on_a_gpu_that_was_killed_ends_like_one_that_was_not(runs, monkeypatch, name):
    whole = on_gpu(name, "whole", monkeypatch)
    same(whole, on_gpu(name, "killed", monkeypatch, kill=13))


COSTS = {"seconds", "seconds_of", "peak_memory_bytes"}
HOW = (
    dict(deterministic=True),
    dict(accumulate=2),
    dict(input="official"),
    dict(precision="bf16"),
    dict(channels_last="on", fused="on"),
)


@pytest.mark.long
@pytest.mark.parametrize("how", HOW, ids=str)
@pytest.mark.parametrize("name", ("transreid", "rga"))
def test_by_every_way_of_training(runs, monkeypatch, name, how):
    whole = on_gpu(name, "whole", monkeypatch, **how)
    same(whole, on_gpu(name, "killed", monkeypatch, kill=13, **how))


@pytest.fixture
def refining(runs) -> str:
    """A trained run whose images look at one another."""
    train.train(train.create(tiny("nformer"), "refining"))
    return "refining"


def test_what_comes_after_a_training_is_computed_there_too(
    refining, tiny_data, tmp_path, capsys, monkeypatch
):
    """Embedding, asking and scoring, re-ranked and refined: the same bits as on the processor."""
    monkeypatch.setattr(nearer, "SMALL", 0)  # a GPU is asked for what is little too
    file = tmp_path / "f.npz"
    alike = ["--batch-size", "8"]  # or a GPU's would be larger
    evaluate = ["evaluate", "--embeddings", str(file)]
    commands = [
        ["embed", refining, "--dataset", "pedestrians", "--out", str(file), *alike],
        ["query", refining, "--images", str(tiny_data / "query"), "--json", *alike],
        ["evaluate", refining, "--protocol", "nformer-per-query"],
        [*evaluate, "--rerank", "8,3,0.3", "--bootstrap", "40"],
        [*evaluate, "--refine", refining, "--far", "0.1"],
    ]

    def said() -> list:
        file.unlink(missing_ok=True)
        answers = []
        for command in commands:
            assert main(command) == 0
            printed = capsys.readouterr().out
            answer = json.loads(printed) if printed.startswith("{") else {"printed": printed}
            answers.append({key: answer[key] for key in answer.keys() - COSTS})
        return answers

    here, kept = said(), dict(np.load(file))
    with pretended():
        there = said()
    assert here == there
    for name, array in np.load(file).items():
        np.testing.assert_array_equal(array, kept[name])


def test_the_stand_in_refuses_what_cuda_refuses():
    with pretended():
        there, here = torch.ones(3).to("cuda"), torch.ones(3)
        assert there.is_cuda and (there + 1).cpu().numpy().sum() == 6
        for wrong in (lambda: there + here, lambda: torch.cat([here, there])):
            with pytest.raises(RuntimeError, match="same device"):
                wrong()
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
