"""A run's training images as batches: of images, or of sequences of stored features."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch

from reid_core.data import Dataset, Split, joined, open_dataset
from reid_core.data.images import FILTERS, Images, finish
from reid_core.data.sampler import batches, sequences
from reid_core.device import sent
from reid_core.distributed import gathered, part, rank, share, world
from reid_core.embed import rows_of
from reid_core.errors import BadInput
from reid_core.experiment import Experiment
from reid_core.input import AHEAD, INPUTS, Ahead, Fast, ending, seed
from reid_core.models import Batch, Facts, ReIDModel
from reid_core.runs import Run


def facts_of(split: Split) -> Facts:
    """What a model must know of its training images."""
    cameras, views = (np.unique(ids[ids >= 0]).tolist() for ids in (split.cameras, split.views))
    return Facts(len(np.unique(split.identities)), tuple(cameras), tuple(views))


def prepared(experiment: Experiment, dataset: Dataset) -> Dataset:
    """The data set as this experiment uses it: with a holdout, part of the training identities
    takes the test split's place (of each camera's images of an identity the first is a query)."""
    share = experiment.training.holdout
    if not share:
        if not len(dataset.query):
            raise BadInput(
                f"{dataset.root} has no queries to test with: give holdout=0.2, say, to keep part of "
                "the training identities for that"
            )
        return dataset
    train = dataset.train
    identities = np.unique(train.identities)
    if "+" in experiment.dataset:  # the test split is the first set's, here too
        identities = identities[identities < joined.IDENTITIES]
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


class Feed:
    """Batches of augmented images, P identities with K each."""

    def __init__(self, run: Run, experiment: Experiment, device: torch.device):
        self.experiment, self.training, self.device = experiment, experiment.training, device
        self.dataset = prepared(experiment, open_dataset(experiment.dataset, experiment.data))
        split = self.dataset.train
        found = facts_of(split)
        if experiment.encoder:  # its cameras are the encoder's
            found = replace(run.facts, classes=found.classes)
        if found != run.facts:
            root = self.dataset.root
            raise BadInput(f"the images in {root} changed since run {run.name!r} was created")
        size, kept = self.training.size, dict(cache=self.training.cache, disk=self.training.disk)
        test = (*self.dataset.query.paths, *self.dataset.gallery.paths)
        test = test[share(len(test))]  # what this process embeds
        self.images, self.test = (
            Images(split.paths, size, FILTERS[self.training.resize], **kept),
            Images(test, size, **kept),
        )
        self.input = INPUTS[self.training.input](self.images, self.training, device)
        self.ahead = Ahead(self.input.read, device)
        self.unfilled = isinstance(self.input, Fast) and self.images.file is not None
        # Sorted, so that row i of a classifier is the i-th smallest identity.
        self.classes = np.unique(split.identities, return_inverse=True)[1]
        self.cameras = rows_of(split.cameras.tolist(), run.facts.cameras)
        self.views = rows_of(split.views.tolist(), run.facts.views)

    @cached_property
    def trained_on(self) -> dict[str, int | str]:
        """How many images, and a digest of which they are."""
        split = self.dataset.train
        rows = zip(self.names(np.arange(len(split))), split.identities.tolist(), strict=True)
        digest = hashlib.sha256(repr(list(rows)).encode())
        return dict(images=len(split), digest=digest.hexdigest()[:16])

    def begin(self, epoch: int, alive: Callable[..., None]) -> None:
        """Before an epoch: the first time, the images that shall be kept on disk are decoded. Calls
        alive(message) now and then, which may end it."""
        if self.unfilled:
            self.images.fill(alive, start=rank() / world())
            self.unfilled = False

    def plan(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch, as rows."""
        generator = np.random.default_rng([self.training.seed, epoch])
        p, k = self.training.identities_per_batch, self.training.images_per_identity
        return batches(self.classes, p, k, generator, self.training.sampler == "identities")

    def names(self, rows: np.ndarray) -> list[str]:
        """Which images these rows are, below the data set's root."""
        root, paths = self.dataset.root, self.dataset.train.paths
        return [Path(os.path.relpath(paths[row], root)).as_posix() for row in rows.ravel()]

    def expect(self, plan: list[np.ndarray]) -> None:
        """These batches are next: a thread decodes the first of them, while others are computed."""
        self.ahead.expect([rows[part(rows)] for rows in plan[:AHEAD]])

    def batch(self, rows: np.ndarray, epoch: int) -> Batch:
        """The augmented images of these rows, on the device; of several processes each has its part."""
        # Drawn for the whole batch, so that an image is augmented as it would be in one process.
        own, count = part(rows), len(rows)
        rows = rows[own]
        seen, clean, plain = self.input.made(self.ahead.take(rows), (count, own))
        labels = torch.from_numpy(self.classes[rows]), self.cameras[rows], self.views[rows]
        identity, camera, view = (sent(each, self.device) for each in labels)
        finished = partial(finish, **ending(self.training))
        made = Batch(seen, camera, view, identity, epoch, clean, plain, finished)
        return _shared(made, self.training.mining, own, count)


class Sequences:
    """NFormer's second stage: sequences of features that the frozen encoder gave to the augmented
    training images, taken anew for each pass as in the official code."""

    def __init__(self, feed: Feed, options, model: ReIDModel):
        self.feed, self.options, self.model = feed, options, model
        self.vectors, self.classes = torch.empty(0), np.empty(0, int)
        self.rows = np.empty(0, int)

    @torch.no_grad()
    def begin(self, epoch: int, alive: Callable[..., None]) -> None:
        """Embed the training images of one epoch of batches, in evaluation mode; calls alive after
        each batch, which may end it."""
        self.feed.begin(epoch, alive)
        seed(self.feed.training.seed, epoch)
        plan = self.feed.plan(epoch)
        self.model.eval()
        found = []
        for step, rows in enumerate(plan):
            batch = self.feed.batch(rows, epoch)
            self.feed.expect(plan[step + 1 :])
            batch.identity = None
            found.append(gathered(self.model(batch).embedding.float()))
            alive()
        self.model.train()
        self.vectors = torch.cat(found)  # (N, D)
        self.rows = np.concatenate(plan)  # (N,)
        self.classes = self.feed.classes[self.rows]

    def plan(self, epoch: int) -> list[np.ndarray]:
        """The batches of a pass, each S x N rows of the stored features."""
        generator = np.random.default_rng([self.feed.training.seed, epoch, 1])
        count = max(1, len(self.vectors) // self.options.images_per_sequence)
        drawn = sequences(self.vectors.cpu().numpy(), self.options.sequence, count, generator)
        size = self.options.sequences_per_batch
        return [np.stack(drawn[i : i + size]) for i in range(0, len(drawn), size)]

    def names(self, rows: np.ndarray) -> list[str]:
        """Whose features these rows are."""
        return self.feed.names(self.rows[rows])

    def expect(self, plan: list[np.ndarray]) -> None:
        """Nothing is to be decoded."""

    def batch(self, rows: np.ndarray, epoch: int) -> Batch:
        """Stored features as sequences, on the device; identities follow one another."""
        own, count = part(rows), len(rows)
        rows = rows[own]
        identity = sent(torch.from_numpy(self.classes[rows].ravel()), self.feed.device)
        chosen = sent(torch.from_numpy(rows), self.vectors.device)
        nothing = torch.empty(0, dtype=torch.long, device=self.feed.device)
        made = Batch(None, nothing, nothing, identity, epoch, vectors=self.vectors[chosen])
        return _shared(made, self.feed.training.mining, own, count)


def _shared(batch: Batch, mining: str, own: slice, count: int) -> Batch:
    """A batch whose losses look at all of it, where they shall and this process has a part alone."""
    if mining == "global" and own.stop - own.start < count:
        batch.gather = gathered
    return batch


__all__ = ["Feed", "Sequences", "facts_of", "prepared", "seed"]
