"""The view Deletion: whether a heat map points at what the model uses."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, figures, pictures, studies
from app import charts_mechanisms as charts
from app.charts_mechanisms import Line
from app.figures import Said
from app.mechanisms import blanks, left_out, otherwise
from app.passes import Passes
from app.pictures import Picture
from reid_core.analysis import faithfulness
from reid_core.analysis.intervals import band, paired
from reid_core.runs import Run

DELETION, INSERTION = "Deletion", "Insertion"
DRAWS = 8
USUAL = 5  # maps that a picture has, as a rule
COUNTS = ["8", "16", "32", "64"]
FORMULA = r"""score after $k$ of $N$ positions: $\cos\big(e(x_k), e(x)\big)$

Deletion: $x_k$ is the image without its $k$ strongest positions (they take its mean colour); the sooner the
score falls, the smaller the area, the better the map. Insertion: a blank image with only these."""
SOURCE = (
    "After RISE: Petsiuk et al., BMVC 2018. Ours: the score, since re-identification has no class at "
    "test; the mean colour in both directions (RISE starts insertion from a blurred image)"
)
HOME = (
    "Leave-one-out is found by blanking too, at the same positions: it is the yardstick here rather "
    "than a rival."
)


def show(run: Run, picture: Picture) -> None:
    """Curves of this picture, then areas over a set."""
    ways = [DELETION, INSERTION]
    way = pictures.choice(
        picture, st.container(), "Alter by", ways, DELETION, "altered", segmented=True
    )
    insertion = way == INSERTION
    _one(picture, insertion)
    _many(run, picture, insertion)


@dataclass(frozen=True)
class Tested:
    """One picture's maps (h, w) and curves (S + 1,) by method, and curves (DRAWS, S + 1) of random
    orders; altered (S + 1,) how many of N positions."""

    maps: dict[str, np.ndarray]
    curves: dict[str, np.ndarray]
    random: np.ndarray
    altered: np.ndarray

    @property
    def areas(self) -> dict[str, float]:
        return {m: float(faithfulness.area(self.altered, each)) for m, each in self.curves.items()}

    @property
    def chance(self) -> np.ndarray:
        """(DRAWS,) areas."""
        return faithfulness.area(self.altered, self.random)

    @property
    def share(self) -> np.ndarray:
        return self.altered / self.altered[-1]


def _one(picture: Picture, insertion: bool) -> None:
    """The maps of one picture, and their curves."""
    found = _tested(picture, insertion)
    if found is None:
        return
    _maps(picture, found)
    _chart(picture, found, insertion)


def _tested(picture: Picture, insertion: bool) -> Tested | None:
    """None as long as the passes are to be asked for."""
    run, content = (picture.run, picture.stamp, picture.who), picture.content
    altered = faithfulness.ticks(math.prod(cached.positions(*run[:2]).grid))
    curves = {f"{picture.who} curves {insertion}": (USUAL + DRAWS) * len(altered)}
    passes = Passes(picture, blanks(picture) | curves)
    if not passes.wanted():
        return None
    left_out(picture, passes)
    maps, found = cached.candidates(*run, content), {}
    for method in [*maps, *map(str, range(DRAWS))]:
        found[method] = cached.deletion(*run, method, insertion, content)
        passes.step(len(altered))
    passes.end()
    random = np.stack([found.pop(str(draw)) for draw in range(DRAWS)])
    return Tested(maps, found, random, altered)


def _maps(picture: Picture, found: Tested) -> None:
    tokens, areas, chance = cached.positions(picture.run, picture.stamp), found.areas, found.chance
    figures.pictures(
        [
            picture.tile(method, tokens, each, note=f"area {areas[method]:.3f}", scale="own")
            for method, each in found.maps.items()
        ],
        Said(
            "Every map of this picture that can be put to the test (of each kind of layer's map the last), "
            "on the grid at which the image is altered (coarser ones are spread over their pixels), with "
            f"the area under its curve; random order has {chance.mean():.3f} "
            f"({chance.min():.3f} to {chance.max():.3f} over {DRAWS} draws).{otherwise(found.maps)}",
            code=(faithfulness.candidates,),
        ),
        key=picture.key("tested maps"),
        alt=f"{len(found.maps)} maps over {picture.label} with the areas under their curves",
        columns=max(4, len(found.maps)),
    )


def _chart(picture: Picture, found: Tested, insertion: bool) -> None:
    share, random, areas, chance = found.share, found.random, found.areas, found.chance.mean()
    lines = [Line(f"{m} {areas[m]:.2f}", share, each) for m, each in found.curves.items()]
    around = random.mean(axis=0), random.min(axis=0), random.max(axis=0)
    lines.append(Line(f"random {chance:.2f}", share, *around, quiet=True))
    way, good = ("inserted into a blank", "above") if insertion else ("deleted", "below")
    told = ", ".join(f"{method} {area:.3f}" for method, area in areas.items())
    figures.chart(
        charts.bands(lines, "share of positions", "cosine with the original", percent=False),
        Said(
            f"The similarity to the untouched picture as positions are {way}, strongest first; numbers "
            f"are areas, the band is the range of {DRAWS} random orders. A map that lies {good} the "
            f"band says something about the model. {HOME}",
            FORMULA,
            SOURCE,
            (faithfulness.curve, faithfulness.area),
        ),
        key=picture.key("curves"),
        alt=f"Areas: {told}, random {chance:.3f}",
        table=pd.DataFrame(
            {"share of positions": share}
            | found.curves
            | dict(zip(("random, mean", "random, least", "random, most"), around, strict=True))
        ),
    )


def _passes(positions: int) -> int:
    """Of the study, for an image: without each position, and both ways through the usual maps and
    random orders."""
    return 2 + positions + 2 * (USUAL + DRAWS) * len(faithfulness.ticks(positions))


def _many(run: Run, picture: Picture, insertion: bool) -> None:
    st.subheader("Over a set of images", anchor=False)
    count = int(
        pictures.choice(
            picture, st.container(), "Images", COUNTS, COUNTS[1], "deletion images", segmented=True
        )
    )
    if not run.has_embeddings:
        st.caption("This run has no test split: evaluate it on a data set first.")
        return
    arrays = studies.study(
        run,
        "deletion",
        label=f"Measure {count} images",
        passes=lambda: count * _passes(math.prod(cached.positions(run.name, run.stamp()).grid)),
        images=count,
    )
    if arrays is not None:
        _mean_curves(run, picture, arrays, insertion)
        _mean_areas(picture, arrays, insertion)


def _mean_curves(run: Run, picture: Picture, arrays, insertion: bool) -> None:
    """The curves of every map, a mean over the images."""
    random = arrays["random"][int(insertion)].mean(axis=1)  # (n, S + 1), mean over draws
    curves = arrays["curves"][int(insertion)]  # (n, K, S + 1)
    lines = [
        _line(str(name), arrays["altered"], curves[:, k])
        for k, name in enumerate(arrays["methods"])
    ]
    lines.append(_line("random", arrays["altered"], random, quiet=True))
    figures.chart(
        charts.bands(lines, "share of positions", "cosine with the original", percent=False),
        Said(
            f"The same curves, a mean over {len(arrays['rows'])} test images of run {run.name}, with 95 % "
            f"intervals over images; random is a mean over {arrays['random'].shape[2]} orders for each image.",
            FORMULA,
            SOURCE,
            (faithfulness.curves, band),
        ),
        key=picture.key("curves of many"),
        alt="Mean curves over images; the table below has the areas",
        table=_curves(arrays, lines),
    )


def _mean_areas(picture: Picture, arrays, insertion: bool) -> None:
    """The areas under them, each against random order."""
    frame = _areas(arrays, insertion)
    figures.table(
        frame,
        Said(
            "The area under each curve and its difference from random order on the same images, with its "
            f"95 % interval. An interval that holds 0 cannot be told from chance. {HOME}",
            code=(faithfulness.area, paired),
        ),
        key=picture.key("areas"),
        column_config={
            name: st.column_config.NumberColumn(format="%.3f") for name in frame.columns[1:6]
        },
    )


def _line(name: str, x: np.ndarray, values: np.ndarray, quiet: bool = False) -> Line:
    """A mean over images (n, S + 1) with its interval at each step."""
    return Line(name, x, values.mean(axis=0), *band(values), quiet)


def _curves(arrays, lines: list[Line]) -> pd.DataFrame:
    columns = {"share of positions": arrays["altered"]}
    for line in lines:
        columns |= {
            line.name: line.y,
            f"{line.name}, low": line.low,
            f"{line.name}, high": line.high,
        }
    return pd.DataFrame(columns)


def _areas(arrays, insertion: bool) -> pd.DataFrame:
    """One row per method: area, difference from random order, its interval, what it says."""
    side = int(insertion)
    base, rows = arrays["random_areas"][side].mean(axis=1), []
    for k, name in enumerate(arrays["methods"]):
        own = arrays["areas"][side][:, k]
        _, low, high = paired(own, base)
        area, random = round(float(own.mean()), 3), round(float(base.mean()), 3)
        better = low > 0 if insertion else high < 0
        worse = high < 0 if insertion else low > 0
        verdict = (
            "better than random" if better else "worse than random" if worse else "like random"
        )
        rows.append((name, area, random, round(area - random, 3), low, high, verdict))  # as written
    names = ["map", "area", "random", "difference", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=names)
