"""When a step can't be taken: what happened is kept, and the reason says how to go on."""

import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from reid_core.errors import BadInput, is_short_of_memory
from reid_core.experiment import Training
from reid_core.runs import Run

NOTES = "state/nonfinite.json"
UNSTEADY = re.compile(r"(\S+(?: when .+?)?) does not have a deterministic implementation")


def keep_nonfinite(run: Run, note: dict[str, Any]) -> None:
    """Remember a step whose loss or gradient was not finite, with the state before it.

    note holds epoch, step, the seed's numbers, the images and the terms. What is remembered is left
    out when the run goes on.
    """
    state = run.folder / "state" / "last.pt"
    with state.open("rb") as source, run.writing("state/nonfinite.pt") as target:
        shutil.copyfileobj(source, target)
    notes = [*nonfinite(run), note]
    run.write(NOTES, (json.dumps(notes, indent=2) + "\n").encode())


def nonfinite(run: Run) -> list[dict[str, Any]]:
    """The steps that `keep_nonfinite` remembers, oldest first."""
    try:
        notes = json.loads((run.folder / NOTES).read_text("utf-8"))
        return [dict(note, epoch=int(note["epoch"]), step=int(note["step"])) for note in notes]
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return []


def fits_memory(attempt: Callable[..., None], *numbers: int) -> bool:
    """Whether attempt(*numbers) does not run short of memory; other errors are raised."""
    try:
        attempt(*numbers)
        return True
    except Exception as error:
        if not is_short_of_memory(error):
            raise
        return False
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def largest_fitting(attempt: Callable[[int], None], most: int) -> int:
    """The largest number from 2 to `most` for which attempt(number) does not run short of memory, by
    bisection; 0 where not even 2 does."""
    low, high = 0, most + 1  # what is known to fit, and what is known not to
    while high - max(low, 1) > 1:
        middle = max(2, (low + high) // 2)
        low, high = (middle, high) if fits_memory(attempt, middle) else (low, middle)
    return low


def too_large(
    training: Training,
    shape: tuple[int, ...],
    processes: int,
    attempt: Callable[[int, int], None],
    fitted: bool = False,
) -> BadInput:
    """What to say of a batch that takes too much memory, its rows of this shape: which smaller one
    fits, and in how many parts the whole one does, by attempt(number of images, parts). fitted: steps
    of this size were taken before."""
    if len(shape) > 1:
        return BadInput(
            f"out of memory with {shape[0]} sequences of {shape[1]} features: give fewer "
            "sequences_per_batch or a shorter sequence"
        )
    p, k = training.identities_per_batch, training.images_per_identity
    if processes > 1:  # the others would have to try along
        return BadInput(
            f"out of memory with {p} x {k} = {p * k} images in a batch on {processes} processes: give "
            "fewer identities_per_batch, or more devices"
        )
    parts = training.accumulate
    fits = largest_fitting(lambda identities: attempt(identities * k, parts), p - 1)
    fits -= fits % parts  # each part holds whole identities
    # Parts as large as a batch that does not fit need not be tried.
    finer = [n for n in range(parts + 1, p + 1) if p % n == 0 and p // n <= max(fits // parts, 1)]
    more = next((n for n in finer if fits_memory(attempt, p * k, n)), None)
    now = " now" if fitted else ""
    advice = [f"identities_per_batch={fits} ({fits * k} images) fits{now}"] if fits else []
    if more:
        advice.append(f"accumulate={more} fits{' too' if fits else now}")
    if not advice:
        # What the failed step left behind may be too little where it would not be for a new run.
        less = "give far fewer to a new run, a smaller size, a larger stride or a smaller model"
        advice = [f"in what is left not even 2 identities fit{now}; {less}"]
    if fitted:
        advice.append("steps of this size fitted before, so with more memory free resume goes on")
    return BadInput(
        f"out of memory with {p} x {k} = {p * k} images in a batch: {', '.join(advice)}"
    )


@contextmanager
def exact() -> Iterator[None]:
    """While the block lasts an operation that is short of memory fails: torch would take another one,
    with other last digits, and go on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="mkldnn_matmul failed")
        yield


@contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """Only operations that give the same bits each time, while the block lasts. Raises BadInput,
    with its name, for one that has no such form."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS wants it before its start
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if found := UNSTEADY.search(str(error)):
            raise BadInput(
                f"deterministic: {found[1]} has no deterministic form here; train with "
                "deterministic=false, or on the CPU, which always is"
            ) from error
        raise
    finally:
        torch.use_deterministic_algorithms(before)
