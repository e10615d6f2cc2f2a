"""Trainings on a real Slurm of one node, started by these tests: see cluster.py."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import Cluster, lacking
from conftest import TINY
from safetensors.torch import load_file

from reid_core import jobs
from reid_core.data import ROOT
from reid_core.errors import BadInput
from reid_core.jobs import queue, where
from reid_core.jobs.slurm import watch
from reid_core.runs import Run, open_run

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
]
TWO = dict(processes=2)
LONG = dict(epochs=8)  # enough to be interrupted in


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def slurm(cluster, runs, monkeypatch) -> Iterator[Cluster]:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    folder = runs / "of ours"  # a space, as a user's path may hold
    folder.mkdir()
    monkeypatch.setenv("REID_RUNS", str(folder))
    watch._said.clear()
    yield cluster
    cluster.ask("scancel", "--partition=debug,low,high")
    until(lambda: not cluster.ask("squeue", "-h").strip())


def until(true: Callable[[], object], patience: float = 240, what: Callable = str) -> None:
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(0.2)


def sent(name: str, settings: dict | None = None, **asked) -> Run:
    given = dict(model="transreid", recipe="demo", dataset="pedestrians", run=name)
    jobs.start(**given, settings=TINY | (settings or {}), where="slurm", asked=TWO | asked)
    return open_run(name)


def becomes(run: Run, *states: str) -> None:
    def there() -> bool:
        where.look()
        return run.status().state in states

    until(there, what=lambda: f"{run.status()}\n{run.log_tail()}")


def words(run: Run) -> str:
    where.look()
    return where.place_of(run).describe(run)


def steps_of(run: Run, epoch: int) -> None:
    """Wait until it is in the middle of an epoch."""
    until(
        lambda: (s := run.status()).state == "running" and s.epoch >= epoch and s.step,
        what=lambda: f"{run.status()}\n{run.log_tail()}",
    )


def local(name: str, settings: dict) -> Run:
    """The same training as two processes of this machine."""
    knobs = [f"{key}={value}" for key, value in (TINY | settings | dict(devices=2)).items()]
    command = [sys.executable, "-m", "reid_core", "train", "--model", "transreid", "--run", name]
    own = {key: value for key, value in os.environ.items() if not key.startswith("SLURM")}
    subprocess.run([*command, "--set", *knobs], cwd=ROOT, env=own, check=True, capture_output=True)
    return open_run(name)


def equal(one: Run, other: Run) -> None:
    """Weights, embeddings, scores and losses, to the last bit."""
    weights = [load_file(run.folder / "weights.safetensors") for run in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        assert value.equal(weights[1][name]), name
    assert (one.embeddings().vectors == other.embeddings().vectors).all()
    assert one.metrics() == other.metrics()
    time_of = ("seconds", "images_per_second")
    histories = [
        [{k: v for k, v in line.items() if k not in time_of} for line in run.history()]
        for run in (one, other)
    ]
    assert histories[0] == histories[1]


def test_two_tasks_are_two_local_processes(slurm):
    """Watched to its end; cancelled while another waits behind it; equal to the last bit."""
    run = sent("job", LONG)
    waits = sent("waits")
    assert run.status().queued or run.status().active
    steps_of(run, 1)
    assert words(run).startswith("running on Slurm, job ")
    assert run.status().pid != os.getpid()
    assert "pending on Slurm, job " in words(waits) and words(waits).endswith("(Resources)")
    jobs.stop("waits")
    becomes(waits, "stopped")
    number = queue.job_of(waits)["number"]
    assert number not in slurm.ask("squeue", "-h", "-o", "%i").split()
    becomes(run, "finished")
    until(lambda: (where.look() or queue.job_of(run).get("over")) == "COMPLETED")
    assert run.status().state == "finished" and "2 processes" in run.log_tail()
    equal(run, local("here", LONG))


def test_stopped_and_resumed_until_the_end(slurm):
    """By its owner; then as if its time were over; then queued again by hand; then it had to make room
    for another job. It ends with the weights of a training that was never stopped."""
    run = sent("job", LONG, partition="low", requeues=5)
    steps_of(run, 2)
    jobs.stop("job")
    becomes(run, "stopped")
    epoch = run.status().epoch
    until(lambda: not slurm.ask("squeue", "-h").strip())
    jobs.resume("job")
    number = queue.job_of(run)["number"]
    steps_of(run, epoch)
    slurm.ask("scancel", "--signal=USR2", number)  # what Slurm does before the time is over
    becomes(run, "queued")
    assert f"job {number}" in words(run)
    steps_of(run, 4)
    slurm.ask("scontrol", "requeue", number)
    becomes(run, "queued")
    steps_of(run, 5)
    slurm.ask("sbatch", "--partition=high", "--ntasks=2", "--output=/dev/null", "--wrap", "sleep 1")
    becomes(run, "queued")
    becomes(run, "finished")
    found = re.search(r"Restarts=(\d+)", slurm.ask("scontrol", "show", "job", number))[1]
    assert found == "3", run.log_tail()
    equal(run, local("here", LONG))


def test_ended_on_slurm(slurm):
    """Cancelled there, killed there: told with Slurm's reason, and resumed."""
    run = sent("job", dict(epochs=500))
    steps_of(run, 1)
    slurm.ask("scancel", queue.job_of(run)["number"])
    becomes(run, "interrupted")
    until(lambda: where.look() or "CANCELLED" in run.status().message)
    assert run.status().message.endswith("its state is saved"), run.status()
    jobs.resume("job")
    steps_of(run, 1)
    number = queue.job_of(run)["number"]
    slurm.ask("scancel", "--signal=KILL", number)
    until(lambda: where.look() or number in run.status().message, what=lambda: run.status())
    assert run.status().state == "interrupted" and run.resumable
    assert f"job {number}" in run.log_tail(1)


def test_its_time_is_over(slurm):
    """Slurm's own signal comes before it (up to half a minute early), and the job goes on later."""
    run = sent("job", dict(epochs=2000), time="4", notice=60)
    number = queue.job_of(run)["number"]
    restarts = lambda: slurm.ask("scontrol", "show", "job", number)  # noqa: E731
    until(lambda: "Restarts=1 " in restarts(), 400, restarts)
    steps_of(run, 1)
    assert run.status().epoch > 1
    jobs.stop("job")
    becomes(run, "stopped")


def test_refused(slurm):
    with pytest.raises(BadInput, match="invalid partition specified: nowhere"):
        sent("job", partition="nowhere")
    assert not list(Path(os.environ["REID_RUNS"]).glob("job"))


def test_a_controller_that_is_away(slurm, cluster):
    run = sent("job", dict(epochs=500))
    steps_of(run, 1)
    controller = cluster.started[1]
    controller.terminate()
    controller.wait()
    where.look()
    assert run.status().state == "running" and "Unable to contact" in watch._silence
    cluster.started[1] = cluster._begin("slurmctld", "-D") or cluster.started.pop()
    until(lambda: where.look() or not watch._silence)
    assert words(run).startswith("running")
    jobs.stop("job")
    becomes(run, "stopped")
