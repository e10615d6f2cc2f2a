"""The view Side information: the same query told another camera, another view, or told it louder."""

import numpy as np
import pandas as pd

from app import cached, charts, charts_side, figures, pictures
from app import microscope_moved as moved
from app.charts_side import FACTORS, Asked
from app.figures import Said
from app.notices import explained, say
from app.pictures import Picture
from reid_core.analysis import side
from reid_core.data import family_of
from reid_core.models.base import Tokens
from reid_core.runs import Run

Way = tuple[int | None, int | None]  # camera and view; None is unknown
TOP = 10
ABOUT = (
    "Side information adds a learned vector for the camera, or the view, to every token. Tell the query "
    "something else and see what moves; the gallery stays as it was evaluated, and the list is judged by "
    "the query's true camera."
)
FORMULA = r"""
$$z_0 = [x_{cls}; x_1; \dots; x_N] + P + \lambda\, S_{(\text{camera}, \text{view})}$$

$S$ is learned; an unknown camera or view takes the mean over what is unknown (ours). Here $\lambda$ is
multiplied by a factor in a copy of the model.
"""
SOURCE = "He et al., TransReID, ICCV 2021, section 3.3 and eq. 5."


def offered(run: Run, probes: dict[str, tuple[str, Tokens]]) -> bool:
    """For runs that are told who took a picture, or from which side."""
    return run.experiment.knows_cameras or run.experiment.knows_views


def show(run: Run, picture: Picture) -> None:
    """Draw what each camera, view and coefficient does to the query and to its list."""
    if picture.ranking is None:
        say("info", f"Run {run.name} has no embeddings, so there is no list that could move.")
        return
    true, ways = _ways(run, picture)
    names = [name_of(run, way) for way in ways]
    row = pictures.controls(picture)
    other = next((n for n, way in zip(names, ways, strict=True) if way != true), names[0])
    way = pictures.choice(picture, row, "Tell it", names, other, "tell")
    factor = pictures.choice(
        picture, row, "Coefficient", list(FACTORS), "1 x", "coefficient", segmented=True
    )
    with explained():
        answers = _answers(picture, true, ways)
    asked = Asked(names, ways.index(true), names.index(way), factor)
    _curves(run, picture, answers, asked)
    _moves(picture, answers, asked)
    figures.table(
        _table(picture, answers, names),
        Said(
            "Every way to tell the query, at every multiple of the coefficient; at 0 they are one. Cosine is "
            "that with the query's embedding as it is (its true camera, 1 x); moved counts the images that came into "
            f"the first {TOP}.",
            FORMULA,
            SOURCE,
            (side.scaled, side.told, side.answered),
        ),
        key=picture.key("side table"),
    )


def _ways(run: Run, picture: Picture) -> tuple[Way, list[Way]]:
    """What the query is told in truth, and everything it can be told; unknown is last."""
    asked, facts = picture.experiment, run.facts
    said = cached.said(run.name, picture.stamp, picture.who)
    cameras = [*facts.cameras, None] if asked.knows_cameras else [None]
    views = [*facts.views, None] if asked.knows_views else [None]
    ways = [(camera, view) for camera in cameras for view in views]
    camera = said[0] if said[0] in facts.cameras and asked.knows_cameras else None
    view = said[1] if said[1] in facts.views and asked.knows_views else None
    return (camera, view), ways


def _answers(picture: Picture, true: Way, ways: list[Way]) -> dict[str, list[side.Answer]]:
    """What becomes of the query under each factor and way."""
    found, told = picture.found, _told(picture, ways)
    before = told["1 x"][ways.index(true)]
    return {
        factor: [
            side.answered(found, vector, before, picture.camera, picture.identity, TOP)
            for vector in vectors
        ]
        for factor, vectors in told.items()
    }


def _told(picture: Picture, ways: list[Way]) -> dict[str, np.ndarray]:
    """The embeddings (K, D) under each factor."""
    named = picture.run, picture.stamp, picture.who, tuple(ways)
    return {name: cached.told(*named, factor, picture.content) for name, factor in FACTORS.items()}


def name_of(run: Run, way: Way) -> str:
    """A camera and a view in words."""
    asked, words = run.experiment, []
    if asked.knows_cameras:
        words.append(f"camera {way[0]}" if way[0] is not None else "unknown camera")
    if asked.knows_views:
        names = family_of(asked.dataset).views
        known = str(way[1]) if run.imported or way[1] is None else names[way[1]]
        words.append(f"view {known}" if way[1] is not None else "unknown view")
    return ", ".join(words)


def _table(picture: Picture, answers: dict, names: list[str]) -> pd.DataFrame:
    rows = []
    for factor, found in answers.items():
        for name, answer in zip(names, found, strict=True):
            if not FACTORS[factor]:  # then what it is told is worth nothing
                name = "any of them"
            row = {"told": name, "coefficient": factor, "cosine": answer.cosine}
            if picture.identity is not None:
                row |= {
                    "AP": answer.ranking.average_precision,
                    "first hit": answer.ranking.first_hit or None,
                }
            rows.append(row | {f"moved into the first {TOP}": len(answer.came)})
            if not FACTORS[factor]:
                break
    return pd.DataFrame(rows).round(4)


def _curves(run: Run, picture: Picture, answers: dict, asked: Asked) -> None:
    """Cosine and, where the identity is known, average precision over the coefficient."""
    measures = {"cosine with the true one": lambda each: each.cosine}
    if picture.identity is not None and any(
        len(each.ranking.hits) for found in answers.values() for each in found
    ):
        measures["average precision"] = lambda each: each.ranking.average_precision
    values = {
        title: np.array([[measure(each) for each in found] for found in answers.values()])
        for title, measure in measures.items()
    }
    figures.chart(
        charts_side.curves(values, asked, charts.colour(run.experiment.model)),
        Said(
            f"How the embedding of {picture.label} moves: the cosine with what it is "
            f"({asked.names[asked.true]}, 1 x), and the average precision of its list where the "
            f"identity is known. A line for each camera or view that it is told{charts_side.named(asked)}. "
            f"{run.name} has a coefficient of "
            f"{picture.experiment.options.sie_coefficient:g}; any other is a what-if that it never saw.",
            FORMULA,
            SOURCE,
            (side.scaled, side.told, side.answered),
        ),
        key=picture.key("side curves"),
        table=_table(picture, answers, asked.names),
        alt=f"{', '.join(values)} of {len(asked.names)} ways over {len(answers)} coefficients; "
        + "; ".join(
            f"{title} when told {asked.names[asked.chosen]}, {asked.factor}: "
            f"{each[list(answers).index(asked.factor), asked.chosen]:.3f}"
            for title, each in values.items()
        ),
    )


def _moves(picture: Picture, answers: dict, asked: Asked) -> None:
    """The first ranks before and after one of the ways."""
    before = answers["1 x"][asked.true].ranking
    after = answers[asked.factor][asked.chosen].ranking
    told, truth = asked.names[asked.chosen], asked.names[asked.true]
    above = moved.ranked(picture, before, after, TOP)
    below = moved.ranked(picture, after, before, TOP)
    figures.pictures(
        moved.tiles(picture, above, "after") + moved.tiles(picture, below, "before"),
        Said(
            f"The first {TOP} ranks. Above: told {truth}, 1 x, as it is; below: told {told}, "
            f"{asked.factor}. A tick is a true match; lines join an image with itself where it moved. "
            "What the protocol ignores has no rank.",
            FORMULA,
            SOURCE,
            (side.answered,),
        ),
        key=picture.key("side ranks"),
        alt=f"The first {TOP} ranks, told {truth} and told {told}, {asked.factor}",
        columns=TOP,
        table=pd.concat(
            [
                above.assign(told=truth, coefficient="1 x"),
                below.assign(told=told, coefficient=asked.factor),
            ]
        ),
        links=moved.links(above, below),
    )
