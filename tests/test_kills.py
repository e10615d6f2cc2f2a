"""SIGKILL at any moment: a run that was killed again and again ends with the weights, embeddings,
metrics and history of one that never was, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_models import SMALL

from reid_core import train
from reid_core.data import ROOT
from reid_core.experiment import Experiment, knobs
from reid_core.runs import open_run

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
KILLS = 6  # of each model, half of them while a checkpoint is written


def tiny(name: str) -> Experiment:
    settings = SMALL[name] | dict(
        pretrained="none",
        size="64x32",
        epochs=4,
        identities_per_batch=4,
        images_per_identity=2,
        evaluate_every=2,
        save_minutes=0.01,  # within epochs too
        device="cpu",
        precision="fp32",
        passes=3,
        sequence=32,
        images_per_sequence=16,
    )
    known = {knob.name for knob in knobs(name.split()[0])}
    settings = {key: value for key, value in settings.items() if key in known}
    return Experiment.create(model=name.split()[0], recipe="demo", settings=settings)


def start(name: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "reid_core", "train", "--resume", name, "--quiet"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def killed(name: str, moment: random.Random, writing: bool) -> bool:
    """Train until a moment after the first new step, or until a checkpoint is being written, and
    kill. False where it ended before that."""
    run, process = open_run(name), start(name)
    begun = None
    while process.poll() is None:
        status = run.status()
        if begun is None and status.pid == process.pid and status.step:
            begun = time.monotonic() + (0 if writing else moment.uniform(0, 1.5))
        now = begun is not None and time.monotonic() > begun
        if now and (not writing or list((run.folder / "state").glob(".last.pt.*"))):
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.0005)
    return process.wait() == -signal.SIGKILL


def outcome(name: str) -> dict:
    run = open_run(name)
    timing = ("images_per_second", "seconds")
    return dict(
        weights=load_file(run.folder / "weights.safetensors"),
        embeddings=run.embeddings().vectors,
        metrics=json.loads((run.folder / "metrics.json").read_text()),
        history=[{k: v for k, v in each.items() if k not in timing} for each in run.history()],
    )


def check(name: str, kills: int, seed: int) -> None:
    train.create(tiny(name), "whole")
    assert start("whole").wait() == 0  # in a process of its own, as the other one
    train.create(tiny(name), "killed")
    moment = random.Random(seed)
    done = sum(killed("killed", moment, writing=bool(number % 2)) for number in range(kills))
    print(f"{name}: killed {done} times, now in epoch {open_run('killed').status().epoch}")
    assert done
    if open_run("killed").status().state != "finished":
        assert open_run("killed").status().state == "interrupted"
        assert start("killed").wait() == 0
    expected, found = outcome("whole"), outcome("killed")
    for key, weight in expected["weights"].items():
        assert torch.equal(weight, found["weights"][key]), key
    np.testing.assert_array_equal(expected["embeddings"], found["embeddings"])
    assert expected["metrics"] == found["metrics"]
    assert expected["history"] == found["history"]
    state = open_run("killed").folder / "state"
    assert not list(state.glob(".*.[0-9]*"))  # what a kill has left is swept away


def test_a_killed_run_ends_like_one_that_was_not(runs):
    check("transreid", kills=2, seed=0)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["transreid", "rga", "nformer", "pha", "ohformer shared"])
def test_each_model_survives_many_kills(runs, name):
    check(name, KILLS, seed=1)
