"""Images in, embeddings out, and what was seen on the way. B images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reid_core.data.images import Images
from reid_core.embed import batch_of
from reid_core.experiment import Experiment
from reid_core.models.base import Batch, Facts, ReIDModel, Tokens
from reid_core.probe import observe, probes
from reid_core.runs import build


@dataclass(frozen=True)
class Looked:
    """One pass of a model over some images.

    pixels (B, 3, H, W) in 0..1 as the model saw them; embedding (B, D) before L2 normalisation, each
    image alone; seen the tensors of the probes by name, in the order of the model's modules, and
    tokens and kinds what stands where in each of them.
    """

    pixels: Tensor
    embedding: Tensor
    seen: dict[str, Tensor]
    tokens: dict[str, Tokens]
    kinds: dict[str, str]

    def of(self, kind: str) -> dict[str, Tensor]:
        """What was seen at the probes of a kind."""
        return {name: tensor for name, tensor in self.seen.items() if self.kinds[name] == kind}


@torch.no_grad()
def look(
    model: ReIDModel,
    experiment: Experiment,
    images: Sequence[Path | Image.Image],
    cameras: Sequence[int | None],
    views: Sequence[int | None] | None = None,
    *,
    kinds: Sequence[str],
) -> Looked:
    """Embed images and keep what passes the probes of these kinds, "neighbours" excepted.

    The same pass gives the embedding and the maps. cameras and views are as in `embed_images`.
    Raises BadInput for an image that can't be read.
    """
    pixels = pixels_of(experiment, images)
    batch = batch_of(model, experiment, pixels, cameras, views)
    return look_at(model, batch, pixels, kinds)


def pixels_of(experiment: Experiment, images: Sequence[Path | Image.Image]) -> Tensor:
    """Images as a model sees them, (B, 3, H, W) in 0..1. Raises BadInput."""
    return Images(images, experiment.training.size, cache=0)[range(len(images))].float() / 255


def look_at(model: ReIDModel, batch: Batch, pixels: Tensor, kinds: Sequence[str]) -> Looked:
    """The same for a batch that is ready; gradients flow where they are enabled."""
    windows = {n: p for n, p in probes(model).items() if p.kind in kinds and p.kind != "neighbours"}
    with observe(model, *windows) as seen:
        embedding = model(batch).embedding
    ordered = {name: seen[name] for name in windows}
    return Looked(
        pixels,
        embedding,
        ordered,
        {name: model.tokens(name) for name in windows},
        {name: probe.kind for name, probe in windows.items()},
    )


def interior(experiment: Experiment, facts: Facts) -> dict[str, tuple[str, Tokens]]:
    """What can be seen inside a model: the kind and the tokens of each probe, by name.

    Takes milliseconds, since no weights are made. Raises BadInput.
    """
    model = unmade(experiment, facts)
    return {name: (probe.kind, model.tokens(name)) for name, probe in probes(model).items()}


def pieces_of(experiment: Experiment, facts: Facts) -> dict[str, np.ndarray | None]:
    """What a model's embedding joins: its `pieces`, as quickly. Raises BadInput."""
    found = unmade(experiment, facts).pieces()
    return {name: None if made is None else made.numpy() for name, made in found.items()}


def unmade(experiment: Experiment, facts: Facts) -> ReIDModel:
    """A model without numbers, which has everything else. Raises BadInput."""
    with torch.device("meta"):
        return build(experiment, facts)
