"""Whole trainings on a GPU that is none, killed and resumed: see pretended.py."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pretended import OnGPU, pretended
from test_kills import outcome, tiny

from reid_core import train
from reid_core.runs import open_run
from reid_core.train import loop

LONG = ("transreid", "rga", "pha", "pha official", "ohformer shared", "resnet-bot")
MODELS = ("nformer", *(pytest.param(name, marks=pytest.mark.long) for name in LONG))


class Killed(Exception):
    pass


def on_gpu(name: str, run: str, monkeypatch, kill: int = 0) -> dict:
    """What a training leaves; killed after so many steps, and resumed."""
    given, take, seen = tiny(name), loop.take_step, []

    def taken(fabric, model, optimizers, batch, training):
        seen.append(isinstance(batch.identity, OnGPU))
        if len(seen) == kill:
            raise Killed
        return take(fabric, model, optimizers, batch, training)

    with pretended(), monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", taken)
        train.create(replace(given, training=replace(given.training, device="cuda")), run)
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


def test_the_stand_in_refuses_what_cuda_refuses():
    with pretended():
        there, here = torch.ones(3).to("cuda"), torch.ones(3)
        assert there.is_cuda and (there + 1).cpu().numpy().sum() == 6
        for wrong in (lambda: there + here, lambda: torch.cat([here, there])):
            with pytest.raises(RuntimeError, match="same device"):
                wrong()
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
