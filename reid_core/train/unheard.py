"""What the processes beside the first one have in place of a run and its progress: the first alone
writes to the run's folder and tells where it stands."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from reid_core.runs import Run
from reid_core.train.progress import Progress


class Seen(Run):
    """A run as all but the first process have it: to read, not to write."""

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        with Path(os.devnull).open("wb") as nothing:
            yield nothing

    def save_state(self, state: dict[str, Any]) -> None:
        """The first process does."""

    def sweep(self) -> None:
        """The first process does."""

    def ask_stop(self, wish: bool = True) -> None:
        """The first process does."""


class Unheard(Progress):
    """The progress of a process that nobody listens to."""

    def __init__(self, run: Run):
        self.run, self.epochs = run, run.experiment.epochs
        self.bar = tqdm(disable=True)
        self.last_step = self.last_beat = time.perf_counter()
        self.rate, self.last = 0.0, True

    def plot(self, entry: dict[str, float]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
