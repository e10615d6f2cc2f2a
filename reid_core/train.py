"""One training run, from its experiment to its last evaluation.

Every step draws from a generator seeded with (seed, epoch, step). So a resumed run needs no
generator's state to go on exactly as it would have.
"""

import logging
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import torch
from tensorboardX import SummaryWriter
from tqdm import tqdm

from reid_core.data import Dataset, Split, open_dataset
from reid_core.data.images import TRAIN_FILTER, Images, augment
from reid_core.data.sampler import batches
from reid_core.embed import embed_test, rows_of
from reid_core.errors import BadInput
from reid_core.evaluate import evaluate
from reid_core.experiment import Experiment, Training
from reid_core.losses import objective
from reid_core.models.base import Batch, Facts, ReIDModel
from reid_core.optimize import fabric_for, learning_rate, optimizer_for, precision_of
from reid_core.runs import Run, build

HEARTBEAT = 1.0  # seconds
log = logging.getLogger("reid_core")
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


class Stopped(Exception):
    """The training was asked to stop, and has saved its state. signal is what asked, or None."""

    signal: int | None = None


def facts_of(split: Split) -> Facts:
    """What a model must know of its training images."""
    cameras, views = (np.unique(ids[ids >= 0]).tolist() for ids in (split.cameras, split.views))
    return Facts(len(np.unique(split.identities)), tuple(cameras), tuple(views))


def prepared(experiment: Experiment, dataset: Dataset) -> Dataset:
    """The data set as this experiment uses it: with a holdout, part of the training identities
    takes the test split's place (of each camera's images of an identity the first is a query)."""
    share = experiment.training.holdout
    if not share:
        return dataset
    train = dataset.train
    identities = np.unique(train.identities)
    count = max(2, round(share * len(identities)))
    if count > len(identities) - 2:
        raise BadInput(
            f"holdout: {share} of {len(identities)} identities leaves too few to train on"
        )
    held = np.random.default_rng(0).permutation(identities)[:count]
    kept, out = (train.take(np.isin(train.identities, held) == wanted) for wanted in (False, True))
    _, first = np.unique(np.stack([out.identities, out.cameras]), axis=1, return_index=True)
    is_query = np.isin(np.arange(len(out)), first)
    return Dataset(dataset.root, kept, out.take(is_query), out.take(~is_query))


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
    file = experiment.options.pretrained
    if file not in ("none", "timm") and not Path(file).is_file():
        raise BadInput(f"pretrained: expected none, timm or the path of a file, got {file!r}")
    with torch.device("meta"):  # no memory, no weights: only whether the knobs fit together
        build(experiment, facts)
    return Run.create(experiment, facts, name)


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


def _train(run: Run, progress: "Progress") -> None:
    experiment = run.experiment
    training = experiment.training
    run.report("running", epochs=training.epochs, message="reading the images")
    fabric = fabric_for(training)
    feed = Feed(run, experiment, fabric.device)
    seed(training.seed)
    state = run.load_state()
    model = build(experiment, run.facts, pretrained=state is None)
    optimizer = optimizer_for(model, training)
    # Where the training stands: the next step of an epoch, and the sums of its steps so far.
    where = state or dict(epoch=1, step=0, sums={}, seconds=0.0)
    if state:
        try:
            model.load_state_dict(where.pop("model"))
            optimizer.load_state_dict(where.pop("optimizer"))
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError):
            raise BadInput(
                f"run {run.name!r} has a damaged state/last.pt: start a new run"
            ) from None
    model, optimizer = fabric.setup(model, optimizer)
    log.info("%s: %s on %s, %s", run.name, experiment.model, fabric.device, precision_of(fabric))
    log.info("%d images of %d identities", len(feed.images), run.facts.classes)

    progress.pause()
    while where["epoch"] <= training.epochs:
        epoch = where["epoch"]
        plan = feed.plan(epoch)
        for group in optimizer.param_groups:
            group["lr"] = group["scale"] * learning_rate(training, epoch)
        for step in range(where["step"], len(plan)):
            seed(training.seed, epoch, step)
            batch = feed.batch(plan[step], epoch)
            terms = objective(
                model(batch),
                batch.identity,
                margin=training.triplet_margin,
                label_smoothing=training.label_smoothing,
            )
            terms["total"] = sum(terms.values())
            optimizer.zero_grad()
            fabric.backward(terms["total"])
            optimizer.step()

            for name, term in terms.items():
                where["sums"][name] = where["sums"].get(name, 0.0) + term.detach()
            where["step"] = step + 1
            where["seconds"] += progress.stepped(epoch, step + 1, len(plan), len(plan[step]))
            if run.stop_asked:
                _save(run, model, optimizer, where)
                progress.stopped(epoch, step + 1, len(plan))

        entry = _entry(training, where, plan)
        if epoch % training.evaluate_every == 0 or epoch == training.epochs:
            _save(run, model, optimizer, where)  # an evaluation that dies loses no epoch
            entry |= _evaluate(run, model.module, feed)
            progress.pause()
        if epoch > len(run.history()):  # or a kill came between the line and the state
            run.add_epoch(entry)
            progress.plot(entry)
        log.info("epoch %d: %s", epoch, ", ".join(f"{k} {v:.4g}" for k, v in entry.items()))
        where = dict(epoch=epoch + 1, step=0, sums={}, seconds=0.0)
        _save(run, model, optimizer, where)
    run.report("finished", epoch=training.epochs, epochs=training.epochs)


class Feed:
    """A run's images as batches."""

    def __init__(self, run: Run, experiment: Experiment, device: torch.device):
        self.experiment, self.training, self.device = experiment, experiment.training, device
        self.dataset = prepared(experiment, open_dataset(experiment.dataset, experiment.data))
        split = self.dataset.train
        if facts_of(split) != run.facts:
            root = self.dataset.root
            raise BadInput(f"the images in {root} changed since run {run.name!r} was created")
        size, cache = self.training.size, self.training.cache
        test = (*self.dataset.query.paths, *self.dataset.gallery.paths)
        self.images, self.test = (
            Images(split.paths, size, TRAIN_FILTER, cache),
            Images(test, size, cache=cache),
        )
        # Sorted, so that row i of a classifier is the i-th smallest identity.
        self.classes = np.unique(split.identities, return_inverse=True)[1]
        self.cameras = rows_of(split.cameras.tolist(), run.facts.cameras)
        self.views = rows_of(split.views.tolist(), run.facts.views)

    def plan(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch, as rows."""
        generator = np.random.default_rng([self.training.seed, epoch])
        p, k = self.training.identities_per_batch, self.training.images_per_identity
        return batches(self.classes, p, k, generator)

    def batch(self, rows: np.ndarray, epoch: int) -> Batch:
        """The augmented images of these rows, on the device."""
        seen, clean = augment(
            self.images[rows].to(self.device),
            flip=self.training.flip,
            pad=self.training.pad,
            erase=self.training.erase,
            normalisation=self.training.normalisation,
        )
        identity = torch.as_tensor(self.classes[rows], device=self.device)
        camera, view = self.cameras[rows].to(self.device), self.views[rows].to(self.device)
        return Batch(seen, camera, view, identity, epoch, clean)


def _entry(training: Training, where: dict, plan: list[np.ndarray]) -> dict[str, float]:
    """A finished epoch's line of history. Raises BadInput for a loss that is no number."""
    epoch, sums = where["epoch"], where["sums"]
    if not all(torch.isfinite(total) for total in sums.values()):
        raise BadInput(
            f"the loss became NaN or infinite in epoch {epoch}: lower the learning rate "
            f"(learning_rate={training.learning_rate}) or train with precision=fp32"
        )
    entry = dict(epoch=epoch, learning_rate=learning_rate(training, epoch))
    entry |= {
        "loss" if name == "total" else f"loss_{name}": float(total) / len(plan)
        for name, total in sums.items()
    }
    images = sum(map(len, plan))
    return entry | dict(images_per_second=images / where["seconds"], seconds=where["seconds"])


def seed(*numbers: int) -> None:
    """Seed every generator from a tuple of numbers."""
    drawn = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(drawn)
    np.random.seed(drawn)
    torch.manual_seed(drawn)


class Progress:
    """The bar on stderr, the heartbeat in the run folder and TensorBoard's curves."""

    def __init__(self, run: Run, quiet: bool):
        self.run, self.training = run, run.experiment.training
        self.bar = tqdm(
            unit="img", file=sys.stderr, dynamic_ncols=True, smoothing=0.1, disable=quiet
        )
        self.board = SummaryWriter(str(run.folder / "tensorboard"))
        self.last_step = self.last_beat = time.perf_counter()
        self.rate = 0.0

    def stepped(self, epoch: int, step: int, steps: int, images: int) -> float:
        """Count a step; returns the seconds it took."""
        now = time.perf_counter()
        seconds, self.last_step = now - self.last_step, now
        rate = images / max(seconds, 1e-9)
        self.rate = 0.9 * self.rate + 0.1 * rate if self.rate else rate
        left = (self.training.epochs - epoch) * steps + steps - step
        if not self.bar.disable:
            self.bar.total = self.bar.n + (left + 1) * images
            self.bar.set_description(f"epoch {epoch}/{self.training.epochs}", refresh=False)
            self.bar.update(images)
        if now - self.last_beat > HEARTBEAT or step in (1, steps):
            self.beat(epoch, step, steps, left * images / self.rate)
        return seconds

    def beat(self, epoch: int, step: int, steps: int, seconds_left: float) -> None:
        self.last_beat = time.perf_counter()
        self.run.report(
            "running",
            epoch=epoch,
            epochs=self.training.epochs,
            step=step,
            steps=steps,
            images_per_second=self.rate,
            seconds_left=seconds_left,
        )

    def stopped(self, epoch: int, step: int, steps: int) -> None:
        """Say so, in the run and to the caller. Raises Stopped."""
        self.bar.close()
        self.run.report("stopped", epoch=epoch, epochs=self.training.epochs, step=step, steps=steps)
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


def _evaluate(run: Run, model: ReIDModel, feed: Feed) -> dict[str, float]:
    """Embed and score the test split in float32; weights, embeddings and scores go to the run."""
    model.eval()
    embeddings = embed_test(model, feed.experiment, feed.dataset, images=feed.test)
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


def _save(run: Run, model, optimizer, where: dict) -> None:
    run.save_state(
        dict(model=model.module.state_dict(), optimizer=optimizer.optimizer.state_dict(), **where)
    )


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
