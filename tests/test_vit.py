"""Which trunks there are."""

import pytest
import timm
import torch
from timm.models.vision_transformer import Block, VisionTransformer

from reid_core.models import vit


@pytest.mark.long
def test_the_list_of_trunks_is_what_timm_has():
    """Plain ViTs with a class token, learned positions that include it, and a patch convolution."""
    found = []
    for name in timm.list_models(["vit_*", "deit_*"]):
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=0)
        plain = (
            isinstance(model, VisionTransformer)
            and model.cls_token is not None
            and model.reg_token is None
            and model.pos_embed is not None
            and not model.no_embed_class
            and type(model.blocks[0]) is Block
            and type(model.norm).__name__ == "LayerNorm"
            and hasattr(model.patch_embed, "proj")
            and isinstance(model.patch_embed.proj, torch.nn.Conv2d)
            and not hasattr(model.patch_embed, "backbone")
        )
        if plain:
            found.append(name)
    assert sorted(found) == sorted(vit.TRUNKS)


def test_every_listed_trunk_exists():
    assert set(vit.TRUNKS) <= set(timm.list_models(["vit_*", "deit_*"]))
