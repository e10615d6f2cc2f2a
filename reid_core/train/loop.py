"""The training loop: epochs of steps, each of them kept, until the run has its last evaluation."""

import math
import time
import traceback
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from reid_core.data.sampler import check_division
from reid_core.distributed import Elsewhere, Place, any_of, level, rank, world
from reid_core.embed import embed_test
from reid_core.errors import BadInput, is_short_of_memory
from reid_core.evaluate import evaluate
from reid_core.feed import Feed, seed
from reid_core.models import MODELS, Batch
from reid_core.models.norms import share_norms
from reid_core.optimize import fabric_for, learning_rate, optimizers_for, precision_of
from reid_core.runs import Run, build
from reid_core.train import accidents, beginning
from reid_core.train import state as states
from reid_core.train.ending import log
from reid_core.train.equip import equip, not_compiled
from reid_core.train.progress import Progress
from reid_core.train.stages import Stage, stages_of
from reid_core.train.state import Standing
from reid_core.train.step import NotFinite, odd, take_step


class Loop:
    """A training in progress. bare is the model itself, model the same as Fabric runs it."""

    def __init__(self, run: Run, progress: Progress, place: Place = Place()):
        self.run, self.progress, self.experiment = run, progress, run.experiment
        training = self.experiment.training
        run.sweep()
        run.history()  # raises for a damaged one now, not after an epoch
        self.kept = run.load_state()
        self.standing = Standing.of(self.kept)
        stood = dict(epoch=self.standing.epoch - 1, epochs=self.experiment.epochs)
        run.report("running", **stood, message="reading the images")
        self.fabric = fabric_for(training, place, MODELS[self.experiment.model].refines)
        if place.world > 1:
            check_division(training.identities_per_batch, place.world, training.mining)
            self.fabric.launch()
        self.feed = Feed(run, self.experiment, self.fabric.device)
        seed(training.seed)
        self.bare = build(self.experiment, run.facts, pretrained=self.kept is None)
        if self.kept:
            states.restore_model(run, self.bare, self.kept)
        elif self.experiment.encoder:
            states.take_encoder(self.bare, self.experiment.options.encoder)
        share_norms(self.bare, training.sync_batchnorm, self.fabric.device.type)
        equip(self.bare, training, self.fabric.device.type)
        self.model = self.fabric.setup_module(self.bare)
        self.stages = stages_of(self.experiment, self.bare, self.model, self.feed)
        self.stage: Stage | None = None
        self.optimizers: list = []
        noted = accidents.nonfinite(run) if self.kept else []
        self.left_out = {(note["epoch"], note["step"]): note.get("reason", "") for note in noted}
        self.unchecked: list[tuple[int, Tensor]] = []  # steps, and what of each is finite
        self.saved = time.monotonic()
        self.fitted = False  # whether this process has taken a step of this stage
        precision = precision_of(self.fabric)
        if self.kept is None:  # not before all that it needs is there
            beginning.anew(run)
        beginning.tell(run, self.feed, f"{self.fabric.device}, {precision}", self.kept)

    def run_to_its_end(self) -> None:
        """Every epoch that is left. Raises Stopped when asked to stop, and BadInput."""
        epochs, fresh = self.experiment.epochs, self.kept is None
        if self.standing.epoch > epochs:  # it was finished, and has lost what that left
            log.info("all epochs are done: its last state is evaluated once more")
            self.stage = self.stages[-1]
            self._evaluate()
        while self.standing.epoch <= epochs:
            self._begin_stage()
            if fresh:  # so that the first step has a state before it
                self._save()
                fresh = False
            self._epoch()
        self.run.report("finished", epoch=epochs, epochs=epochs)

    def _begin_stage(self) -> None:
        """Optimisers for what this epoch trains, where that is not what the last one trained."""
        stage = [each for each in self.stages if each.before < self.standing.epoch][-1]
        if stage is self.stage:
            return
        self.stage = stage
        self.optimizers = [
            self.fabric.setup_optimizers(each)
            for each in optimizers_for(stage.module, stage.training)
        ]
        states.restore_optimizers(self.run, self.optimizers, self.kept or {}, self._stage_number)
        self.kept, self.fitted = None, False
        self.progress.begin(last=stage is self.stages[-1])

    def _epoch(self) -> None:
        stage, standing = self.stage, self.standing
        epoch = standing.epoch
        level(self.bare)
        stage.feed.begin(epoch, partial(self.progress.alive, epoch))
        plan = stage.feed.plan(epoch)
        rate = learning_rate(stage.training, epoch - stage.before)
        for group in self.optimizers[0].param_groups:
            group["lr"] = group["scale"] * rate
        self.progress.pause()
        for step in range(standing.step, len(plan)):
            if (epoch, step) in self.left_out:
                reason = self.left_out[epoch, step]
                log.info("epoch %d: step %d is left out: %s", epoch, step + 1, reason)
                standing.step = step + 1
                continue
            self._step(step, plan)
        self._check(plan)
        standing.seconds += self.progress.pause()  # in which a GPU computed what it was asked for
        taken = [rows for step, rows in enumerate(plan) if (epoch, step) not in self.left_out]
        if not taken:
            raise BadInput(
                f"every step of epoch {epoch} gave NaN or infinity: start anew with a lower learning_rate"
            )
        entry = standing.entry(rate, taken)
        if epoch % stage.training.evaluate_every == 0 or epoch == self.experiment.epochs:
            self._save()  # an evaluation that dies loses no epoch
            entry |= self._evaluate()
        if epoch > len(self.run.history()):  # or a kill came between the line and the state
            self.run.add_epoch(entry)
            self.progress.plot(entry)
        log.info("epoch %d: %s", epoch, ", ".join(f"{k} {v:.4g}" for k, v in entry.items()))
        self.standing = Standing(epoch + 1)
        self._save()

    def _step(self, step: int, plan: list[np.ndarray]) -> None:
        stage, standing, epoch = self.stage, self.standing, self.standing.epoch
        batch = self._batch(step, plan)
        stage.feed.expect(plan[step + 1 :])
        take = partial(take_step, self.fabric, self.model, self.optimizers)
        try:
            terms, finite = take(batch, stage.training)
        except NotFinite as error:
            self._check(plan)  # it may be the step before that ruined the weights
            self._save()
            raise self._not_finite(step, plan, str(error)) from None
        except (RuntimeError, MemoryError, UserWarning) as error:
            if problem := not_compiled(error, stage.training):
                raise problem from error
            if not is_short_of_memory(error):
                raise
            del batch
            traceback.clear_frames(error.__traceback__)  # they hold what the step had computed
            raise self._too_large(plan[step]) from error
        standing.sums = {name: standing.sums.get(name, 0.0) + term for name, term in terms.items()}
        standing.step = step + 1
        standing.seconds += self.progress.stepped(epoch, step + 1, len(plan), plan[step].size)
        self.unchecked.append((step, finite))
        self.fitted = True
        due = time.monotonic() - self.saved > 60 * stage.training.save_minutes
        due, stop = any_of(due, self.run.stop_asked)
        if due or stop:
            self._check(plan)
            self._save()
        if stop:
            self.progress.stopped(epoch, step + 1, len(plan))

    def _batch(self, step: int, plan: list[np.ndarray]) -> Batch:
        """A step's batch, drawn from its seed; what is drawn after it differs between processes."""
        stage, epoch = self.stage, self.standing.epoch
        numbers = (stage.training.seed, epoch, step)
        seed(*numbers)
        batch, problem = None, None
        try:
            batch = stage.feed.batch(plan[step], epoch)
        except Exception as error:  # an image that can't be read
            problem = error
        if any_of(problem is not None)[0]:  # nothing has moved yet
            self._check(plan)
            self._save()
            raise problem or Elsewhere("another process could not make its part of a batch")
        if rank():
            seed(*numbers, rank())
        return batch

    def _check(self, plan: list[np.ndarray]) -> None:
        """Before anything is kept: the steps since the last look, and what became of the weights.
        Raises NotFinite."""
        taken, self.unchecked = self.unchecked, []
        if not taken:
            return
        finite = torch.stack([each for _, each in taken]).cpu()  # (steps, 2)
        if not finite.all():
            first = int(finite.all(dim=1).int().argmin())
            raise self._not_finite(taken[first][0], plan, odd(finite[first]))
        # A variance of 1e20 may be; weights of which the squares overflow are lost.
        for name, tensors, norm in (
            ("weights", self.bare.parameters(), 2.0),
            ("statistics", self.bare.buffers(), math.inf),
        ):
            real = [each.detach() for each in tensors if each.is_floating_point()]
            if not torch.isfinite(nn.utils.get_total_norm(real, norm)):
                raise self._not_finite(taken[-1][0], plan, f"the {name} became NaN or infinite")

    def _not_finite(self, step: int, plan: list[np.ndarray], reason: str) -> NotFinite:
        """Keep the batch, its seed and the state before; returns what to raise."""
        epoch, feed = self.standing.epoch, self.stage.feed
        rate = self.optimizers[0].param_groups[0]["lr"]
        seeds = [self.stage.training.seed, epoch, step]
        note = dict(epoch=epoch, step=step, seed=seeds, reason=reason, learning_rate=rate)
        note |= dict(images=feed.names(plan[step]))
        accidents.keep_nonfinite(self.run, note)
        exact = precision_of(self.fabric) == "32-true"
        return NotFinite(
            f"{reason} in epoch {epoch}, step {step + 1} (learning rate {rate:g}): the batch, its seed "
            "and the state before are in state/nonfinite.json and nonfinite.pt; resume to go on without "
            "this batch, or start anew with a lower learning_rate"
            + ("" if exact else " or precision=fp32")
        )

    def _too_large(self, rows: np.ndarray) -> BadInput:
        """Try smaller batches; returns what to raise. The model is spoilt after it, the state is not."""
        training, epoch = self.stage.training, self.standing.epoch
        self.progress.say("out of memory: trying smaller batches")

        def attempt(images: int, parts: int) -> None:
            batch = self.stage.feed.batch(rows[:images], epoch)
            asked = replace(training, accumulate=parts)
            take_step(self.fabric, self.model, self.optimizers, batch, asked)

        return accidents.too_large(training, rows.shape, world(), attempt, self.fitted)

    def _evaluate(self) -> dict[str, float]:
        """Embed and score the test split in float32; weights, embeddings and scores go to the run."""
        self.bare.eval()
        stage = "refined" if self.stage is self.stages[-1] else "encoder"
        feed = self.feed
        level(self.bare)
        with torch.compiler.set_stance("force_eager"):  # the sizes differ from a training batch's
            embeddings = embed_test(
                self.bare, feed.experiment, feed.dataset, stage=stage, images=feed.test
            )
        self.bare.train()
        if embeddings is None:  # the first process scores
            return {}
        try:
            scores = evaluate(embeddings).as_dict()
        except BadInput as error:
            log.warning("not evaluated: %s", error)
            scores = {}
        self.run.keep(self.bare, embeddings, scores)
        if not scores:
            return {}
        return dict(mAP=scores["mAP"], mINP=scores["mINP"], rank1=scores["cmc"]["1"])

    @property
    def _stage_number(self) -> int:
        return self.stages.index(self.stage)

    def _save(self) -> None:
        stage, seen = self._stage_number, self.feed.trained_on
        states.save(self.run, self.bare, self.optimizers, stage, self.standing, seen)
        self.saved = time.monotonic()
