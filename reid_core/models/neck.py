"""What stands between a feature and its losses. B images, D width, C classes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reid_core.models.base import Branch


class BNNeck(nn.Module):
    """Batch normalisation between the metric and the identity loss (Luo et al. 2019), its bias
    frozen at zero, and a linear classifier without bias."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.norm.bias.requires_grad_(False)
        self.classifier = nn.Linear(width, classes, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)

    def forward(self, feature: Tensor, weight: float) -> tuple[Tensor, Branch]:
        normalised = self.norm(feature)  # (B, D)
        return normalised, Branch(feature, self.classifier(normalised), weight)


def halved(necks: Sequence[BNNeck], features: Sequence[Tensor]) -> list[tuple[Tensor, Branch]]:
    """Each feature (B, D) through its own neck: half of the loss is the first one's, the other half
    the mean of the others'; alone it has all of it."""
    others = len(features) - 1
    weights = [0.5, *[0.5 / others] * others] if others else [1.0]
    return [
        neck(feature, weight)
        for neck, feature, weight in zip(necks, features, weights, strict=True)
    ]


class Centers(nn.Module):
    """Centre loss (Wen et al. 2016): each class has a learned centre that its features are drawn to.

    The loss is weight * mean over the images of |feature - centre|^2. The centres move by SGD of
    their own, with `learning_rate` on the unweighted loss (`optimize.optimizers_for`).
    """

    def __init__(self, width: int, classes: int, weight: float, learning_rate: float = 0.5):
        super().__init__()
        self.weight, self.learning_rate = weight, learning_rate
        self.centers = nn.Parameter(torch.randn(classes, width))  # (C, D)

    def forward(self, features: Tensor, identities: Tensor) -> Tensor:
        away = features.float() - self.centers[identities]  # (B, D)
        return self.weight * away.square().sum(dim=1).mean()
