"""Trainings on Slurm: what is asked of it, and every way in which a job can end. Here its commands are
played by a script; test_slurm_real.py has a real one."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import TINY

from reid_core import jobs, run_folder
from reid_core.__main__ import main
from reid_core.alive import birth
from reid_core.commands import places
from reid_core.errors import BadInput
from reid_core.jobs import queue, where
from reid_core.jobs.slurm import place, says, script, task, watch
from reid_core.runs import Run, list_runs, open_run
from reid_core.train import Stopped, ending

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Slurm is not for Windows")
# It answers what a file of its name says, fails with what NAME.error says, and notes what it was told.
PLAYED = """#!/bin/sh
here=$(dirname "$0") name=$(basename "$0")
echo "$name $*" >> "$here/told"
[ -f "$here/$name.error" ] && { cat "$here/$name.error" >&2; exit 1; }
[ "$name" = sbatch ] && cp "$1" "$here/script"
[ -f "$here/$name.says" ] && cat "$here/$name.says"
exit 0
"""


class Played:
    """A Slurm of scripts."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        for name in ("sbatch", "srun", "squeue", "scancel", "scontrol", "sacct"):
            (folder / name).write_text(PLAYED)
            (folder / name).chmod(0o700 | stat.S_IXUSR)
        self.say("sbatch", "Submitted batch job 7")
        self.fail("sacct", "Slurm accounting storage is disabled")
        self.job("PENDING", "Resources")

    def say(self, name: str, words: str) -> None:
        (self.folder / f"{name}.error").unlink(missing_ok=True)
        (self.folder / f"{name}.says").write_text(words + "\n")

    def fail(self, name: str, words: str) -> None:
        (self.folder / f"{name}.error").write_text(words + "\n")

    def job(self, state: str, reason: str = "None", nodes: str = "", number: int = 7) -> None:
        self.say("squeue", f"{number}|{state}|{reason}|{nodes}")
        watch._said.clear()

    def forgets(self) -> None:
        self.fail("squeue", "slurm_load_jobs error: Invalid job id specified")
        watch._said.clear()

    @property
    def told(self) -> str:
        return (self.folder / "told").read_text()

    @property
    def script(self) -> list[str]:
        return (self.folder / "script").read_text().splitlines()


@pytest.fixture
def slurm(tmp_path, runs, monkeypatch) -> Played:
    played = Played(tmp_path / "slurm")
    monkeypatch.setenv("PATH", str(played.folder), prepend=os.pathsep)
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(watch, "_silence", "")
    watch._since.clear()
    return played


def sent(name: str = "one", settings: dict | None = None, **asked) -> Run:
    given = dict(model="transreid", recipe="demo", dataset="pedestrians", run=name)
    jobs.start(**given, settings=TINY | (settings or {}), where="slurm", asked=asked)
    return open_run(name)


def trained(run: Run, **more) -> None:
    """As a training on another machine left its status."""
    run.report("running", epoch=2, epochs=5, step=3, steps=8)
    path = run.folder / "state/status.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(host="node1") | more))


# Submitted


def test_what_is_asked_of_slurm(slurm):
    run = sent(
        partition="gpu",
        nodes=2,
        gpus=2,
        cpus=8,
        memory="32G",
        time="1-02:00:00",
        account="lab",
        qos="low",
        extra="--constraint='a100|h100' --exclusive",
        notice=60,
    )
    lines = [line.removeprefix("#SBATCH --") for line in slurm.script if "SBATCH" in line]
    expected = {"partition=gpu", "nodes=2", "ntasks-per-node=2", "gpus-per-node=2", "requeue"}
    expected |= {"cpus-per-task=8", "mem=32G", "time=1560", "account=lab", "qos=low", "exclusive"}
    expected |= {"constraint='a100|h100'", "signal=USR2@60", "job-name=one"}
    assert expected <= set(lines)
    assert "export SRUN_CPUS_PER_TASK=8" in slurm.script  # else srun forgets it
    assert (run.experiment.training.devices, run.experiment.training.nodes) == (2, 2)
    job = queue.job_of(run)
    assert (job["where"], job["number"]) == ("slurm", "7") and job["asked"]["memory"] == "32G"
    assert run.status().queued and not queue.waiting()
    assert place_words(run) == "pending on Slurm, job 7 (Resources)"
    assert where.WHERE["slurm"].usual("slurm")["partition"] == "gpu"  # for the next one


def place_words(run: Run) -> str:
    return where.place_of(run).describe(run)


def test_what_is_not_asked_is_slurms_own_rule(slurm):
    run = sent(settings=dict(devices=2))
    flags = ("time", "partition", "gpus", "cpus", "mem", "account", "qos")
    assert not [
        line for line in slurm.script if line.startswith(tuple(f"#SBATCH --{f}" for f in flags))
    ]
    assert "#SBATCH --ntasks-per-node=2" in slurm.script
    assert run.experiment.training.devices == 2
    pickled = next((run.folder / script.LOGS).glob("*.pkl")).read_bytes()
    assert len(pickled) < 1000 and b"reid_core.jobs.slurm.task" in pickled


def test_the_times_that_are_understood():
    known = {"": 0, "90": 90, "1:30:00": 90, "2-00:00:00": 2880, "0:00:30": 1, " 5 ": 5}
    assert {text: script._minutes(text) for text in known} == known
    for text in ("soon", "1:30", "1:2:3:4", "-5", "1.5", "1-5"):  # some that Slurm has a reading of
        with pytest.raises(BadInput, match="expected minutes"):
            script._minutes(text)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (dict(partition="a\n#SBATCH --uid=0"), "partition: expected a word"),
        (dict(memory="32 G"), "memory: expected a word"),
        (dict(time="soon"), "time: expected minutes"),
        (dict(time="2"), "over before much is done"),
        (dict(extra="constraint=a100"), "extra: expected options"),
        (dict(extra="--comment='a\nb'"), "extra: expected options"),
        (dict(extra="--wrap=ls"), "not yours to choose"),
        (dict(extra="--comment='a"), "a quote is open"),
        (dict(gpus="many"), "gpus: expected a whole number"),
        (dict(gpus=1, processes=2), "for 2 processes on each node"),
        (dict(processes=3), "can't be divided among 3"),
        (dict(colour="red"), "takes no 'colour'"),
    ],
)
def test_what_can_not_be_asked(slurm, asked, words):
    with pytest.raises(BadInput, match=words):
        sent(settings=dict(device="auto"), **asked)
    assert not list_runs() and not (slurm.folder / "script").exists()


def test_refused_by_slurm(slurm, tiny_run, capfd):
    slurm.fail(
        "sbatch",
        "sbatch: error: invalid partition specified: nowhere\n"
        "sbatch: error: Batch job submission failed: Invalid partition name specified",
    )
    with pytest.raises(BadInput, match=r"refused it: .*Invalid partition name specified"):
        sent(partition="nowhere")
    assert capfd.readouterr().err == ""  # said once
    run = open_run(tiny_run)
    assert [each.name for each in list_runs()] == [tiny_run]  # its name is free again
    run.report("failed", epoch=1, epochs=1, message="the disk was full")
    with pytest.raises(BadInput, match="nowhere"):
        jobs.resume(tiny_run, "slurm", dict(partition="nowhere", processes=2))
    status = run.status()
    assert (status.state, status.message, status.epoch) == ("failed", "the disk was full", 1)
    assert run.experiment.training.devices == 1 and run.resumable


def test_where_there_is_no_slurm(runs, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(runs))
    asked = ["train", "--model", "transreid", "--run", "one", "--on", "slurm"]
    assert main(asked) == 2
    assert "sbatch, srun, squeue, scancel, scontrol can't be found" in capsys.readouterr().err
    assert not list_runs()


def test_what_is_refused_leaves_nothing_behind(tiny_run, monkeypatch, capsys):
    run = open_run(tiny_run)
    monkeypatch.setenv("PATH", str(run.folder))
    assert main(["clone", tiny_run, "--run", "twin", "--train", "--on", "slurm"]) == 2
    assert [each.name for each in list_runs()] == [tiny_run]
    run.report("stopped", epoch=1, epochs=1)
    assert main(["train", "--resume", tiny_run, "--set", "devices=2", "--on", "slurm"]) == 2
    assert open_run(tiny_run).experiment.training.devices == 1


def test_without_submitit(slurm, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert "pip install submitit" in place.missing()
    with pytest.raises(BadInput, match="not installed"):
        sent()


def test_a_device_that_only_the_node_has(slurm, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    run = sent(settings=dict(device="cuda"), gpus=1)
    assert run.status().queued
    with pytest.raises(BadInput, match="give at least one"):
        sent("two", settings=dict(device="cuda"))
    with pytest.raises(BadInput, match="not to be had on this machine"):
        jobs.start("transreid", "demo", "pedestrians", settings=TINY | dict(device="cuda"))


def test_submitted_from_within_a_job(slurm, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_CONF", "/etc/ours.conf")
    seen = slurm.folder / "seen"
    (slurm.folder / "sbatch").write_text(f"#!/bin/sh\nenv > {seen}\necho Submitted batch job 7\n")
    sent()
    assert "SLURM_JOB_ID" not in seen.read_text() and "SLURM_CONF=/etc/ours" in seen.read_text()


def test_a_sweep_on_slurm(slurm):
    asked = dict(model="transreid", recipe="demo", dataset="pedestrians", settings=TINY)
    names = jobs.start_sweep("s", seeds=[0, 1], where="slurm", asked=dict(processes=2), **asked)
    assert [open_run(name).status().state for name in names] == ["queued"] * 2
    slurm.fail("sbatch", "sbatch: error: no")
    with pytest.raises(BadInput, match="refused"):
        jobs.start_sweep("t", seeds=[0, 1], where="slurm", **asked)
    assert [run.name for run in list_runs()] == names


# What becomes of a job


@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        ("TIMEOUT", "TimeLimit", "its time was over (job 7, TIMEOUT, TimeLimit)"),
        ("OUT_OF_MEMORY", "OutOfMemory", "more memory than it had asked"),
        ("NODE_FAIL", "NodeDown", "its node failed"),
        ("CANCELLED", "None", "cancelled on Slurm (job 7, CANCELLED)"),
        ("FAILED", "NonZeroExitCode", "ended with an error"),
        ("LAUNCH_FAILED", "None", "Slurm says LAUNCH_FAILED"),
    ],
)
def test_a_job_that_could_not_say_how_it_ended(slurm, state, reason, words):
    run = sent()
    trained(run)
    folder = run.folder / script.LOGS
    (folder / "7_0_log.err").write_text(
        "submitit INFO\nsrun: error: node1: task 0: Killed\nsrun: Force Terminated StepId=7.0\n"
    )
    slurm.job(state, reason)
    where.look()
    status = run.status()
    assert (status.state, status.epoch, status.step) == ("interrupted", 2, 3)
    assert words in status.message and run.resumable
    assert ("Killed" in status.message) == (state == "FAILED")
    tail = run.log_tail(3)
    assert "node1: task 0: Killed" in tail and words in tail
    jobs.resume("one")  # where it was sent last
    assert run.status().queued and queue.job_of(run)["number"] == "7"


def test_a_job_that_slurm_knows_no_more(slurm):
    run = sent()
    trained(run)
    slurm.forgets()
    where.look()
    assert run.status().state == "interrupted" and "knows it no more" in run.status().message
    again = sent("two")
    trained(again)
    slurm.say("sacct", "CANCELLED by 1000|node1")
    slurm.forgets()
    where.look()
    assert "cancelled on Slurm (job 7, CANCELLED, by 1000)" in again.status().message
    (slurm.folder / "told").unlink()
    where.look()  # there is nothing more to ask for
    assert not (slurm.folder / "told").exists()


def test_a_job_that_ended_as_it_should(slurm):
    run = sent()
    run.report("finished", epoch=1, epochs=1)
    slurm.job("COMPLETED")
    where.look()
    assert run.status().state == "finished" and queue.job_of(run)["over"] == "COMPLETED"
    # What another machine has written last may take a while to be seen here.
    late = sent("late")
    trained(late)
    slurm.job("COMPLETED")
    where.look()
    assert late.status().state == "running"
    watch._since["7"] -= watch.SETTLE + 1
    where.look()
    assert "without a word" in late.status().message


def test_slurm_does_not_answer(slurm):
    run = sent()
    slurm.fail("squeue", "slurm_load_jobs error: Unable to contact slurm controller")
    watch._said.clear()
    where.look()
    assert run.status().queued and "Unable to contact slurm controller" in place_words(run)
    trained(run)
    where.look()
    assert run.status().state == "running"


def test_queued_again_by_slurm_itself(slurm):
    run = sent()
    trained(run)
    slurm.job("PENDING", "BeginTime")
    where.look()
    status = run.status()
    assert status.queued and (status.epoch, status.step) == (2, 3)
    run.report("interrupted", message=task.ENDED, epoch=2, epochs=5)
    where.look()
    assert run.status().queued and place_words(run) == "pending on Slurm, job 7 (BeginTime)"


def test_who_sends_it_is_killed(slurm, monkeypatch):
    """The run is shown as lost and can be resumed; a job that gets there nevertheless is not wanted."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    gone = dict(pid=child.pid, born=birth(child.pid), host=socket.gethostname())
    child.wait()
    run = sent()
    for who, state in ((run_folder.this_process(), "queued"), (gone, "interrupted")):
        queue.keep_job(run, where="slurm")
        run.report("queued", **who, epoch=2, epochs=5)
        where.look()
        assert (run.status().state, run.status().epoch) == (state, 2)
    assert "never got to Slurm" in run.status().message and run.resumable
    assert not task._wanted(run, "6")
    jobs.resume("one")
    assert run.status().queued and queue.job_of(run)["number"] == "7"
    assert not task._wanted(run, "6") and task._wanted(run, "7")


def test_silent_for_long_but_there(slurm):
    """As far as Slurm knows it runs: an evaluation on another machine, or a job that is suspended."""
    run = sent()
    trained(run, time=time.time() - 3600)
    old = time.time() - 3600
    os.utime(run.folder / "state/status.json", (old, old))
    assert run.status().state == "interrupted"
    slurm.job("SUSPENDED", nodes="node1")
    with pytest.raises(BadInput, match="can't be resumed: it is running"):
        jobs.resume("one")
    assert place_words(run) == "suspended on Slurm, job 7, node1"


def test_signs_of_life(slurm, monkeypatch):
    run = sent()
    trained(run, time=time.time() - 3600)
    old = time.time() - 3600
    os.utime(run.folder / "state/status.json", (old, old))
    monkeypatch.setattr(ending, "SIGN", 0.01)
    with ending.signs_of_life(run):
        deadline = time.monotonic() + 10
        while run.status().state != "running":
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_cancelled_while_it_waits(slurm):
    run = sent()
    jobs.stop("one")
    assert "scancel 7" in slurm.told and run.status().state == "stopped" and run.resumable
    slurm.job("CANCELLED")
    where.look()
    assert run.status().state == "stopped"


def test_where_nothing_can_be_cancelled(slurm, monkeypatch):
    run = sent()
    monkeypatch.setattr(says.shutil, "which", lambda name: None)
    with pytest.raises(BadInput, match="scancel can't be found"):
        jobs.stop("one")
    assert run.status().queued and "over" not in queue.job_of(run)


def test_moved_from_slurm_to_this_machine(slurm, monkeypatch):
    monkeypatch.setattr("reid_core.jobs.runner.revive", lambda: None)
    run = sent()
    with pytest.raises(BadInput, match="it is queued"):
        jobs.resume("one")
    jobs.resume("one", "here")
    assert "scancel 7" in slurm.told and [each.run.name for each in queue.waiting()] == ["one"]
    slurm.job("CANCELLED")
    where.look()
    assert run.status().queued


def test_a_stop_that_is_not_heard(slurm):
    run = sent()
    trained(run)
    slurm.job("RUNNING", nodes="node1")
    jobs.stop("one")
    where.look()
    assert run.status().state == "stopping" and "scancel" not in slurm.told
    old = time.time() - watch.STOP_PATIENCE - 1
    os.utime(run.folder / "state/stop", (old, old))
    where.look()
    assert "scancel 7" in slurm.told


def test_a_page_never_waits_for_slurm(slurm, monkeypatch):
    sent()
    called = []
    monkeypatch.setattr(watch, "look", lambda: called.append(time.sleep(0.2)))
    monkeypatch.setattr(watch, "_last", time.monotonic() - 60)
    begun = time.monotonic()
    where.watch(), where.watch()
    assert time.monotonic() - begun < 0.2
    time.sleep(0.5)
    assert len(called) == 1


# In the job


@pytest.fixture
def job(slurm, monkeypatch) -> Run:
    """A run whose job has begun, in this process."""
    run = sent(requeues=2)
    for name, value in dict(SLURM_JOB_ID="7", SLURM_PROCID="0").items():
        monkeypatch.setenv(name, value)
    slurm.say("scontrol", "JobState=RUNNING PreemptTime=None")
    before = {n: signal.getsignal(n) for n in (signal.SIGUSR2, signal.SIGTERM, signal.SIGCONT)}
    error = os.dup(2)
    yield run
    os.dup2(error, 2)
    for number, how in before.items():
        signal.signal(number, how)


def ends(monkeypatch, received: int | None, state: str = "stopped") -> None:
    """The training ends so, without having begun."""

    def stand_in(run, quiet):
        run.report(state, epoch=2, epochs=5, step=3, steps=8)
        stop = Stopped("stopped")
        stop.signal = received
        raise stop

    monkeypatch.setattr("reid_core.train.train", stand_in)


def go(run: Run) -> int:
    with pytest.raises(SystemExit) as end:
        task.train(str(run.folder))
    return end.value.code


def test_told_that_its_time_is_over(job, slurm, monkeypatch):
    ends(monkeypatch, signal.SIGUSR2)
    assert go(job) == 0
    status = job.status()
    assert status.queued and (status.epoch, status.step) == (2, 3)
    assert "scontrol requeue 7" in slurm.told


def test_told_while_the_libraries_are_read(job, slurm, monkeypatch):
    """The file asks the training to stop; that a signal stands behind it is known all the same."""

    def stand_in(run, quiet):
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        assert job.stop_asked
        raise Stopped("stopped")  # as one that got no signal itself

    monkeypatch.setattr("reid_core.train.train", stand_in)
    go(job)
    assert job.status().queued and "requeue 7" in slurm.told


def test_no_more_than_so_often(job, slurm, monkeypatch):
    ends(monkeypatch, signal.SIGUSR2)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert go(job) == 0
    assert "requeue" not in slurm.told and "queued 2 times again" in job.status().message
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")  # Slurm has done it by itself
    ends(monkeypatch, None, "finished")
    go(job)
    assert job.status().state == "interrupted" and job.resumable


def test_ended_by_a_signal(job, slurm, monkeypatch):
    ends(monkeypatch, signal.SIGTERM)
    go(job)
    assert job.status().message == task.ENDED and "requeue" not in slurm.told
    slurm.job("CANCELLED")
    where.look()
    message = job.status().message
    assert "cancelled on Slurm" in message and message.endswith("its state is saved")


def test_a_job_that_gives_way(job, slurm, monkeypatch):
    slurm.say("scontrol", "JobState=RUNNING PreemptTime=2026-01-01T00:00:00")
    ends(monkeypatch, signal.SIGTERM)
    go(job)
    assert job.status().queued and "requeue 7" in slurm.told


def test_a_slurm_that_queues_nothing_again(job, slurm, monkeypatch):
    slurm.fail("scontrol", "Requested operation is presently disabled for job 7")
    ends(monkeypatch, signal.SIGUSR2)
    go(job)
    assert job.status().state == "interrupted" and "presently disabled" in job.status().message


def test_stopped_by_its_owner(job, slurm, monkeypatch):
    ends(monkeypatch, None)
    assert go(job) == 0
    assert job.status().state == "stopped" and "requeue" not in slurm.told


def test_a_job_that_nobody_waits_for(job, monkeypatch):
    ends(monkeypatch, None, "failed")
    queue.keep_job(job, **queue.job_of(job) | dict(number="8"))  # it was sent once more
    task.train(str(job.folder))
    monkeypatch.setattr(task, "PATIENCE", 0.1)
    queue.keep_job(job, where="slurm")  # whoever sent it died before he could say so
    task.train(str(job.folder))
    queue.keep_job(job, where="slurm", number="7", over="cancelled here")
    task.train(str(job.folder))
    assert job.status().queued
    queue.keep_job(job, where="slurm", number="7")
    job.report("finished")
    task.train(str(job.folder))
    assert job.status().state == "finished"


def test_a_training_that_fails_in_its_job(job, monkeypatch, capfd):
    def stand_in(run, quiet):
        os.write(2, b"a library says this\n")
        raise BadInput("the data folder vanished")

    monkeypatch.setattr("reid_core.train.train", stand_in)
    assert go(job) == 1
    assert "a library says this" in job.log_tail()


def test_the_other_processes_leave_signals_to_the_first(job, monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "1")
    heard = []

    def stand_in(name):
        with ending.stop_signals(job) as caught:
            os.kill(os.getpid(), signal.SIGUSR2)
            os.kill(os.getpid(), signal.SIGTERM)
            heard.append((caught, job.stop_asked))
        return 0

    monkeypatch.setattr("reid_core.train.help_train", stand_in)
    assert go(job) == 0 and heard == [([], False)]


def test_a_signal_within_a_signal(job, monkeypatch):
    """A job that has to give way gets SIGUSR2 and at once SIGTERM."""
    signal.signal(signal.SIGUSR2, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: None)
    asked, ask = [], type(job).ask_stop

    def slow(run):
        asked.append(run)
        if len(asked) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        ask(run)

    monkeypatch.setattr(type(job), "ask_stop", slow)
    with ending.stop_signals(job) as caught:
        os.kill(os.getpid(), signal.SIGUSR2)
        time.sleep(0.01)
    assert caught == [signal.SIGUSR2, signal.SIGTERM] and len(asked) == 1 and job.stop_asked


def test_the_first_process_hears_them(job):
    signal.signal(signal.SIGUSR2, lambda *_: None)
    with ending.stop_signals(job) as caught:
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGUSR2)
        assert caught == [signal.SIGUSR2] and job.stop_asked


# On the command line


def test_the_command_line_knows_what_slurm_is_asked():
    assert list(places.SLURM) == [knob.name for knob in where.WHERE["slurm"].knobs]
    assert tuple(where.WHERE) == places.PLACES


def test_sent_from_the_command_line(slurm, monkeypatch, capsys):
    knobs = ["--set", *(f"{key}={value}" for key, value in TINY.items())]
    asked = ["train", "--model", "transreid", "--run", "one", *knobs]
    assert main([*asked, "--partition", "gpu"]) == 2
    assert "--partition: is for Slurm; give --on slurm" in capsys.readouterr().err
    assert main([*asked, "--on", "slurm", "--processes", "2", "--time", "1:00:00"]) == 0
    out, err = capsys.readouterr()
    assert out == "one\n" and "pending on Slurm, job 7 (Resources)" in err
    assert main(["queue"]) == 0
    assert "pending on Slurm, job 7 (Resources)" in capsys.readouterr().out
    assert main(["train", "--resume", "one"]) == 2
    assert main(["queue", "--cancel", "one", "--json"]) == 0
    assert "scancel 7" in slurm.told
    assert main(["train", "--resume", "one", "--on", "slurm", "--processes", "1"]) == 0
    run = open_run("one")
    assert run.status().queued and run.experiment.training.devices == 1
    assert main(["queue", "--cancel", "one"]) == 0
    more = ["--partition", "debug", "--extra", "--constraint=a100 --exclude=node7"]
    assert main(["queue", "--resume", "one", "--on", "slurm", *more]) == 0
    lines = {"#SBATCH --partition=debug", "#SBATCH --constraint=a100", "#SBATCH --exclude=node7"}
    assert lines <= set(slurm.script)
    capsys.readouterr()
    assert main(["queue", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["runs"][0]
    assert (row["where"], row["here"], row["state"]) == ("slurm", False, "queued")
    assert main(["clone", "one", "--run", "twin", "--train", "--on", "slurm"]) == 0
    assert open_run("twin").status().queued
    assert main(["clone", "one", "--on", "slurm"]) == 2
    assert main(["queue", "--cancel", "one", "--on", "slurm"]) == 2
    monkeypatch.setattr("reid_core.jobs.runner.revive", lambda: None)
    assert main([*asked[:3], "--run", "three", *knobs, "--on", "here"]) == 0
    assert [each.run.name for each in queue.waiting()] == ["three"]


def test_what_slurm_says_is_read(slurm):
    slurm.say("squeue", "7|RUNNING|None|node[1-2]\n8|PENDING|(Priority)|\nnonsense")
    found = says.jobs(["7", "8"])
    assert found["7"].goes_on and found["7"].nodes == "node[1-2]" and not found["7"].reason
    assert found["8"].waits and found["8"].reason == "Priority"
    slurm.fail("scancel", "scancel: error: Kill job error on job id 9: Invalid job id specified")
    says.cancel("9")
    slurm.fail("scancel", "scancel: error: access denied")
    with pytest.raises(BadInput, match="access denied"):
        says.cancel("9")
