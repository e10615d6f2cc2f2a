"""PHA: Patch-wise High-frequency Augmentation (Zhang et al., CVPR 2023), on TransReID.

Shapes: B images of H x W pixels, N = h * w patches, K of them of high frequency, D width; sub-bands
of a wavelet are (H', W'), half of the image for Haar. Tokens have the class token first.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_core.errors import BadInput
from reid_core.knobs import knob
from reid_core.models import vit
from reid_core.models.base import Batch, Branch, Facts, Output
from reid_core.models.neck import BNNeck
from reid_core.models.transreid import TransReID, TransReIDOptions
from reid_core.probe import Probe
from reid_core.wavelets import (
    drop_low_frequency,
    high_frequency,
    known,
    official_enhanced,
    official_marks,
    official_patches,
    patch_energy,
    top_patches,
)

GROUP = "High frequency"


@dataclass(frozen=True)
class PHAOptions(TransReIDOptions):
    """What PHA adds to TransReID's knobs. Defaults are the official code's."""

    variant: Literal["paper", "official"] = knob(
        "paper",
        "paper: patches ranked by their energy, on the view the model sees. official: as the "
        "authors' code does it, step by step.",
        GROUP,
        choices=("paper", "official"),
    )
    wavelet: str = knob("haar", "A discrete wavelet by its PyWavelets name.", GROUP)
    high_frequency_share: float = knob(
        0.4, "Share of the patches that count as high-frequency.", GROUP, least=0.01, most=1
    )
    low_frequency_step: float = knob(
        5.0,
        "Low-frequency coefficients are rounded to multiples of this many of 255 levels; 0 leaves "
        "them as they are.",
        GROUP,
        least=0,
        most=255,
    )
    high_frequency_weight: float = knob(
        0.5, "Largest weight of the losses on the high-frequency feature.", GROUP, least=0
    )
    high_frequency_growth: float = knob(
        0.05, "What that weight gains in each epoch until then.", GROUP, least=0
    )
    contrastive_weight: float = knob(
        1.0, "Weight of the patch-wise contrastive loss.", GROUP, least=0
    )


def gathered(tokens: Tensor, positions: Tensor) -> Tensor:
    """(B, N, D), (B, K) -> (B, K, D): each image's own patches."""
    return tokens.gather(1, positions[:, :, None].expand(-1, -1, tokens.shape[2]))


# The loss


def patch_cosines(first: Tensor, second: Tensor) -> Tensor:
    """Two lists of tokens (B, K, D) -> (K, B, B): at each place k the cosine of every image's first
    token with every image's second token at k, in float32."""
    with torch.autocast(first.device.type, enabled=False):
        first, second = (F.normalize(each.float(), dim=2) for each in (first, second))
        return torch.einsum("akd,bkd->kab", first, second)


def pulls(cosines: Tensor, identities: Tensor) -> tuple[Tensor, Tensor]:
    """What draws each image's token at each place, and what it is to be held away from: of cosines
    (K, B, B) the mean over the images of its identity (itself too), and over all others, (K, B) each."""
    same = (identities[:, None] == identities[None]).float()  # (B, B)
    other = 1 - same
    positive = (cosines * same).sum(dim=2) / same.sum(dim=1)
    negative = (cosines * other).sum(dim=2) / other.sum(dim=1).clamp(min=1)
    return positive, negative


def patch_contrast(cosines: Tensor, identities: Tensor) -> Tensor:
    """Patch-wise contrastive loss (section 3.2) of `patch_cosines` (K, B, B).

    With p the mean over the images of an image's identity and n that over all others (`pulls`), it is
    the mean over places and images of -log(exp(p) / (exp(p) + exp(n))).
    """
    positive, negative = pulls(cosines, identities)  # (K, B) each
    return F.softplus(negative - positive).mean()


class PHA(TransReID):
    """TransReID, trained to keep the high frequencies (texture, edges) that self-attention dilutes.
    At test it is TransReID: nothing is added.

    In training a wavelet transform finds the patches with the most high frequency. In a second view
    of the image the low frequencies are quantised, which the eye does not see; it is cut into the same
    patches, and only those K, with the class token, go through the same layers. Their class token has
    a BNNeck, cross-entropy and triplet of its own; their weight grows by 0.05 an epoch to 0.5. A
    patch-wise contrastive loss draws the whole image's tokens at these K places towards the
    high-frequency tokens of the same identity and away from those of others.

    Variant paper. As the official code does it, where the reading notes of the paper are silent: the
    contrastive loss compares the k-th patch of one image with the k-th of another, in the order of
    the grid, before the last layer; low frequencies are quantised rather than set to zero, in steps
    of 5 of 255 levels; the share of 40%, the weights and their schedule. Ours, not the paper's: a
    patch's energy is that of its own window, overlapping or not; all low frequencies are quantised
    alike and by plain rounding; the second view has the same flip and crop and is not erased.

    Variant official, as the code does it: the transform is of the image without flip and crop, so that
    the places may be mirrored; the three sub-bands are added with their signs; 40% of the coefficients
    are marked and resized to the nearest pixel; of the marked patches the first K in the order of the
    grid are taken, unmarked ones where there are too few; the class token before them has neither
    position nor side information; there are two high-frequency sequences, of the image itself and of
    the quantised view (erased anew), the patches of the latter with neither position nor side
    information unless cameras alone are known; a second contrastive loss holds the two together, class token included.
    Ours: any batch size and any order of identities, any size and stride, where the code has them
    written in.

    Ours in both: with JPM off, which the official code can't, the last layer is part of the encoder.
    Watched at test, the places are found as in training, in the image before it is normalised (where
    the batch brings it).
    """

    title = "PHA"
    paper = (
        "Zhang et al., PHA: Patch-Wise High-Frequency Augmentation for Transformer-Based Person "
        "Re-Identification, CVPR 2023"
    )
    idea = (
        "TransReID that in training also looks at the patches with the most texture alone, so that "
        "attention does not wash it out."
    )
    Options = PHAOptions
    other_sets = (
        "The recipe is Market-1501's. Official elsewhere: DukeMTMC-reID the same; MSMT17 and "
        "Occluded-Duke sie=camera; CUHK03-NP (labelled) sie=camera epochs=200 identities_per_batch=8. "
        "The official code itself runs with batches of 32 alone."
    )
    recipes = {
        # Official vit_transreid_stride.yml for Market-1501. MSMT17 and Occluded-Duke have sie=camera;
        # labelled CUHK03 sie=camera, identities_per_batch=8 and epochs=200.
        "paper": TransReID.recipes["paper"] | {"identities_per_batch": 12, "sie": "none"},
        # Ours: that of TransReID, in fewer epochs, since each takes 1.6 times as long.
        "demo": TransReID.recipes["demo"] | {"epochs": 16},
    }

    def __init__(self, options: PHAOptions, size: tuple[int, int], facts: Facts):
        super().__init__(options, size, facts)
        known(options.wavelet)
        self.high_neck = BNNeck(self.trunk.embed_dim, facts.classes)
        if options.variant == "official":
            if options.low_frequency_step == 0:
                raise BadInput("low_frequency_step: the official variant needs more than 0")
            # The quantised view has statistics of its own and the classifier of the other.
            self.enhanced_norm = nn.BatchNorm1d(self.trunk.embed_dim)
            self.enhanced_norm.bias.requires_grad_(False)
        self.high_frequency = Probe("high frequency")
        self.cosines = Probe("patch cosines")

    def forward(self, batch: Batch) -> Output:
        embedded = self.embed(batch)
        tokens = self.encode(embedded)  # (B, 1 + N, D)
        output = self.heads(tokens)
        if batch.identity is None:
            if self.high_frequency.watched:
                self.places(batch.image if batch.clean is None else batch.clean)
            return output

        if self.options.variant == "paper":
            places, views = self.paper_views(batch)
        else:
            places, views = self.official_views(batch, embedded)
        encoded = self.encode(torch.cat(views))  # (V * B, 1 + K, D): one or two views at once
        features = self.global_feature(encoded).chunk(len(views))  # (B, D) each
        encoded = encoded.chunk(len(views))  # (B, 1 + K, D) each
        weight = self.weight(batch.progress)
        output.branches.append(self.high_neck(features[0], weight)[1])
        whole = gathered(tokens[:, 1:], places)  # (B, K, D)
        pairs = {"contrastive": (whole, encoded[0][:, 1:])}
        if self.options.variant == "official":
            logits = self.high_neck.classifier(self.enhanced_norm(features[1]))
            output.branches.append(Branch(features[1], logits, weight))
            pairs["contrastive_views"] = (encoded[0], encoded[1])
        everyone = batch.gather(batch.identity)
        for name, pair in pairs.items():
            cosines = patch_cosines(*map(batch.gather, pair))  # (K, B, B)
            if name == "contrastive":
                cosines = self.cosines(cosines)
            contrast = patch_contrast(cosines, everyone)
            output.losses[name] = self.options.contrastive_weight * contrast
        return output

    def weight(self, epoch: int) -> float:
        """Of the losses on the high-frequency features, in an epoch from 1."""
        return min(self.options.high_frequency_growth * epoch, self.options.high_frequency_weight)

    def places(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, K): the patches of high frequency."""
        options, share = self.options, self.options.high_frequency_share
        if options.variant == "paper":
            patch = self.trunk.patch_embed.proj.kernel_size[0]
            energy = patch_energy(high_frequency(image, options.wavelet), patch, options.stride)
            places = top_patches(energy, share)
        else:
            places = official_patches(
                official_marks(image, options.wavelet, share), self.grid, share
            )
        if self.high_frequency.watched:
            mask = image.new_zeros(len(image), self.grid[0] * self.grid[1]).scatter(1, places, 1)
            self.high_frequency(mask.unflatten(1, self.grid)[:, None])  # (B, 1, h, w)
        return places

    def paper_views(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Places (B, K), and the patches there of the quantised view: [(B, 1 + K, D)]."""
        clean = needed(batch, "clean")
        places = self.places(clean)
        view = drop_low_frequency(clean, self.options.wavelet, self.options.low_frequency_step)
        tokens = self.embed(replace(batch, image=batch.finish(view, erase=0)))
        return places, [torch.cat([tokens[:, :1], gathered(tokens[:, 1:], places)], dim=1)]

    def official_views(self, batch: Batch, embedded: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Places (B, K), and the patches there of the image and of its quantised view."""
        plain, options = needed(batch, "plain"), self.options
        places = self.places(plain)
        marks = official_marks(plain, options.wavelet, options.high_frequency_share)
        view = official_enhanced(plain, marks, options.wavelet, options.low_frequency_step)
        tokens = vit.cut(self.trunk, batch.finish(view))
        if options.sie == "camera":
            tokens = tokens + self.trunk.pos_embed
            tokens = tokens + options.sie_coefficient * self.side_information(batch)
        cls = self.trunk.cls_token.expand(len(tokens), -1, -1)  # (B, 1, D)
        return places, [
            torch.cat([cls, gathered(each[:, 1:], places)], dim=1) for each in (embedded, tokens)
        ]


def needed(batch: Batch, name: str) -> Tensor:
    """A view of the images that PHA trains with. Raises BadInput where the batch has none."""
    view = getattr(batch, name)
    if view is None or batch.finish is None:
        raise BadInput(
            f"PHA trains with the batch's {name} view and its finish, got none; give both, or no "
            "identities at test"
        )
    return view
