"""Rows shared among threads, each of which has torch to itself."""

import threading

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
