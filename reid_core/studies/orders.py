"""JS divergence between the orders, the layers and the heads of a run's attention, over many queries.

Kept image by image beside what it is compared with: uniform maps and shuffled tokens.
"""

from dataclasses import dataclass

import numpy as np
import torch

from reid_core.analysis import orders
from reid_core.data import open_dataset
from reid_core.data.spaced import spaced
from reid_core.errors import BadInput
from reid_core.knobs import knob
from reid_core.look import Looked, look
from reid_core.runs import Run

BATCH = 4  # a ViT-B's maps of one image take 25 MB
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 140  # from 0 to ln 2, 0.005 nats each
ROWS = ("class token", "all rows")

IMAGES = True


@dataclass(frozen=True)
class Options:
    images: int = knob(64, "How many queries, evenly through the test split.", "Images", least=2)
    draws: int = knob(5, "How many random orders of the keys.", "Baseline", least=1)
    seed: int = knob(0, "Where the random orders start.", "Baseline", least=0)


def compute(run: Run, options: Options, progress) -> dict[str, np.ndarray]:
    """Images n, first-order layers L with H heads, pairs of orders P with M cells, draws S; in nats.

    query (n,) positions among the queries. A last axis of 2 is ROWS: the class token's row (NaN
    without one) and the mean over all rows.
        between_layers, layers_shuffled (n, L, L, 2); layers_uniform (n, L, 2); layer (L,) its number.
        between_heads, heads_shuffled (n, L, H, H, 2); heads_uniform (n, L, H, 2).
    Where there are high orders:
        pair (P, 2) layer and order; js (n, P, H) means over rows; quantiles (n, P, H, 5) over rows;
        histogram (P, H, BINS) of all rows of all images; cells (P, H, M) means over images;
        uniform (n, P, H, 2) of the first and of the high order; shuffled (S, n, P, H); reweighted
        (n, P, H) from the first order times its learned weights, NaN without them; diversity
        (n, P, 2) between the heads of the first and of the high order. grid (2,) of the cells.
    Raises BadInput where no two maps can be compared.
    """
    experiment, model, found = run.experiment, run.model(), run.embeddings()
    root = open_dataset(experiment.dataset, experiment.data).root
    positions = spaced(len(found.query_rows), options.images)
    parts: list[dict[str, np.ndarray]] = []
    for start in range(0, len(positions), BATCH):
        rows = found.query_rows[positions[start : start + BATCH]]
        said = found.cameras[rows].tolist(), found.views[rows].tolist()
        files = [root / str(found.names[row]) for row in rows]
        seen = look(model, experiment, files, *said, kinds=("attention", "prior"))
        # Other random orders in each batch, the same ones when it is computed anew.
        parts.append(measured(seen, options.draws, 1_000_003 * options.seed + start))
        progress(start + len(rows), len(positions))
    return dict(query=positions, **joined(parts), **named(seen))


@torch.no_grad()
def measured(looked: Looked, draws: int, seed: int = 0) -> dict[str, np.ndarray]:
    """What `compute` keeps of B images; shuffled has its draws second and histogram an image axis.

    Raises BadInput where no two maps can be compared.
    """
    maps, pairs = orders.comparable(looked), orders.pairs(looked)
    heads = max((each.shape[1] for each in maps.values()), default=0)
    if len(maps) < 2 and heads < 2 and not pairs:
        raise BadInput(
            "no two attention maps of this run are distributions over the same tokens: choose a run "
            "of a transformer"
        )
    prefix = bool(looked.tokens[next(iter(maps))].prefix) if maps else False
    return _of_maps(list(maps.values()), prefix, draws, seed) | _of_pairs(pairs, draws, seed)


def _of_maps(maps, prefix: bool, draws: int, seed: int) -> dict[str, np.ndarray]:
    mean = orders.over_heads(maps)  # (B, L, N, N)
    two = lambda rows: _two(rows, prefix)  # noqa: E731
    heads = lambda measure: torch.stack([two(measure(each)) for each in maps], 1)  # noqa: E731
    found = dict(
        between_layers=two(orders.between(mean)),
        layers_shuffled=two(orders.between_shuffled(mean, draws, seed)),
        layers_uniform=two(orders.to_uniform(mean)),
        between_heads=heads(orders.between),
        heads_shuffled=heads(lambda each: orders.between_shuffled(each, draws, seed)),
        heads_uniform=heads(orders.to_uniform),
    )
    return {name: value.float().cpu().numpy() for name, value in found.items()}


def _two(rows: torch.Tensor, prefix: bool) -> torch.Tensor:
    """(..., N) -> (..., 2): the class token's row and the mean over all rows."""
    first = rows[..., 0] if prefix else torch.full_like(rows[..., 0], float("nan"))
    return torch.stack([first, rows.mean(dim=-1)], dim=-1)


def _of_pairs(pairs: list[orders.Pair], draws: int, seed: int) -> dict[str, np.ndarray]:
    kept: list[dict[str, torch.Tensor]] = []
    for pair in pairs:
        js, learned = pair.js(), pair.reweighted_js()  # (B, H, M)
        empty = torch.full_like(js, float("nan"))
        sides = (pair.first, pair.high)
        shuffled = orders.shuffled(*sides, draws, seed).mean(dim=-1)  # (S, B, H)
        kept.append(
            dict(
                js=js.mean(dim=-1),
                quantiles=js.quantile(torch.tensor(QUANTILES).to(js), dim=-1).movedim(0, -1),
                histogram=_histogram(js),
                cells=js,
                uniform=torch.stack([orders.to_uniform(s).mean(dim=-1) for s in sides], dim=-1),
                shuffled=shuffled.movedim(0, 1),  # (B, S, H)
                reweighted=(empty if learned is None else learned).mean(dim=-1),
                diversity=torch.stack([orders.diversity(side) for side in sides], dim=-1),
            )
        )
    return {
        name: torch.stack([each[name] for each in kept], dim=1).float().cpu().numpy()
        for name in (kept[0] if kept else ())
    }


def _histogram(js: torch.Tensor) -> torch.Tensor:
    """(B, H, M) -> (B, H, BINS): how many rows lie in each bin; ln 2 itself is in the last one."""
    place = (js / orders.BOUND * BINS).long().clamp(0, BINS - 1)
    return torch.nn.functional.one_hot(place, BINS).sum(dim=-2)


def joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Batches as one, with the histograms summed and the cells averaged over all images."""
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if "js" in found:
        found["histogram"] = found["histogram"].sum(axis=0)
        found["cells"] = found["cells"].mean(axis=0)
        found["shuffled"] = np.moveaxis(found["shuffled"], 2, 0)  # (n, P, S, H) -> (S, n, P, H)
    return found


def named(looked: Looked) -> dict[str, np.ndarray]:
    """Which layer and which order each number is about."""
    numbers, pairs = orders.numbered(looked), orders.pairs(looked)
    layers = dict(layer=np.array([numbers[name] for name in orders.comparable(looked)]))
    if not pairs:
        return layers
    pair = np.array([(each.layer, each.order) for each in pairs])
    return layers | dict(pair=pair, grid=np.array(pairs[0].tokens.grid))
