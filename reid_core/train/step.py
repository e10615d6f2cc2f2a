"""One step: a batch's loss, its gradient, and the weights moved."""

from lightning_fabric import Fabric
from torch import Tensor, nn

from reid_core.experiment import Training
from reid_core.losses import objective
from reid_core.models import Batch


def take_step(
    fabric: Fabric, model: nn.Module, optimizers: list, batch: Batch, training: Training
) -> dict[str, Tensor]:
    """Move the weights by one batch; returns the named terms of its loss, and their "total"."""
    terms = objective(
        model(batch),
        batch.identity,
        margin=training.triplet_margin,
        label_smoothing=training.label_smoothing,
    )
    terms["total"] = sum(terms.values())
    for optimizer in optimizers:
        optimizer.zero_grad()
    fabric.backward(terms["total"])
    for optimizer in optimizers:
        optimizer.step()
    return {name: term.detach() for name, term in terms.items()}
