"""The view Orders: first-order and high-order maps side by side, and where local perception looks."""

from dataclasses import replace
from functools import partial

import numpy as np
import streamlit as st

from app import cached, figures, pictures
from app.charts import fine
from app.figures import Said
from app.lessons import Step
from app.mechanisms import at, here, kept, places, take
from app.pictures import Picture
from reid_core.analysis.maps import place
from reid_core.analysis.offsets import source_of, taps, unseen
from reid_core.analysis.orders import Pair, pairs
from reid_core.divergence import js_divergence, pooled_map
from reid_core.look import Looked
from reid_core.models.base import Tokens
from reid_core.runs import Run

KINDS = ("attention", "prior", "offsets")
MEAN = "mean"
MAPS = Said(
    "What the picked cell attends to in the first order and in the high one, from one pass. The "
    "first-order map goes between patches; it is averaged to the cells and its rows sum to 1 again. "
    "The difference is high less first. Click another cell.",
    r"""$A'$ is $A$ without the class token, averaged over the patches of each cell, rows summing to 1

$\mathrm{JS} = \tfrac12 \mathrm{KL}(p\,\|\,m) + \tfrac12 \mathrm{KL}(q\,\|\,m)$, $m = \tfrac12(p + q)$,
in nats: 0 for equal rows, $\ln 2 = 0.693$ for rows that share nothing""",
    "Chen et al., OH-Former, 2021; divergence after Lin 1991; the averaging is ours, and so is the form "
    r"of prior mixing, $\mathrm{softmax}(\log A' + P)$",
    (pooled_map, js_divergence),
)
WEIGHTED = replace(
    MAPS,
    source=r"The mode weighted is not the paper's: an idea of one of its readers, the form ours. The map drawn "
    r"has queries and keys of its own; training holds it to $\mathrm{softmax}(\log A' + P)$, and P goes "
    "nowhere else. Divergence after Lin 1991; the averaging is ours",
)


def show(run: Run, picture: Picture) -> None:
    """A layer's maps for one cell and head, then its offsets."""
    looked = picture.looked(KINDS)
    found = {_name(pair): pair for pair in pairs(looked)}
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    pick = partial(pictures.choice, picture, bar, segmented=True)
    pair = found[pick("Layer and order", list(found), _farthest(found), "pair")]
    heads = [MEAN, *(str(head + 1) for head in range(pair.first.shape[1]))]
    head = pick("Head", heads, MEAN, "order head")
    first, high = (_of_head(each[0], head) for each in (pair.first, pair.high))
    js = js_divergence(first, high).numpy()  # (M,)
    names, sampled = places(pair.tokens), _sampled(looked, pair)
    beyond = np.zeros(len(names)) if sampled is None else _outside(picture, sampled[2]).ravel()
    cell = at(kept(picture, "cell", names, names[_first(js, beyond)]))
    _maps(picture, pair, head, (first.numpy(), high.numpy(), js), cell)
    if sampled is not None:
        _offsets(picture, sampled, pair, cell)


def steps(run: Run) -> list[Step]:
    """The query, layer and head whose two maps are the farthest apart, over a few queries."""
    queries, found = cached.orders_surveyed(run.name, run.stamp())
    if found is None:
        return []
    image, pair, head = np.unravel_index(found.js.argmax(), found.js.shape)  # (B, P, H)
    words = "layer {}, order {}".format(*found.pairs[pair])
    text = (
        f"Over {len(queries)} evenly spaced queries the first-order and the high-order maps are "
        f"{found.js.mean():.3f} nats apart (at most ln 2 = 0.693); farthest in head {head + 1} of {words} "
        f"here, {found.js[image, pair, head]:.3f}. Over the same queries {found.outside[pair]:.0%} of that "
        "layer's taps read zeros outside the image, where a plain convolution has "
        f"{found.plain[pair]:.0%}; this picture's share stands below."
    )
    asked = here(run, queries[image], "Orders") | {"pair": words, "order head": str(head + 1)}
    return [Step("Two orders apart", text, asked)]


def _first(js: np.ndarray, beyond: np.ndarray) -> int:
    """The place of the cell whose rows are the farthest apart, js (M,), of those with the fewest taps
    beyond the image, beyond (M,)."""
    return int(np.lexsort((-js, beyond))[0])


def _name(pair: Pair) -> str:
    return f"layer {pair.layer}, order {pair.order}"


def _farthest(found: dict[str, Pair]) -> str:
    """The layer whose maps are the farthest apart, measured on this picture."""
    return max(found, key=lambda name: float(found[name].js().mean()))


def _of_head(maps, head: str):
    """(H, M, M) -> (M, M): one head's, or the mean over heads."""
    return maps.mean(dim=0) if head == MEAN else maps[int(head) - 1]


def _maps(picture: Picture, pair: Pair, head: str, drawn: tuple, cell: tuple[int, int]) -> None:
    """The two maps' rows of a cell, drawn (M, M) each and how far each row is apart (M,), and the
    prior between them where there is one."""
    tiles = _tiles(picture, pair, drawn, cell)
    weighted = pair.prior is not None and picture.experiment.options.sharing == "weighted"
    if pair.prior is not None:
        tiles.append(_prior(picture, pair, head, cell, weighted))
    key, apart = picture.key("orders"), drawn[2][_row(pair, cell)]
    figures.pictures(
        tiles,
        WEIGHTED if weighted else MAPS,
        key=key,
        alt=f"First-order and order {pair.order} attention of row {cell[0] + 1}, column {cell[1] + 1} on "
        f"{picture.label}, layer {pair.layer}: JS {fine(apart)} nats",
        columns=len(tiles),
        on_pick=partial(take, key, "cell"),
    )
    if weighted:
        st.caption(
            "The mode weighted is ours, after an idea of one of the paper's readers: the high-order map has "
            "queries and keys of its own, and P is not mixed into it. P stands in the training loss only."
        )
    if pair.prior is None:
        st.caption(
            "This sharing mode learns no prior: the high-order map is the first-order one (shared) "
            "or has queries and keys of its own (independent)."
        )
    elif head == MEAN:
        st.caption("With the mean over heads P is a mean too; a head alone shows its own.")


def _row(pair: Pair, cell: tuple[int, int]) -> int:
    """The place of a cell's row in the maps."""
    return cell[0] * pair.tokens.grid[1] + cell[1]


def _tiles(picture: Picture, pair: Pair, drawn: tuple, cell: tuple[int, int]) -> list[dict]:
    """The cell's row in either order, their difference, and how far every cell's rows are apart."""
    (first, high, js), here, grid = drawn, _row(pair, cell), pair.tokens.grid
    rows = [each[here].reshape(grid) for each in (first, high)]
    most = float(max(each.max() for each in rows))
    draw = partial(picture.tile, tokens=pair.tokens, picked=list(cell))
    return [
        draw("first order", drawn=rows[0], note=f"largest {rows[0].max():.3f}", scale=[0, most]),
        draw(
            f"order {pair.order}",
            drawn=rows[1],
            note=f"JS {fine(js[here])} nats from the first",
            scale=[0, most],
        ),
        draw(
            "difference",
            drawn=rows[1] - rows[0],
            palette="diverging",
            scale="own",
            note=f"half its absolute sum {abs(rows[1] - rows[0]).sum() / 2:.3f}",
        ),
        draw(
            "JS of every cell's row",
            drawn=js.reshape(grid),
            scale="own",
            note=f"mean {fine(js.mean())}, most {fine(js.max())} nats",
        ),
    ]


def _prior(picture: Picture, pair: Pair, head: str, cell: tuple[int, int], weighted: bool) -> dict:
    """The cell's row in what is learned for every image alike."""
    label, note = "learned prior P", "the same for every image"
    if weighted:
        label, note = "learned weights P (ours)", f"used in the loss only; {note}"
    return picture.tile(
        label,
        pair.tokens,
        _of_head(pair.prior, head).detach().numpy()[_row(pair, cell)].reshape(pair.tokens.grid),
        picked=list(cell),
        palette="diverging",
        scale="own",  # it tells from where to where
        note=note,
    )


def _sampled(looked: Looked, pair: Pair) -> tuple[Tokens, np.ndarray, np.ndarray] | None:
    """What the deformable convolution of that layer and order samples, and its taps (K, h, w, 2) in
    pixels without offsets and with them; None where there is none."""
    name = next((each for each in looked.of("offsets") if place(each) == _name(pair)), None)
    if name is None:
        return None
    source, stride = source_of(looked, name)
    return source, *(each[0] for each in taps(looked.seen[name], source.window, stride))


def _outside(picture: Picture, taps: np.ndarray) -> np.ndarray:
    """How many of the taps (K, ..., 2) lie outside the picture: (...)."""
    return ((taps < 0) | (taps > picture.size)).any(axis=-1).sum(axis=0)


def _offsets(picture: Picture, sampled: tuple, pair: Pair, cell: tuple[int, int]) -> None:
    """Where that convolution samples."""
    source, regular, moved = sampled
    apart = moved - regular  # (K, h', w', 2) pixels
    length, mean = np.hypot(apart[..., 0], apart[..., 1]), apart.mean(axis=0)
    middle, own = regular[len(regular) // 2], (slice(None), *cell)
    beyond = int(_outside(picture, moved[own]))
    zeros, plain = (unseen(each, source).mean() for each in (moved, regular))
    draw = partial(picture.tile, tokens=pair.tokens, picked=list(cell))
    tiles = [
        draw(
            "taps of the picked cell",
            arrows=_arrows(regular[own], moved[own]),
            note=f"moved by {length[own].mean():.1f} pixels on average, {length[own].max():.1f} at most",
        ),
        draw(
            "mean displacement",
            drawn=length.mean(axis=0),
            scale="own",
            arrows=_arrows(middle, middle + mean),
            note=f"mean length of a tap's move {length.mean():.1f} pixels",
        ),
    ]
    st.subheader("Where local perception looks", anchor=False)
    key = picture.key("offsets")
    figures.pictures(
        tiles,
        Said(
            "Left an arrow for each tap of the 3x3 kernel, from its place in a plain convolution to "
            f"where it samples, {beyond} of them outside the image"
            f"{' (one without a head ends farther out than is drawn)' * bool(beyond)}; right the mean "
            "of a cell's arrows, over the mean length of its taps' moves in pixels of the image. Offsets start at zero, so every arrow is learned. A tap a whole "
            f"patch outside the image reads zeros: {zeros:.0%} of this layer's do here; without offsets "
            f"{plain:.0%} would.",
            r"pixel $= s_0 + \tfrac{w}{2} + (p_0 + p_k + \Delta p_k) \cdot d$, window $w$, stride $d$ "
            r"and start $s_0$ of what is sampled",
            "Dai et al., Deformable Convolutional Networks, ICCV 2017",
            (taps, unseen),
        ),
        key=key,
        alt=f"Offsets of the deformable convolution in layer {pair.layer}, order {pair.order}",
        columns=4,
        on_pick=partial(take, key, "cell"),
    )


def _arrows(start: np.ndarray, end: np.ndarray) -> list[list[float]]:
    """(..., 2) rows and columns -> [x0, y0, x1, y1] each, to a tenth of a pixel."""
    both = np.concatenate([start[..., ::-1], end[..., ::-1]], axis=-1).reshape(-1, 4)
    return both.round(1).tolist()
