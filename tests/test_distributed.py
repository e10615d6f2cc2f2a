"""Several processes: the losses and gradients of one, sharded batches, and an end with a reason when
one of them is lost."""

import os
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file
from test_models import SMALL

from reid_core import distributed, feed, train
from reid_core.__main__ import main
from reid_core.data import ROOT, open_dataset
from reid_core.data.sampler import check_division
from reid_core.distributed import Place, first_host, given_place, place_of
from reid_core.errors import BadInput
from reid_core.experiment import Experiment
from reid_core.runs import open_run

FIVE = [
    "transreid",
    "rga|double",
    "nformer|double",
    "nformer|second",
    "pha",
    "ohformer shared",
    "transreid|drawn",
]


def group(folder, cases, count: int) -> list[list[dict]]:
    """What each process of a group has found, for each case."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir()
    runs = folder / "runs"
    command = [sys.executable, ROOT / "tests" / "processes.py", folder, *cases]
    own = dict(REID_RUNS=str(runs), PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    started = [
        subprocess.Popen(
            command,
            env=os.environ | own | Place(rank, count, rank, count, port=port).variables(),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    for process in started:
        said = process.communicate(timeout=600)[1]
        assert process.returncode == 0, said[-3000:]
    names = [case.replace(" ", "-").replace("|", ".") for case in cases]
    return [[torch.load(folder / f"{name}.{rank}") for rank in range(count)] for name in names]


def compare(cases, tmp_path) -> None:
    """Two processes against one, to 1e-5 of the largest number of each tensor."""
    singles, pairs = group(tmp_path / "one", cases, 1), group(tmp_path / "two", cases, 2)
    for case, (one,), two in zip(cases, singles, pairs, strict=True):
        worst, least = 0.0, 1e-6 if "double" in case else 0.1
        for each in two:
            # BatchNorm over two copies: its variance estimate has another n / (n - 1).
            for kind in ("terms", "gradients") + ("buffers",) * ("whole" not in case):
                assert each[kind].keys() == one[kind].keys(), (case, kind)
                for name, expected in one[kind].items():
                    scale = max(least, expected.abs().max().item())
                    away = (each[kind][name] - expected).abs().max().item() / scale
                    worst = max(worst, away)
                    assert away <= 1e-5, (case, kind, name, away)
        seen = [each["image"] for each in two]
        seen = seen[0] if "whole" in case else torch.cat(seen)
        assert torch.equal(seen, one["image"]), case  # the same images, each augmented alike
        print(f"{case}: {len(one['gradients'])} gradients, worst difference {worst:.1e}")


def test_two_processes_have_the_losses_and_gradients_of_one(runs, tmp_path):
    compare(FIVE, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_so_have_all_models(runs, tmp_path):
    convolutions = ("rga", "resnet-bot")
    cases = [f"{case}|double" if case.startswith(convolutions) else case for case in SMALL]
    cases = ["nformer|double" if case == "nformer" else case for case in cases]
    compare([*cases, "nformer|second whole"], tmp_path)


# Who is who


def test_batches_are_divided_without_breaking_identities(monkeypatch):
    rows = np.arange(24)  # six identities with four images each
    found = []
    monkeypatch.setattr(distributed, "world", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda own=rank: own)
        found.append(rows[distributed.part(rows)])
        assert distributed.part(np.empty((2, 5))) == slice(0, 2)  # sequences that can't be divided
    assert [each.tolist() for each in found] == [list(range(i, i + 8)) for i in (0, 8, 16)]
    shares = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda own=rank: own)
        shares += range(10)[distributed.share(10)]
    assert shares == list(range(10))


def test_identities_must_divide_among_the_processes():
    with pytest.raises(BadInput, match="among 3 processes; give 6, say, or 2 processes"):
        check_division(8, 3, "global")
    with pytest.raises(BadInput, match="give 100, say, or 8 processes"):
        check_division(8, 100, "global")
    with pytest.raises(BadInput, match="or 8 processes"):  # at once
        check_division(8, 10**15, "global")
    with pytest.raises(BadInput, match="no negatives"):
        check_division(4, 4, "local")
    check_division(4, 4, "global"), check_division(8, 4, "local"), check_division(5, 1, "local")


def test_a_run_that_can_not_be_divided_is_not_created(runs):
    asked = Experiment.create(model="transreid", recipe="demo", settings=TINY | dict(devices=3))
    with pytest.raises(BadInput, match="4 identities can't be divided among 3"):
        train.create(asked)
    assert not list(runs.iterdir())


TORCHRUN = dict(
    RANK="5",
    WORLD_SIZE="8",
    LOCAL_RANK="1",
    LOCAL_WORLD_SIZE="4",
    MASTER_ADDR="head",
    MASTER_PORT="29500",
)
SLURM = dict(
    SLURM_STEP_NUM_TASKS="6",
    SLURM_PROCID="4",
    SLURM_LOCALID="0",
    SLURM_STEP_NUM_NODES="3",
    SLURM_STEP_NODELIST="gpu[07-09]",
    SLURM_JOB_ID="1234567",
)


@pytest.mark.parametrize(
    "environment, expected",
    [
        (TORCHRUN, Place(5, 8, 1, 4, "head", 29500, given=True)),
        (SLURM, Place(4, 6, 0, 2, "gpu07", 19567, given=True)),
        (SLURM | TORCHRUN, Place(5, 8, 1, 4, "head", 29500, given=True)),
        (SLURM | dict(SLURM_STEP_NUM_TASKS="1"), None),
        (TORCHRUN | dict(WORLD_SIZE="1", RANK="0", LOCAL_WORLD_SIZE="1"), None),
        (dict(SLURM_NTASKS="6", SLURM_PROCID="0"), None),  # a batch script, before srun
        ({}, None),
    ],
)
def test_a_process_finds_its_place_in_the_environment(environment, expected, monkeypatch):
    for name in (*TORCHRUN, *SLURM):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert given_place() == expected
    if expected:
        assert place_of(1, 1) == expected  # the environment comes before the knobs
        for name, value in expected.variables().items():
            monkeypatch.setenv(name, value)
        assert given_place() == expected


def test_an_environment_that_makes_no_sense(monkeypatch):
    for name, value in (SLURM | dict(SLURM_LOCALID="")).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match="torchrun or srun"):
        given_place()
    monkeypatch.setenv("SLURM_LOCALID", "0")
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "4")
    with pytest.raises(BadInput, match="as many on each machine"):
        given_place()


def test_several_machines_are_started_by_somebody_else():
    assert place_of(2, 1) == Place(world=2, devices=2)
    with pytest.raises(BadInput, match="Slurm or torchrun"):
        place_of(2, 2)


@pytest.mark.parametrize(
    "hosts, first", [("a", "a"), ("a,b", "a"), ("n[3-5,9],m", "n3"), ("n[03,05]", "n03")]
)
def test_first_host(hosts, first):
    assert first_host(hosts) == first


# A whole training


def created(name: str, **settings):
    """A run of two processes; its state is kept every second."""
    settings = TINY | dict(epochs=2, evaluate_every=2, devices=2, save_minutes=0.02) | settings
    asked = Experiment.create(model="transreid", recipe="demo", settings=settings)
    return train.create(asked, name)


def start(name: str, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "reid_core", "train", "--resume", name, "--quiet", *more]
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, **quiet)


def after_a_step(run, process) -> list[psutil.Process]:
    """The other processes, once a new step has been taken."""
    before = run.status().time
    while process.poll() is None:
        status = run.status()
        if status.time > before and status.pid == process.pid and status.step:
            return psutil.Process(process.pid).children()
        time.sleep(0.002)
    raise AssertionError(process.stderr.read())


def gone(processes: list[psutil.Process]) -> bool:
    """Whether all of them end by themselves."""
    return not psutil.wait_procs(processes, timeout=60)[1]


def same_outcome(whole, broken) -> None:
    one, two = (load_file(run.folder / "weights.safetensors") for run in (whole, broken))
    assert all(torch.equal(one[key], two[key]) for key in one)
    np.testing.assert_array_equal(whole.embeddings().vectors, broken.embeddings().vectors)
    timing = ("images_per_second", "seconds")
    for a, b in zip(whole.history(), broken.history(), strict=True):
        assert all(a[k] == b[k] for k in a if k not in timing)


@pytest.mark.long
def test_two_processes_lose_one_and_end_like_two_that_did_not(runs):
    """Killed, told so, resumed: the same weights bit for bit."""
    whole, broken = created("whole"), created("broken")
    first = start("whole")
    process = start("broken")
    (helper,) = after_a_step(broken, process)
    helper.kill()
    assert process.wait(timeout=250) == 1
    status = broken.status()
    assert "process 2 of 2 ended without a word (SIGKILL" in status.message
    assert status.state == "failed" and broken.resumable and status.message in broken.log_tail()
    process = start("broken")
    assert process.wait(timeout=250) == 0, process.stderr.read()
    assert first.wait(timeout=250) == 0, first.stderr.read()
    same_outcome(whole, broken)


@pytest.mark.long
def test_two_processes_stop_at_the_same_step(runs):
    """Asked by the app, then by a signal to the first process and to the other."""
    whole, broken = created("whole", epochs=6), created("broken", epochs=6)
    assert start("whole").wait(timeout=250) == 0
    for ask in ("file", 0, 1):
        process = start("broken")
        helpers = after_a_step(broken, process)
        if ask == "file":
            broken.ask_stop()
        else:
            [psutil.Process(process.pid), *helpers][ask].terminate()
        assert process.wait(timeout=250) == (143 if ask == 0 else 0) and gone(helpers)
        assert broken.status().state == "stopped"
    assert start("broken").wait(timeout=250) == 0
    same_outcome(whole, broken)


@pytest.mark.long
def test_the_others_end_when_the_first_is_killed(runs):
    """And one process goes on alone, which its log says."""
    run = created("orphans", save_minutes=0)
    process = start("orphans")
    helpers = after_a_step(run, process)
    while not (run.folder / "state/last.pt").is_file():
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert gone(helpers)
    assert run.status().state == "interrupted"
    process = start("orphans", "--set", "devices=1")
    assert process.wait(timeout=250) == 0, process.stderr.read()
    assert "processes: 1 in place of 2" in (run.folder / "log.txt").read_text()
    assert open_run("orphans").experiment.training.devices == 1


@pytest.mark.long
def test_what_one_process_can_not_read_ends_all_with_its_words(
    runs, tiny_data, tmp_path, monkeypatch
):
    shutil.copytree(tiny_data, tmp_path / "data" / "pedestrians")
    monkeypatch.setenv("REID_DATA", str(tmp_path / "data"))
    run = created("odd")
    plan = feed.Feed(run, run.experiment, torch.device("cpu")).plan(1)
    row = plan[1][-1]  # of the second process
    path = open_dataset("pedestrians").train.paths[row]
    content = path.read_bytes()
    path.write_bytes(b"no image")
    process = start("odd")
    assert process.wait(timeout=250) == 1
    assert path.name in run.status().message and "process 2 of 2" in run.status().message
    path.write_bytes(content)
    assert run.load_state()["step"] <= 1
    process = start("odd")
    assert process.wait(timeout=250) == 0, process.stderr.read()


@pytest.mark.long
@pytest.mark.parametrize("nodes", [1, 2])
def test_processes_that_torchrun_starts(runs, nodes):
    """Two processes of one machine, or of two: two agents that meet by address, as theirs would."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(nodes)]
    torchrun += ["--nproc-per-node", str(2 // nodes), "--master-addr", "127.0.0.1"]
    torchrun += ["--master-port", str(29611 + nodes)]
    knobs = [f"{key}={value}" for key, value in (TINY | dict(epochs=2)).items()]
    ours = ["-m", "--", "reid_core", "train"]  # or torchrun takes our --run for its own
    ours += ["--model", "transreid", "--run", "torchrun", "--set", *knobs]
    agents = [
        subprocess.Popen(
            [*torchrun, "--node-rank", str(node), *ours],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for node in range(nodes)
    ]
    told = [agent.communicate(timeout=250)[1] for agent in agents]
    assert [agent.returncode for agent in agents] == [0] * nodes, told[0][-2000:]
    run = open_run("torchrun")
    assert run.status().state == "finished" and len(run.history()) == 2
    assert "2 processes, mining=global" in (run.folder / "log.txt").read_text()


def test_who_lost_a_process_is_told_how_to_go_on(runs, monkeypatch, capsys):
    def lose(run, quiet):
        raise train.Lost("process 2 of 2 ended without a word")

    run = created("lost")
    run.report_end("failed", "")
    monkeypatch.setattr(train, "train", lose)
    assert main(["train", "--resume", "lost"]) == 2
    assert "without a word; go on with: train --resume lost" in capsys.readouterr().err


def test_resuming_changes_the_number_of_processes_alone(runs):
    run = created("kept")
    with pytest.raises(BadInput, match="leave epochs out"):
        train.redistribute(run, dict(devices="1", epochs="3"))
    with pytest.raises(BadInput, match="can't be divided"):
        train.redistribute(run, dict(devices="3"))
    train.redistribute(run, dict(devices="1"))
    assert open_run("kept").experiment.training.devices == 1
    assert open_run("kept").record["facts"] == run.record["facts"]
