"""A run: the folder checkpoints/<name>/, written and read in this one file and in run_folder.

    experiment.json        all that was asked, with versions, seed and git revision
    history.jsonl          one line per finished epoch
    metrics.json           the last evaluation
    weights.safetensors    the model
    embeddings.npz         the test split as that evaluation saw it
    log.txt                what the training said
    tensorboard/           the history once more, for those who want it
    state/                 what resume and the live page need

Every file but the log is written beside its place and moved there, so a reader never sees half of
one. metrics.json and embeddings.npz know which weights they are of, so nobody shows two evaluations
as one.
"""

import hashlib
import io
import json
import logging
import platform
import re
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reid_core import kept
from reid_core.data import ROOT
from reid_core.errors import BadInput, is_short_of_memory
from reid_core.evaluate import JOINT, Embeddings
from reid_core.experiment import Experiment
from reid_core.knobs import unknown
from reid_core.models import MODELS, Facts, ReIDModel
from reid_core.models.weights import checksum, header, packed, unpacked
from reid_core.run_folder import RunFolder, move, runs_folder

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
log = logging.getLogger("reid_core")
OF_A_RUN = (
    *("experiment.json", "weights.safetensors", "embeddings.npz"),
    *("history.jsonl", "metrics.json", "state/last.pt"),
)
# Of a training, newest first.
STATES = ("last.pt", "before.pt")
# Whose change makes stale what was computed from a run; whether they are large.
STAMPED = {
    "experiment.json": False,
    "metrics.json": False,
    "weights.safetensors": True,
    "embeddings.npz": True,
}
# In embeddings.npz and metrics.json, beside what they hold: what that evaluation was of.
OF = "of"
PATIENCE = 20  # with a training that is at writing them, in tenths of a second
PACKAGES = ("torch", "torchvision", "timm", "lightning-fabric", "numpy", "pillow", "safetensors")


@dataclass(frozen=True)
class Run(RunFolder):
    """One run folder, with what was asked and what was kept."""

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
        notes: dict[str, Any] | None = None,
    ) -> "Run":
        """A new run folder; without a name the next free one. Raises BadInput for a taken name.

        With weights it is a finished one, and imported says whose they are. notes go into its record.
        """
        runs_folder().mkdir(parents=True, exist_ok=True)
        for candidate in [name] if name else _names(experiment):
            run = cls(candidate, runs_folder() / checked(candidate))
            try:
                run.folder.mkdir()
                break
            except FileExistsError:
                if name:
                    raise BadInput(f"run {name!r} exists already; give another name") from None
        record = experiment.as_dict() | dict(
            run=run.name, facts=asdict(facts), seed=experiment.training.seed, **environment()
        )
        record |= ({"imported": imported} if imported else {}) | (notes or {})
        try:
            (run.folder / "state").mkdir()
            if weights is None:
                run.report("starting", epochs=experiment.epochs)
            else:
                run.write("weights.safetensors", packed(weights))
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
            experiment = Experiment.from_dict(record)
            kept.facts(record)
            if experiment.encoder:
                kept.facts(experiment.encoder)
            kept.source(record)
        except Exception as error:
            reason = error if isinstance(error, BadInput) else type(error).__name__
            raise BadInput(
                f"run {self.name!r} has no readable experiment.json ({reason}): it is damaged or was "
                "made by something else; put back a copy of that file, or remove the run's folder"
            ) from None
        return record

    @property
    def experiment(self) -> Experiment:
        return Experiment.from_dict(self.record)

    @property
    def facts(self) -> Facts:
        return kept.facts(self.record)

    @property
    def shipped(self) -> bool:
        """Whether it came with the product."""
        return bool(self.record.get("shipped"))

    @property
    def imported(self) -> dict[str, str]:
        """The file that it was made of (file, sha256); empty for what was trained here."""
        return kept.source(self.record)

    # What was kept

    def history(self) -> list[dict[str, Any]]:
        """A dictionary for each finished epoch."""
        try:
            lines = (self.folder / "history.jsonl").read_text("utf-8").splitlines()
            return [kept.epoch(json.loads(line)) for line in lines]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, AttributeError, OverflowError, OSError):
            raise BadInput(
                f"run {self.name!r} has a damaged history.jsonl: mend or remove it (it holds the curves)"
            ) from None

    def metrics(self) -> dict[str, Any]:
        """The last evaluation; empty before the first. Raises BadInput, also where it was of other
        weights than the run's."""
        return self._evaluated("metrics.json", self._metrics)

    def _metrics(self) -> tuple[dict[str, Any], str | None]:
        try:
            metrics = json.loads((self.folder / "metrics.json").read_text("utf-8"))
            if not metrics:
                return {}, None
            of = metrics.pop(OF, None)
            return kept.scores(metrics), of
        except FileNotFoundError:
            return {}, None
        except (ValueError, TypeError, KeyError, AttributeError, OSError):
            raise BadInput(
                f"run {self.name!r} has a damaged metrics.json: {self.mending}"
            ) from None

    @property
    def has_weights(self) -> bool:
        return (self.folder / "weights.safetensors").is_file()

    @property
    def refined(self) -> bool:
        """Whether its embeddings are refined: not of most models, nor while only the encoder of one
        that does has been trained."""
        if not MODELS[self.experiment.model].refines:
            return False
        try:
            return self.embeddings().encoded is not None
        except BadInput:  # gone or damaged, and about to be made anew: the scores tell it too
            with suppress(BadInput):
                return self.metrics().get("protocol", JOINT) == JOINT
            return True

    def embeddings(self) -> Embeddings:
        """The test split as the last evaluation saw it. Raises BadInput, also where that evaluation
        was of other weights than the run's."""
        return self._evaluated("embeddings.npz", self._embeddings)

    def _embeddings(self) -> tuple[Embeddings, str | None]:
        try:
            with np.load(self.folder / "embeddings.npz", allow_pickle=False) as file:
                arrays = {
                    name: file[name] for name in Embeddings.__dataclass_fields__ if name in file
                }
                of = str(file[OF]) if OF in file else None
            kept.check_arrays(arrays)
        except FileNotFoundError:
            raise self.lacks("embeddings.npz") from None
        except Exception:
            raise BadInput(
                f"run {self.name!r} has a damaged embeddings.npz: {self.mending}"
            ) from None
        floats = {k: v.astype(np.float32) for k, v in arrays.items() if k in ("vectors", "encoded")}
        return Embeddings(**arrays | floats), of

    def _evaluated(self, name: str, read: Callable[[], tuple[Any, str | None]]) -> Any:
        """What a file of the last evaluation holds; of an older version's nobody knows what it is of.
        Raises BadInput where it is not of what the run has now."""
        for _ in range(2):
            stamp = self.stamp()
            found, of = read()
            if None in (of, now := self._of) or of == now:
                return found
            for _ in range(PATIENCE * self._going):
                if self.stamp() != stamp:
                    break
                time.sleep(0.1)
        what = "weights and the data set" if self.imported else "weights"
        way = self.mending + ("" if self._going else "; or put back what was replaced")
        raise BadInput(f"run {self.name!r}: its {name} is not of the {what} that it has now: {way}")

    @property
    def _of(self) -> str | None:
        """What an evaluation is of: the weights, by the checksum that they know, if they do; and the
        data where others may be asked for."""
        known = (header(self.folder / "weights.safetensors") or {}).get("crc32")
        if known is None or not self.imported:
            return known
        return f"{known} {self.experiment.dataset} {self.experiment.data}"

    @property
    def mending(self) -> str:
        """What gives it whole embeddings and scores, and weights too unless it was imported."""
        if self.imported:
            return "evaluate it anew"
        if self.resumable:
            return "resume its training, which evaluates it anew"
        if self._going:
            return "wait for its next evaluation"
        if self.has_weights:
            return f"python -m reid_core evaluate {self.name} computes it anew"
        return "put back a copy of that file, or train a clone of the run"

    @property
    def _remaking(self) -> str:
        """What gives it whole weights."""
        if self._going:
            return "wait for its next evaluation"
        if self.resumable:
            return "resume its training, which writes them anew"
        if self.imported:
            return "put back a copy of that file, or import it anew"
        if self._has_state:
            return "remove that file, then resume its training, which writes it anew"
        return "put back a copy of that file, or train a clone of the run"

    @property
    def _going(self) -> bool:
        status = self.status()
        return status.active or status.queued

    @property
    def lost(self) -> bool:
        """Whether what its last evaluation left is gone or damaged, and no training will leave another."""
        try:
            self.embeddings()
            return not (self.metrics() or self._going)
        except BadInput:
            return not self._going

    def lacks(self, name: str) -> BadInput:
        """What to say where a file that an evaluation leaves is not there."""
        mending = self._remaking if name == "weights.safetensors" else self.mending
        return BadInput(f"run {self.name!r} has no {name}{' yet' * self._going}: {mending}")

    def model(self) -> ReIDModel:
        """The model in evaluation mode, float32, on the CPU. Raises BadInput."""
        model = build(self.experiment, self.facts).eval()
        path = self.folder / "weights.safetensors"
        if not path.is_file():
            raise self.lacks("weights.safetensors")
        try:
            weights = {key: value.float() for key, value in unpacked(path).items()}
            missing, extra = model.load_state_dict(weights, strict=False)
        except Exception as error:
            if is_short_of_memory(error):
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BadInput(
                f"run {self.name!r} has a damaged weights.safetensors ({reason}): {self._remaking}"
            ) from None
        # A shipped run leaves its classifiers out: nobody classifies at test.
        unused = ("classifier", "centers", "num_batches")
        missing = [key for key in missing if not any(word in key for word in unused)]
        if missing or extra:
            odd = (missing + extra)[0]
            raise BadInput(
                f"run {self.name!r} has a weights.safetensors of another model ({odd} does not fit): "
                f"{self._remaking}"
            )
        return model

    def stamp(self) -> int:
        """Changes whenever what is kept does: part of every cache's key. The small files count with
        all they say, since the large ones of two runs may be of one size and age."""
        seen = []
        for name, is_large in STAMPED.items():
            file = self.folder / name
            with suppress(OSError):
                said = file.stat()
                seen.append(
                    (name, said.st_size, said.st_mtime_ns) if is_large else file.read_bytes()
                )
        return int.from_bytes(hashlib.sha256(repr(seen).encode()).digest()[:8])

    def keep(self, model: ReIDModel, embeddings: Embeddings, metrics: dict[str, Any]) -> None:
        """Weights, embeddings and scores of one evaluation."""
        weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
        of = checksum(weights)
        files = {
            "weights.safetensors": packed(weights, of),
            "embeddings.npz": _archive(embeddings, of),
            "metrics.json": _scores(metrics, of),
        }
        for name, content in files.items():  # at once: until all are there they don't fit together
            self.write(name, content)

    def keep_evaluation(
        self, embeddings: Embeddings, metrics: dict[str, Any], dataset: str, data: str | None
    ) -> None:
        """An evaluation of an imported run, and on which data set and folder it was."""
        self.write("experiment.json", _json(self.record | dict(dataset=dataset, data=data)))
        self.keep_embeddings(embeddings)
        self.write("metrics.json", _scores(metrics, self._of))

    def keep_embeddings(self, embeddings: Embeddings) -> None:
        """Embeddings that the run's weights gave."""
        self.write("embeddings.npz", _archive(embeddings, self._of))

    def add_epoch(self, entry: dict[str, Any]) -> None:
        """One more line of history."""
        lines = [json.dumps(each) for each in [*self.history(), entry]]
        self.write("history.jsonl", "\n".join(lines).encode() + b"\n")

    # What a training in progress leaves

    def save_state(self, state: dict[str, Any]) -> None:
        """Keep a state, and the one before it: should the disk damage one, the other is there."""
        with self.writing("state/last.pt") as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:  # torch's words hide what the system said before
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
            last = self.folder / "state" / "last.pt"
            if last.is_file():
                move(last, last.with_name("before.pt"))

    def load_state(self) -> dict[str, Any] | None:
        """The newest state that is whole and of this run's model, or None without any. No pickled code
        is executed.

        Raises BadInput where there are only others.
        """
        folder = self.folder / "state"
        files = [each for name in STATES if (each := folder / name).is_file()]
        with torch.device("meta"):  # without numbers: only what it consists of
            own = _shapes(build(self.experiment, self.facts).state_dict()) if files else {}
        for path in files:
            try:
                with zipfile.ZipFile(path) as parts:  # torch compares no checksums
                    if wrong := parts.testzip():
                        raise ValueError(wrong)
                state = torch.load(path, map_location="cpu", weights_only=True)
                state["optimizers"], state["epoch"], state["step"]
                if _shapes(state["model"]) != own:
                    raise ValueError("of another model")
            except Exception:
                log.warning("state/%s is damaged or of another model", path.name)
                continue
            if path != files[0]:
                log.warning("going on from state/%s, the one before", path.name)
            return state
        if files:
            names = " and ".join(f"state/{path.name}" for path in files)
            raise BadInput(f"run {self.name!r} has a damaged {names}: start a new run, or clone it")
        return None

    @property
    def _has_state(self) -> bool:
        return any((self.folder / "state" / name).is_file() for name in STATES)

    @property
    def resumable(self) -> bool:
        """Whether its training can go on: not of what came with the product, nor of a damaged run.
        One that is finished can where its weights are gone or cut short: its last state has them."""
        try:
            if self.shipped:
                return False
        except BadInput:
            return False
        state = self.status().state
        if state == "finished":
            return self._has_state and header(self.folder / "weights.safetensors") is None
        return state in ("stopped", "failed", "interrupted")


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
        more["encoder"] = build(Experiment.from_dict(record), kept.facts(record))
    model = MODELS[experiment.model](options, experiment.training.size, facts, **more)
    model.neck = experiment.training.neck
    return model


def list_runs() -> list[Run]:
    """All runs, by name; folders without a readable experiment.json are no runs."""
    return [run for run in _folders() if not _damage(run)]


def damaged_runs() -> dict[str, str]:
    """Of runs whose experiment.json is gone or can't be read, by name: why."""
    return {run.name: why for run in _folders() if (why := _damage(run))}


def _folders() -> list[Run]:
    """Those that hold any file by which a run is known, lest one without its record be lost from sight."""
    folder = runs_folder()
    found = sorted(d for d in folder.iterdir() if d.is_dir()) if folder.is_dir() else []
    return [Run(d.name, d) for d in found if any((d / name).is_file() for name in OF_A_RUN)]


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


def _shapes(weights: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in weights.items()}


def _names(experiment: Experiment) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"{experiment.model}-{experiment.recipe}-{number}"


def _damage(run: Run) -> str:
    try:
        run.experiment  # noqa: B018
    except BadInput as error:
        return str(error)
    return ""


def _archive(embeddings: Embeddings, of: str | None) -> memoryview:
    """embeddings.npz."""
    arrays = {k: getattr(embeddings, k) for k in Embeddings.__dataclass_fields__} | {OF: of}
    archive = io.BytesIO()
    np.savez_compressed(archive, **{k: v for k, v in arrays.items() if v is not None})
    return archive.getbuffer()


def _scores(metrics: dict[str, Any], of: str | None) -> bytes:
    """metrics.json."""
    return _json(metrics | ({OF: of} if metrics and of else {}))


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
