"""The queue and its runner: in order, no more at a time than said, and nothing lost by any kill.

Most of these queue folders and let the runner start a stand-in for a training, which needs no torch.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import psutil
import pytest
from conftest import TINY

from reid_core import jobs
from reid_core.__main__ import main
from reid_core.data import ROOT
from reid_core.errors import BadInput
from reid_core.experiment import Experiment
from reid_core.jobs import processes, queue, runner
from reid_core.jobs.clones import clone, cloned_from, difference
from reid_core.jobs.processes import detached
from reid_core.priority import NICE
from reid_core.run_folder import RunFolder, this_process
from reid_core.runs import open_run
from reid_core.train import create

# Says that it runs, waits for a file `go` (in the runs folder, or its own) and ends as it says.
TRAINING = """
import os, sys, time
from reid_core.run_folder import RunFolder, runs_folder
home = runs_folder()
run = RunFolder(sys.argv[1], home / sys.argv[1])
with run.lock():
    run.report("running", epoch=1, epochs=3)
    with (home / "order.txt").open("a") as file:
        file.write(run.name + "\\n")
    while not ((home / "go").exists() or (run.folder / "go").exists()):
        time.sleep(0.02)
    if (run.folder / "go").exists() and (word := (run.folder / "go").read_text()):
        print(word, file=sys.stderr)
        sys.exit(3)
    run.report("finished", epoch=3, epochs=3)
"""
SERVE = f"""
import subprocess, sys
from reid_core.jobs import runner

def stand_in(arguments, log, environment=None):
    command = [sys.executable, "-c", {TRAINING!r}, arguments[2]]
    return subprocess.Popen(command, start_new_session=True, stderr=log.open("ab"))

runner.detached, runner.PAUSE = stand_in, 0.05
runner.serve()
"""
unkillable = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")


def python(code: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)


def gives_way(process: int) -> None:
    """A page is to stay quick beside it: by its own number, and on Linux by its session's too."""
    assert psutil.Process(process).nice() == NICE
    group = Path(f"/proc/{process}/autogroup")
    if group.is_file() and Path("/proc/sys/kernel/sched_autogroup_enabled").read_text()[0] == "1":
        assert group.read_text().split()[-1] == str(NICE)


def until(true: Callable[[], object], patience: float = 60) -> None:
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def queued(runs: Path, *names: str) -> list[RunFolder]:
    """Folders that wait, in this order."""
    made = [RunFolder(name, runs / name) for name in names]
    for run in made:
        (run.folder / "state").mkdir(parents=True)
        queue.enqueue(run, "cpu")
    return made


def line() -> list[str]:
    return [each.run.name for each in queue.waiting()]


def states(made: list[RunFolder]) -> list[str]:
    return [run.status().state for run in made]


def order(runs: Path) -> list[str]:
    file = runs / "order.txt"
    return file.read_text().split() if file.exists() else []


@pytest.fixture
def ended():
    """Runners and trainings of a test, killed at its end."""
    started: list[subprocess.Popen] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def test_first_come_first_served_one_at_a_time(runs, ended):
    made = queued(runs, "b", "a", "c")
    assert line() == ["b", "a", "c"] and states(made) == ["queued"] * 3
    ended.append(python(SERVE))
    until(lambda: states(made) == ["running", "queued", "queued"])
    (made[0].folder / "go").touch()
    until(lambda: states(made) == ["finished", "running", "queued"])
    (runs / "go").touch()
    assert ended[0].wait(60) == 0  # nothing waits, so the runner goes home
    assert states(made) == ["finished"] * 3 and order(runs) == ["b", "a", "c"]


def test_a_limit_of_two_and_of_none(runs, ended):
    made = queued(runs, "a", "b", "c")
    queue.limit("cpu", 0)
    ended.append(python(SERVE))
    time.sleep(1)
    assert states(made) == ["queued"] * 3
    queue.limit("cpu", "2")
    until(lambda: states(made) == ["running", "running", "queued"])
    (runs / "go").touch()
    assert ended[0].wait(60) == 0 and states(made) == ["finished"] * 3


def test_each_device_has_a_limit_of_its_own(runs):
    made = queued(runs, "a", "b", "c")
    queue.keep_job(made[2], where="here", device="cuda")
    assert [queue.take().run.name, queue.take().run.name] == ["a", "c"] and queue.take() is None


def test_limits_are_looked_at(runs):
    for device, number in (("gpu", 1), ("cpu", -1), ("cpu", "many"), ("cpu", 65)):
        with pytest.raises(BadInput, match=r"device|limit of cpu"):
            queue.limit(device, number)
    for damaged in ("{ broken", "[]", "5", '{"cpu": 1e999}', '{"cpu": -5}', '{"cpu": []}'):
        (queue.folder() / "limits.json").write_text(damaged)
        assert queue.limits()["cpu"] == 1


ODD = dict(
    pid=["x", -1.5, []],
    born=["x", 10**400],
    epoch=[1e999, "x", None],
    epochs=[None],
    steps=["x"],
    state=["x", None, [], 5],
    message=[5, None],
    seconds_left=[1e999, "x"],
    images_per_second=[None],
    place=["first"],
    nonsense=[1],
)


@pytest.mark.parametrize("name", ODD)
def test_a_damaged_status_of_one_run_stops_no_other(runs, name):
    odd, _ = queued(runs, "odd", "other")
    said = json.loads((odd.folder / "state/status.json").read_text())
    for state, value in product(("running", "queued", "failed"), ODD[name]):
        damaged = said | dict(state=state) | {name: value}
        odd.write("state/status.json", json.dumps(damaged).encode())
        assert odd.status().message == "state/status.json is damaged"
        assert odd.status().state == "interrupted" and line() == ["other"]
    assert main(["queue"]) == main(["runs"]) == 0
    assert queue.take().run.name == "other"
    odd.report_end("failed", "mended")
    assert odd.status().message == "mended"


ODD_JOBS = [
    *[dict(device=value) for value in ("tpu", "", 5, True, None, ["cpu"], {})],
    *[dict(environment=value) for value in ("x", ["a"], {"A": 5}, {"A=B": "x"}, None)],
    *[dict(where=["here"]), dict(where={}), dict(number=7), dict(requeues="x"), dict(asked=5)],
    *([], 5, "{ broken"),
]


@pytest.mark.parametrize("job", ODD_JOBS, ids=str)
def test_a_damaged_job_of_one_run_stops_no_other(tiny_run, runs, job, monkeypatch):
    monkeypatch.setattr(runner, "revive", lambda: None)
    odd, other = open_run(tiny_run), RunFolder("other", runs / "other")
    odd.report("stopped")
    queue.enqueue(odd, "cpu")
    queued(runs, "other")
    said = queue.job_of(odd) | job if isinstance(job, dict) else job
    text = said if isinstance(said, str) else json.dumps(said)
    odd.write("state/job.json", text.encode())
    assert main(["queue"]) == 0 and line() == [tiny_run, "other"]
    assert main(["queue", "--cancel", tiny_run]) == 0 and odd.status().state == "stopped"
    odd.report("queued", place=0)
    assert queue.take().run == other  # it does not take any room
    assert odd.status().state == "failed" and "job.json is damaged" in odd.status().message
    wrong = next(iter(job), "") if isinstance(job, dict) else ""
    assert f"({wrong}" in odd.status().message and "resume" in odd.status().message
    assert main(["queue", "--resume", tiny_run]) == 0 and line() == [tiny_run]
    other.report("finished")
    assert queue.take().run.name == tiny_run


def test_a_folder_in_the_place_of_a_wish_to_stop(runs):
    odd, other = queued(runs, "odd", "other")
    (odd.folder / "state/stop").mkdir()
    assert queue.take().run == other
    assert odd.status().state == "failed" and "state/stop is a folder" in odd.status().message


@pytest.mark.parametrize("device", ["tpu", ["cpu"], 5])
def test_an_odd_device_in_the_record_of_one_run_stops_no_other(tiny_run, runs, device, monkeypatch):
    """What is wrong says its own training; what waits can be cancelled."""
    monkeypatch.setattr(runner, "revive", lambda: None)
    record = json.loads((runs / tiny_run / "experiment.json").read_text())
    odd, other = RunFolder(tiny_run, runs / tiny_run), *queued(runs, "other")
    record["knobs"]["device"] = device
    odd.write("experiment.json", json.dumps(record).encode())
    odd.report("running")
    assert queue.take() is None and [each.device for each in queue.entries()] == ["auto", "cpu"]
    odd.report("queued", place=0)
    assert main(["queue", "--cancel", tiny_run]) == 0 and odd.status().state == "stopped"
    odd.report("queued", place=0)
    assert queue.take().run == odd
    odd.report("failed")
    assert queue.take().run == other


def test_a_process_that_can_not_be_started_fails_its_run_alone(runs):
    (made,) = queued(runs, "a")
    queue.keep_job(made, where="here", device="cpu", environment={"A": "a\0b"})
    runner._begin(queue.take(), {})
    assert made.status().state == "failed" and "null byte" in made.status().message


def test_a_training_of_somebody_else_takes_room(runs):
    """One in a terminal, or one that was queued before the runner was killed."""
    (made,) = queued(runs, "waits")
    other = RunFolder("other", runs / "other")
    (other.folder / "state").mkdir(parents=True)
    (other.folder / "experiment.json").write_text(json.dumps({"knobs": {"device": "cpu"}}))
    other.report("running")
    assert queue.take() is None
    other.report("finished")
    assert queue.take().run == made


def test_moved_up_and_down(runs):
    made = queued(runs, "a", "b", "c", "d")
    moves = {("d", -1): "abdc", ("a", 1): "badc", ("c", -3): "cbad", ("c", 9): "badc"}
    moves |= {("b", -1): "badc"}
    for (name, by), expected in moves.items():
        queue.shift(RunFolder(name, runs / name), by)
        assert "".join(line()) == expected
    made[0].report("running")
    with pytest.raises(BadInput, match="does not wait"):
        queue.shift(made[0], 1)


def test_cancelled_before_its_turn(runs, ended):
    made = queued(runs, "a", "b", "c")
    queue.cancel(made[1])
    assert states(made) == ["queued", "stopped", "queued"] and line() == ["a", "c"]
    ended.append(python(SERVE))
    until(lambda: made[0].status().state == "running")
    made[2].ask_stop()  # by the file alone, as whoever knows nothing of queues does it
    queue.cancel(made[0])  # it has begun: it is asked
    assert made[0].status().state == "stopping"
    (runs / "go").touch()
    ended[0].wait(60)
    assert states(made)[1:] == ["stopped", "stopped"] and order(runs) == ["a"]


def test_queued_twice(runs):
    (made,) = queued(runs, "a")
    with pytest.raises(BadInput, match="it is queued"):
        queue.enqueue(made, "cpu")
    queue.take()
    with pytest.raises(BadInput, match="it is starting"):
        queue.enqueue(made, "cpu")


# What kills do


@unkillable
def test_a_killed_runner_loses_nothing(runs, ended):
    made = queued(runs, "a", "b")
    ended.append(python(SERVE))
    until(lambda: made[0].status().state == "running")
    ended[0].kill()
    ended[0].wait()
    assert states(made) == ["running", "queued"]  # the training goes on
    ended.append(python(SERVE))
    time.sleep(1)
    assert states(made) == ["running", "queued"]  # and still takes its room
    (runs / "go").touch()
    assert ended[1].wait(60) == 0
    assert states(made) == ["finished"] * 2 and order(runs) == ["a", "b"]


@unkillable
def test_a_killed_training_says_so(runs, ended):
    made = queued(runs, "a", "b")
    ended.append(python(SERVE))
    until(lambda: made[0].status().state == "running")
    os.kill(made[0].status().pid, signal.SIGKILL)
    until(lambda: made[1].status().state == "running")
    status = made[0].status()
    assert status.state == "interrupted" and (status.epoch, status.epochs) == (1, 3)
    assert "killed by signal 9" in status.message and "short of memory" in status.message
    assert "killed by signal 9" in made[0].log_tail(1)
    (runs / "go").touch()
    ended[0].wait(60)


def test_an_exit_code_and_the_last_line(runs, ended):
    (made,) = queued(runs, "a")
    (made.folder / "go").write_text("the disk is on fire")
    ended.append(python(SERVE))
    assert ended[0].wait(60) == 0
    status = made.status()
    assert status.state == "failed"
    assert "exit code 3" in status.message and "the disk is on fire" in status.message


def test_a_runner_that_dies_before_its_training_begins(runs):
    """The run still waits, where it did."""
    made = queued(runs, "a", "b")
    code = "from reid_core.jobs import queue; assert queue.take().run.name == 'a'"
    assert python(code).wait(60) == 0
    assert states(made) == ["queued", "queued"] and line() == ["a", "b"]
    assert queue.take().run.name == "a" and made[0].status().state == "starting"


@unkillable
def test_a_kill_at_any_moment_of_a_change(runs, ended):
    """Whoever moves, cancels, queues and takes is killed again and again: no run is ever lost, torn
    or there twice, and the queue is never locked for good."""
    names = ["a", "b", "c", "d"]
    made = queued(runs, *names)
    code = """
import random
from reid_core.jobs import queue
from reid_core.run_folder import RunFolder, runs_folder
print("begun", flush=True)
while True:
    name = random.choice("abcd")
    run = RunFolder(name, runs_folder() / name)
    try:
        random.choice([
            lambda: queue.shift(run, random.choice([-1, 1])),
            lambda: (queue.cancel(run), queue.enqueue(run, "cpu")),
            lambda: queue.take(),
        ])()
    except ValueError:
        pass
"""
    moment = random.Random(0)
    for _ in range(8):
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
        ended.append(process)
        process.stdout.readline()
        time.sleep(moment.uniform(0, 0.15))
        process.kill()
        process.wait()
        found = states(made)
        assert set(found) <= {"queued", "stopped"}, found
        assert sorted(line()) == [
            n for n, state in zip(names, found, strict=True) if state == "queued"
        ]
        for run in made:
            run.raw_status()
            if run.status().state == "stopped":
                queue.enqueue(run, "cpu")
            run.ask_stop(False)  # a cancel that came when its run had just been taken


def test_runners_that_race(runs, ended):
    made = queued(runs, *"abcdef")
    (runs / "go").touch()
    ended += [python(SERVE) for _ in range(3)]
    for each in ended:
        assert each.wait(60) == 0
    assert states(made) == ["finished"] * 6 and order(runs) == list("abcdef")


def test_two_trainings_of_one_run(runs, ended):
    """A runner was killed just after it had started one, and the next starts another: the second is
    refused by the run's lock, and its end says nothing of the first."""
    (made,) = queued(runs, "a")
    entry = queue.take()
    made.report("running", epoch=1, epochs=3)
    runner.note_end(entry.run, pid=this_process()["pid"] + 1, code=2)
    assert made.status().state == "running"


def test_a_run_that_is_queued_while_its_last_process_still_ends(runs, ended):
    """It has said that it stopped, and is there yet: the run waits until it is gone."""
    (made,) = queued(runs, "a")
    ended.append(python(SERVE))
    until(lambda: made.status().state == "running")
    made.report("stopped")
    queue.enqueue(made, "cpu")
    time.sleep(0.5)
    assert states([made]) == ["queued"] and order(runs) == ["a"]
    (made.folder / "go").write_text("ended")
    assert ended[0].wait(60) == 0 and order(runs) == ["a", "a"]
    assert made.status().state == "failed"


def test_a_run_that_waits_on_another_machine(runs, tiny_run, monkeypatch):
    run = open_run(tiny_run)
    run.report("stopped")
    queue.enqueue(run, "cpu")
    status = json.loads((run.folder / "state/status.json").read_text())
    (run.folder / "state/status.json").write_text(json.dumps(status | dict(host="elsewhere")))
    assert line() == [] and [each.here for each in queue.entries()] == [False]
    assert queue.take() is None
    monkeypatch.setattr(runner, "revive", lambda: None)
    jobs.resume(run.name)
    assert line() == [run.name]


def test_revived_where_something_waits(runs, monkeypatch):
    started = []
    monkeypatch.setattr(runner, "detached", lambda arguments, log: started.append(arguments))
    runner.revive()
    assert not started
    queued(runs, "a")
    with runner._lock():
        runner.revive()
    assert not started  # one is at work
    runner.revive()
    assert started == [["queue", "--serve"]]


@pytest.mark.skipif(
    os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0,
    reason="whoever may write anywhere is never refused",
)
def test_a_folder_that_became_read_only(runs, ended):
    made = queued(runs, "a", "b")
    (made[0].folder / "state").chmod(0o500)
    (runs / "go").touch()
    ended.append(python(SERVE))
    assert ended[0].wait(60) == 0
    assert states(made) == ["queued", "finished"]
    (made[0].folder / "state").chmod(0o700)


def test_the_runner_is_small():
    """It may wait for days: torch would take a tenth of a laptop's memory meanwhile."""
    code = "import sys, reid_core.jobs.runner; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_process_sees_the_variables_of_who_queued_it(runs, monkeypatch):
    monkeypatch.setenv("REID_DATA", "mine")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (made,) = queued(runs, "a")
    kept = queue.job_of(made)["environment"]
    assert kept["REID_DATA"] == "mine" and kept["CUDA_VISIBLE_DEVICES"] is None
    monkeypatch.setattr(sys, "executable", "/usr/bin/env")
    monkeypatch.setattr(subprocess, "Popen", lambda command, env, **_: env)
    monkeypatch.setattr(processes, "give_way", lambda *_, **__: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    env = detached([], made.folder / "log.txt", kept)
    assert env["REID_DATA"] == "mine" and "CUDA_VISIBLE_DEVICES" not in env
    assert Path(env["REID_RUNS"]).is_absolute()
    processes._children.clear()


# With real trainings


@pytest.mark.long
def test_started_resumed_and_cancelled_for_real(runs, ended):
    jobs.start("transreid", "demo", "pedestrians", settings=TINY | {"epochs": 500}, run="long")
    jobs.start("transreid", "demo", "pedestrians", settings=TINY, run="short")
    jobs.start("transreid", "demo", "pedestrians", settings=TINY, run="never")
    long, short, never = (open_run(name) for name in ("long", "short", "never"))
    until(lambda: long.status().state == "running", 120)
    assert (short.status().state, never.status().state) == ("queued", "queued")
    gives_way(long.status().pid)
    assert not short.resumable
    jobs.stop("never")
    assert never.status().state == "stopped" and never.resumable
    jobs.stop("long")
    until(lambda: long.status().state == "stopped", 120)
    until(lambda: short.status().state == "finished", 120)
    jobs.resume("long")
    with pytest.raises(BadInput, match="can't be resumed"):
        jobs.resume("long")
    until(lambda: long.status().state == "running", 120)
    os.kill(long.status().pid, signal.SIGTERM)
    until(lambda: long.status().state == "stopped", 120)
    assert never.status().state == "stopped" and not never.history()
    until(lambda: not queue.entries())


def test_a_queued_run_is_not_trained_in_the_foreground_too(tiny_run, capsys):
    run = open_run(tiny_run)
    run.report("stopped")
    queue.enqueue(run, "cpu")
    assert main(["train", "--resume", tiny_run]) == 2
    assert "waits in the queue" in capsys.readouterr().err


def test_lists_say_what_is_more_than_a_state(tiny_run, monkeypatch, capsys):
    monkeypatch.setattr(runner, "revive", lambda: None)
    run = open_run(tiny_run)
    run.report("running")
    status = json.loads((run.folder / "state/status.json").read_text())
    run.write("state/status.json", json.dumps(status | dict(time=status["time"] - 300)).encode())
    os.utime(run.folder / "state/status.json", (status["time"] - 300,) * 2)
    for command in ("queue", "runs"):
        assert main([command]) == 0
        assert (
            "running" in (said := capsys.readouterr().out) and "no sign of life for 5 min" in said
        )
    run.report("failed", message="out of memory\n  at last")
    assert main(["runs"]) == 0
    assert capsys.readouterr().out.endswith(" out of memory at last\n")


def test_the_queue_on_the_command_line(runs, monkeypatch, capsys):
    monkeypatch.setattr(runner, "revive", lambda: None)
    for name in "abc":
        run = create(Experiment.create(model="transreid", recipe="demo", settings=TINY), name)
        queue.enqueue(run, "cpu")
    assert main(["queue", "--up", "c", "--limit", "cpu=3"]) == 0
    capsys.readouterr()
    assert main(["queue", "--cancel", "a", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["limits"]["cpu"] == 3
    assert [each["run"] for each in printed["runs"]] == ["c", "b"]
    assert main(["queue", "--down", "c"]) == 0 and line() == ["b", "c"]
    assert main(["queue", "--resume", "a"]) == 0 and line() == ["b", "c", "a"]
    assert "queued" in capsys.readouterr().out
    assert main(["queue", "--limit", "cpu"]) == 2
    assert "device=number" in capsys.readouterr().err
    assert main(["queue", "--cancel", "nobody"]) == 2


@pytest.mark.parametrize("state", ("finished", "failed", "stopped"))
def test_what_has_ended_can_not_be_cancelled(tiny_run, state, capsys):
    run = open_run(tiny_run)
    run.report(state, epoch=1, epochs=1)
    assert main(["queue", "--cancel", tiny_run]) == 2
    assert f"can't be stopped: it is {state}" in capsys.readouterr().err
    assert not run.stop_asked


# Clones


def test_a_clone_with_changed_knobs(tiny_run, capsys):
    source = open_run(tiny_run).experiment
    assert main(["clone", tiny_run, "--run", "twin", "--set", "epochs=2", "learning_rate=0.5"]) == 0
    out, err = capsys.readouterr()
    assert out == "twin\n" and "epochs: 1 -> 2" in err
    run = open_run("twin")
    changes = {"epochs": [1, 2], "learning_rate": [source.training.learning_rate, 0.5]}
    assert cloned_from(run) == {"run": tiny_run, "changes": changes}
    assert difference(source, run.experiment) == changes
    assert run.status().state == "stopped" and run.resumable
    assert cloned_from(open_run(tiny_run)) == {}
    same = clone(tiny_run)
    assert same.experiment == source and cloned_from(same)["changes"] == {}
    assert main(["clone", tiny_run, "--set", "colour=red"]) == 2
    assert main(["clone", "nobody"]) == 2


@pytest.mark.parametrize("changes", ["abc", {"a": 5}, {"a": [1]}, {"a": "ab"}, None, 5])
def test_a_damaged_note_of_a_clone_is_told(tiny_run, runs, changes):
    path = runs / tiny_run / "experiment.json"
    note = dict(cloned_from=dict(run="other", changes=changes))
    path.write_text(json.dumps(json.loads(path.read_text()) | note))
    with pytest.raises(BadInput, match="damaged note of what it was cloned from: mend or remove"):
        cloned_from(open_run(tiny_run))


def test_a_clone_that_is_queued(tiny_run, monkeypatch):
    monkeypatch.setattr(runner, "revive", lambda: None)
    assert main(["clone", tiny_run, "--run", "twin", "--train"]) == 0
    assert line() == ["twin"]
    name = jobs.start(
        "transreid", "demo", "pedestrians", settings=TINY | {"seed": 3}, cloned_from=tiny_run
    )
    assert cloned_from(open_run(name))["changes"] == {"seed": [0, 3]}
    with pytest.raises(BadInput, match="unknown run"):
        jobs.start("transreid", "demo", "pedestrians", settings=TINY, cloned_from="nobody")
    with pytest.raises(BadInput, match="unknown place"):
        jobs.start("transreid", "demo", "pedestrians", settings=TINY, where="moon")
