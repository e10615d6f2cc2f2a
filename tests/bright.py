"""A model that copies one patch and an image whose identity is that patch: every method must say so."""

import torch
from torch import nn

from reid_core.experiment import Experiment
from reid_core.models.base import Batch, Facts, Output, ReIDModel, Tokens
from reid_core.probe import Probe

GRID, SIZE = (4, 2), (64, 32)  # positions of 16 x 16 pixels
BRIGHT = (1, 1)


class Copies(ReIDModel):
    """The embedding is the brightest 16 x 16 patch's mean colour, and where it lies is its gate."""

    refines = False

    def __init__(self):
        super().__init__()
        self.grid, self.facts = GRID, Facts(2)
        self.gate, self.weight = Probe("spatial"), nn.Parameter(torch.ones(()))
        self.features = Probe("features")

    def forward(self, batch: Batch) -> Output:
        patches = nn.functional.avg_pool2d(batch.image, 16)  # (B, 3, h, w)
        brightness = patches.sum(dim=1, keepdim=True)
        gate = self.gate((50 * brightness).flatten(2).softmax(dim=2).unflatten(2, GRID))
        self.features(patches * gate)
        return Output((patches * gate).sum(dim=(2, 3)) * self.weight, [])

    def tokens(self, probe: str) -> Tokens:
        return Tokens(GRID)


def picture() -> torch.Tensor:
    """(3, H, W): dull noise, and one bright patch."""
    image = 0.2 * torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0))
    row, column = (16 * each for each in BRIGHT)
    image[:, row : row + 16, column : column + 16] = torch.tensor([1.0, 0.9, 0.3])[:, None, None]
    return image


def asked() -> Experiment:
    settings = {"size": "64x32", "normalisation": "half"}
    return Experiment.create(model="resnet-bot", recipe="demo", settings=settings)
