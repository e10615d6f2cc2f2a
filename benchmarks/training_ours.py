"""What is timed of ours: a model's pass and step through the same functions that a training calls, its
input, its epochs; and timm's bare trunk."""

import ctypes
import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from reid_core.data import prepare
from reid_core.distributed import Place
from reid_core.experiment import Experiment
from reid_core.optimize import fabric_for, optimizers_for
from reid_core.train.loop import Loop
from reid_core.train.new import create
from reid_core.train.progress import Progress
from reid_core.train.step import take_step

SIZE = (256, 128)
# What the official repositories' models are beside: stride 16, and of PHA the variant that does the
# same work. The last is the whole of timm's trunk and a classifier on it.
SETTINGS = {
    "transreid": dict(stride=16, sie="camera"),
    "pha": dict(stride=16, variant="official"),
    "rga": {},
    "vit-bot": dict(stride=16),
    "ohformer": {},
    "resnet-bot": {},
}
BARE = {"rga": "resnet50", "resnet-bot": "resnet50"}


@dataclass
class Timed:
    """forward() in evaluation mode and step() of training, nothing else."""

    model: nn.Module
    forward: Callable[[], object]
    step: Callable[[], object]


def experiment(model: str, count: int, device: str, precision: str, **more) -> Experiment:
    """The paper's recipe on the pedestrians, at 256x128, without weights to download."""
    settings = dict(pretrained="none", size=SIZE, identities_per_batch=max(2, count // 4))
    settings |= dict(images_per_identity=4 if count >= 8 else max(2, count // 2))
    settings |= dict(epochs=100, evaluate_every=100, device=device, precision=precision)
    settings |= SETTINGS[model] | more
    return Experiment.create(model=model, recipe="paper", settings=settings)


def began(asked: Experiment) -> Loop:
    """A training that is about to take its first step, in a run folder of its own."""
    prepare(asked.dataset, asked.data)
    run = create(asked)
    loop = Loop(run, Silent(run, quiet=True), Place())
    loop._begin_stage()
    return loop


class Silent(Progress):
    """No TensorBoard, no heartbeat: the clock is ours."""

    def beat(self, *given) -> None:
        pass


def fewest_batches(loop: Loop, epochs: int) -> int:
    """In the shortest of the first epochs."""
    return min(len(loop.feed.plan(epoch)) for epoch in range(1, epochs + 2))


def first_batch(loop: Loop):
    """A batch of the pedestrians, and the files that it was read from."""
    plan = loop.feed.plan(1)
    paths = [str(loop.feed.dataset.train.paths[row]) for row in plan[0]]
    return loop.feed.batch(plan[0], 1), paths


def timed(loop: Loop, batch, precision: str) -> Timed:
    """The loop's model in a precision."""
    training = replace(loop.experiment.training, precision=precision)
    fabric = fabric_for(training)
    model = fabric.setup_module(loop.bare)
    optimizers = [fabric.setup_optimizers(each) for each in optimizers_for(loop.bare, training)]
    unnamed = replace(batch, identity=None)

    def forward() -> None:
        loop.bare.eval()
        with torch.no_grad():
            model(unnamed)

    def step() -> None:
        loop.bare.train()
        take_step(fabric, model, optimizers, batch, training)

    return Timed(loop.bare, forward, step)


def bare(model: str, batch, device: str, bf16: bool) -> Timed:
    """timm's trunk with a classifier, cross-entropy and SGD: the ceiling."""
    name, classes = BARE.get(model, "vit_base_patch16_224"), 751
    own = {} if model in BARE else dict(img_size=SIZE)
    trunk = timm.create_model(name, num_classes=classes, **own).to(device)
    optimizer = torch.optim.SGD(trunk.parameters(), lr=1e-3, momentum=0.9)
    target = batch.identity % classes

    def passed() -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            return trunk(batch.image)

    def forward() -> None:
        trunk.eval()
        with torch.no_grad():
            passed()

    def step() -> None:
        trunk.train()
        optimizer.zero_grad()
        F.cross_entropy(passed().float(), target).backward()
        optimizer.step()

    return Timed(trunk, forward, step)


def flops(call: Callable[[], object]) -> int:
    """Multiplications and additions of all matrix products and convolutions in a call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


# Input and epochs


def our_input(loop: Loop, batches: int) -> Callable[[], None]:
    """The augmented batches of the second epoch on, images decoded once in the first."""
    plan = loop.feed.plan(2)[:batches]

    def call() -> None:
        for rows in plan:
            loop.feed.batch(rows, 2)

    return call


class PerImage(Dataset):
    """The official TransReID's transforms on the file of each image."""

    def __init__(self, paths: list[Path], labels: list[int]):
        from timm.data.random_erasing import RandomErasing
        from torchvision import transforms

        self.paths, self.labels = paths, labels
        self.transform = transforms.Compose(
            [
                transforms.Resize(SIZE, transforms.InterpolationMode.BICUBIC),
                transforms.RandomHorizontalFlip(0.5),
                transforms.Pad(10),
                transforms.RandomCrop(SIZE),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * 3, [0.5] * 3),
                RandomErasing(0.5, mode="pixel", max_count=1, device="cpu"),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.open(self.paths[row]).convert("RGB")), self.labels[row]


def official_input(loop: Loop, batches: int, workers: int) -> Callable[[], None]:
    """The same images through PIL and torchvision, one by one; with workers in so many processes."""
    rows = [row for rows in loop.feed.plan(2)[:batches] for row in rows]
    paths = [loop.feed.dataset.train.paths[row] for row in rows]
    images = PerImage(paths, loop.feed.classes[rows].tolist())
    size = len(loop.feed.plan(2)[0])
    loader = DataLoader(images, batch_size=size, num_workers=workers)

    def call() -> None:
        for _ in loader:
            pass

    return call


def our_epoch(loop: Loop, batches: int) -> Callable[[], None]:
    """The loop's own epoch, of its first so many batches; what it keeps on disk at the end is left
    out."""
    planned, loop._save = loop.feed.plan, lambda: None
    loop.feed.plan = lambda epoch: planned(epoch)[:batches]
    return loop._epoch


def official_epoch(loop: Loop, official, batches: int, device: str) -> Callable[[], None]:
    """The official transforms in worker processes, and the official step for each batch."""
    load = official_input(loop, batches, min(8, os.cpu_count() or 1))
    loader = load.__closure__[0].cell_contents

    def call() -> None:
        for images, _ in loader:
            images.to(device)
            official.step()

    return call


def peak(timed, device: str) -> float | None:
    """MB that a step takes at most beyond weights and optimiser; None where the system can't tell."""
    timed.model.zero_grad(set_to_none=True)
    gc.collect()
    call = timed.step
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what is free within the process would hide what it takes
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
        before = _resident("VmRSS")
        call()
        return (_resident("VmHWM") - before) / 1e3
    except (OSError, AttributeError):
        return None


def _resident(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(name)))


def seconds(call: Callable[[], object], device: str) -> tuple[float, float]:
    """Wall seconds and the process's CPU seconds, all threads together, of a call."""
    if device == "cuda":
        torch.cuda.synchronize()
    wall, used = time.perf_counter(), time.process_time()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - used
