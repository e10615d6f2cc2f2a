"""A batch's gradient from parts of it, one after the other, for small cards. B images in n parts.

The triplets are the whole batch's (as in GradCache, Gao et al. 2021): a first pass without gradient
finds every image's features, the loss over all of them gives the gradient of each feature, and a second
pass, with the same draws, brings it to the weights. What a model has of losses of its own looks at a
part, and so does batch normalisation.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from reid_core.distributed import alone
from reid_core.errors import BadInput
from reid_core.experiment import Training
from reid_core.losses import objective, triplets
from reid_core.models import Batch

FIELDS = ("image", "camera", "view", "identity", "clean", "plain")


def gradient_in_parts(
    fabric: Fabric, model: nn.Module, batch: Batch, training: Training
) -> dict[str, Tensor]:
    """Add a batch's gradient to the weights'; returns the named terms of its loss.

    The terms are those of `objective` over the whole batch, where no part's statistics matter.
    """
    parts = divided(batch, training.accumulate)
    given = dict(margin=training.triplet_margin, label_smoothing=training.label_smoothing)
    states, found = [], []
    with torch.no_grad(), as_before(model):
        for part in parts:
            states.append(_draws())
            found.append(model(part).branches)
    weights = [branch.weight for branch in found[0]]
    features = [
        torch.cat([branches[at].feature for branches in found]).float().requires_grad_()
        for at in range(len(weights))
    ]
    triplet = triplets(features, weights, batch.identity, given["margin"], batch.gather)
    gradients = torch.autograd.grad(triplet, features)  # (B, D) each

    terms: dict[str, Tensor] = {}
    sizes = [len(part.identity) for part in parts]
    of_parts = [gradient.split(sizes) for gradient in gradients]
    for number, (part, state) in enumerate(zip(parts, states, strict=True)):
        _draw_as(state)
        with fabric.no_backward_sync(model, enabled=number < len(parts) - 1):
            output = model(part)
            own = objective(output, part.identity, gather=alone, **given)
            own.pop("triplet")
            own = {name: term * (sizes[number] / sum(sizes)) for name, term in own.items()}
            through = sum(
                (branch.feature.float() * pieces[number]).sum()
                for branch, pieces in zip(output.branches, of_parts, strict=True)
            )
            fabric.backward(sum(own.values()) + through)
        terms = {name: terms.get(name, 0) + term.detach() for name, term in own.items()}
    return {"identity": terms.pop("identity"), "triplet": triplet.detach(), **terms}


def divided(batch: Batch, count: int) -> list[Batch]:
    """A batch in so many parts, of as many images where they can be divided so."""
    given = [name for name in FIELDS if getattr(batch, name) is not None]
    chunks = zip(*(getattr(batch, name).chunk(count) for name in given), strict=True)
    return [replace(batch, **dict(zip(given, part, strict=True))) for part in chunks]


def check_parts(training: Training) -> None:
    """Each part holds whole identities. Raises BadInput."""
    own = training.identities_per_batch // (training.devices * training.nodes)
    if own % training.accumulate:
        fit = [str(parts) for parts in range(1, own + 1) if own % parts == 0]
        raise BadInput(
            f"accumulate: {own} identities can't be divided into {training.accumulate} parts; give "
            f"one of {', '.join(fit)}"
        )


@contextmanager
def as_before(model: nn.Module) -> Iterator[None]:
    """Buffers, BatchNorm's statistics, are afterwards what they were."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    yield
    with torch.no_grad():
        for buffer, kept in before:
            buffer.copy_(kept)


def _draws() -> tuple:
    """The state of every generator that a pass draws from."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    return random.getstate(), torch.get_rng_state(), gpus


def _draw_as(state: tuple) -> None:
    python, processor, gpus = state
    random.setstate(python)
    torch.set_rng_state(processor)
    if gpus is not None:
        torch.cuda.set_rng_state_all(gpus)
