"""Threads for compiled loops and for the matrix products that these run through.

numba's own threads end the process where two threads of a server start them at once, and torch's own
stay busy after a product, waiting for the next one, on the cores that a loop between two products
needs. Each thread here takes some rows of its own, and has no other torch threads to multiply them.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise
from threading import Barrier, Lock

import numpy as np
import torch

_making = Lock()


def in_parts(function: Callable[..., None], count: int, *given) -> None:
    """function(*given, start, stop) for all of `count` rows, on as many threads as torch has.

    What it calls lets go of the interpreter's lock: torch, and compiled loops. An error in a part is
    raised when all parts have ended. Not to be called from a part.
    """
    with _making:  # meanwhile torch's number is that of a thread which is being made
        torch_threads = torch.get_num_threads()
        threads = min(torch_threads, count)
        pool = _pool(torch_threads) if threads > 1 else None
    if pool is None:
        function(*given, 0, count)
        return
    ends = np.linspace(0, count, threads + 1).astype(int).tolist()
    parts = [pool.submit(function, *given, *part) for part in pairwise(ends)]
    wait(parts)
    for part in parts:
        part.result()


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    """Threads that keep to one core each, for as long as the process lives."""
    with ThreadPoolExecutor(1) as new:  # to torch: the caller may have a number of its own
        return new.submit(_made, count).result()


def _made(count: int) -> ThreadPoolExecutor:
    started, before = Barrier(count + 1), torch.get_num_threads()

    def alone() -> None:
        torch.get_num_threads()  # a thread that never asked takes the process's number later
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(count, initializer=alone)
    try:
        for _ in range(count):
            pool.submit(int)  # a thread starts with its first work
        started.wait()
    except BaseException:
        started.abort()  # or those that have started would wait for the others forever
        pool.shutdown(wait=False)
        raise
    finally:
        torch.set_num_threads(before)  # which is for all threads to come: one was for these alone
    return pool
