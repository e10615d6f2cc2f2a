"""ViT-BoT: the plain vision transformer that TransReID is read against (He et al., ICCV 2021, 3.1).

Shapes: B images, N patches, D width, C classes; tokens are (B, 1 + N, D), class token first.
"""

from torch import nn

from reid_core.models import vit
from reid_core.models.base import Batch, Facts, Output, ReIDModel
from reid_core.models.neck import BNNeck
from reid_core.models.transreid import TransReID


class ViTBoT(ReIDModel):
    """A vision transformer and the bag of tricks of re-identification, nothing else.

    The image is cut into patches that do not overlap (stride 16); the class token after the last
    layer is the feature. It has one BNNeck, cross-entropy without label smoothing and soft-margin
    batch-hard triplet. At test the feature before BNNeck is compared.

    As the official code of TransReID does it (its vit_base.yml): no overlap, no jigsaw, no side
    information; position embeddings are resized bilinearly.

    Ours, not the paper's: from scratch the position embedding starts at the size it needs; the
    stride is a knob, so that overlap alone can be tried.
    """

    title = "ViT-BoT"
    paper = (
        "He et al., TransReID: Transformer-based Object Re-Identification, ICCV 2021 (its baseline)"
    )
    idea = "A plain vision transformer with the usual tricks: what the others must improve on."
    Options = vit.ViTOptions
    other_sets = "The recipe is Market-1501's; for the other person sets it is officially the same."
    recipes = {
        # Official vit_base.yml for Market-1501: TransReID's recipe without overlap.
        "paper": TransReID.recipes["paper"] | {"stride": 16},
        # Ours: that of TransReID, without overlap by smaller patches, and in more epochs.
        "demo": TransReID.recipes["demo"] | {"patch": 12, "stride": 12, "epochs": 36},
    }

    def __init__(self, options: vit.ViTOptions, size: tuple[int, int], facts: Facts):
        super().__init__()
        self.options, self.facts = options, facts
        self.trunk, self.grid = vit.prepared(options, size)
        self.prefix_tokens, self.window = 1, vit.window(self.trunk)
        # A list of one, so that the names of the weights are those of TransReID without JPM.
        self.necks = nn.ModuleList([BNNeck(self.trunk.embed_dim, facts.classes)])

    def forward(self, batch: Batch) -> Output:
        tokens = vit.cut(self.trunk, batch.image) + self.trunk.pos_embed  # (B, 1 + N, D)
        tokens = self.trunk.norm_pre(self.trunk.pos_drop(tokens))
        feature = self.trunk.norm(self.trunk.blocks(tokens))[:, 0]  # (B, D)
        normalised, branch = self.necks[0](feature, weight=1.0)
        return Output(normalised if self.neck == "after" else feature, [branch])
