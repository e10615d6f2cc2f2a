"""Residual trunks: shapes, the last stride, ImageNet files."""

import re

import pytest
import timm
import torch
from formula import images
from safetensors.torch import save_file
from torch import nn

from reid_core.errors import BadInput
from reid_core.models import cnn


def run(trunk: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    x, seen = cnn.stem(trunk, image), []
    for _, stage in cnn.stages(trunk):
        seen.append(x := stage(x))
    return seen


@pytest.mark.parametrize(
    "name",
    [
        # A deep one is a shallow one with more of the same.
        pytest.param(name, marks=pytest.mark.long if re.search(r"\d{3}", name) else ())
        for name in cnn.TRUNKS
        if "rs" not in name
    ],
)
def test_every_trunk_has_the_stages_that_are_foretold(name):
    """Without memory or weights; sizes that are no multiple of 16 too."""
    with torch.device("meta"):
        for last_stride, size in ((1, (130, 70)), (2, (128, 64))):
            trunk = cnn.trunk(name, "none", last_stride=last_stride)
            found = [tuple(x.shape[1:]) for x in run(trunk, torch.empty(2, 3, *size))]
            grids = cnn.grids_of(size, last_stride)
            assert found == [(w, *g) for w, g in zip(cnn.widths(trunk), grids, strict=True)]


def test_last_stride_1_differs_from_timm_by_two_strides_alone():
    torch.manual_seed(0)
    ours = cnn.trunk("resnet18", "none", last_stride=1).eval()
    timms = timm.create_model("resnet18", num_classes=0).eval()
    timms.load_state_dict(ours.state_dict())
    timms.layer4[0].conv1.stride = timms.layer4[0].downsample[0].stride = (1, 1)
    image = images(1, (64, 32))
    with torch.no_grad():
        torch.testing.assert_close(run(ours, image)[-1], timms.forward_features(image))


def test_last_stride_2_is_timms_own():
    torch.manual_seed(0)
    ours = cnn.trunk("resnet18", "none", last_stride=2).eval()
    timms = timm.create_model("resnet18", num_classes=0).eval()
    timms.load_state_dict(ours.state_dict())
    image = images(1, (64, 32))
    with torch.no_grad():
        torch.testing.assert_close(run(ours, image)[-1], timms.forward_features(image))


def test_a_width_narrows_every_stage():
    assert cnn.widths(cnn.trunk("resnet10t", "none", width=16)) == [16, 32, 64, 128]
    assert cnn.widths(cnn.trunk("resnet14t", "none", width=16)) == [64, 128, 256, 512]
    assert cnn.trunk("resnet10t", "none", width=16).bn1.num_features == 16


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_an_imagenet_file_with_classifier_and_without_counters_loads(tmp_path, suffix):
    """As resnet50-19c8e357.pth is: torchvision's names, fc.*, no num_batches_tracked."""
    torch.manual_seed(0)
    full = timm.create_model("resnet18", num_classes=10).state_dict()
    weights = {k: v for k, v in full.items() if not k.endswith("num_batches_tracked")}
    file = tmp_path / f"weights{suffix}"
    save_file(weights, file) if suffix == ".safetensors" else torch.save(weights, file)
    torch.manual_seed(1)
    trunk = cnn.trunk("resnet18", str(file))
    for key, value in trunk.state_dict().items():
        torch.testing.assert_close(value, full[key])


def test_what_does_not_fit_is_said(tmp_path):
    weights = timm.create_model("resnet18", num_classes=0).state_dict()
    file = tmp_path / "weights.safetensors"
    save_file({k: v for k, v in weights.items() if k != "bn1.weight"}, file)
    with pytest.raises(BadInput, match=r"1 of 100 tensors differ.*bn1.weight \(64,\) missing"):
        cnn.trunk("resnet18", str(file))
    with pytest.raises(BadInput, match="did you mean resnet50"):
        cnn.trunk("resnet500", "none")
    with pytest.raises(BadInput, match="multiple of 8"):
        cnn.trunk("resnet10t", "none", width=12)
