"""How a training tells where it stands."""

import sys
import time
from contextlib import suppress
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar
from tqdm import tqdm

from reid_core.distributed import any_of
from reid_core.runs import Run
from reid_core.train.ending import Stopped, log

HEARTBEAT = 1.0  # seconds


class Progress:
    """The bar on stderr, the heartbeat in the run folder and TensorBoard's curves."""

    def __init__(self, run: Run, quiet: bool):
        self.run, self.epochs = run, run.experiment.epochs
        self.bar = tqdm(
            unit="img",
            file=sys.stderr,
            dynamic_ncols=True,
            smoothing=0.1,
            disable=quiet,
            mininterval=0.1 if sys.stderr.isatty() else 10,  # a log wants few lines
        )
        self.board: EventsWriter | None = None
        self.boarded = True
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

    def alive(self, epoch: int, message: str = "embedding the training images") -> None:
        """Between steps, in a pass that prepares: still here, and still wanted. Raises Stopped."""
        if time.perf_counter() - self.last_beat > HEARTBEAT:
            self.say(message, epoch)
        if any_of(self.run.stop_asked)[0]:
            self.stopped(epoch, 0, 0)

    def say(self, message: str, epoch: int = 0) -> None:
        """What is done between steps."""
        self.last_beat = time.perf_counter()
        self.run.report("running", epoch=epoch, epochs=self.epochs, message=message)

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
        """A finished epoch's line of history, as TensorBoard's scalars. They are a second copy: a
        disk that takes no more of them ends them, not the training."""
        if not self.boarded:
            return
        try:
            # Not tensorboardX's SummaryWriter, whose thread dies of a full disk with a traceback.
            self.board = self.board or _events(self.run.folder / "tensorboard")
            for name, value in entry.items():
                if name != "epoch":
                    point = scalar(name, value)
                    self.board.write_event(
                        Event(summary=point, step=entry["epoch"], wall_time=time.time())
                    )
            self.board.flush()
        except OSError as error:
            self.boarded = False
            log.warning("TensorBoard's curves end here (%s); history.jsonl goes on", error.strerror)

    def close(self) -> None:
        self.bar.close()
        with suppress(OSError):  # it would hide why a training ends; the history holds the same
            if self.board:
                self.board.close()

    def pause(self) -> float:
        """What came since the last step is no step's time; returns its seconds."""
        before, self.last_step = self.last_step, time.perf_counter()
        return self.last_step - before


def _events(folder: Path) -> EventsWriter:
    folder.mkdir(exist_ok=True)
    return EventsWriter(str(folder / "events"))
