"""One training run, from its experiment to its last evaluation.

Every step draws from a generator seeded with (seed, epoch, step). So a resumed run needs no
generator's state to go on exactly as it would have.
"""

import logging
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import torch
from tensorboardX import SummaryWriter
from torch import nn
from tqdm import tqdm

from reid_core.data import open_dataset
from reid_core.embed import embed_test
from reid_core.errors import BadInput
from reid_core.evaluate import evaluate
from reid_core.experiment import Experiment, Training
from reid_core.feed import Feed, Sequences, facts_of, prepared, seed
from reid_core.losses import objective
from reid_core.models import MODELS, ReIDModel
from reid_core.optimize import fabric_for, learning_rate, optimizers_for, precision_of
from reid_core.runs import Run, build, open_run

HEARTBEAT = 1.0  # seconds
log = logging.getLogger("reid_core")
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


class Stopped(Exception):
    """The training was asked to stop, and has saved its state. signal is what asked, or None."""

    signal: int | None = None


def create(experiment: Experiment, name: str | None = None) -> Run:
    """A new run for an experiment, its data looked at first. Raises BadInput."""
    dataset = prepared(experiment, open_dataset(experiment.dataset, experiment.data))
    facts, training = facts_of(dataset.train), experiment.training
    if facts.classes < training.identities_per_batch:
        raise BadInput(
            f"identities_per_batch: {training.identities_per_batch} asked for, the training images "
            f"in {dataset.root} show {facts.classes}; give fewer"
        )
    fabric_for(training)  # or the device is not to be had
    if getattr(experiment.options, "encoder", ""):
        encoder = open_run(experiment.options.encoder)
        experiment = over(experiment, encoder)
        facts = replace(facts, cameras=encoder.facts.cameras, views=encoder.facts.views)
    file = experiment.options.pretrained
    if file not in ("none", "timm") and not Path(file).is_file():
        raise BadInput(f"pretrained: expected none, timm or the path of a file, got {file!r}")
    with torch.device("meta"):  # no memory, no weights: only whether the knobs fit together
        build(experiment, facts)
    return Run.create(experiment, facts, name)


def over(experiment: Experiment, encoder: Run) -> Experiment:
    """A second-stage experiment over a run's embeddings; images are read as that run reads them.

    Raises BadInput for a run that has no weights yet or is itself of a second stage.
    """
    its = encoder.experiment
    if MODELS[its.model].refines:
        raise BadInput(
            f"encoder: run {encoder.name!r} already refines embeddings ({its.model}); give a run "
            "that embeds single images"
        )
    encoder.model()
    share = experiment.training.holdout
    if share != its.training.holdout and (share or its.training.holdout):
        raise BadInput(
            f"holdout: run {encoder.name!r} was trained with holdout={its.training.holdout}, so what "
            f"holdout={share} keeps out is not what its encoder never saw; give the same"
        )
    record = {key: encoder.record[key] for key in ("model", "recipe", "dataset", "knobs", "facts")}
    same = dict(size=its.training.size, normalisation=its.training.normalisation)
    training = replace(experiment.training, **same)
    return replace(experiment, training=training, encoder=record | dict(data=None))


def train(run: Run, quiet: bool = False) -> None:
    """Train a run to its end, from where it stands. Raises BadInput, or Stopped when asked to stop.

    Whatever ends it is in the run's status and log. quiet shows no bar and lets other programs go
    first.
    """
    with run.lock(), _logging(run, quiet), _stop_signals(run) as caught:
        if quiet:
            low = psutil.BELOW_NORMAL_PRIORITY_CLASS if psutil.WINDOWS else 10
            psutil.Process().nice(low)
        progress = Progress(run, quiet)
        try:
            _train(run, progress)
        except Stopped as stop:
            stop.signal = caught[0] if caught else None
            log.info("%s", stop)
            raise
        except BaseException as error:
            message = str(error).strip() or type(error).__name__
            log.info("%s", message if isinstance(error, BadInput) else traceback.format_exc())
            with suppress(OSError):  # a disk that is full is full for this too
                run.report("failed", message=message.splitlines()[0])
            raise
        finally:
            progress.close()


@dataclass(frozen=True)
class Stage:
    """Epochs after `before` that train the same module in the same way."""

    before: int
    module: nn.Module
    training: Training
    feed: Feed | Sequences


def stages_of(experiment: Experiment, model: ReIDModel, wrapped: nn.Module, feed: Feed):
    """The stages of a training: images; then, for a model that refines, stored features."""
    training, options = experiment.training, experiment.options
    if not model.refines:
        return [Stage(0, model, training, feed)]
    features = Sequences(feed, options, wrapped)
    second = replace(
        training,
        optimizer="adam",
        learning_rate=options.pass_learning_rate,
        weight_decay=0.0,
        bias_learning_rate=1.0,
        warmup_epochs=0,
        schedule="multistep",
        steps="",
    )
    first = experiment.first_epochs
    stages = [Stage(0, model.encoder, training, feed)] if first else []
    return [*stages, Stage(first, model.transformer, second, features)]


def _train(run: Run, progress: "Progress") -> None:
    experiment = run.experiment
    run.report("running", epochs=experiment.epochs, message="reading the images")
    fabric = fabric_for(experiment.training)
    feed = Feed(run, experiment, fabric.device)
    seed(experiment.training.seed)
    state = run.load_state()
    bare = build(experiment, run.facts, pretrained=state is None)
    # Where the training stands: the next step of an epoch, and the sums of its steps so far.
    where = state or dict(epoch=1, step=0, sums={}, seconds=0.0)
    if experiment.encoder and not state:
        _take_encoder(bare, open_run(experiment.options.encoder))
    try:
        if state:
            bare.load_state_dict(where.pop("model"))
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(f"run {run.name!r} has a damaged state/last.pt: start a new run") from None
    model = fabric.setup_module(bare)
    stages = stages_of(experiment, bare, model, feed)
    log.info("%s: %s on %s, %s", run.name, experiment.model, fabric.device, precision_of(fabric))
    log.info("%d images of %d identities", len(feed.images), run.facts.classes)

    begun = None
    while where["epoch"] <= experiment.epochs:
        epoch = where["epoch"]
        stage = [each for each in stages if each.before < epoch][-1]
        training = stage.training
        if stage is not begun:
            optimizers = [
                fabric.setup_optimizers(o) for o in optimizers_for(stage.module, training)
            ]
            _restore(run, optimizers, where, stages.index(stage))
            begun = stage
            progress.begin(last=stage is stages[-1])
        stage.feed.begin(epoch, lambda: progress.alive(epoch))  # noqa: B023 - called before the next
        plan = stage.feed.plan(epoch)
        rate = learning_rate(training, epoch - stage.before)
        for group in optimizers[0].param_groups:
            group["lr"] = group["scale"] * rate
        progress.pause()
        for step in range(where["step"], len(plan)):
            seed(training.seed, epoch, step)
            batch = stage.feed.batch(plan[step], epoch)
            terms = objective(
                model(batch),
                batch.identity,
                margin=training.triplet_margin,
                label_smoothing=training.label_smoothing,
            )
            terms["total"] = sum(terms.values())
            for optimizer in optimizers:
                optimizer.zero_grad()
            fabric.backward(terms["total"])
            for optimizer in optimizers:
                optimizer.step()

            for name, term in terms.items():
                where["sums"][name] = where["sums"].get(name, 0.0) + term.detach()
            where["step"] = step + 1
            where["seconds"] += progress.stepped(epoch, step + 1, len(plan), plan[step].size)
            if run.stop_asked:
                _save(run, bare, optimizers, where, stages.index(stage))
                progress.stopped(epoch, step + 1, len(plan))

        entry = _entry(training, rate, where, plan)
        if epoch % training.evaluate_every == 0 or epoch == experiment.epochs:
            # an evaluation that dies loses no epoch
            _save(run, bare, optimizers, where, stages.index(stage))
            entry |= _evaluate(run, bare, feed, refined=stage is stages[-1])
        if epoch > len(run.history()):  # or a kill came between the line and the state
            run.add_epoch(entry)
            progress.plot(entry)
        log.info("epoch %d: %s", epoch, ", ".join(f"{k} {v:.4g}" for k, v in entry.items()))
        where = dict(epoch=epoch + 1, step=0, sums={}, seconds=0.0)
        _save(run, bare, optimizers, where, stages.index(stage))
    run.report("finished", epoch=experiment.epochs, epochs=experiment.epochs)


def _entry(
    training: Training, rate: float, where: dict, plan: list[np.ndarray]
) -> dict[str, float]:
    """A finished epoch's line of history. Raises BadInput for a loss that is no number."""
    epoch, sums = where["epoch"], where["sums"]
    if not all(torch.isfinite(total) for total in sums.values()):
        raise BadInput(
            f"the loss became NaN or infinite in epoch {epoch}: lower the learning rate "
            f"(it was {rate:g}) or train with precision=fp32"
        )
    entry = dict(epoch=epoch, learning_rate=rate)
    entry |= {
        "loss" if name == "total" else f"loss_{name}": float(total) / len(plan)
        for name, total in sums.items()
    }
    images = sum(rows.size for rows in plan)
    return entry | dict(images_per_second=images / where["seconds"], seconds=where["seconds"])


class Progress:
    """The bar on stderr, the heartbeat in the run folder and TensorBoard's curves."""

    def __init__(self, run: Run, quiet: bool):
        self.run, self.epochs = run, run.experiment.epochs
        self.bar = tqdm(
            unit="img", file=sys.stderr, dynamic_ncols=True, smoothing=0.1, disable=quiet
        )
        self.board = SummaryWriter(str(run.folder / "tensorboard"))
        self.last_step = self.last_beat = time.perf_counter()
        self.rate, self.last = 0.0, True

    def begin(self, last: bool) -> None:
        """Another stage, with steps of another kind; how long one before the last leaves is not known."""
        self.rate, self.last = 0.0, last

    def stepped(self, epoch: int, step: int, steps: int, images: int) -> float:
        """Count a step; returns the seconds it took."""
        now = time.perf_counter()
        seconds, self.last_step = now - self.last_step, now
        rate = images / max(seconds, 1e-9)
        self.rate = 0.9 * self.rate + 0.1 * rate if self.rate else rate
        left = (self.epochs - epoch) * steps + steps - step
        if not self.bar.disable:
            self.bar.total = self.bar.n + (left + 1) * images
            self.bar.set_description(f"epoch {epoch}/{self.epochs}", refresh=False)
            self.bar.update(images)
        if now - self.last_beat > HEARTBEAT or step in (1, steps):
            self.beat(epoch, step, steps, left * images / self.rate if self.last else None)
        return seconds

    def alive(self, epoch: int) -> None:
        """Between steps, in a pass that prepares: still here, and still wanted. Raises Stopped."""
        if time.perf_counter() - self.last_beat > HEARTBEAT:
            self.last_beat = time.perf_counter()
            told = "embedding the training images"
            self.run.report("running", epoch=epoch, epochs=self.epochs, message=told)
        if self.run.stop_asked:
            self.stopped(epoch, 0, 0)

    def beat(self, epoch: int, step: int, steps: int, seconds_left: float | None) -> None:
        self.last_beat = time.perf_counter()
        self.run.report(
            "running",
            epoch=epoch,
            epochs=self.epochs,
            step=step,
            steps=steps,
            images_per_second=self.rate,
            seconds_left=seconds_left,
        )

    def stopped(self, epoch: int, step: int, steps: int) -> None:
        """Say so, in the run and to the caller. Raises Stopped."""
        self.bar.close()
        self.run.report("stopped", epoch=epoch, epochs=self.epochs, step=step, steps=steps)
        self.run.ask_stop(False)
        raise Stopped(f"stopped in epoch {epoch} after step {step} of {steps}, state saved")

    def plot(self, entry: dict[str, float]) -> None:
        """A finished epoch's line of history, as TensorBoard's scalars."""
        for name, value in entry.items():
            if name != "epoch":
                self.board.add_scalar(name, value, entry["epoch"])
        self.board.flush()

    def close(self) -> None:
        self.bar.close()
        self.board.close()

    def pause(self) -> None:
        """What came since the last step is no step's time."""
        self.last_step = time.perf_counter()


def _evaluate(run: Run, model: ReIDModel, feed: Feed, refined: bool) -> dict[str, float]:
    """Embed and score the test split in float32; weights, embeddings and scores go to the run."""
    model.eval()
    stage = "refined" if refined else "encoder"
    embeddings = embed_test(model, feed.experiment, feed.dataset, stage=stage, images=feed.test)
    model.train()
    try:
        scores = evaluate(embeddings).as_dict()
    except BadInput as error:
        log.warning("not evaluated: %s", error)
        scores = {}
    run.keep(model, embeddings, scores)
    if not scores:
        return {}
    return dict(mAP=scores["mAP"], mINP=scores["mINP"], rank1=scores["cmc"]["1"])


def _save(run: Run, model: ReIDModel, optimizers: list, where: dict, stage: int) -> None:
    states = [each.optimizer.state_dict() for each in optimizers]
    run.save_state(dict(model=model.state_dict(), optimizers=states, stage=stage, **where))


def _take_encoder(model: ReIDModel, encoder: Run) -> None:
    """Fill a second-stage model's encoder from its run. Raises BadInput."""
    try:
        model.encoder.load_state_dict(encoder.model().state_dict())
    except RuntimeError:
        raise BadInput(
            f"encoder: run {encoder.name!r} is no longer what it was when this run was created; "
            "start a new run"
        ) from None


def _restore(run: Run, optimizers: list, where: dict, stage: int) -> None:
    """The optimisers as they were saved, unless that was in another stage. Raises BadInput."""
    states, saved_in = where.pop("optimizers", None), where.pop("stage", None)
    if states is None or saved_in != stage:
        return
    try:
        for optimizer, state in zip(optimizers, states, strict=True):
            optimizer.optimizer.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(f"run {run.name!r} has a damaged state/last.pt: start a new run") from None


@contextmanager
def _logging(run: Run, quiet: bool) -> Iterator[None]:
    """log.txt; warnings on stderr too."""
    loud = logging.StreamHandler(sys.stderr)
    loud.setLevel(logging.CRITICAL if quiet else logging.WARNING)
    log.addHandler(loud)
    handler = logging.FileHandler(run.folder / "log.txt", encoding="utf-8")
    handler.handleError = lambda record: None  # a disk that is full is told of once, elsewhere
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(loud)
        log.removeHandler(handler)
        handler.close()


@contextmanager
def _stop_signals(run: Run) -> Iterator[list[int]]:
    """SIGTERM and Ctrl-C ask for a stop; a second one ends at once. Yields those that came."""
    caught: list[int] = []

    def ask(number, frame):
        caught.append(number)
        signal.signal(number, before[number])
        run.ask_stop()

    numbers = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        numbers = ()  # only the main thread may handle signals
    before = {number: signal.getsignal(number) for number in numbers}
    for number in before:
        signal.signal(number, ask)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
