"""Threads for compiled loops and for the matrix products that these run through.

numba's own threads end the process where two threads of a server start them at once, and torch's own
stay busy after a product, waiting for the next one, on the cores that a loop between two products
needs. Each thread here takes some rows of its own, and has no other torch threads to multiply them.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from threading import Barrier

import numpy as np
import torch


def in_parts(function: Callable[..., None], count: int, *given) -> None:
    """function(*given, start, stop) for all of `count` rows, on as many threads as torch has.

    What it calls lets go of the interpreter's lock: torch, and compiled loops.
    """
    threads = min(torch.get_num_threads(), count)
    if threads < 2:
        function(*given, 0, count)
        return
    ends = np.linspace(0, count, threads + 1).astype(int).tolist()
    list(_pool(torch.get_num_threads()).map(lambda part: function(*given, *part), pairwise(ends)))


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    """Threads that keep to one core each, for as long as the process lives."""
    started = Barrier(count + 1)

    def alone() -> None:
        torch.get_num_threads()  # a thread that never asked takes the process's number later
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(count, initializer=alone)
    for _ in range(count):
        pool.submit(int)  # a thread starts with its first work
    started.wait()
    torch.set_num_threads(count)  # which is also for threads to come: theirs was for them alone
    return pool
