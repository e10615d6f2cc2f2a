"""Rows shared among threads, each of which has torch to itself."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from reid_core.ranking.threads import in_parts


@pytest.fixture
def three():
    """Three threads, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def own(call) -> list:
    """What call gives in a thread that is new to torch."""
    found = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 1001])
def test_every_row_once(three, count):
    seen = np.zeros(count, int)

    def see(first, start, stop) -> None:
        seen[start:stop] += first

    in_parts(see, count, 1)
    assert (seen == 1).all()


def test_each_has_torch_to_itself_and_nobody_else_loses_it(three):
    threads = {}

    def see(start, stop) -> None:
        threads[start] = threading.current_thread(), torch.get_num_threads()

    in_parts(see, 3)
    assert [count for _, count in threads.values()] == [1, 1, 1]
    assert threading.current_thread() not in [thread for thread, _ in threads.values()]
    assert torch.get_num_threads() == 3 and own(torch.get_num_threads) == [3]


def test_an_error_in_one_part_is_told(three):
    def refuse(start, stop) -> None:
        if start:
            raise ValueError(f"no {start}")

    with pytest.raises(ValueError, match="no 1"):
        in_parts(refuse, 3)


def test_an_error_is_told_when_all_parts_have_ended(three):
    ended = []

    def one_fails(start, stop) -> None:
        if not start:
            raise ValueError("the first")
        time.sleep(0.2)
        ended.append(start)

    with pytest.raises(ValueError, match="the first"):
        in_parts(one_fails, 3)
    assert sorted(ended) == [1, 2]


def test_a_caller_with_a_number_of_its_own_keeps_it_to_itself(three):
    torch.set_num_threads(3)

    def asks() -> int:
        torch.get_num_threads()
        torch.set_num_threads(4)
        own(lambda: torch.set_num_threads(3))  # the process's number again
        in_parts(lambda start, stop: None, 4)
        return torch.get_num_threads()

    assert own(asks) == [4] and own(torch.get_num_threads) == [3]


def test_a_machine_that_gives_no_more_threads_says_so_and_ends():
    code = """
import threading, torch
from reid_core.ranking import threads
torch.set_num_threads(3)
start, seen = threading.Thread.start, []
def limited(self):
    seen.append(self)
    if len(seen) == 4:  # one makes the pool, two of three are made
        raise RuntimeError("can't start new thread")
    start(self)
threading.Thread.start = limited
try:
    threads.in_parts(lambda start, stop: None, 3)
except RuntimeError as error:
    print(error)
threading.Thread.start = start
threads.in_parts(lambda start, stop: seen.append(torch.get_num_threads()), 3)
print(seen[-3:])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines() == ["can't start new thread", "[1, 1, 1]"]


def test_several_at_a_time(three):
    """Two viewers' evaluations, say: the threads are the same, and nobody waits forever."""
    sums = np.zeros((8, 300))

    def add(row, start, stop) -> None:
        sums[row, start:stop] += np.arange(start, stop)

    callers = [threading.Thread(target=in_parts, args=(add, 300, row)) for row in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert (sums == np.arange(300)).all()
