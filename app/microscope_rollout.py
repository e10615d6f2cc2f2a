"""The view Rollout: the class token's attention through all layers, by three methods side by side."""

from typing import Any

import numpy as np
import pandas as pd

from app import cached, figures, picture_picker, pictures
from app.figures import Said
from app.lessons import Step
from app.notices import explained, say
from app.pictures import Picture
from reid_core.analysis import attention
from reid_core.analysis.intervals import interval
from reid_core.analysis.parts import shares
from reid_core.data.masks import IDS, PERSON
from reid_core.models.base import Tokens
from reid_core.runs import Run

LAST, NORM, FIRST, QUERY = "last", "squared norm", "first true match", "the query"
PEOPLE = [IDS[part] for part in PERSON]
FORMULA = r"""
**Head mean** of layer $l$: $\bar A_l = \frac1H \sum_h A_{l,h}$

**Attention rollout**: $R = \tilde A_L \cdots \tilde A_2 \tilde A_1$ with
$\tilde A_l = \tfrac12 (\bar A_l + I)$

**Gradient-weighted rollout** of a target $y$: $R_0 = I$, $R_l = R_{l-1} + A'_l R_{l-1}$ with
$A'_l = \frac1H \sum_h \left(\frac{\partial y}{\partial A_{l,h}} \odot A_{l,h}\right)^{\!+}$;
drawn is $R_L - I$

Drawn of each is the class token's row.
"""
SOURCE = (
    "Abnar and Zuidema, ACL 2020, section 3 (rollout; the mean over heads is theirs). Chefer, Gur and "
    "Wolf, ICCV 2021, eqs. 5 and 6 (gradient-weighted). They explain a class's score; the target here, "
    "a similarity or a norm, is ours."
)
ABOUT = (
    "A layer's map says what a token takes from the layer below, whose tokens have already mixed. "
    "A rollout multiplies the layers, so that the picture reaches down to the patches; the "
    "gradient-weighted one keeps only what raises a target."
)


def offered(run: Run, probes: dict[str, tuple[str, Tokens]]) -> bool:
    """For models with a class token in their maps: a rollout follows it."""
    return any(kind == "attention" and tokens.prefix for kind, tokens in probes.values())


def show(run: Run, picture: Picture) -> None:
    """Draw the methods side by side, with what lies on the person where there is a mask."""
    with explained():
        looked = picture.looked(attention.KINDS)
        found = attention.chain(looked)
    if not found:
        say(
            "info",
            "The layers of this model see different tokens, so no rollout goes through them.",
        )
        return
    tokens = looked.tokens[next(iter(found))]
    row = pictures.controls(picture)
    target, other = ask_target(picture, row)
    numbers = [str(number) for number in range(1, len(found) + 1)]
    asked = pictures.choice(
        picture, row, "Head mean of layer", [LAST, *numbers], LAST, "mean of", width=160
    )
    layer = len(found) if asked == LAST else int(asked)
    with explained():
        traced = cached.traced(run.name, picture.stamp, picture.who, other, picture.content)
    rows = methods(traced, layer)
    measured = [_measured(picture, tokens, row) for row in rows.values()]
    tiles = [
        _tile(picture, tokens, name, row, each)
        for (name, row), each in zip(rows.items(), measured, strict=True)
    ]
    if other is not None:
        seen = dict(src=picture.src_of(other), size=picture.size)
        tiles.append(seen | dict(label=f"target: {target}", note=f"cosine {traced.score:.3f}"))
    figures.pictures(
        tiles,
        _said(run, picture, target, traced, list(found)),
        key=picture.key("rollout"),
        alt=f"Three maps of {picture.label}: {', '.join(rows)}. {_words(measured)}",
        columns=len(tiles),
    )
    figures.table(
        pd.DataFrame(measured, index=pd.Index(rows, name="method")).reset_index(),
        Said(
            "Where the class token's row lies. Shares of what it spends on patches; a patch counts by "
            "the share of its pixels that show the person. Even attention is the same for all patches.",
            code=(shares,),
        ),
        key=picture.key("rollout table"),
    )


def ask_target(picture: Picture, place: Any) -> tuple[str, int | None]:
    """What the gradient explains: its name, and the row of the image to be similar to."""
    rows: dict[str, int | None] = {}
    if picture.query is not None and not picture.is_query:
        rows[QUERY] = int(picture.found.query_rows[picture.query])
    if (match := picture.first_match) is not None and match != picture.row:
        rows[FIRST] = match
    if (ranking := picture.ranking) is not None:
        places = np.flatnonzero(~ranking.ignored)[:10]
        near = {f"rank {ranking.ranks[at]}": int(ranking.rows[at]) for at in places}
        # The cosine of a picture with itself is 1 at its largest: its gradient is rounding noise.
        rows |= {name: row for name, row in near.items() if row != picture.row}
    rows[NORM] = None
    target = pictures.choice(
        picture,
        place,
        "Target: cosine with",
        list(rows),
        next(iter(rows)),
        "target",
        help="What the gradient-weighted rollout explains: the cosine with another image, or the "
        "squared norm of the embedding.",
    )
    return target, rows[target]


def methods(traced: attention.Pulled, layer: int) -> dict[str, np.ndarray]:
    """The class token's row (N,) by each method."""
    maps = traced.maps
    return {
        f"head mean, layer {layer}": attention.rows(maps[layer - 1], 0)[0],
        "attention rollout": attention.rollout(maps)[0],
        "gradient-weighted rollout": attention.gradient_rollout(
            maps, list(traced.gradients.values())
        )[0],
    }


def _measured(picture: Picture, tokens: Tokens, row: np.ndarray) -> dict[str, float | None]:
    """Numbers of one row."""
    spent, weights = attention.placed(row, tokens)
    place = np.unravel_index(weights.argmax(), weights.shape)
    found = {
        "on the class token": float(spent.sum() / row.sum()),
        "strongest patch": f"row {place[0] + 1}, column {place[1] + 1}",
    }
    if (mask := picture.mask) is not None:
        found["on the person"] = float(shares(weights, tokens, mask, [PEOPLE])[0])
        found["even attention"] = float(shares(np.ones(tokens.grid), tokens, mask, [PEOPLE])[0])
    return found


def _tile(picture, tokens, name, row, measured) -> dict[str, Any]:
    note = f"class {measured['on the class token']:.3f}"
    if "on the person" in measured:
        note += f", person {measured['on the person']:.2f} (even {measured['even attention']:.2f})"
    drawn = attention.placed(row, tokens)[1]
    return picture.tile(name, tokens, drawn, note=note, scale="own")


def _said(run: Run, picture: Picture, target: str, traced: attention.Pulled, chain: list) -> Said:
    """What was multiplied, and what was not."""
    seen = traced.looked
    goal = f"the cosine with {target}" if target != NORM else "the squared norm of the embedding"
    words = [
        f"The class token's row over the patches of {picture.label}, by three methods, through the "
        f"{len(chain)} layers `{chain[0]}` to `{chain[-1]}` of {run.name}. The gradient is that of {goal}, "
        f"here {traced.score:.6g}."
    ]
    if any(seen.tokens[name].groups for name in seen.seen):
        words.append(
            "The rollouts end in the global feature: the local features' own layer is not multiplied, "
            "though the gradients are those of the whole embedding."
        )
    if any(".orders." in name for name in seen.seen):
        words.append(
            "Only first-order maps are multiplied: what the high orders add to the patches, and the "
            "part features that are averaged from them, are left out."
        )
    code = (attention.rollout, attention.gradient_rollout, attention.pulled)
    return Said(" ".join(words), FORMULA, SOURCE, code)


def _words(measured: list[dict]) -> str:
    return "; ".join(f"strongest at {each['strongest patch']}" for each in measured)


def steps(run: Run) -> list[Step]:
    """Whether following the attention down the layers finds the person, measured."""
    queries, found = cached.surveyed(run.name, run.stamp())
    if found is None or not found.has_masks:
        return []
    last, rolled = found.person[:, -1].mean(axis=1), found.rolled
    label = cached.labels(run.name, run.stamp())[queries[int(np.abs(rolled - last).argmax())]]
    bands = ["{:.0%} to {:.0%}".format(*interval(each)) for each in (last, rolled, found.even)]
    text = (
        f"Over {len(queries)} evenly spaced queries the last layer's heads put {last.mean():.0%} "
        f"(95 % interval {bands[0]}) on the person, the rollout {rolled.mean():.0%} ({bands[1]}) and "
        f"even attention {found.even.mean():.0%} ({bands[2]}). Here the two differ most; compare them "
        "with the gradient-weighted rollout, which depends on the target."
    )
    asked = {
        "query": label,
        "image": picture_picker.ITSELF,
        picture_picker.SOURCE: picture_picker.TEST,
        "lens": "Rollout",
    }
    return [Step("Through all layers", text, asked)]
