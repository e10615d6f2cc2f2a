"""How alike high- and low-frequency tokens become through depth, and what attention takes from each.

Both over images of the test split, spread evenly over it, and both beside random splits of the same
sizes: tokens of one image grow alike anyway.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from reid_core.analysis import frequency
from reid_core.data import Dataset, open_dataset
from reid_core.data.market import Split
from reid_core.data.spaced import spaced
from reid_core.errors import BadInput
from reid_core.knobs import knob
from reid_core.look import Looked, look
from reid_core.models import ReIDModel
from reid_core.models.base import Tokens
from reid_core.runs import Run

GROUP = "Frequency"
LAYERS, KINDS = ("tokens", "features"), ("tokens", "features", "attention", "values")
AT_ONCE = 8  # images: a ViT-B's maps of them are 200 MB

IMAGES = True


@dataclass(frozen=True)
class Options:
    images: int = knob(96, "Images of the test split, evenly spread.", GROUP, least=3)
    share: float = knob(
        0.4,
        "Share of a layer's positions that count as high-frequency.",
        GROUP,
        least=0.01,
        most=0.99,
    )
    wavelet: str = knob("haar", "A discrete wavelet by its PyWavelets name.", GROUP)
    draws: int = knob(8, "Random splits of the same sizes.", GROUP, least=1, most=100)
    seed: int = knob(0, "Seed of the random splits.", GROUP)


def compute(run: Run, options: Options, progress: Callable[[int, int], None]) -> dict:
    """n images, R random splits, L layers, A layers with attention.

    names (n,) paths below the data set's root; layers (L,) probes; cosine (L, n) and cosine_random
    (L, R, n) between an image's two mean tokens; cka, cka_low, cka_high (L,) with its jackknife
    interval and cka_random (L, R) over the images; attention_layers (A,), attention (A, n, 2, 3) and
    attention_random (A, R, n, 2, 3) as in `attention_shares`. Raises BadInput for a model without
    tokens or features.
    """
    asked, model = run.experiment, run.model()
    dataset = open_dataset(asked.dataset, asked.data)
    chosen = spread(dataset, options.images)
    steps = len(chosen) + 1
    found: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for start in range(0, len(chosen), AT_ONCE):
        some = chosen.take(np.arange(start, min(start + AT_ONCE, len(chosen))))
        said = some.cameras.tolist(), some.views.tolist()
        looked = look(model, asked, some.paths, *said, kinds=KINDS)
        batch(model, looked, options, options.seed + start, found)
        progress(start + len(some), steps)
    if not found["high"]:
        raise BadInput(f"run {run.name!r} has neither tokens after its layers nor features")
    arrays = similarity(found) | attention(found)
    progress(steps, steps)
    names = [path.relative_to(dataset.root).as_posix() for path in chosen.paths]
    return arrays | dict(names=np.array(names))


def spread(dataset: Dataset, count: int) -> Split:
    """Images evenly spread over queries and gallery: the same ones for every run."""
    parts = dataset.query, dataset.gallery
    whole = Split(
        sum((part.paths for part in parts), ()),
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("identities", "cameras", "views")
        ),
    )
    return whole.take(spaced(len(whole), count))


def batch(model: ReIDModel, looked: Looked, options: Options, seed: int, found: dict) -> None:
    """Add what some images show: by what it is, then by layer, a list of batches."""
    splits: dict[Tokens, list[torch.Tensor]] = {}
    for name, tensor in looked.seen.items():
        tokens = looked.tokens[name]
        values = name.removesuffix("attention") + "values"
        layer = looked.kinds[name] in LAYERS
        # Parts of the grid, as the jigsaw branch sees them, hold no split of the whole image.
        if tokens.groups or not (layer or (name.endswith("attention") and values in looked.seen)):
            continue
        if tokens not in splits:
            energy = frequency.energies(looked.pixels, tokens, options.wavelet)
            high = frequency.strongest(energy, options.share)
            splits[tokens] = [high, *frequency.shuffled(high, options.draws, seed)]
        if layer:
            rows = frequency.positions(tensor, tokens)
            means = [frequency.group_means(rows, high) for high in splits[tokens]]
            for number, group in enumerate(("high", "low")):
                found[group][name].append(torch.stack([mean[number] for mean in means]))
        else:
            weight = model.get_submodule(name.rpartition(".")[0]).proj.weight.detach()
            shares = [
                frequency.attention_shares(
                    frequency.attention_parts(
                        tensor, looked.seen[values], weight, high, len(tokens.prefix)
                    ),
                    high,
                )
                for high in splits[tokens]
            ]
            found["shares"][name].append(np.stack(shares))


def similarity(found: dict) -> dict[str, np.ndarray]:
    """The curves through depth, from mean tokens (1 + R, n, D) whose first split is the real one."""
    cosine, alike, bands = [], [], []
    for name in found["high"]:
        high, low = (torch.cat(found[group][name], dim=1) for group in ("high", "low"))
        splits = list(zip(high, low, strict=True))
        cosine.append([frequency.mean_cosine(*split) for split in splits])
        alike.append([frequency.linear_cka(*split) for split in splits])
        bands.append(frequency.cka_band(*splits[0]))
    cosine, alike, bands = np.array(cosine), np.array(alike), np.array(bands)
    return dict(
        layers=np.array(list(found["high"])),
        cosine=cosine[:, 0],
        cosine_random=cosine[:, 1:],
        cka=alike[:, 0],
        cka_random=alike[:, 1:],
        cka_low=bands[:, 0],
        cka_high=bands[:, 1],
    )


def attention(found: dict) -> dict[str, np.ndarray]:
    """Shares (A, 1 + R, n, 2, 3), the real split apart from the random ones."""
    layers = found["shares"]
    shares = [np.concatenate(each, axis=1) for each in layers.values()]
    shares = np.stack(shares) if shares else np.zeros((0, 1, 0, 2, 3))  # a CNN
    return dict(
        attention_layers=np.array(list(layers), dtype=str),
        attention=shares[:, 0],
        attention_random=shares[:, 1:],
    )
