"""Where a run was sent, and what the process that trains it needs to know: its state/job.json, read
value by value."""

import json
from collections.abc import Callable
from typing import Any

from reid_core.run_folder import RunFolder

DEVICES = ("cpu", "cuda", "mps")
JOB = "state/job.json"


def _are_variables(value: Any) -> bool:
    return isinstance(value, dict) and all(
        "=" not in name and isinstance(said, str | None) for name, said in value.items()
    )


# What a job may hold: how it is expected, and whether a value is that.
EXPECTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "where": ("the name of a place", lambda value: isinstance(value, str)),
    "device": ("cpu, cuda, mps or auto", lambda value: value in (*DEVICES, "auto")),
    "environment": ("variables that are text or null", _are_variables),
    "asked": ("the place's own knobs", lambda value: isinstance(value, dict | None)),
    "number": ("a job's number as text", lambda value: isinstance(value, str)),
    "requeues": ("a whole number", lambda value: type(value) is int),
    "over": ("text", lambda value: isinstance(value, str)),
}


def job_of(run: RunFolder) -> dict[str, Any]:
    """Where a run was sent ("here" without a word) and what was said with it, but for what is damaged."""
    return _job(run)[0]


def is_open(run: RunFolder) -> bool:
    """Whether it was sent elsewhere and is not known to have ended there, whatever its status says."""
    job = job_of(run)
    return bool(job.get("number")) and not job.get("over")


def keep_job(run: RunFolder, **job: Any) -> None:
    """What `job_of` reads."""
    run.write(JOB, (json.dumps(job, indent=2) + "\n").encode())


def damage(run: RunFolder) -> str:
    """What is wrong with it, and what to do; "" where nothing is."""
    odd = _job(run)[1]
    return odd and f"{JOB} is damaged ({odd}): resume the run, which writes it anew"


def _job(run: RunFolder) -> tuple[dict[str, Any], str]:
    """What is kept of a run's job, and what is wrong with the rest; "" where nothing is."""
    try:
        job = json.loads((run.folder / JOB).read_text("utf-8"))
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError) as error:
        return {}, f"it can't be read: {type(error).__name__}"
    if not isinstance(job, dict):
        return {}, f"expected names and values, got {job!r:.60}"
    known = {name: job[name] for name in EXPECTED if name in job}
    fits = {name: value for name, value in known.items() if EXPECTED[name][1](value)}
    odd = next((name for name in known if name not in fits), None)
    return fits, f"{odd}: expected {EXPECTED[odd][0]}, got {job[odd]!r:.60}" if odd else ""
