"""A run: the folder checkpoints/<name>/, written and read in this one file.

    experiment.json        all that was asked, with versions, seed and git revision
    history.jsonl          one line per finished epoch
    metrics.json           the last evaluation
    weights.safetensors    the model
    embeddings.npz         the test split as that evaluation saw it
    log.txt                what the training said
    tensorboard/           the history once more, for those who want it
    state/                 what resume and the live page need

Every file but the log is written beside its place and moved there, so a reader never sees half of
one.
"""

import io
import json
import logging
import os
import platform
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import psutil
import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save
from torch import Tensor

from reid_core.data import ROOT
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings
from reid_core.experiment import Experiment
from reid_core.knobs import unknown
from reid_core.models import MODELS, Facts, ReIDModel

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
ACTIVE = ("starting", "running", "stopping")
# A process that says nothing for this long before its first step is taken for dead.
START_PATIENCE = 120
log = logging.getLogger("reid_core")
# Of a training, newest first.
STATES = ("last.pt", "before.pt")
PACKAGES = ("torch", "torchvision", "timm", "lightning-fabric", "numpy", "pillow", "safetensors")


def runs_folder() -> Path:
    """Where the run folders are: `checkpoints/`, or $REID_RUNS."""
    return Path(os.environ.get("REID_RUNS") or ROOT / "checkpoints")


@dataclass(frozen=True)
class Status:
    """Where a training stands.

    state is "starting", "running", "stopping", "stopped", "finished", "failed" or "interrupted" (its
    process is gone without a word). epoch and step count what is done, steps those of this epoch.
    """

    state: str
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    images_per_second: float = 0.0
    seconds_left: float | None = None
    message: str = ""
    pid: int | None = None
    born: float | None = None
    host: str = ""
    time: float = 0.0

    @property
    def active(self) -> bool:
        return self.state in ACTIVE


@dataclass(frozen=True)
class Run:
    """One run folder."""

    name: str
    folder: Path

    # What was asked

    @classmethod
    def create(
        cls,
        experiment: Experiment,
        facts: Facts,
        name: str | None = None,
        *,
        weights: dict[str, Tensor] | None = None,
        imported: dict[str, str] | None = None,
    ) -> "Run":
        """A new run folder; without a name the next free one. Raises BadInput for a taken name.

        With weights it is a finished one, and imported says whose they are.
        """
        runs_folder().mkdir(parents=True, exist_ok=True)
        for candidate in [name] if name else _names(experiment):
            run = cls(candidate, runs_folder() / checked(candidate))
            try:
                run.folder.mkdir()
                break
            except FileExistsError:
                if name:
                    raise BadInput(
                        f"run {name!r} exists already; give another --run name"
                    ) from None
        record = experiment.as_dict() | dict(
            run=run.name, facts=asdict(facts), seed=experiment.training.seed, **environment()
        )
        record |= {"imported": imported} if imported else {}
        try:
            (run.folder / "state").mkdir()
            if weights is None:
                run.report("starting", epochs=experiment.epochs)
            else:
                run.write("weights.safetensors", save(weights))
                run.report("finished")
            run.write("experiment.json", _json(record))
        except BaseException:  # half a run would block its name for ever
            shutil.rmtree(run.folder, ignore_errors=True)
            raise
        return run

    @property
    def record(self) -> dict[str, Any]:
        """experiment.json as it was written. Raises BadInput where it is no run of ours."""
        try:
            record = json.loads((self.folder / "experiment.json").read_text("utf-8"))
            Experiment.from_dict(record)
            _facts(record)
        except BadInput:
            raise
        except Exception as error:
            raise BadInput(
                f"run {self.name!r} has no readable experiment.json ({type(error).__name__}): it is "
                "damaged or was made by something else"
            ) from None
        return record

    @property
    def experiment(self) -> Experiment:
        return Experiment.from_dict(self.record)

    @property
    def facts(self) -> Facts:
        return _facts(self.record)

    @property
    def shipped(self) -> bool:
        """Whether it came with the product."""
        return bool(self.record.get("shipped"))

    @property
    def imported(self) -> dict[str, str]:
        """The file that it was made of (file, sha256); empty for what was trained here."""
        return self.record.get("imported") or {}

    # What was kept

    def history(self) -> list[dict[str, Any]]:
        """A dictionary for each finished epoch."""
        try:
            lines = (self.folder / "history.jsonl").read_text("utf-8").splitlines()
            return [json.loads(line) for line in lines]
        except FileNotFoundError:
            return []
        except ValueError:
            raise BadInput(f"run {self.name!r} has a damaged history.jsonl") from None

    def metrics(self) -> dict[str, Any]:
        """The last evaluation; empty before the first."""
        try:
            metrics = json.loads((self.folder / "metrics.json").read_text("utf-8"))
            return metrics if not metrics else metrics | {"mAP": float(metrics["mAP"])}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, KeyError, OSError):
            raise BadInput(f"run {self.name!r} has a damaged metrics.json") from None

    @property
    def has_weights(self) -> bool:
        return (self.folder / "weights.safetensors").is_file()

    @property
    def has_embeddings(self) -> bool:
        return (self.folder / "embeddings.npz").is_file()

    @property
    def refined(self) -> bool:
        """Whether its embeddings are refined: not of most models, nor while only the encoder of one
        that does has been trained."""
        if not MODELS[self.experiment.model].refines:
            return False
        return not self.has_embeddings or self.embeddings().encoded is not None

    def embeddings(self) -> Embeddings:
        """The test split as the last evaluation saw it. Raises BadInput."""
        try:
            with np.load(self.folder / "embeddings.npz", allow_pickle=False) as file:
                arrays = {
                    name: file[name] for name in Embeddings.__dataclass_fields__ if name in file
                }
        except FileNotFoundError:
            raise BadInput(
                f"run {self.name!r} has no embeddings yet: wait for its evaluation"
            ) from None
        except Exception:
            raise BadInput(
                f"run {self.name!r} has a damaged embeddings.npz: evaluate it anew"
            ) from None
        floats = {k: v.astype(np.float32) for k, v in arrays.items() if k in ("vectors", "encoded")}
        return Embeddings(**arrays | floats)

    def model(self) -> ReIDModel:
        """The model in evaluation mode, float32, on the CPU. Raises BadInput."""
        model = build(self.experiment, self.facts).eval()
        path = self.folder / "weights.safetensors"
        if not path.is_file():
            raise BadInput(f"run {self.name!r} has no weights yet: wait for its first evaluation")
        try:
            weights = {key: value.float() for key, value in load_file(path).items()}
            missing, extra = model.load_state_dict(weights, strict=False)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BadInput(f"run {self.name!r} has damaged weights: {reason}") from None
        # A shipped run leaves its classifiers out: nobody classifies at test.
        unused = ("classifier", "centers", "num_batches")
        missing = [key for key in missing if not any(word in key for word in unused)]
        if missing or extra:
            odd = (missing + extra)[0]
            raise BadInput(f"run {self.name!r} has weights of another model: {odd} does not fit")
        return model

    def stamp(self) -> int:
        """Changes whenever the weights or embeddings do: part of every cache's key."""
        files = (self.folder / "weights.safetensors", self.folder / "embeddings.npz")
        return max((file.stat().st_mtime_ns for file in files if file.is_file()), default=0)

    def keep(self, model: ReIDModel, embeddings: Embeddings, metrics: dict[str, Any]) -> None:
        """Weights, embeddings and scores of one evaluation."""
        weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
        self.write("weights.safetensors", save(weights))
        self.keep_embeddings(embeddings)
        self.write("metrics.json", _json(metrics))

    def keep_evaluation(
        self, embeddings: Embeddings, metrics: dict[str, Any], dataset: str, data: str | None
    ) -> None:
        """An evaluation of an imported run, and on which data set and folder it was."""
        self.write("experiment.json", _json(self.record | dict(dataset=dataset, data=data)))
        self.keep_embeddings(embeddings)
        self.write("metrics.json", _json(metrics))

    def keep_embeddings(self, embeddings: Embeddings) -> None:
        packed = io.BytesIO()
        arrays = {k: getattr(embeddings, k) for k in Embeddings.__dataclass_fields__}
        np.savez_compressed(packed, **{k: v for k, v in arrays.items() if v is not None})
        self.write("embeddings.npz", packed.getvalue())

    def add_epoch(self, entry: dict[str, Any]) -> None:
        """One more line of history."""
        lines = [json.dumps(each) for each in [*self.history(), entry]]
        self.write("history.jsonl", "\n".join(lines).encode() + b"\n")

    # What a training in progress leaves

    def save_state(self, state: dict[str, Any]) -> None:
        """Keep a state, and the one before it: should the disk damage one, the other is there."""
        with self.writing("state/last.pt") as file:
            torch.save(state, file)
            last = self.folder / "state" / "last.pt"
            if last.is_file():
                _move(last, last.with_name("before.pt"))

    def load_state(self) -> dict[str, Any] | None:
        """The newest state that is whole, or None without any. No pickled code is executed.

        Raises BadInput where there are only damaged ones.
        """
        folder = self.folder / "state"
        files = [each for name in STATES if (each := folder / name).is_file()]
        for path in files:
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
                state["model"], state["optimizers"], state["epoch"], state["step"]
                return state
            except Exception:
                log.warning("state/%s is damaged: going on from the one before", path.name)
        if files:
            raise BadInput(f"run {self.name!r} has damaged states (state/last.pt): start a new run")
        return None

    def report(self, state: str, **progress: Any) -> None:
        """Say where the training stands, and that it is alive."""
        born = psutil.Process().create_time()
        own = dict(pid=os.getpid(), born=born, host=socket.gethostname(), time=time.time())
        if state == "starting":
            own |= dict(pid=None, born=None)  # the process that will train is another one
        self.write("state/status.json", _json(asdict(Status(state, **progress, **own))))

    def status(self) -> Status:
        """Where the training stands, judged by whether its process is alive."""
        try:
            status = Status(**json.loads((self.folder / "state/status.json").read_text("utf-8")))
            status = replace(status, time=float(status.time), epoch=int(status.epoch))
        except FileNotFoundError:
            return Status("finished" if self.has_embeddings else "interrupted")
        except (ValueError, TypeError, OSError):
            return Status("interrupted", message="state/status.json is damaged")
        if status.active and not _alive(status):
            return replace(status, state="interrupted", message="its process is gone")
        if status.active and self.stop_asked:
            return replace(status, state="stopping")
        return status

    @property
    def resumable(self) -> bool:
        return not self.shipped and self.status().state in ("stopped", "failed", "interrupted")

    @property
    def stop_asked(self) -> bool:
        return (self.folder / "state/stop").exists()

    def ask_stop(self, wish: bool = True) -> None:
        """Ask the training to stop at its next step: a file, since Windows has no SIGTERM."""
        if wish:
            self.write("state/stop", b"")
        else:
            (self.folder / "state/stop").unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held while training: the system frees it when the process ends. Raises BadInput."""
        try:
            with FileLock(self.folder / "state/lock", timeout=1):
                yield
        except Timeout:
            raise BadInput(f"run {self.name!r} is being trained by another process") from None

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the log."""
        try:
            with (self.folder / "log.txt").open("rb") as file:
                file.seek(max(0, file.seek(0, io.SEEK_END) - 200 * lines))
                return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Write a file of the run so that a reader sees the old one or the new one."""
        with self.writing(name) as file:
            file.write(content)

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A file that takes its place, whole and on the disk, when the `with` block is through."""
        path = self.folder / name
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with beside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            _move(beside, path)
        except OSError as error:
            error.filename = error.filename or str(path)
            raise
        finally:
            with suppress(OSError):  # or it would hide what went wrong
                beside.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a process that was killed while writing has left. Only with the lock."""
        for folder in (self.folder, self.folder / "state"):
            for left in folder.glob(".*.[0-9]*"):
                left.unlink(missing_ok=True)


def build(experiment: Experiment, facts: Facts, pretrained: bool = False) -> ReIDModel:
    """The model that an experiment asks for; with its pretrained weights where a training starts.

    Raises BadInput where the knobs don't fit together.
    """
    options = experiment.options
    if not pretrained:
        options = replace(options, pretrained="none")
    more = {}
    if experiment.encoder:
        record = experiment.encoder
        more["encoder"] = build(Experiment.from_dict(record), _facts(record))
    model = MODELS[experiment.model](options, experiment.training.size, facts, **more)
    model.neck = experiment.training.neck
    return model


def list_runs() -> list[Run]:
    """All runs, by name; folders without a readable experiment.json are no runs."""
    folder = runs_folder()
    found = sorted(d for d in folder.iterdir() if d.is_dir()) if folder.is_dir() else []
    runs = [Run(d.name, d) for d in found if (d / "experiment.json").is_file()]
    return [run for run in runs if _readable(run)]


def open_run(name: str) -> Run:
    """The run of a name. Raises BadInput, with the nearest names, where there is none."""
    run = Run(name, runs_folder() / checked(name))
    if not run.folder.is_dir():
        raise BadInput(unknown("run", name, [each.name for each in list_runs()]))
    run.experiment  # noqa: B018 - damage shows here
    return run


def checked(name: str) -> str:
    """A name that is safe as a folder's. Raises BadInput."""
    if not NAME.fullmatch(name):
        raise BadInput(
            f"run name {name!r}: expected up to 64 letters, digits, dots, dashes and underscores, "
            "the first a letter or digit"
        )
    return name


def environment() -> dict[str, Any]:
    """Versions, git revision and time, so that a number can be traced."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    git = (
        subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
        )
        if shutil.which("git")
        else None
    )
    revision = git.stdout.strip() if git and git.returncode == 0 else None
    return dict(versions=versions, git=revision, created=time.strftime("%Y-%m-%dT%H:%M:%S%z"))


def _facts(record: dict[str, Any]) -> Facts:
    facts = record["facts"]
    return Facts(int(facts["classes"]), tuple(facts["cameras"]), tuple(facts["views"]))


def _names(experiment: Experiment) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"{experiment.model}-{experiment.recipe}-{number}"


def _readable(run: Run) -> bool:
    try:
        run.experiment  # noqa: B018
    except BadInput:
        return False
    return True


def _alive(status: Status) -> bool:
    if status.host != socket.gethostname() or status.pid is None:
        return time.time() - status.time < START_PATIENCE
    try:
        process = psutil.Process(status.pid)
        same = abs(process.create_time() - (status.born or 0)) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _move(source: Path, target: Path) -> None:
    """Replace the target; Windows refuses while a reader has it open, so try for a second."""
    for _ in range(20):
        try:
            return os.replace(source, target)
        except PermissionError:
            if os.name != "nt":
                raise
            time.sleep(0.05)
    os.replace(source, target)


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
