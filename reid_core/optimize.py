"""What a training runs on and how its weights move: device, precision, optimiser, learning rate."""

import math
from inspect import signature

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from reid_core.distributed import PATIENCE, Place
from reid_core.errors import BadInput
from reid_core.experiment import Training
from reid_core.models.neck import Centers


class Placed(LightningEnvironment):
    """What Fabric asks of a cluster, answered from a place: torchrun's, Slurm's or our own."""

    creates_processes_externally = True  # by somebody else, or before Fabric is asked

    def __init__(self, place: Place):
        super().__init__()
        self.place = place
        self._world_size, self._global_rank = place.world, place.rank

    @property
    def main_address(self) -> str:
        return self.place.address

    @property
    def main_port(self) -> int:
        return self.place.port

    def local_rank(self) -> int:
        return self.place.local_rank

    def node_rank(self) -> int:
        return self.place.rank // self.place.devices


def device_for(training: Training, devices: int = 1) -> str:
    """The kind of device that was asked for: "cpu", "cuda" or "mps". Raises BadInput where this
    machine has none, or fewer than so many."""
    device = training.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        device = "mps" if torch.backends.mps.is_available() else device
    available = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if not available.get(device, lambda: True)():
        raise BadInput(f"device: {device} is not to be had on this machine; give cpu or auto")
    found = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device, devices)
    if found < devices:
        raise BadInput(
            f"devices: {devices} asked for, this machine has {found} of the kind {device}; give "
            f"devices={found}"
        )
    return device


def fabric_for(training: Training, place: Place = Place(), in_part: bool = False) -> Fabric:
    """Lightning Fabric on the device and in the precision that were asked for. Raises BadInput.

    place is this process's among those of the training; in_part: a step may leave some of the
    trainable weights without a gradient.
    """
    device = device_for(training, place.devices)
    bf16 = has_bf16(device) if training.precision == "auto" else training.precision == "bf16"
    how = dict(accelerator=device, precision="bf16-mixed" if bf16 else "32-true")
    how |= dict(devices=place.devices, num_nodes=place.nodes, plugins=[Placed(place)])
    if place.world == 1:
        return Fabric(**how)
    # Buffers are BatchNorm's: the loop levels them where they matter. Newer versions of torch have
    # another word for it.
    words = ("forward_sync_buffers", "broadcast_buffers")
    known = signature(DistributedDataParallel).parameters
    strategy = DDPStrategy(
        **{next(word for word in words if word in known): False},
        timeout=PATIENCE,
        find_unused_parameters=in_part,
        gradient_as_bucket_view=True,
    )
    return Fabric(**how, strategy=strategy)


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

    Groups with a "scale" follow the schedule; a module's `learning_rate_scale` is for its own. A
    centre loss gives its gradient by its weight, so its learning rate is divided by it, which is what
    the official code does to the gradient.
    """
    centers = [each for each in module.modules() if isinstance(each, Centers)]
    theirs = {id(each.centers) for each in centers}
    trained = [
        (n, p) for n, p in module.named_parameters() if p.requires_grad and id(p) not in theirs
    ]
    own = {
        id(p): each.learning_rate_scale
        for each in module.modules()
        if hasattr(each, "learning_rate_scale")
        for p in each.parameters()
    }
    groups = [
        dict(
            params=[
                p for n, p in trained if own.get(id(p), 1.0) == scale and ("bias" in n) == bias
            ],
            scale=scale * (training.bias_learning_rate if bias else 1.0),
        )
        for scale in (1.0, *sorted(set(own.values()) - {1.0}))
        for bias in (False, True)
    ]
    kinds = dict(sgd=torch.optim.SGD, adam=torch.optim.Adam, adamw=torch.optim.AdamW)
    more = dict(momentum=0.9) if training.optimizer == "sgd" else {}
    able = all(parameter.device.type in ("cuda", "cpu") for _, parameter in trained)
    if trained and dict(auto=able, on=True, off=False)[training.fused]:
        more["fused"] = True
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
