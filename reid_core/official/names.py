"""What the official code calls its tensors, and what they are called here."""

import re
from collections.abc import Iterable

from torch import Tensor

Weights = dict[str, Tensor]

# Names that only this model's files have.
MARKS = {
    "pha": {"base.cls_token", "b1_norm.weight"},
    "transreid": {"base.cls_token"},
    "rga": {"backbone.conv1.weight", "feat_bn.weight"},
    "nformer": {"backbone.base.conv1.weight", "nformer.bottleneck.weight"},
}
BNNECKS = {
    r"classifier\.": "necks.0.classifier.",
    r"classifier_(\d+)\.": r"necks.\1.classifier.",
    r"bottleneck\.": "necks.0.norm.",
    r"bottleneck_(\d+)\.": r"necks.\1.norm.",
}
TRUNK = {r"base\.sie_embed$": "side", r"base\.": "trunk."}
NAMES: dict[str, dict[str, str]] = {
    "transreid": TRUNK | BNNECKS | {r"b1\.": "global_layer.", r"b2\.": "local_layer."},
    "pha": TRUNK
    | BNNECKS
    | {
        r"b1_block\.": "global_layer.0.",
        r"b1_norm\.": "global_layer.1.",
        r"b2_block\.": "local_layer.0.",
        r"b2_norm\.": "local_layer.1.",
        r"classifier_mask\.": "high_neck.classifier.",
        r"bottleneck_mask\.": "high_neck.norm.",
        r"bottleneck_mask_adv\.": "enhanced_norm.",
    },
    "rga": {
        r"backbone\.rga_att(\d)\.gx_(spatial|channel)\.": r"attentions.layer\1.\2.own.",
        r"backbone\.rga_att(\d)\.gg_(spatial|channel)\.": r"attentions.layer\1.\2.related.",
        r"backbone\.rga_att(\d)\.W_(spatial|channel)\.": r"attentions.layer\1.\2.weigh.",
        r"backbone\.rga_att(\d)\.(theta|phi)_(spatial|channel)\.": r"attentions.layer\1.\3.\2.",
        r"backbone\.": "trunk.",
        r"feat_bn\.": "head.norm.",
        r"cls\.": "head.classifier.",
    },
    "nformer": {
        r"backbone\.base\.": "encoder.trunk.",
        r"backbone\.projection\.": "encoder.projection.",
        r"backbone\.bottleneck\.": "encoder.head.norm.",
        r"backbone\.classifier\.": "encoder.head.classifier.",
        r"nformer\.bottleneck\.": "transformer.neck.norm.",
        r"nformer\.classifier\.": "transformer.neck.classifier.",
        r"nformer\.h\.(\d+)\.attn\.c_attn\.w$": r"transformer.layers.\1.attention.qkv.weight",
        r"nformer\.h\.(\d+)\.attn\.c_attn\.b$": r"transformer.layers.\1.attention.qkv.bias",
        r"nformer\.h\.(\d+)\.attn\.c_proj\.w$": r"transformer.layers.\1.attention.out.weight",
        r"nformer\.h\.(\d+)\.attn\.c_proj\.b$": r"transformer.layers.\1.attention.out.bias",
        r"nformer\.h\.(\d+)\.ln_(\d)\.g$": r"transformer.layers.\1.norm\2.weight",
        r"nformer\.h\.(\d+)\.ln_(\d)\.b$": r"transformer.layers.\1.norm\2.bias",
        r"nformer\.h\.(\d+)\.mlp\.c_fc\.w$": r"transformer.layers.\1.feed_forward.0.weight",
        r"nformer\.h\.(\d+)\.mlp\.c_fc\.b$": r"transformer.layers.\1.feed_forward.0.bias",
        r"nformer\.h\.(\d+)\.mlp\.c_proj\.w$": r"transformer.layers.\1.feed_forward.2.weight",
        r"nformer\.h\.(\d+)\.mlp\.c_proj\.b$": r"transformer.layers.\1.feed_forward.2.bias",
    },
}


def kind_of(names: Iterable[str]) -> str | None:
    """Which official model's these names of tensors are, or None."""
    names = set(names)
    return next((kind for kind, marks in MARKS.items() if marks <= names), None)


def renamed(
    weights: Weights, table: dict[str, str], dead: dict[str, str]
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Our name -> the official one; and the official names left aside, by reason."""
    names, ignored = {}, {}
    for official in weights:
        for pattern, reason in dead.items():
            if re.match(pattern, official):
                ignored.setdefault(reason, []).append(official)
                break
        else:
            for pattern, ours in table.items():
                if re.match(pattern, official):
                    names[re.sub(pattern, ours, official, count=1)] = official
                    break
            else:
                ignored.setdefault("unknown to the model", []).append(official)
    return names, ignored
