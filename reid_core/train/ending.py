"""How a training ends: asked to stop, or with a reason that its log and status keep; and the signs of
life that it gives until then."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from reid_core.runs import Run

SIGN = 20.0  # seconds between signs of life for who looks from another machine

log = logging.getLogger("reid_core")


class Stopped(Exception):
    """The training was asked to stop, and has saved its state. signal is what asked, or None."""

    signal: int | None = None


@contextmanager
def logged(run: Run, quiet: bool) -> Iterator[None]:
    """log.txt; warnings on stderr too."""
    loud = logging.StreamHandler(sys.stderr)
    loud.setLevel(logging.CRITICAL if quiet else logging.WARNING)
    log.addHandler(loud)
    handler = logging.FileHandler(run.folder / "log.txt", encoding="utf-8")
    handler.handleError = lambda record: None  # a disk that is full is told of once, elsewhere
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(loud)
        log.removeHandler(handler)
        handler.close()


@contextmanager
def stop_signals(run: Run) -> Iterator[list[int]]:
    """SIGTERM, Ctrl-C and Slurm's SIGUSR2 ask for a stop; a second one ends at once. Yields those that
    came. One that is ignored already stays so."""
    caught: list[int] = []

    def ask(number, frame):
        caught.append(number)
        signal.signal(number, before[number])
        if len(caught) == 1:  # another may come, from Slurm does come, while this one is seen to
            run.ask_stop()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if "SLURM_JOB_ID" in os.environ:
        numbers.append(signal.SIGUSR2)
    if threading.current_thread() is not threading.main_thread():
        numbers = []  # only the main thread may handle signals
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: how for number, how in before.items() if how is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, ask)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signs_of_life(run: Run) -> Iterator[None]:
    """Given while the block lasts, also where it evaluates or reads for minutes without a word."""
    over = threading.Event()

    def give():
        while not over.wait(SIGN):
            run.vouch()

    threading.Thread(target=give, daemon=True).start()
    try:
        yield
    finally:
        over.set()
