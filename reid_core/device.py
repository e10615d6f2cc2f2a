"""To the device."""

import torch
from torch import Tensor


def sent(x: Tensor, device: torch.device) -> Tensor:
    """To the device; to a GPU without waiting for what it is busy with."""
    ready = x.pin_memory() if device.type == "cuda" and not x.is_cuda else x
    return ready.to(device, non_blocking=device.type == "cuda")
