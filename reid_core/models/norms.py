"""Batch normalisation over the images of all processes that train. b images of a process, C channels."""

import torch
from torch import Tensor, nn

from reid_core.distributed import summed, world


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm over the batches of all processes on a CPU, where torch's SyncBatchNorm refuses:
    from sums over the processes that have their gradient."""

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of dimensions."""

    def forward(self, x: Tensor) -> Tensor:
        """(b, C, ...) -> the same."""
        if not self.training:
            return super().forward(x)
        axes = [0, *range(2, x.dim())]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        found = x.to(torch.promote_types(x.dtype, torch.float32))
        count = x.numel() // x.shape[1] * world()
        mean = summed(found.sum(dim=axes)) / count  # (C,)
        away = found - mean.view(shape)
        variance = summed(away.square().sum(dim=axes)) / count  # (C,)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        scale = (variance + self.eps).rsqrt() * self.weight
        return (away * scale.view(shape) + self.bias.view(shape)).to(x.dtype)


def share_norms(model: nn.Module, which: str, device: str) -> None:
    """Normalise over all processes: which is "none", "neck" (what stands between a feature and its
    classifier) or "all"; device is where it will be. Weights and their names stay."""
    kind = nn.SyncBatchNorm if device == "cuda" else SharedBatchNorm
    kinds = {"none": (), "neck": nn.BatchNorm1d, "all": nn.modules.batchnorm._BatchNorm}[which]
    for name, child in model.named_children():
        if isinstance(child, kinds) and world() > 1:
            shared = kind(child.num_features, child.eps, child.momentum)
            for own in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                setattr(shared, own, getattr(child, own))
            setattr(model, name, shared.train(child.training))
        else:
            share_norms(child, which, device)
