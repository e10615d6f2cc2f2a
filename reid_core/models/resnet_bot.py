"""ResNet-50-BoT: Bag of Tricks and a Strong Baseline for Deep Person Re-identification (Luo et al.,
CVPR Workshops 2019).

Shapes: B images, D width of a feature, C classes, h x w grid of a stage.
"""

from dataclasses import dataclass

from torch import nn

from reid_core.knobs import knob
from reid_core.models import cnn
from reid_core.models.base import Batch, Facts, Output, ReIDModel, Tokens
from reid_core.models.neck import BNNeck, Centers
from reid_core.probe import Probe


@dataclass(frozen=True)
class ResNetBoTOptions(cnn.TrunkOptions):
    """What the baseline adds to the common knobs: its tricks, each of which can be left out."""

    stem_relu: bool = knob(
        False,
        "A ReLU after the first normalisation. ResNets have it, the official baseline leaves it out.",
        "Trunk",
    )
    projection: int = knob(
        0,
        "Width to which the feature is projected by a learned matrix; 0 leaves it as it is. NFormer's "
        "encoder projects to 256.",
        "Feature",
        least=0,
    )
    bnneck: bool = knob(
        True,
        "BNNeck: normalise between the triplet and the identity loss.",
        "Feature",
    )
    center_weight: float = knob(5e-4, "Weight of the centre loss; 0 is none.", "Feature", least=0)


class ResNetBoT(ReIDModel):
    """The strong convolutional baseline: a ResNet-50 and a bag of training tricks.

    The last stage keeps stride 1, so that the feature map is twice as fine; its global average is
    the feature. Triplet and centre loss act on the feature; BNNeck normalises it for the identity
    loss, which smooths its labels. Warm-up and random erasing belong to the training. At test the
    feature after BNNeck is compared.

    As the official code does it, where the paper is silent: there is no ReLU after the first
    normalisation; the centres move by SGD of their own.

    Ours, not the paper's: without BNNeck the classifier still has no bias; the trunk can be any
    ResNet of timm, of any width.
    """

    title = "ResNet-50-BoT"
    paper = (
        "Luo et al., Bag of Tricks and a Strong Baseline for Deep Person Re-identification, "
        "CVPR Workshops 2019"
    )
    idea = "A ResNet-50 with the training tricks that every later paper is read against."
    Options = ResNetBoTOptions
    other_sets = "The recipe is Market-1501's, as NFormer's official configuration repeats it."
    recipes = {
        # The recipe that NFormer's softmax_triplet_with_center.yml repeats, for Market-1501.
        "paper": {
            "size": (256, 128),
            "normalisation": "imagenet",
            "identities_per_batch": 16,
            "images_per_identity": 4,
            "resize": "bilinear",
            "pad": 10,
            "erase": 0.5,
            "erase_area": 0.4,
            "erase_fill": "mean",
            "epochs": 120,
            "optimizer": "adam",
            "learning_rate": 3.5e-4,
            "bias_learning_rate": 1.0,
            "weight_decay": 5e-4,
            "schedule": "multistep",
            "steps": "40,70",
            "warmup_epochs": 10,
            "warmup_start": 0.01,
            "label_smoothing": 0.1,
            "margin": "0.3",
            "neck": "after",
            "evaluate_every": 40,
        },
        # Ours: narrow, from scratch, for two CPU cores and the pedestrians.
        "demo": {
            "size": (128, 64),
            "normalisation": "imagenet",
            "identities_per_batch": 8,
            "images_per_identity": 4,
            "pad": 5,
            "erase": 0.0,
            "epochs": 16,
            "optimizer": "adam",
            "learning_rate": 2e-3,
            "bias_learning_rate": 1.0,
            "weight_decay": 5e-4,
            "schedule": "cosine",
            "warmup_epochs": 2,
            "warmup_start": 0.1,
            "final_learning_rate": 0.01,
            "label_smoothing": 0.1,
            "margin": "0.3",
            "neck": "after",
            "evaluate_every": 4,
            "trunk": "resnet10t",
            "pretrained": "none",
            "width": 32,
            "stem_relu": True,
        },
    }

    def __init__(self, options: ResNetBoTOptions, size: tuple[int, int], facts: Facts):
        super().__init__()
        self.options, self.facts = options, facts
        self.trunk = cnn.trunk(
            options.trunk, options.pretrained, options.width, options.last_stride, options.stem_relu
        )
        self.grids = cnn.grids_of(size, options.last_stride)
        self.grid = self.grids[-1]
        self.features = nn.ModuleDict({name: Probe("features") for name in cnn.STAGES})
        channels = cnn.widths(self.trunk)[-1]
        self.width = options.projection or channels
        self.projection = (
            nn.Linear(channels, options.projection) if options.projection else nn.Identity()
        )
        self.head = BNNeck(self.width, facts.classes)
        if not options.bnneck:
            self.head.norm = nn.Identity()
        if options.center_weight:
            self.centers = Centers(self.width, facts.classes, options.center_weight)

    def tokens(self, probe: str) -> Tokens:
        return cnn.tokens_of(probe, self.grids)

    def forward(self, batch: Batch) -> Output:
        x = cnn.stem(self.trunk, batch.image)  # (B, D, H/4, W/4)
        for name, stage in cnn.stages(self.trunk):
            x = self.features[name](stage(x))  # (B, D, h, w)
        feature = self.projection(x.mean(dim=(2, 3)))  # (B, D)
        normalised, branch = self.head(feature, weight=1.0)
        losses = {}
        if batch.identity is not None and self.options.center_weight:
            losses["center"] = self.centers(feature, batch.identity)
        return Output(normalised if self.neck == "after" else feature, [branch], losses)
