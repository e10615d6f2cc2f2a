"""One training run, from its experiment to its last evaluation.

Every step draws from a generator seeded with (seed, epoch, step). So a resumed run needs no
generator's state to go on exactly as it would have.
"""

import logging
import traceback
from contextlib import suppress

import psutil

from reid_core.errors import BadInput, from_system
from reid_core.runs import Run
from reid_core.train.accidents import determinism
from reid_core.train.ending import Stopped, log, logged, stop_signals
from reid_core.train.loop import Loop
from reid_core.train.new import create
from reid_core.train.progress import Progress

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


def train(run: Run, quiet: bool = False) -> None:
    """Train a run to its end, from where it stands. Raises BadInput, or Stopped when asked to stop.

    Whatever ends it is in the run's status and log. quiet shows no bar and lets other programs go
    first.
    """
    with run.lock(), logged(run, quiet), stop_signals(run) as caught:
        if quiet:
            low = psutil.BELOW_NORMAL_PRIORITY_CLASS if psutil.WINDOWS else 10
            psutil.Process().nice(low)
        progress = Progress(run, quiet)
        try:
            with determinism(run.experiment.training.deterministic):
                Loop(run, progress).run_to_its_end()
        except Stopped as stop:
            stop.signal = caught[0] if caught else None
            log.info("%s", stop)
            raise
        except BaseException as error:
            told = from_system(error) if isinstance(error, OSError) else error
            message = str(told).strip() or type(error).__name__
            log.info("%s", message if isinstance(told, BadInput) else traceback.format_exc())
            with suppress(OSError):  # a disk that is full is full for this too
                run.report("failed", message=message.splitlines()[0])
            raise
        finally:
            progress.close()


__all__ = ["Progress", "Stopped", "create", "train"]
