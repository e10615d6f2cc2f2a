"""The baseline is TransReID without what TransReID adds, with the official figures."""

import numpy as np
import pytest
import torch
from formula import filled, images, renamed
from test_transreid import GOLDEN

from reid_core.experiment import Experiment
from reid_core.models import Batch, Facts
from reid_core.models.transreid import TransReID, TransReIDOptions
from reid_core.models.vit import ViTOptions
from reid_core.models.vit_bot import ViTBoT
from reid_core.official.names import NAMES

FACTS = Facts(classes=5, cameras=(1, 2))
SMALL = dict(trunk="vit_tiny_patch16_224", pretrained="none", depth=2, width=32, heads=2, stride=16)


@pytest.mark.parametrize("neck", ["before", "after"])
def test_it_is_transreid_without_overlap_jigsaw_and_side_information(neck):
    model = ViTBoT(ViTOptions(**SMALL), (64, 32), FACTS).eval()
    other = TransReID(TransReIDOptions(**SMALL, jpm=False, sie="none"), (64, 32), FACTS).eval()
    other.load_state_dict(model.state_dict())
    model.neck = other.neck = neck
    asked = Batch(torch.randn(3, 3, 64, 32), torch.zeros(3).long(), torch.zeros(3).long())
    with torch.no_grad():
        found, expected = model(asked), other(asked)
    torch.testing.assert_close(found.embedding, expected.embedding, rtol=0, atol=0)
    torch.testing.assert_close(found.branches[0].logits, expected.branches[0].logits)
    assert [branch.weight for branch in found.branches] == [1.0]


def test_the_official_features():
    """The official baseline with weights by formula; how obtained: tests/golden/README.md."""
    golden = np.load(GOLDEN)
    options = ViTOptions(trunk="vit_base_patch16_224", pretrained="none", depth=2, stride=16)
    with torch.device("meta"):
        model = ViTBoT(options, (256, 128), Facts(11)).eval()
    given = renamed(str(golden["stride-16/keys"]), NAMES["transreid"])
    own = model.state_dict()
    model.load_state_dict({name: filled(*given[name]) for name in own}, assign=True)
    unknown = torch.tensor([-1, -1])
    for neck in ("before", "after"):
        model.neck = neck
        with torch.no_grad():
            found = model(Batch(images(2, (256, 128)), unknown, unknown)).embedding
        expected = torch.from_numpy(golden[f"stride-16/{neck}"])
        assert (found[:, ::8] - expected).norm() / expected.norm() < 1e-5


def test_paper_recipe_is_the_official_one():
    """Figures read off the official vit_base.yml for Market-1501."""
    e = Experiment.create(model="vit-bot", recipe="paper")
    t, o = e.training, e.options
    assert (o.trunk, o.stride, o.drop_path) == (
        "vit_base_patch16_224.orig_in21k_ft_in1k",
        16,
        0.1,
    )
    assert (t.size, t.epochs, t.learning_rate, t.optimizer) == ((256, 128), 120, 0.008, "sgd")
    assert (t.identities_per_batch, t.images_per_identity, t.erase, t.pad) == (16, 4, 0.5, 10)
    assert (t.label_smoothing, t.margin, t.neck, t.normalisation) == (0, "soft", "before", "half")
