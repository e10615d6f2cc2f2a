"""Flip averaging: an image's embedding is the mean of its own and of its mirror image's."""

from dataclasses import replace

from torch import Tensor

from reid_core.models.base import Batch, Output, ReIDModel


class Flipped(ReIDModel):
    """A model that sees every image and its mirror image, and gives the mean of their embeddings.

    The mean is taken before L2 normalisation and before any refining, as in fast-reid.
    """

    def __init__(self, model: ReIDModel):
        super().__init__()
        self.model, self.facts, self.neck = model, model.facts, model.neck

    @property
    def refines(self) -> bool:
        return self.model.refines

    def forward(self, batch: Batch) -> Output:
        own, other = self.model(batch), self.model(mirrored(batch))
        return replace(own, embedding=(own.embedding + other.embedding) / 2)

    def refine(self, vectors: Tensor, **keywords) -> Tensor:
        return self.model.refine(vectors, **keywords)


def mirrored(batch: Batch) -> Batch:
    """The same images (B, 3, H, W), left and right exchanged."""
    images = {name: getattr(batch, name) for name in ("image", "clean", "plain")}
    return replace(batch, **{k: v.flip(-1) for k, v in images.items() if v is not None})
