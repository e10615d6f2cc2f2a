"""A real Slurm of one node, with processes, ports and a folder of its own, for as long as a test wants it.

It needs slurmctld, slurmd and munged (Debian: slurm-wlm and munge), and touches no Slurm that the
machine may have besides.
"""

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

import psutil

DAEMONS = ("munged", "slurmctld", "slurmd")
PATHS = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin"

# Nothing in it needs a kernel's help (cgroups) or another machine. Jobs that are requeued wait for
# their credentials to expire, which by default takes minutes. `low` gives way to `high`.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=10
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=60 State=UP PriorityTier=1
PartitionName=low Nodes=ALL MaxTime=60 State=UP PriorityTier=1 GraceTime={grace}
PartitionName=high Nodes=ALL MaxTime=60 State=UP PriorityTier=9 PreemptMode=OFF
"""


def lacking() -> str:
    """Why there can be no Slurm here; nothing where there can."""
    missing = [name for name in (*DAEMONS, "sbatch") if not shutil.which(name, path=PATHS)]
    return f"no Slurm here ({', '.join(missing)} not installed)" if missing else ""


class Cluster:
    """One node with two processors, three partitions."""

    def __init__(self, folder: Path, grace: int = 0):
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        text = CONFIGURATION.format(
            host=self.host, user=getpass.getuser(), ports=_free(2), folder=folder, grace=grace
        )
        (folder / "slurm.conf").write_text(text)
        self.environment = dict(SLURM_CONF=str(folder / "slurm.conf"), PATH=PATHS)
        self.started: list[subprocess.Popen] = []

    def start(self) -> None:
        """Raises RuntimeError, with what the daemons said, where they do not come up."""
        folder = self.folder
        munge = dict(
            socket="munge.socket", pid_file="munge.pid", log_file="munge.log", seed_file="seed"
        )
        files = [f"--{key.replace('_', '-')}={folder / name}" for key, name in munge.items()]
        self._begin("munged", "--foreground", "--force", f"--key-file={folder}/munge.key", *files)
        self._until(lambda: (folder / "munge.socket").exists(), 20)
        self._begin("slurmctld", "-D")
        self._begin("slurmd", "-D", "-N", self.host)
        self._until(lambda: self.ask("sinfo", "-h", "-o", "%t").split()[:1] == ["idle"], 60)

    def _begin(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("wb") as said:
            self.started.append(
                subprocess.Popen(
                    command,
                    env=os.environ | self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    start_new_session=True,
                )
            )

    def _until(self, true, patience: float) -> None:
        deadline = time.monotonic() + patience
        while not true():
            if time.monotonic() > deadline:
                said = [path for name in ("*.out", "*.log") for path in self.folder.glob(name)]
                raise RuntimeError("\n".join(f"{p.name}: {p.read_text()[-800:]}" for p in said))
            time.sleep(0.2)

    def ask(self, *command: str) -> str:
        """What one of Slurm's commands prints."""
        done = subprocess.run(
            command,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.stdout

    def stop(self) -> None:
        """End its jobs and its processes."""
        self.ask("scancel", "--user", getpass.getuser())
        self.ask("scancel", "--user", getpass.getuser(), "--signal=KILL", "--full")
        children = [each for p in self.started for each in _below(p.pid)]
        for process in reversed(self.started):
            process.terminate()
        for process in self.started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        for child in children:
            if child.is_running():
                child.kill()


def _below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _free(count: int) -> list[int]:
    """Ports that nobody uses."""
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports
