"""What a training runs on and how its weights move: device, precision, optimiser, learning rate."""

import math

import torch
from lightning_fabric import Fabric
from torch import nn

from reid_core.errors import BadInput
from reid_core.experiment import Training
from reid_core.models.neck import Centers


def fabric_for(training: Training) -> Fabric:
    """Lightning Fabric on the device and in the precision that were asked for. Raises BadInput."""
    device = training.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        device = "mps" if torch.backends.mps.is_available() else device
    available = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if not available.get(device, lambda: True)():
        raise BadInput(f"device: {device} is not to be had on this machine; give cpu or auto")
    bf16 = has_bf16(device) if training.precision == "auto" else training.precision == "bf16"
    return Fabric(accelerator=device, devices=1, precision="bf16-mixed" if bf16 else "32-true")


def precision_of(fabric: Fabric) -> str:
    """ "bf16-mixed" or "32-true"."""
    return fabric.strategy.precision.precision


def has_bf16(device: str) -> bool:
    """Whether the processor multiplies bf16 matrices in hardware."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Private names, so a torch without them trains in float32.
    units = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device == "cpu" and any(getattr(torch.cpu, unit, bool)() for unit in units)


def optimizers_for(module: nn.Module, training: Training) -> list[torch.optim.Optimizer]:
    """The optimiser over whatever is trained, biases at a learning rate of their own; then one for
    each centre loss, whose centres move by SGD.

    Groups with a "scale" follow the schedule. A centre loss gives its gradient by its weight, so its
    learning rate is divided by it, which is what the official code does to the gradient.
    """
    centers = [each for each in module.modules() if isinstance(each, Centers)]
    theirs = {id(each.centers) for each in centers}
    trained = [
        (n, p) for n, p in module.named_parameters() if p.requires_grad and id(p) not in theirs
    ]
    biases = [p for name, p in trained if "bias" in name]
    others = [p for name, p in trained if "bias" not in name]
    groups = [
        dict(params=others, scale=1.0),
        dict(params=biases, scale=training.bias_learning_rate),
    ]
    kinds = dict(sgd=torch.optim.SGD, adam=torch.optim.Adam, adamw=torch.optim.AdamW)
    more = dict(momentum=0.9) if training.optimizer == "sgd" else {}
    main = kinds[training.optimizer](
        groups, lr=training.learning_rate, weight_decay=training.weight_decay, **more
    )
    return [main] + [
        torch.optim.SGD([each.centers], lr=each.learning_rate / each.weight) for each in centers
    ]


def learning_rate(training: Training, epoch: int) -> float:
    """The learning rate of an epoch from 1.

    Warm-up is linear. The cosine runs over epoch / epochs as if there had been no warm-up, which is
    what the official TransReID does (timm's scheduler without warm-up prefix).
    """
    base, warmup = training.learning_rate, training.warmup_epochs
    if epoch < warmup:
        start = training.warmup_start * base
        return start + (base - start) * epoch / warmup
    if training.schedule == "multistep":
        return base * training.decay ** sum(epoch >= step for step in training.milestones)
    end = training.final_learning_rate * base
    return end + (base - end) * (1 + math.cos(math.pi * epoch / training.epochs)) / 2
