"""What reading the images costs beside the model: images per second of three ways to embed JPEG files.

    python -m benchmarks.extraction [--model vit-bot] [--images 192] [--batch-size B] [--json]

- bare: the model on batches that are decoded already, the most there is to reach;
- streamed: `embedded`, from files to vectors, as `embed` and `evaluate` do it;
- in turn: each batch decoded and then embedded.

All three in one process, one after the other, in each repeat; medians, and the median of the paired
ratios to bare, on the clock and (which a busy machine disturbs less) of processor time. The model is
the paper's at 256 x 128 with random weights; the images are the pedestrians' test gallery.
"""

import argparse
import json
import time
from collections.abc import Callable
from statistics import median

import torch

from reid_core.data import prepare
from reid_core.data.images import Images
from reid_core.embed import batch_of, batch_size_of, embedded
from reid_core.experiment import Experiment
from reid_core.models import Facts, ReIDModel
from reid_core.runs import build


class Ways:
    """The three ways, over the same files in the same batches."""

    def __init__(
        self, model: ReIDModel, asked: Experiment, files: list, batch: int, precision: str
    ):
        self.model, self.asked, self.files = model, asked, files
        self.batch, self.precision = batch, precision
        self.device = next(model.parameters()).device
        decoded = Images(files, asked.training.size, cache=0)
        starts = range(0, len(files), batch)
        self.rows = [range(start, min(start + batch, len(files))) for start in starts]
        self.pixels = [decoded[rows].to(self.device) for rows in self.rows]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        kind, half = self.device.type, self.precision == "bf16"
        with torch.no_grad(), torch.autocast(kind, torch.bfloat16, enabled=half):
            unknown = [None] * len(pixels)
            return self.model(
                batch_of(self.model, self.asked, pixels.float() / 255, unknown)
            ).embedding

    def bare(self) -> None:
        for pixels in self.pixels:
            self.forward(pixels)
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def streamed(self) -> None:
        images = Images(self.files, self.asked.training.size, cache=0)
        unknown = [None] * len(self.files)
        how = dict(batch_size=self.batch, precision=self.precision)
        for _ in embedded(self.model, self.asked, images, unknown, unknown, **how):
            pass

    def in_turn(self) -> None:
        images = Images(self.files, self.asked.training.size, cache=0)
        for rows in self.rows:
            self.forward(images[rows].to(self.device)).float().cpu()


def seconds(act: Callable[[], None]) -> tuple[float, float]:
    """On the clock, and of processor time of all threads."""
    start, busy = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - start, time.process_time() - busy


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="vit-bot")
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--batch-size", type=int, default=None)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    settings = dict(pretrained="none", size="256x128")
    experiment = Experiment.create(model=asked.model, recipe="paper", settings=settings)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build(experiment, Facts(751)).eval().to(device)
    files = list(prepare("pedestrians").gallery.paths)[: asked.images]
    batch = asked.batch_size or batch_size_of(model, experiment, asked.precision)
    ways = Ways(model, experiment, files, batch, asked.precision)
    acts = {"bare": ways.bare, "streamed": ways.streamed, "in turn": ways.in_turn}
    for act in acts.values():
        act()  # what is made once
    rounds = [{name: seconds(act) for name, act in acts.items()} for _ in range(asked.repeats)]
    found = dict(model=asked.model, device=str(device), precision=asked.precision, batch_size=batch)
    found |= dict(
        images=len(files), decode=len(files) / seconds(lambda: decode(files, experiment))[0]
    )
    for name in acts:
        found[name] = dict(
            images_per_second=len(files) / median(each[name][0] for each in rounds),
            of_bare=median(each["bare"][0] / each[name][0] for each in rounds),
            processor_of_bare=median(each[name][1] / each["bare"][1] for each in rounds),
        )
    print(json.dumps(found, indent=2) if asked.json else table(found, acts))


def decode(files: list, experiment: Experiment) -> None:
    Images(files, experiment.training.size, cache=0)[range(len(files))]


def table(found: dict, acts: dict) -> str:
    kind = {"cpu": "CPU", "cuda": "GPU"}.get(found["device"], found["device"])
    lines = [
        f"{found['model']}, {found['precision']}, {kind}, batches of {found['batch_size']}, "
        f"{found['images']} images; decoding alone: {found['decode']:.0f} images/s",
        "| way | images/s | of bare | processor time, of bare's |",
        "|---|---|---|---|",
    ]
    for name in acts:
        row = found[name]
        cells = f"{row['images_per_second']:.1f} | {row['of_bare']:.2f}"
        lines.append(f"| {name} | {cells} | {row['processor_of_bare']:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
