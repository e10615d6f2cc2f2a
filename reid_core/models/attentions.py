"""What RGA is compared with, at the same places: CBAM, the non-local block, the simplified one.

Shapes: B images, C channels, N = h * w positions. Each module takes and gives (B, C, h, w).
"""

import torch
from torch import Tensor, nn

from reid_core.probe import Probe


class CBAM(nn.Module):
    """Convolutional block attention (Woo et al., ECCV 2018): channels first, then positions.

    A channel's gate comes from an MLP on its mean and its maximum over positions, a
    position's from a 7x7 convolution over the mean and the maximum of its channels.
    """

    def __init__(self, channels: int, spatial: bool = True, channel: bool = True, ratio: int = 16):
        super().__init__()
        self.mlp = self.convolution = None
        if channel:
            inner = max(1, channels // ratio)
            self.mlp = nn.Sequential(
                nn.Linear(channels, inner, bias=False),
                nn.ReLU(),
                nn.Linear(inner, channels, bias=False),
            )
            self.channel_gate = Probe("channel")
        if spatial:
            self.convolution = nn.Conv2d(2, 1, 7, padding=3, bias=False)
            self.spatial_gate = Probe("spatial")

    def forward(self, x: Tensor) -> Tensor:
        if self.mlp is not None:
            gate = (self.mlp(x.mean(dim=(2, 3))) + self.mlp(x.amax(dim=(2, 3)))).sigmoid()  # (B, C)
            x = x * self.channel_gate(gate)[..., None, None]
        if self.convolution is not None:
            pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
            x = x * self.spatial_gate(self.convolution(pooled).sigmoid())  # (B, 1, h, w)
        return x


class NonLocal(nn.Module):
    """A non-local block (Wang et al., CVPR 2018), embedded Gaussian: to each position the mean of
    all positions is added, weighted by a softmax over their similarity.

    Half the channels inside. The last normalisation starts at zero, so that the block starts as the
    identity. Convolutions have no bias, since the softmax would never let one of them learn.
    """

    def __init__(self, channels: int):
        super().__init__()
        inner = max(1, channels // 2)
        self.theta, self.phi, self.g = (nn.Conv2d(channels, inner, 1, bias=False) for _ in range(3))
        self.out = nn.Sequential(
            nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )
        nn.init.zeros_(self.out[1].weight)
        self.attention = Probe("attention")

    def forward(self, x: Tensor) -> Tensor:
        theta, phi, g = (f(x).flatten(2) for f in (self.theta, self.phi, self.g))  # (B, C/2, N)
        weights = (theta.transpose(1, 2) @ phi).softmax(dim=2)  # (B, N, N), rows sum to 1
        weights = self.attention(weights[:, None])[:, 0]  # one head, (B, 1, N, N), to be watched
        seen = (weights @ g.transpose(1, 2)).transpose(1, 2)  # (B, C/2, N)
        return x + self.out(seen.unflatten(2, x.shape[2:]))


class SimplifiedNonLocal(nn.Module):
    """The simplified non-local block (Cao et al., GCNet, ICCV workshops 2019): one map
    for all positions, so that each receives the same weighted mean.

    The map is a softmax over the positions of a 1x1 convolution; the mean goes through a matrix that
    starts at zero (ours), so that the block starts as the identity.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.key = nn.Conv2d(channels, 1, 1, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        nn.init.zeros_(self.value.weight)
        self.map = Probe("pooling")

    def forward(self, x: Tensor) -> Tensor:
        weights = self.key(x).flatten(2).softmax(dim=2)  # (B, 1, N)
        weights = self.map(weights.unflatten(2, x.shape[2:]))  # (B, 1, h, w)
        mean = (x * weights).sum(dim=(2, 3))  # (B, C)
        return x + self.value(mean)[..., None, None]
