"""One training run, from its experiment to its last evaluation.

Every step draws from a generator seeded with (seed, epoch, step). So a resumed run needs no
generator's state to go on exactly as it would have.
"""

import logging
import traceback
from contextlib import suppress

from reid_core.distributed import given_place, place_of
from reid_core.errors import BadInput, as_told
from reid_core.runs import Run
from reid_core.train.accidents import determinism, exact
from reid_core.train.ending import Stopped, log, logged, signs_of_life, stop_signals
from reid_core.train.loop import Loop
from reid_core.train.new import create, redistribute
from reid_core.train.processes import Lost, awaited, together
from reid_core.train.progress import Progress
from reid_core.train.unheard import Seen, Unheard

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


def train(run: Run, quiet: bool = False) -> None:
    """Train a run to its end, from where it stands. Raises BadInput, or Stopped when asked to stop.

    Whatever ends it is in the run's status and log. quiet shows no bar. Where its knobs or the
    environment ask for several processes, this is the first of them.
    """
    training = run.experiment.training
    place = place_of(training.devices, training.nodes)
    with run.lock(), logged(run, quiet), signs_of_life(run), stop_signals(run) as caught:
        progress = Progress(run, quiet)
        try:
            with exact(), determinism(training.deterministic), together(run, place) as place:
                Loop(run, progress, place).run_to_its_end()
        except Stopped as stop:
            stop.signal = caught[0] if caught else None
            log.info("%s", stop)
            raise
        except BaseException as error:
            told = as_told(error)
            message = str(told).strip() or type(error).__name__
            log.info("%s", message if isinstance(told, BadInput) else traceback.format_exc())
            with suppress(OSError):  # a disk that is full is full for this too
                run.report_end("failed", message.splitlines()[0])
            raise
        finally:
            progress.close()


def help_train(name: str | None) -> int:
    """Another process of a training: the same loop, while the first keeps the run's books. Returns
    the exit code; the reason for any but 0 is the first process's to tell. Raises BadInput."""
    run, place = awaited(name), given_place()
    log.setLevel(logging.CRITICAL)
    seen = Seen(run.name, run.folder)
    with stop_signals(run) as caught, suppress(Stopped):
        try:
            with (
                exact(),
                determinism(run.experiment.training.deterministic),
                together(seen, place),
            ):
                Loop(seen, Unheard(seen), place).run_to_its_end()
        except BadInput:
            return 1
    return 128 + caught[0] if caught else 0


__all__ = ["Lost", "Progress", "Stopped", "create", "help_train", "redistribute", "train"]
