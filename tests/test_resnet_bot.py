"""The convolutional baseline against the official code's numbers, and its tricks one by one."""

import json
from pathlib import Path

import numpy as np
import torch
from formula import filled, images

from reid_core.losses import objective
from reid_core.models import Batch, Facts
from reid_core.models.resnet_bot import ResNetBoT, ResNetBoTOptions
from reid_core.probe import observe

GOLDEN = Path(__file__).parent / "golden" / "resnet_bot.npz"
SMALL = dict(trunk="resnet10t", pretrained="none", width=8)


def build(size=(64, 32), classes=5, **options) -> ResNetBoT:
    torch.manual_seed(0)
    return ResNetBoT(ResNetBoTOptions(**SMALL | options), size, Facts(classes))


def batch(image: torch.Tensor, identity: torch.Tensor | None = None) -> Batch:
    nothing = torch.zeros(len(image), dtype=torch.long)
    return Batch(image, nothing, nothing, identity)


def ours(key: str) -> str:
    """The name here of a tensor of the official encoder."""
    names = {"base": "trunk", "projection": "projection"}
    names |= {"bottleneck": "head.norm", "classifier": "head.classifier"}
    first, rest = key.removeprefix("backbone.").split(".", 1)
    return f"{names[first]}.{rest}"


def official(size: tuple[int, int]) -> tuple[ResNetBoT, np.lib.npyio.NpzFile]:
    """The encoder of NFormer with weights by formula from the official names."""
    golden = np.load(GOLDEN)
    shapes = json.loads(str(golden["shapes"]))
    more = dict(trunk="resnet50", width=0, projection=256)
    with torch.device("meta"):
        model = build(size, shapes["backbone.classifier.weight"][0], **more)
    weights = {ours(key): filled(key, tuple(shape)) for key, shape in shapes.items()}
    weights["centers.centers"] = filled("centers", tuple(model.centers.centers.shape))
    model.load_state_dict(weights, assign=True)
    return model, golden


def test_features_are_the_official_ones():
    model, golden = official((256, 128))
    model.eval().neck = "after"
    with torch.no_grad():
        output = model(batch(images(2, (256, 128))))
    for neck, found in (("before", output.branches[0].feature), ("after", output.embedding)):
        expected = golden[neck]
        assert np.linalg.norm(found.numpy() - expected) < 1e-5 * np.linalg.norm(expected)
        # The two images differ by a sixtieth of that.
        apart = np.diff(expected, axis=0)
        assert np.linalg.norm(np.diff(found, axis=0) - apart) < 1e-4 * np.linalg.norm(apart)


def test_losses_and_gradients_are_the_official_ones():
    model, golden = official((128, 64))
    identity = torch.tensor([3, 3, 7, 7])
    model.double().train()
    output = model(batch(images(4, (128, 64)).double(), identity))
    terms = objective(output, identity, margin=0.3, label_smoothing=0.1)
    found = [terms[name].item() for name in ("identity", "triplet", "center")]
    np.testing.assert_allclose(found, golden["losses"], rtol=1e-5)
    sum(terms.values()).backward()
    parameters = dict(model.named_parameters())
    kept = [key for key in golden.files if key.startswith("gradient:")]
    assert len(kept) == 7
    for key in kept:
        name = key.removeprefix("gradient:")
        name = "centers.centers" if name == "centers" else ours(name)
        gradient, expected = parameters[name].grad.numpy(), golden[key]
        assert np.linalg.norm(gradient - expected) < 1e-4 * np.linalg.norm(expected), name


def test_last_stride_projection_and_width():
    model = build()
    assert (model.grid, model.width) == ((4, 2), 64)
    assert build(last_stride=2).grid == (2, 1)
    assert build(projection=12)(batch(images(2, (64, 32)))).embedding.shape == (2, 12)


def test_the_centre_loss_only_where_identities_are_given():
    image, identity = images(4, (64, 32)), torch.tensor([0, 0, 1, 1])
    model = build()
    assert set(model(batch(image, identity)).losses) == {"center"}
    assert model(batch(image)).losses == {}
    assert not build(center_weight=0.0)(batch(image, identity)).losses


def test_the_stem_with_and_without_its_relu():
    image = images(2, (64, 32))
    for relu in (False, True):
        trunk = build(stem_relu=relu).eval().trunk
        normalised = trunk.bn1(trunk.conv1(image))
        assert (trunk.act1(normalised.clone()) < 0).any() != relu


def test_without_bnneck_both_features_are_the_same():
    image = images(4, (64, 32))
    model = build(bnneck=False)
    before = model(batch(image)).embedding
    model.neck = "after"
    torch.testing.assert_close(model(batch(image)).embedding, before)
    assert not [name for name, _ in model.head.named_parameters() if "norm" in name]


def test_the_feature_is_the_mean_of_the_last_stage():
    model = build().eval()
    with torch.no_grad(), observe(model, "features.*") as seen:
        embedding = model(batch(images(2, (64, 32)))).embedding
    assert [tuple(seen[f"features.layer{i}"].shape[1:]) for i in (1, 2, 3, 4)] == [
        (8, 16, 8),
        (16, 8, 4),
        (32, 4, 2),
        (64, 4, 2),
    ]
    torch.testing.assert_close(embedding, seen["features.layer4"].mean(dim=(2, 3)))
