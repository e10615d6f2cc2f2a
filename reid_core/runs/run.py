"""One run folder, written and read."""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from reid_core.errors import BadInput, is_short_of_memory
from reid_core.evaluate import JOINT, Embeddings
from reid_core.experiment import Experiment
from reid_core.models import MODELS, Facts, ReIDModel
from reid_core.models.weights import checksum, header, packed, unpacked
from reid_core.run_folder import RunFolder, runs_folder
from reid_core.runs import evaluations, kept, mending, states
from reid_core.runs.build import build
from reid_core.runs.environment import environment

Kind = TypeVar("Kind")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Whose change makes stale what was computed from a run; whether they are large.
STAMPED = {
    "experiment.json": False,
    "metrics.json": False,
    "weights.safetensors": True,
    "embeddings.npz": True,
}
PATIENCE = 20  # with a training that is at writing them, in tenths of a second


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
        try:
            return self._evaluated("metrics.json", evaluations.read_scores)
        except FileNotFoundError:
            return {}

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
        try:
            return self._evaluated("embeddings.npz", evaluations.read_embeddings)
        except FileNotFoundError:
            raise self.lacks("embeddings.npz") from None

    def _evaluated(self, name: str, read: Callable[[Path], tuple[Kind, str | None]]) -> Kind:
        """What a file of the last evaluation holds; of an older version's nobody knows what it is of.
        Raises FileNotFoundError, or BadInput where it is damaged or not of what the run has now."""
        for _ in range(2):
            stamp = self.stamp()
            try:
                found, of = read(self.folder / name)
            except FileNotFoundError:
                raise
            except Exception:
                raise BadInput(f"run {self.name!r} has a damaged {name}: {self.mending}") from None
            if None in (of, now := self._of) or of == now:
                return found
            for _ in range(PATIENCE * self.going):
                if self.stamp() != stamp:
                    break
                time.sleep(0.1)
        what = "weights and the data set" if self.imported else "weights"
        way = self.mending + ("" if self.going else "; or put back what was replaced")
        raise BadInput(f"run {self.name!r}: its {name} is not of the {what} that it has now: {way}")

    @property
    def mending(self) -> str:
        """What gives it whole embeddings and scores, and weights too unless it was imported."""
        return mending.of_evaluation(self)

    @property
    def _of(self) -> str | None:
        """What an evaluation is of: the weights, by the checksum that they know, if they do; and the
        data where others may be asked for."""
        known = (header(self.folder / "weights.safetensors") or {}).get("crc32")
        if known is None or not self.imported:
            return known
        return f"{known} {self.experiment.dataset} {self.experiment.data}"

    @property
    def going(self) -> bool:
        """Whether a training is at work on it, or will be."""
        status = self.status()
        return status.active or status.queued

    @property
    def lost(self) -> bool:
        """Whether what its last evaluation left is gone or damaged, and no training will leave another."""
        try:
            self.embeddings()
            return not (self.metrics() or self.going)
        except BadInput:
            return not self.going

    def lacks(self, name: str) -> BadInput:
        """What to say where a file that an evaluation leaves is not there."""
        ways = mending.of_weights if name == "weights.safetensors" else mending.of_evaluation
        return BadInput(f"run {self.name!r} has no {name}{' yet' * self.going}: {ways(self)}")

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
                f"run {self.name!r} has a damaged weights.safetensors ({reason}): "
                f"{mending.of_weights(self)}"
            ) from None
        # A shipped run leaves its classifiers out: nobody classifies at test.
        unused = ("classifier", "centers", "num_batches")
        missing = [key for key in missing if not any(word in key for word in unused)]
        if missing or extra:
            odd = (missing + extra)[0]
            raise BadInput(
                f"run {self.name!r} has a weights.safetensors of another model ({odd} does not fit): "
                f"{mending.of_weights(self)}"
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
            "embeddings.npz": evaluations.archive(embeddings, of),
            "metrics.json": _json(evaluations.scores(metrics, of)),
        }
        for name, content in files.items():  # at once: until all are there they don't fit together
            self.write(name, content)

    def keep_evaluation(
        self, embeddings: Embeddings, metrics: dict[str, Any], dataset: str, data: str | None
    ) -> None:
        """An evaluation of an imported run, and on which data set and folder it was."""
        self.write("experiment.json", _json(self.record | dict(dataset=dataset, data=data)))
        self.keep_embeddings(embeddings)
        self.write("metrics.json", _json(evaluations.scores(metrics, self._of)))

    def keep_embeddings(self, embeddings: Embeddings) -> None:
        """Embeddings that the run's weights gave."""
        self.write("embeddings.npz", evaluations.archive(embeddings, self._of))

    def add_epoch(self, entry: dict[str, Any]) -> None:
        """One more line of history."""
        lines = [json.dumps(each) for each in [*self.history(), entry]]
        self.write("history.jsonl", "\n".join(lines).encode() + b"\n")

    # What a training in progress leaves

    def save_state(self, state: dict[str, Any]) -> None:
        """Keep a state, and the one before it: should the disk damage one, the other is there."""
        states.save(self, state)

    def load_state(self) -> dict[str, Any] | None:
        """The newest state that is whole and of this run's model, or None without any. No pickled code
        is executed.

        Raises BadInput where there are only others.
        """
        if not (there := states.found(self)):
            return None
        with torch.device("meta"):  # without numbers: only what it consists of
            own = build(self.experiment, self.facts)
        if state := states.load(self, own):
            return state
        names = " and ".join(there)
        raise BadInput(
            f"run {self.name!r} has a damaged {names}: start a new run, or remove "
            f"{'it' if len(there) == 1 else 'both'} and resume, which begins anew"
        )

    @property
    def has_state(self) -> bool:
        return bool(states.found(self))

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
            return self.has_state and header(self.folder / "weights.safetensors") is None
        return state in ("stopped", "failed", "interrupted")


def checked(name: str) -> str:
    """A name that is safe as a folder's. Raises BadInput."""
    if not NAME.fullmatch(name):
        raise BadInput(
            f"run name {name!r}: expected up to 64 letters, digits, dots, dashes and underscores, "
            "the first a letter or digit"
        )
    return name


def _names(experiment: Experiment) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"{experiment.model}-{experiment.recipe}-{number}"


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
