"""The view Positions: what a transformer learned of where a patch lies, and what resizing does to it."""

from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, figures, pictures
from app.charts_mechanisms import Line, bands
from app.figures import Said
from app.mechanisms import at, kept, places
from app.notices import explained
from app.pictures import Picture
from reid_core.analysis import position_vectors, side
from reid_core.evaluate import directions
from reid_core.models import vit
from reid_core.models.base import Tokens
from reid_core.runs import Run

Grid = tuple[int, int]
IMAGENET = (14, 14)  # of 224 x 224 pixels in patches of 16
TOP = 10
ABOUT = (
    "A transformer is told where a patch lies by a learned vector that is added to it. Those of "
    "ImageNet belong to a square grid, so for a person's tall image they are resized. See what they "
    "hold, and what resizing costs."
)
FORMULA = r"""
$$z_0 = [x_{cls}; x_1; \dots; x_N] + P,\qquad P' = \mathrm{bilinear}(P;\; h \times w \to h' \times w')$$

The class token's own vector is kept as it is.
"""
SOURCE = (
    "He et al., TransReID, ICCV 2021, section 3.1 (position embeddings), bilinear and without antialiasing "
    "as in its official code. There and back is ours, to measure what another grid can't hold."
)


def offered(run: Run, probes: dict[str, tuple[str, Tokens]]) -> bool:
    """For transformers, whose patches would have no place without."""
    return isinstance(run.experiment.options, vit.TrunkOptions)


def show(run: Run, picture: Picture) -> None:
    """One position's likeness with all others on two grids, over distances, and what it costs."""
    with explained():
        tokens = cached.positions(run.name, picture.stamp)
        grids = _grids(tokens.grid)
        row = pictures.controls(picture)
        name = pictures.choice(
            picture, row, "Resized to", list(grids), next(iter(grids)), "grid", width=240
        )
        own, other = (
            cached.position_vectors(run.name, picture.stamp, grid)
            for grid in (tokens.grid, grids[name])
        )
    _maps(run, picture, tokens, own, other)
    _distances(run, picture, {_by(tokens.grid): own, _by(grids[name]): other})
    _cost(run, picture, grids)


def _by(grid: Grid) -> str:
    return f"{grid[0]} x {grid[1]}"


def _grids(own: Grid) -> dict[str, Grid]:
    """Other grids by what they are called."""
    half = tuple(max(1, side // 2) for side in own)
    found = {
        "ImageNet's": IMAGENET,
        "half of the run's": half,
        "twice the run's": (2 * own[0], 2 * own[1]),
    }
    return {name: grid for name, grid in found.items() if grid != own}


def _began(run: Run) -> str:
    """Where this run's positions come from, in words."""
    if run.imported:
        return "They came with the imported weights, for this grid."
    if run.experiment.options.pretrained == "none":
        return (
            "This run learned them from scratch on this grid: nothing was resized for its training."
        )
    return (
        "They began as those of the trunk's weights, resized bilinearly where these had another "
        "grid, and were trained on."
    )


def _maps(run: Run, picture: Picture, tokens: Tokens, own: np.ndarray, other: np.ndarray) -> None:
    """The picked position's cosines with all others, on both grids."""
    rows, columns = tokens.grid
    leads = tokens
    if picture.beside:  # the second run may have another grid, and follows
        leads = cached.positions(picture.first.run, picture.first.stamp)
        row, column = position_vectors.near(at(st.session_state["place"]), leads.grid, tokens.grid)
    else:
        middle = f"{rows // 2 + 1}-{columns // 2 + 1}"
        row, column = at(kept(picture, "place", places(tokens), middle))
    grid = other.shape[:2]
    there = position_vectors.near((row, column), tokens.grid, grid)
    key = picture.key("positions")
    sides = (
        (f"as trained, {_by(tokens.grid)}", tokens, own, (row, column)),
        (f"resized to {_by(grid)}", Tokens(grid), other, there),
    )
    tiles = []
    for label, where, found, place in sides:
        drawn = position_vectors.alike(found)[place]
        others = np.delete(drawn.ravel(), place[0] * where.grid[1] + place[1])
        note = f"others at most {others.max():.2f}" if others.size else ""
        tile = picture.tile(label, where, drawn, note=note, picked=list(place), scale=[-1, 1])
        tiles.append(tile | dict(palette="diverging"))
    figures.pictures(
        tiles,
        Said(
            f"How alike the position embedding of row {row + 1}, column {column + 1} (framed) is to "
            "that of every other position, as a cosine; the picture under the colours plays no part. "
            "Click a position on the left for its own. " + _began(run),
            FORMULA,
            SOURCE,
            (position_vectors.vectors, position_vectors.alike, vit.resized),
        ),
        key=key,
        alt=f"Cosines of the position of row {row + 1}, column {column + 1} with all others, on two grids",
        columns=4,
        unit="cosine",
        on_pick=partial(_take, key, tokens.grid, leads.grid),
    )


def _take(key: str, grid: Grid, leads: Grid) -> None:
    """Keep a position that was clicked in a run's own grid, as one of the grid that leads."""
    picked = st.session_state[key]["picked"]
    if picked and picked["tile"] == 0 and picked["row"] is not None:
        row, column = position_vectors.near((picked["row"], picked["column"]), grid, leads)
        st.session_state["place"] = f"{row + 1}-{column + 1}"


def _distances(run: Run, picture: Picture, found: dict[str, np.ndarray]) -> None:
    """How likeness falls with distance, in rows and in columns, on both grids."""
    drawn, table = [], []
    for grid, vectors in found.items():
        falls = position_vectors.by_distance(position_vectors.alike(vectors))
        for along, values in zip(("rows", "columns"), falls, strict=True):
            # In shares of the image, so that both grids stand on one axis.
            away = np.arange(len(values)) / len(values)
            drawn.append(Line(f"{along} apart, {grid}", away, values))
            table.append(pd.DataFrame(dict(grid=grid, along=along, apart=away, cosine=values)))
    figures.chart(
        bands(drawn, "apart, as a share of the image", "mean cosine", percent=False),
        Said(
            "The mean cosine of two positions of one column, so many rows apart, and of one row, so many "
            "columns apart. Where it falls, the vectors tell near from far.",
            FORMULA,
            SOURCE,
            (position_vectors.by_distance,),
        ),
        key=picture.key("position distances"),
        alt="; ".join(f"{line.name} from {line.y[0]:.2f} to {line.y[-1]:.2f}" for line in drawn),
        table=pd.concat(table),
    )


def _cost(run: Run, picture: Picture, grids: dict[str, Grid]) -> None:
    """What becomes of this picture and its list when positions go to another grid and back, or are
    none at all."""
    ways = {f"there and back by {_by(grid)}": grid for grid in grids.values()} | {"none": None}
    asked = run.name, picture.stamp, picture.who
    before = cached.repositioned(*asked, cached.positions(*asked[:2]).grid, picture.content)
    found = None if picture.ranking is None else picture.found
    rows = []
    for name, by in {"as trained": cached.positions(*asked[:2]).grid, **ways}.items():
        vector = cached.repositioned(*asked, by, picture.content)
        row = {"positions": name, "cosine": _cosine(vector, before)}
        if found is not None:
            answer = side.answered(found, vector, before, picture.camera, picture.identity, TOP)
            if picture.identity is not None:
                first = answer.ranking.first_hit or None
                row |= {"AP": answer.ranking.average_precision, "first hit": first}
            row[f"moved into the first {TOP}"] = len(answer.came)
        rows.append(row)
    figures.table(
        pd.DataFrame(rows).round(4),
        Said(
            f"{picture.label} embedded anew with other positions: the cosine with its own embedding"
            + (", and its list in the gallery as it was evaluated" if found is not None else "")
            + ". None: all patches' and the class token's vectors are zero. "
            "The model never saw such positions, so this is what it leans on, not how it would do "
            "had it been trained so.",
            FORMULA,
            SOURCE,
            (position_vectors.there_and_back, side.altered, side.answered),
        ),
        key=picture.key("position cost"),
    )


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    one, other = directions(np.stack([first, second]))
    return float(one @ other)
