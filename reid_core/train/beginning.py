"""What the log says of a training as it begins, or goes on."""

from shutil import rmtree
from typing import Any

from reid_core.distributed import world
from reid_core.feed import Feed
from reid_core.runs import Run
from reid_core.train import accidents
from reid_core.train.ending import log

BEFORE = "history-before.jsonl"
OTHER = (
    "; from here on the numbers are not, to the last bit, those of a training that never stopped"
)


def tell(run: Run, feed: Feed, where: str, kept: dict[str, Any] | None) -> None:
    """What is trained on what and where; what is not as it was in the state that it goes on from."""
    asked, training = run.experiment, run.experiment.training
    log.info("%s: %s on %s", run.name, asked.model, where)
    log.info("%d images of %d identities", len(feed.images), run.facts.classes)
    count, size = world(), getattr(asked.options, "sequences_per_batch", 0)
    if count > 1:
        how = training.mining, training.sync_batchnorm
        log.info("%d processes, mining=%s, sync_batchnorm=%s", count, *how)
    if size % count:
        log.info("second stage: each process computes all of %d sequences_per_batch", size)
    if kept and (before := kept.get("processes", 1)) != count:
        log.info("processes: %d in place of %d%s", count, before, OTHER)
    now = feed.trained_on
    if kept and (then := kept.get("trained_on", now)) != now:
        words = "training images: others than before (%d now, %d then)%s"
        log.warning(words, now["images"], then["images"], OTHER)


def anew(run: Run) -> None:
    """Put away what a training has left of which there is no state any more: neither its curves nor its
    steps without a finite loss are those of the one that begins."""
    if run.history():
        words = "no state is left of the %d epochs in its history: it begins anew, and they are put into %s"
        log.info(words, len(run.history()), BEFORE)
        run.write(BEFORE, (run.folder / "history.jsonl").read_bytes())
        run.write("history.jsonl", b"")
        board = run.folder / "tensorboard"
        if board.is_dir():
            rmtree(older := run.folder / f"{board.name}-before", ignore_errors=True)
            board.rename(older)
    if accidents.nonfinite(run):
        run.write(accidents.NOTES, b"[]\n")
