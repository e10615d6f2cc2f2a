"""The view Jigsaw: how patches are shifted, shuffled and cut into groups, and what each group sees."""

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image

from app import cached, figures, jigsaws, pickers, picture_picker, pictures
from app.figures import Said
from app.lessons import Step
from app.notices import explained
from app.pictures import Picture
from reid_core.analysis import attention
from reid_core.models.base import Tokens
from reid_core.models.transreid import jigsaw_order, part_patches
from reid_core.runs import Run

SOURCE = "He et al., TransReID, ICCV 2021, section 3.2; the official code for the details."
ABOUT = (
    "The jigsaw patch module gives the model local features: patches are shifted and shuffled, and each "
    "group of them goes through a copy of the last layer with the class token before it. The paper's "
    "claim: a group so covers patches from different parts of the body. What becomes of neighbours on "
    "this run's grid is counted below."
)
FORMULA = r"""
Shift by $m$: $[1, 2, \dots, N] \to [m, m+1, \dots, N, 1, \dots, m-1]$.
Shuffle into $k$ groups: written in $k$ rows, read by columns.
The result is cut into $P$ runs of $\lfloor N / P \rfloor$ patches.
"""


def offered(run: Run, probes: dict[str, tuple[str, Tokens]]) -> bool:
    """For models with a layer that sees groups of patches."""
    return any(tokens.groups for _, tokens in probes.values())


def show(run: Run, picture: Picture) -> None:
    """Draw the steps, the groups and what their class tokens attend to."""
    with explained():
        looked = picture.looked(attention.KINDS)
    name = next(name for name, tokens in looked.tokens.items() if tokens.groups)
    tokens = looked.tokens[name]
    _steps(run, picture, tokens)
    _features(run, picture, name, looked.seen[name], tokens)
    if not picture.beside:
        with st.expander("A toy of eight patches and two groups", icon=":material/grid_view:"):
            _toy()


# The steps


def _steps(run: Run, picture: Picture, tokens: Tokens) -> None:
    """The patches numbered on the image, after the shift, after the shuffle, and in their groups."""
    count, options = tokens.grid[0] * tokens.grid[1], picture.experiment.options
    image = np.asarray(_image(picture))
    orders = {"patches": list(range(count))}
    if options.rearrange:
        orders[f"shifted by {options.shift - 1}"] = jigsaw_order(count, options.shift, 1)
        shuffled = jigsaw_order(count, options.shift, options.groups)
        orders[f"shuffled in {options.groups} groups"] = shuffled
    tiles = []
    for step, order in orders.items():
        src = (
            picture.src
            if step == "patches"
            else jigsaws.url(jigsaws.rearranged(image, tokens, order))
        )
        extra = "" if len(order) == count else f"{len(order)} places: one patch stands twice"
        tiles.append(picture.tile(step, tokens, src=src, marks=_numbers(order, tokens), note=extra))
    tiles.append(_grouped(picture, image, tokens))
    figures.pictures(
        tiles,
        Said(
            f"{picture.label} as {run.name} cuts it, {tokens.grid[0]} x {tokens.grid[1]} patches, "
            f"numbered from 1. In the middle pictures a patch is drawn where it stands in the row of "
            f"tokens; of overlapping patches the middle is drawn. {_odd(tokens)} {_neighbours(tokens)}",
            FORMULA,
            SOURCE,
            (jigsaw_order, part_patches),
        ),
        key=picture.key("jigsaw"),
        alt=f"Patches of {picture.label}: {', '.join(orders)}, in {len(tokens.groups)} groups",
        columns=len(tiles),
        table=placed(orders, tokens),
    )


def placed(orders: dict[str, list[int]], tokens: Tokens) -> pd.DataFrame:
    """The patch at each place of the row of tokens after each step, and the local feature that its last
    one belongs to; all are numbered from 1."""
    kept = [feature for feature, group in enumerate(tokens.groups) for _ in group]
    columns = orders | {"local feature": kept}
    frame = pd.DataFrame({name: pd.Series(each, dtype="Int64") for name, each in columns.items()})
    return (frame + 1).rename_axis("place").set_axis(frame.index + 1).reset_index()


def _numbers(order: list[int], tokens: Tokens) -> list[dict[str, Any]]:
    """The patch that stands at each place of the grid; what does not fit is left out."""
    width, count = tokens.grid[1], tokens.grid[0] * tokens.grid[1]
    return [
        dict(row=place // width, column=place % width, text=str(patch + 1), tone="quiet")
        for place, patch in enumerate(order[:count])
    ]


def _grouped(picture: Picture, image: np.ndarray, tokens: Tokens) -> dict[str, Any]:
    """The image with each patch in its group's colour, and the group's number on it."""
    member = attention.membership(tokens)
    marks = []
    for row, column in np.ndindex(tokens.grid):
        groups = np.flatnonzero(member[:, row, column])
        twice = member[:, row, column].sum() == 2
        text = "+".join(str(group + 1) for group in groups) + ("x2" if twice else "")
        marks.append(dict(row=row, column=column, text=text or "–", tone="quiet"))
    src = jigsaws.url(jigsaws.coloured(image, tokens))
    return picture.tile(f"{len(tokens.groups)} groups", tokens, src=src, marks=marks)


def _odd(tokens: Tokens) -> str:
    """What does not come out even, in words."""
    member = attention.membership(tokens).sum(axis=0).ravel()
    said = []
    if (twice := np.flatnonzero(member > 1)).size:
        said.append(f"Patch {', '.join(str(each + 1) for each in twice)} stands twice (x2).")
    if (none := np.flatnonzero(member == 0)).size:
        said.append(
            f"{len(none)} of {len(member)} patches fill no group and are left out (grey, –): "
            f"{', '.join(str(each + 1) for each in none)}."
        )
    return " ".join(said) or "Each patch is in exactly one group."


def _neighbours(tokens: Tokens) -> str:
    """How many neighbours the groups leave together, in words."""
    member = attention.membership(tokens) > 0  # (P, h, w)
    pairs = {
        "side by side": member[:, :, 1:] & member[:, :, :-1],
        "above one another": member[:, 1:] & member[:, :-1],
    }
    said = [f"{p.any(axis=0).mean():.0%} of those {name}" for name, p in pairs.items() if p.size]
    return f"Of neighbours, {' and '.join(said)} are in the same group." if said else ""


def _image(picture: Picture) -> Image.Image:
    """The picture as the model sees it."""
    pixels = picture.looked(attention.KINDS).pixels[0]
    return Image.fromarray((pixels.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))


# The local features


def _features(run: Run, picture: Picture, name: str, seen: Any, tokens: Tokens) -> None:
    """Each group's class token over the patches of its group."""
    heads = [*map(str, range(1, seen.shape[1] + 1))]
    head = pictures.choice(
        picture,
        pictures.controls(picture),
        "Head of the local layer",
        ["mean", *heads],
        "mean",
        "local head",
        width=200,
    )
    maps = seen.unflatten(0, (-1, len(tokens.groups)))[0]  # (P, H, 1 + n, 1 + n)
    row = maps.mean(dim=1) if head == "mean" else maps[:, int(head) - 1]
    row = row[:, 0].float().cpu().numpy()  # (P, 1 + n)
    drawn, spent = attention.in_groups(row, tokens), row[:, : len(tokens.prefix)].sum(axis=1)
    doubled = attention.membership(tokens) > 1
    tiles = [
        picture.tile(
            f"local feature {group + 1}",
            tokens,
            drawn[group],
            note=f"class {spent[group]:.2f}, {len(set(positions))} patches",
            scale="shared",
            marks=[
                dict(row=int(r), column=int(c), text="x2", tone="strong")
                for r, c in np.argwhere(doubled[group])
            ],
        )
        for group, positions in enumerate(tokens.groups)
    ]
    figures.pictures(
        tiles,
        Said(
            f"What the class token of each group attends to, from `{name}`, "
            f"{'mean over heads' if head == 'mean' else f'head {head}'}, drawn where the patches of the "
            "group lie; elsewhere the picture is blank, since the layer does not see those patches. "
            "With the class token's own share, below, each group sums to 1; a patch that stands twice "
            "in a group has the sum of both.",
            FORMULA,
            SOURCE,
            (attention.in_groups, attention.membership),
        ),
        key=picture.key("local features"),
        alt=f"Attention of {len(tiles)} groups' class tokens over {picture.label}",
        columns=len(tiles),
        unit="of the row",
    )


# The toy


def _toy() -> None:
    """Eight patches in two groups: the readers' example, by the model's own function."""
    st.caption(
        "The shuffle alone, as it is often explained: 1 to 8 in two rows, transposed, read off. With a "
        "shift of 1 nothing is shifted; with m the first m - 1 go to the end."
    )
    pickers.linked("toy", ["1", "3", "5"], "1")
    shift = int(st.segmented_control("Shift", ["1", "3", "5"], required=True, key="toy"))
    with explained():
        tiles = jigsaws.toy(8, shift, 2)
    figures.pictures(
        tiles,
        Said(
            "Each square is a patch; those of the first group are darker. Computed by the function that "
            "orders the model's own patches.",
            FORMULA,
            SOURCE,
            (jigsaw_order,),
        ),
        key="toy patches",
        alt=f"Eight patches, shifted by {shift - 1} and shuffled in two groups",
        columns=len(tiles),
    )


def steps(run: Run) -> list[Step]:
    """The query whose groups show the person most, measured."""
    queries, found = cached.surveyed(run.name, run.stamp())
    if found is None:
        return []
    tokens = next(each for _, each in cached.probes(run.name, run.stamp()).values() if each.groups)
    text = f"Follow one patch's number from the image to its group. {_neighbours(tokens)} "
    if found.has_masks:
        text += (
            f"Over {len(queries)} evenly spaced queries each local feature's class token puts "
            f"{', '.join(f'{each:.0%}' for each in found.groups.mean(axis=0))} on the person, by group, "
            f"where even attention over the same patches puts "
            f"{', '.join(f'{each:.0%}' for each in found.group_even.mean(axis=0))}."
        )
    label = cached.labels(run.name, run.stamp())[queries[found.strongest_groups]]
    asked = {
        "query": label,
        "image": picture_picker.ITSELF,
        picture_picker.SOURCE: picture_picker.TEST,
        "lens": "Jigsaw",
    }
    return [Step("A jigsaw of one person", text, asked | {"local head": "mean"})]
