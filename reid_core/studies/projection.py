"""A map of a run's embeddings in two or three dimensions, and how much of them it shows.

With a second set of embeddings of the same images it makes a second map to compare: each is fitted to
its own embeddings alone, the second from the positions of the first, and then turned onto it.
"""

from dataclasses import dataclass

import numpy as np

from reid_core.analysis import layout, projection
from reid_core.analysis.layout import METHODS
from reid_core.analysis.projection import METRICS, TRUSTED, Spread
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings
from reid_core.knobs import knob
from reid_core.runs import Run, open_run
from reid_core.studies import Study
from reid_core.studies.spread import ARRAYS, KEPT, staged


@dataclass(frozen=True)
class Options:
    method: str = knob("umap", "How the map is made.", "Map", choices=METHODS)
    dimensions: int = knob(2, "Of the map.", "Map", least=2, most=3)
    metric: str = knob("cosine", "What is called near.", "Map", choices=METRICS)
    n_neighbors: int = knob(
        15,
        "UMAP: an image and its nearest ones that shape the map; t-SNE: its perplexity.",
        "Map",
        least=2,
        most=KEPT,
    )
    min_dist: float = knob(
        0.1, "UMAP: how close two points may lie on the map.", "Map", least=0, most=0.99
    )
    seed: int = knob(0, "Where chance begins.", "Map", least=0)
    encoder: bool = knob(
        False, "Beside it the same images before they looked at one another.", "Second map"
    )
    other: str = knob("", "Beside it the same images in another run.", "Second map", kind="run")


def compute(run: Run, options: Options, progress) -> dict[str, np.ndarray]:
    """S maps (1 or 2) of N images, row by row those of the run's embeddings.

    layouts (S, N, dimensions); trust (S, N) share of the 15 nearest neighbours that the map keeps;
    trustworthiness (S,); silhouette (S, N) on the map. For two also: moved (N,) how far a point went
    and chance (N,) how far it goes when the first map is made twice; same (N,) share of the 15 nearest
    neighbours that both embeddings have in common. Raises BadInput.
    """
    if options.encoder and options.other:
        raise BadInput("expected encoder or other, got both: a second map shows one of them")
    sides = [_side(run, "final")]
    sides += [_side(run, "encoder")] if options.encoder else []
    sides += [_side(open_run(options.other), "final")] if options.other else []
    orders = [rows_of(sides[0][2], each[2]) for each in sides]
    step = _Steps(progress, 1 if len(sides) == 1 else 2.5)
    _crops(run, step.part(0.15, whole=True))
    points, spreads = [], []
    for (owner, stage, found), rows in zip(sides, orders, strict=True):
        study = Study.asked(owner, "spread", dict(metric=options.metric, stage=stage))
        arrays = study.compute(step.part(0.2))
        points.append(projection.space(found.vectors, options.metric)[rows])
        ordered = in_order(arrays, rows)
        spreads.append(Spread(**{name: ordered[name] for name in ARRAYS}))
    layouts, chance = _layouts(points, spreads, options, step)
    found = sides[0][2]
    measured = [
        _measured(*each, found, step) for each in zip(points, spreads, layouts, strict=True)
    ]
    arrays = {name: np.stack([each[name] for each in measured]) for name in measured[0]}
    if len(layouts) == 2:
        near = [each.neighbours[:, :TRUSTED] for each in spreads]
        arrays["moved"] = layout.moved(layouts[1], layouts[0])
        arrays |= dict(chance=chance, same=projection.kept(*near))
    progress(100, 100)
    return arrays | dict(layouts=np.stack(layouts))


def rows_of(found: Embeddings, other: Embeddings) -> np.ndarray:
    """(N,) the row in the other embeddings of each image, by its name. Raises BadInput.

    Both must be of one test split: the same names, and the same identity on each.
    """
    place = {str(name): row for row, name in enumerate(other.names)}
    shared = [str(name) for name in found.names if str(name) in place]
    if len(shared) != len(found.names) or len(place) != len(found.names):
        raise BadInput(
            f"expected two runs on the same test images, got {len(shared)} in common of "
            f"{len(found.names)} and {len(place)}: choose a run on the same data set"
        )
    rows = np.array([place[str(name)] for name in found.names])
    if (other.identities[rows] != found.identities).any():
        raise BadInput(
            "expected the same people on images of the same name, got others: the two runs were "
            "evaluated on different data sets; evaluate one of them anew"
        )
    return rows


def _side(run: Run, stage: str) -> tuple[Run, str, Embeddings]:
    return run, stage, staged(run.embeddings(), stage)


def _crops(run: Run, progress) -> None:
    """A map without pictures is still a map: the data set may be elsewhere."""
    try:
        Study.asked(run, "crops").compute(progress)
    except BadInput:
        progress(1, 1)


def in_order(arrays: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """What the study spread found, its images in another order: row i is what was row rows[i]."""
    whole = ("counts", "edges")
    kept = {name: each if name in whole else each[rows] for name, each in arrays.items()}
    return kept | dict(neighbours=np.argsort(rows).astype(np.int32)[kept["neighbours"]])


def _layouts(points, spreads, options, step) -> tuple[list[np.ndarray], np.ndarray | None]:
    """The maps, and how far the points of the first go by chance if there is a second one."""
    names = ("method", "metric", "dimensions", "n_neighbors", "min_dist")
    knobs = {name: getattr(options, name) for name in names}
    fit = lambda of, seed, start=None: layout.lay_out(  # noqa: E731
        points[of], spreads[of], seed=seed, start=start, tell=step.tell(0.35), **knobs
    )
    first = fit(0, options.seed)
    if len(points) == 1:
        return [first], None
    second = layout.aligned(fit(1, options.seed, first), first)
    again = layout.aligned(fit(0, options.seed + 1, first), first)
    return [first, second], layout.moved(again, first)


def _measured(points, lies, places, found, step) -> dict[str, np.ndarray]:
    """What one map keeps."""
    k = min(TRUSTED, (len(points) - 1) // 2)
    there = places.astype(np.float64)
    on_map = projection.spread(there, found.identities, found.cameras, k, step.tell(0.1))
    return dict(
        trust=projection.kept(lies.neighbours[:, :k], on_map.neighbours),
        trustworthiness=np.array(
            projection.trustworthiness(points, on_map.neighbours, step.tell(0.2))
        ),
        silhouette=on_map.silhouette,
    )


class _Steps:
    """Parts of the work, one after another, as one count to 100."""

    def __init__(self, progress, longer: float):
        self.progress, self.longer, self.before = progress, longer, 0.0

    def tell(self, share: float):
        """What a part calls with the share of it that is done; share: what it is of one map's work."""
        start, size = self.before, 99 * share / self.longer
        self.before += size
        return lambda done: self.progress(int(min(99, start + size * done)), 100)

    def part(self, share: float, whole: bool = False):
        """The same for a study within this one; whole: once however many maps."""
        tell = self.tell(share * self.longer if whole else share)
        return lambda done, total: tell(done / max(total, 1))
