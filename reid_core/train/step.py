"""One step: a batch's loss, its gradient, and the weights moved."""

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from reid_core.distributed import mean
from reid_core.errors import BadInput
from reid_core.experiment import Training
from reid_core.losses import objective
from reid_core.models import Batch
from reid_core.train.parts import gradient_in_parts


class NotFinite(BadInput):
    """A loss or a gradient became NaN or infinite; the model is still as it was before the step."""


def take_step(
    fabric: Fabric, model: nn.Module, optimizers: list, batch: Batch, training: Training
) -> dict[str, Tensor]:
    """Move the weights by one batch; returns the named terms of its loss, and their "total".

    Raises NotFinite, on a CPU: elsewhere to look would be to wait, and the loop looks now and then.
    """
    on_cpu = fabric.device.type == "cpu"
    buffers = [each.clone() for each in model.buffers()] if on_cpu else []  # BatchNorm's means
    for optimizer in optimizers:  # before the forward pass, which would hold the last gradients too
        optimizer.zero_grad()
    if training.accumulate > 1 and batch.image is not None:
        terms = gradient_in_parts(fabric, model, batch, training)
        terms["total"] = sum(terms.values())
    else:
        terms = objective(
            model(batch),
            batch.identity,
            margin=training.triplet_margin,
            label_smoothing=training.label_smoothing,
            gather=batch.gather,
        )
        terms["total"] = sum(terms.values())
        fabric.backward(terms["total"])
    terms = mean({name: term.detach() for name, term in terms.items()})
    if on_cpu and (odd := _not_finite(terms["total"], optimizers)):
        with torch.no_grad():
            for buffer, before in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(before)
        raise NotFinite(f"the {odd} became NaN or infinite")
    for optimizer in optimizers:
        optimizer.step()
    return terms


def _not_finite(loss: Tensor, optimizers: list) -> str:
    """Which of loss and gradient holds a NaN or an infinity, in a word; nothing where all is well."""
    if not torch.isfinite(loss):
        return "loss"
    groups = (group["params"] for optimizer in optimizers for group in optimizer.param_groups)
    gradients = [p.grad for params in groups for p in params if p.grad is not None]
    finite = not gradients or torch.isfinite(nn.utils.get_total_norm(gradients))
    return "" if finite else "gradient"
