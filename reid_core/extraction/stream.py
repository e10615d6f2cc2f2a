"""Images through a model, as fast as the model goes. N images, B of a batch, D dimensions.

    stream(forward, images, batch_size) -> Embedded, Embedded, ...

While the model looks at one batch, threads decode the next ones; at most AHEAD of them wait, so
memory does not grow with N. On a GPU the copies there and back overlap with the model too.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from reid_core.data.images import Images
from reid_core.errors import BadInput

AHEAD = 2  # batches that wait, decoded
# A CPU is busy with a few images already, and larger batches only take memory; a GPU wants more.
MOST = {"cpu": 16, "cuda": 512}
# What a batch's activations may take: a few tensors as large as the largest are alive at a time.
ALIVE = 8
CPU_BYTES = 2**30


@dataclass(frozen=True)
class Embedded:
    """A batch that went through the model.

    rows are those of the images that were tried, in order; vectors (B, D) float32 belong to those of
    them that have no problem: what is wrong with a row's image.
    """

    rows: range
    vectors: np.ndarray
    problems: dict[int, BadInput]


def stream(
    forward: Callable[[list[int], Tensor], Tensor],
    images: Images,
    batch_size: int,
    *,
    start: int = 0,
    pin: bool = False,
) -> Iterator[Embedded]:
    """All images from a row on, batch by batch and in order.

    forward(rows, pixels (B, 3, H, W)) -> (B, D) on any device. An image that can't be read is left
    out and named. pin: decode into memory that a GPU copies from by itself.
    """
    waiting = None
    for rows, (kept, pixels, problems) in decoded(images, batch_size, start, pin):
        vectors = forward(kept, pixels).float() if kept else torch.empty(0, 0)
        if waiting:
            yield _copied(*waiting)
            waiting = None
        if vectors.is_cuda:
            # Asked for behind its own batch, and taken while the next one is computed.
            back, done = vectors.to("cpu", non_blocking=True), torch.cuda.Event()
            done.record()
            waiting = rows, back, problems, done
        else:
            yield Embedded(rows, vectors.cpu().numpy(), problems)
    if waiting:
        yield _copied(*waiting)


def _copied(rows: range, vectors: Tensor, problems: dict, done: torch.cuda.Event) -> Embedded:
    done.synchronize()
    return Embedded(rows, vectors.numpy(), problems)


def decoded(
    images: Images, batch_size: int, start: int = 0, pin: bool = False
) -> Iterator[tuple[range, tuple[list[int], Tensor, dict[int, BadInput]]]]:
    """Batches of rows with `Images.readable` of each, decoded AHEAD of being asked for."""
    pool = ThreadPoolExecutor(1)  # the images of a batch have threads of their own

    def read(rows: range):
        kept, pixels, problems = images.readable(rows)
        return kept, pixels.pin_memory() if pin and kept else pixels, problems

    waiting = deque()
    try:
        for first in range(start, len(images), batch_size):
            rows = range(first, min(first + batch_size, len(images)))
            waiting.append((rows, pool.submit(read, rows)))
            if len(waiting) > AHEAD:
                rows, future = waiting.popleft()
                yield rows, future.result()
        for rows, future in waiting:
            yield rows, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def fitting(model: nn.Module, forward: Callable[[], object], device: torch.device) -> int:
    """How many images at a time: by the largest tensor that one of them makes in the model, and by
    the memory of the device. forward() runs the model on one image."""
    largest = [1]

    def weigh(module, arguments, output) -> None:
        if isinstance(output, Tensor):
            largest.append(output.numel() * output.element_size())

    hooks = [module.register_forward_hook(weigh) for module in model.modules()]
    try:
        forward()
    finally:
        for hook in hooks:
            hook.remove()
    memory = CPU_BYTES
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory // 4
    fits = max(1, memory // (ALIVE * max(largest)))
    return min(MOST.get(device.type, 64), 2 ** (fits.bit_length() - 1))  # a power of two
