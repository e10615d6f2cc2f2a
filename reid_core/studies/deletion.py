"""Whether a map points at what the model uses: deletion and insertion curves against random order.

After RISE (Petsiuk et al. 2018), adapted: the score is the cosine with the original's embedding.
"""

from dataclasses import dataclass

import numpy as np

from reid_core.analysis import faithfulness
from reid_core.analysis.attention import chain, pulled
from reid_core.analysis.maps import KINDS
from reid_core.analysis.occlusion import alone, positions_of
from reid_core.analysis.similarity import left_out
from reid_core.data import open_dataset
from reid_core.knobs import knob
from reid_core.look import look
from reid_core.runs import Run
from reid_core.studies.shares import drawn

IMAGES = True


@dataclass(frozen=True)
class Options:
    images: int = knob(16, "How many images of the test split.", "Images", least=2)
    steps: int = knob(20, "Into how many steps an order is cut.", "Curves", least=2)
    draws: int = knob(4, "Random orders for each image.", "Curves", least=1)
    seed: int = knob(0, "Which images and which random orders are drawn.", "Images", least=0)


def compute(run: Run, options: Options, progress) -> dict[str, np.ndarray]:
    """Images n, methods K, steps S, draws R; the first axis is 0 for deletion, 1 for insertion.

    methods (K,) names, which say where each map is; altered (S + 1,) share of positions; curves
    (2, n, K, S + 1) and random (2, n, R, S + 1) cosines with the original; areas (2, n, K) and
    random_areas (2, n, R) under them; rows (n,) of the run's embeddings. Raises BadInput.
    """
    experiment, model, found = run.experiment, run.model(), run.embeddings()
    root = open_dataset(experiment.dataset, experiment.data).root
    rows, tokens = drawn(found, options.images, options.seed), positions_of(model)
    count = tokens.grid[0] * tokens.grid[1]
    ticks = faithfulness.ticks(count, options.steps)
    curves, random = [], []
    for done, row in enumerate(rows):
        said = int(found.cameras[row]), int(found.views[row])
        seen = look(model, experiment, [root / found.names[row]], *([x] for x in said), kinds=KINDS)
        inner, pixels = alone(model, experiment, *said), seen.pixels[0]

        def embed(images, inner=inner, done=done):
            progress(done, len(rows))  # it may be stopped between batches: an image takes a minute
            return inner(images)

        traced = pulled(model, experiment, seen.pixels, *said) if chain(seen) else None
        image = left_out(embed, pixels, tokens)
        maps = faithfulness.candidates(seen, tokens, image, traced)
        shuffled = faithfulness.random_orders(count, options.draws, options.seed + int(row))
        orders = [*(faithfulness.order_of(each) for each in maps.values()), *shuffled]
        found_here = faithfulness.curves(embed, pixels, tokens, orders, options.steps)
        curves.append(found_here[:, : len(maps)])
        random.append(found_here[:, len(maps) :])
        progress(done + 1, len(rows))
    curves, random = (np.stack(each, axis=1) for each in (curves, random))
    return dict(
        methods=np.array(list(maps)),
        altered=ticks / count,
        curves=curves,
        random=random,
        areas=faithfulness.area(ticks, curves),
        random_areas=faithfulness.area(ticks, random),
        rows=rows,
    )
