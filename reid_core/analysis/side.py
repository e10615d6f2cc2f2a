"""What a model makes of being told another camera, another view, or of listening less or more.

Shapes: K ways to tell, G gallery images, D dimensions.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from reid_core.embed import batch_of
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, directions
from reid_core.experiment import Experiment
from reid_core.models.base import ReIDModel
from reid_core.retrieve import RankedList, retrieve_vector

PARAMETER = "side"  # how a model calls the vectors that it adds for cameras and views


def scaled(model: nn.Module, name: str, factor: float) -> nn.Module:
    """A model that differs in one parameter, `name`, which is multiplied by a factor; see `altered`.
    Raises BadInput where there is no such parameter."""
    return altered(model, name, lambda value: value * factor)


def altered(model: nn.Module, name: str, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """A model that differs in one parameter, `name`, with dots where it is a part's.

    A shallow copy: everything else is shared and the given model stays as it is, also while another
    thread uses it (`torch.func.functional_call` would swap the parameter in place for the time of
    the call). Raises BadInput where there is no such parameter.
    """
    part, _, rest = name.partition(".")
    other = copy.copy(model)
    if rest and part in model._modules:
        other._modules = model._modules | {part: altered(model._modules[part], rest, change)}
        return other
    if model._parameters.get(name) is None:
        raise BadInput(f"this model has no parameter {name!r} to change")
    value = change(model._parameters[name].detach())
    other._parameters = model._parameters | {name: nn.Parameter(value, False)}
    return other


@torch.no_grad()
def told(
    model: ReIDModel,
    experiment: Experiment,
    pixels: Tensor,
    ways: list[tuple[int | None, int | None]],
) -> np.ndarray:
    """One image (1, 3, H, W) in 0..1 embedded once for each (camera, view) it is said to have: (K, D).

    None is unknown: the mean of the model's embedding.
    """
    cameras, views = zip(*ways, strict=True)
    batch = batch_of(model, experiment, pixels.expand(len(ways), -1, -1, -1), cameras, views)
    return model(batch).embedding.float().cpu().numpy()


@dataclass(frozen=True)
class Answer:
    """What became of a query that was told something else.

    cosine with its embedding as it was evaluated; ranking its list, judged under its true camera;
    changed (K,) rows that left the first ten, or came in.
    """

    cosine: float
    ranking: RankedList
    left: np.ndarray
    came: np.ndarray


def answered(
    found: Embeddings,
    vector: np.ndarray,
    before: np.ndarray,
    camera: int | None,
    identity: int | None,
    top: int = 10,
) -> Answer:
    """Rank the gallery for a query's new embedding (D,), before (D,) being its old one.

    The gallery stays as it was evaluated, and the query is judged by its true camera and identity.
    """
    ranking = retrieve_vector(found, vector, camera, identity)
    old = first(retrieve_vector(found, before, camera, identity), top)
    new = first(ranking, top)
    pair = directions(np.stack([vector, before]))
    return Answer(float(pair[0] @ pair[1]), ranking, np.setdiff1d(old, new), np.setdiff1d(new, old))


def first(ranking: RankedList, top: int = 10) -> np.ndarray:
    """The rows of the first images that the protocol does not ignore."""
    return ranking.rows[~ranking.ignored][:top]
