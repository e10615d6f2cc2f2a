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

FINITE = ("loss", "gradient")


class NotFinite(BadInput):
    """A loss or a gradient became NaN or infinite; the model is still as it was before the step."""


def take_step(
    fabric: Fabric, model: nn.Module, optimizers: list, batch: Batch, training: Training
) -> tuple[dict[str, Tensor], Tensor]:
    """Move the weights by one batch; returns the named terms of its loss, and their "total"; and (2,)
    bool, whether each of FINITE is.

    Raises NotFinite where one can look at once; elsewhere the loop looks now and then.
    """
    now = free_to_look(fabric)
    buffers = [each.clone() for each in model.buffers()] if now else []  # BatchNorm's means
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
    finite = torch.stack([torch.isfinite(each) for each in (terms["total"], _slope(optimizers))])
    if now and not finite.all():
        with torch.no_grad():
            for buffer, before in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(before)
        raise NotFinite(odd(finite))
    for optimizer in optimizers:
        optimizer.step()
    return terms, finite


def free_to_look(fabric: Fabric) -> bool:
    """Whether a number can be looked at as it is made: on a GPU to look would be to wait."""
    return fabric.device.type == "cpu"


def odd(finite: Tensor) -> str:
    """Of what a step found finite (2,) not all true: what is not, in words."""
    return f"the {FINITE[int(finite.int().argmin())]} became NaN or infinite"


def _slope(optimizers: list) -> Tensor:
    """The gradient's length."""
    groups = (group["params"] for optimizer in optimizers for group in optimizer.param_groups)
    return nn.utils.get_total_norm([p.grad for ps in groups for p in ps if p.grad is not None])
