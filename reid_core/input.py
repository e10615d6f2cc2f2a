"""How training images come to a step: fast, or as the official code does. B images of H x W pixels.

`read` takes rows and decodes them, ahead and in threads; `made` turns that into what the model sees,
at its step and in the thread of the step, since it draws from the global generators.
"""

import os
import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from reid_core.data.erasing import Among, eraser
from reid_core.data.images import NORMALISATIONS, Images, augment, opened
from reid_core.device import sent
from reid_core.experiment import Training

AHEAD = 2  # batches that are decoded before their step
MODES = {"bicubic": InterpolationMode.BICUBIC, "bilinear": InterpolationMode.BILINEAR}
Made = tuple[Tensor, Tensor, Tensor]  # what the model sees, `Batch.clean` and `Batch.plain`


def ending(training: Training) -> dict[str, Any]:
    """What `finish` needs to know of a training."""
    return dict(
        erase=training.erase,
        area=training.erase_area,
        fill=training.erase_fill,
        normalisation=training.normalisation,
    )


class Fast:
    """Images resized once, then augmented as a batch, on the device."""

    def __init__(self, images: Images, training: Training, device: torch.device):
        self.images, self.training, self.device = images, training, device

    def read(self, rows: np.ndarray) -> Tensor:
        """(B, 3, H, W) uint8; for a GPU in memory that it copies from by itself."""
        pixels = self.images[rows]
        return pixels.pin_memory() if self.device.type == "cuda" else pixels

    def made(self, pixels: Tensor, among: Among) -> Made:
        """These images, drawn for as the part of a batch that they are."""
        asked, pixels = self.training, sent(pixels, self.device)
        how = dict(flip=asked.flip, pad=asked.pad, translate=asked.translate)
        seen, clean = augment(pixels, **how, among=among, **ending(asked))
        return seen, clean, pixels.float() / 255


class Official:
    """Each image from its file, one after the other, through PIL and torchvision, in the order and
    with the draws of the official repositories (TransReID, PHA and NFormer: resize, flip, pad, crop;
    RGA: enlarge the file's image and crop, or resize, then flip; all: normalise, erase)."""

    def __init__(self, images: Images, training: Training, device: torch.device):
        self.sources, self.training, self.device = images.sources, training, device
        self.resize = transforms.Resize(training.size, MODES[training.resize])
        crop = [transforms.Pad(training.pad), transforms.RandomCrop(training.size)]
        flip, self.tensor = transforms.RandomHorizontalFlip(training.flip), transforms.ToTensor()
        self.moved = transforms.Compose([flip, *crop[: 2 * bool(training.pad)], self.tensor])
        erase = eraser(training.erase, training.erase_area, training.erase_fill)
        self.end = transforms.Compose(
            [transforms.Normalize(*NORMALISATIONS[training.normalisation]), erase]
        )

    def read(self, rows: np.ndarray) -> list:
        """The B images as they are in their files."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(lambda row: opened(self.sources[row]), rows))

    def made(self, images: Sequence, among: Among) -> Made:
        """These images, each from a seed of its own, so that it hangs on its place alone."""
        count, own = among
        step, threads = int(torch.randint(2**62, ())), torch.get_num_threads()
        torch.set_num_threads(1)  # one image is too little to share out
        found = []
        try:
            for row, image in enumerate(images, own.start):
                seed(step, row)
                small = self.resize(image)
                clean = self.moved(self._translated(image) or small)
                found.append((self.end(clean), clean, self.tensor(small)))
        finally:
            torch.set_num_threads(threads)
        seed(step, count)
        seen, clean, plain = (
            sent(torch.stack(each), self.device) for each in zip(*found, strict=True)
        )
        return seen, clean, plain

    def _translated(self, image):
        """RGA's translation, with its probability, else None: the file's image is resized to a size
        larger by an eighth, of which a part is taken. Where it begins is rounded, so that the first
        and the last place are half as likely as the others."""
        asked = self.training
        if random.random() >= asked.translate:
            return None
        height, width = asked.size
        larger = round(1.125 * height), round(1.125 * width)
        left = round(random.uniform(0, larger[1] - width))
        top = round(random.uniform(0, larger[0] - height))
        return F.crop(F.resize(image, larger, MODES[asked.resize]), top, left, height, width)


INPUTS = dict(fast=Fast, official=Official)


class Ahead:
    """Decodes batches while others are computed; what they come to is the same as without it."""

    def __init__(self, read: Callable[[np.ndarray], Any], device: torch.device):
        self.read, self.waiting = read, {}
        cuda = device.type == "cuda"  # pinned memory belongs to a thread's current device
        self.pool = ThreadPoolExecutor(1, "ahead", _use if cuda else None, (device,) * cuda)

    def expect(self, batches: Sequence[np.ndarray]) -> None:
        """These are the next ones, and what was expected besides is not wanted any more."""
        before, self.waiting = self.waiting, {}
        for rows in batches:
            future = before.pop(rows.tobytes(), None)
            self.waiting[rows.tobytes()] = future or self.pool.submit(self.read, rows)
        for future in before.values():
            future.cancel()

    def take(self, rows: np.ndarray) -> Any:
        """What `read` gives for these rows. Raises what it raises."""
        future: Future | None = self.waiting.pop(rows.tobytes(), None)
        return self.read(rows) if future is None else future.result()


def _use(device: torch.device) -> None:
    torch.cuda.set_device(device)


def seed(*numbers: int) -> None:
    """Seed every generator from a tuple of numbers."""
    drawn = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(drawn)
    np.random.seed(drawn)
    torch.manual_seed(drawn)
