"""Watching a model: what it records, for whom, and what it refuses."""

import threading

import pytest
import torch
from torch import nn

from reid_core.errors import BadInput
from reid_core.probe import Probe, observe


class Doubler(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Probe("features"), Probe("features")

    def forward(self, x, deep=True):
        x = self.first(2 * x)
        return self.second(2 * x) if deep else x


def test_records_what_passes_and_nothing_outside():
    model = Doubler()
    with observe(model, "*") as seen:
        model(torch.ones(1))
    assert {k: v.item() for k, v in seen.items()} == {"first": 2, "second": 4}
    model(torch.zeros(1))
    assert seen["first"].item() == 2 and not model.first.watched


def test_probes_leave_no_trace_in_a_checkpoint():
    assert not Doubler().state_dict()


def test_a_pattern_without_a_match_lists_the_names():
    with pytest.raises(BadInput, match="first, second"):
        with observe(Doubler(), "third"):
            pass


def test_a_match_that_no_pass_reached_is_an_error():
    model = Doubler()
    with pytest.raises(BadInput, match="no pass reached second"):
        with observe(model, "*"):
            model(torch.ones(1), deep=False)


def test_an_error_inside_comes_out_and_ends_the_watching():
    model = Doubler()
    with pytest.raises(ZeroDivisionError):
        with observe(model, "*"):
            raise ZeroDivisionError
    assert not model.first.watched


def test_another_thread_is_not_watched():
    model, wrong = Doubler(), []

    def other():
        for _ in range(300):
            if model.first.watched:
                wrong.append("watched")
            model(torch.full((1,), -1.0))

    thread = threading.Thread(target=other)
    thread.start()
    for _ in range(300):
        with observe(model, "*") as seen:
            model(torch.ones(1))
        if seen["first"].item() != 2:
            wrong.append("mixed")
    thread.join()
    assert not wrong


def test_a_compiled_model_is_refused():
    with pytest.raises(BadInput, match="compiled"):
        with observe(torch.compile(Doubler()), "*"):
            pass
