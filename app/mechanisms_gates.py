"""The view Gates: what attention in a CNN lets through, and what a position relates to."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, figures, mechanisms_gate_parts, pictures
from app import charts_mechanisms as charts
from app.figures import Said
from app.lessons import Step
from app.mechanisms import at, here, kept, places, take
from app.mechanisms_gate_parts import BOTH
from app.pictures import Picture
from reid_core.analysis import gates
from reid_core.analysis.maps import GATE, POOLING, place
from reid_core.look import Looked
from reid_core.models.attentions import SimplifiedNonLocal
from reid_core.models.base import Tokens
from reid_core.models.rga import RelationAware
from reid_core.runs import Run, list_runs

KINDS = ("spatial", "pooling", "channel", "relation", "attention", BOTH)
GATED = (
    "RGA: Zhang et al., CVPR 2020, sections 3.2 and 3.3. CBAM: Woo et al., ECCV 2018, section 3.1"
)
GATES = Said(
    "What each position's features are multiplied by after each stage (a sigmoid: 0 closes, 1 leaves as "
    "it is). The scale is shared by the stages.",
    r"$x'_{c,i} = g_i\, x_{c,i}$ for channel $c$ at position $i$",
    GATED,
    (gates.summary,),
)
POOLED = Said(
    "One map for all positions of a stage: by it the mean is taken that every position receives. It is a "
    "softmax, its sum is 1; each stage has a scale of its own, since the numbers of positions differ.",
    r"$x'_i = x_i + W \sum_j a_j x_j$ with $a = \mathrm{softmax}_j\, k^\top x_j$",
    "Cao et al., GCNet, ICCV workshops 2019, the simplified non-local block",
    (SimplifiedNonLocal.forward,),
)
RELATIONS = Said(
    "Left the products of the picked position's query-like embedding with every position's key-like "
    "one, right the other way round; from the same pass as the gates. They are products before any "
    "normalisation, none negative since both embeddings end in a ReLU: their scale is the stage's "
    "own, and no probability. Click another position.",
    r"$r_{i,j} = \theta(x_i)^\top \phi(x_j)$, and position $i$ sees "
    r"$\mathbf{r}_i = [r_{i,1}, \dots, r_{i,N}, r_{1,i}, \dots, r_{N,i}]$",
    "Zhang et al., Relation-Aware Global Attention, CVPR 2020, section 3.2",
    (gates.relations, RelationAware.relations),
)
ROWS = Said(
    "Left what the picked position attends to (a softmax, its sum is 1), right how much every position "
    "attends to it (no distribution). Click another position.",
    r"$A_{ij} = \mathrm{softmax}_j\, \theta(x_i)^\top \phi(x_j)$",
    "Wang et al., Non-local Neural Networks, CVPR 2018, embedded Gaussian",
)


def offered(run: Run, probes: dict[str, tuple[str, Tokens]]) -> bool:
    """Gates of a CNN: a mask over a transformer's patches is none, and its attention has own views."""
    return any(_gating(name, kind, tokens) for name, (kind, tokens) in probes.items())


def _gating(name: str, kind: str, tokens: Tokens) -> bool:
    return kind in KINDS and not tokens.prefix and ".orders." not in name


def show(run: Run, picture: Picture) -> None:
    """Spatial gates, relations of a picked position, channel gates."""
    looked = picture.looked(KINDS)
    _spatial(picture, looked)
    _relations(picture, looked)
    _channels(picture, looked)
    _others(run)


def steps(run: Run) -> list[Step]:
    """The gate whose share on the person is farthest from an even one's, over a few queries."""
    queries, found = cached.placed(run.name, run.stamp())
    layers = np.flatnonzero(np.isin(found.methods, (GATE, POOLING))) if found else []
    if not len(layers):
        return []
    person = found.share[:, :, 0]  # (n, L)
    even = found.even[:, :, 0]
    apart = person - even
    layer = layers[np.abs(apart[:, layers].mean(axis=0)).argmax()]
    image = int(np.abs(apart[:, layer]).argmax())
    text = (
        f"Over {len(queries)} evenly spaced queries {person[:, layer].mean():.0%} of the "
        f"{found.methods[layer]} of {place(found.probes[layer])} lies on the person, where an even one has "
        f"{even[:, layer].mean():.0%}; its strongest position is on the person in {found.hit[:, layer].mean():.0%} of them, a "
        f"random one in {found.chance[:, layer].mean():.0%}. Here the two shares are the farthest apart."
    )
    asked = here(run, queries[image], "Gates") | {"stage": place(found.probes[layer])}
    return [Step("A gate and the person", text, asked)]


def _spatial(picture: Picture, looked: Looked) -> None:
    """Gates, or the maps by which positions are averaged."""
    pooling = looked.of("pooling")
    found = looked.of("spatial") | pooling
    if not found:
        return
    tiles = []
    for name, seen in found.items():
        told = gates.summary(seen[0, 0].numpy())
        note, scale = f"mean {told['mean']:.3g}", "own"  # an own scale tells its ends
        if not pooling:
            note, scale = f"{told['least']:.3g} to {told['most']:.3g}, {note}", "shared"
        tile = picture.tile(place(name), looked.tokens[name], seen[0, 0].numpy())
        tiles.append(tile | dict(note=note, scale=scale))
    st.subheader("Over positions", anchor=False)
    figures.pictures(
        tiles,
        POOLED if pooling else GATES,
        key=picture.key("spatial gates"),
        alt=f"{'Pooling maps' if pooling else 'Spatial gates'} of {picture.label}, stage by stage",
        columns=len(tiles),
        unit="share" if pooling else "gate",
    )


def _relations(picture: Picture, looked: Looked) -> None:
    stages = _stages(looked)
    if not stages:
        return
    st.subheader("What a position relates to", anchor=False)
    leads = picture  # of two pictures the first one, if it has any such stage
    if picture.beside and not _stages(picture.first.looked(KINDS)):
        leads = replace(picture, beside=False)
    stage = pictures.choice(
        leads, st.container(), "Stage", list(stages), list(stages)[-1], "stage", segmented=True
    )
    name = stages[stage]
    tokens = looked.tokens[name]
    most, words = _strongest(looked, name, tokens)
    chosen = kept(leads, "node", places(tokens), most)
    row, column = at(chosen)
    out, into = _both_ways(looked, name, row * tokens.grid[1] + column)
    words = words if chosen == most else ""
    said = RELATIONS if looked.kinds[name] == "relation" else ROWS
    key = picture.key("relations")
    figures.pictures(
        [
            picture.tile(
                f"{way} row {row + 1}, column {column + 1}",
                tokens,
                drawn,
                picked=[row, column],
                scale="own",
                note=f"mean {drawn.mean():.3g}",
            )
            for way, drawn in (("from", out), ("to", into))
        ],
        replace(said, caption=f"{place(name).capitalize()}{words}. {said.caption}"),
        key=key,
        alt=f"Relations of row {row + 1}, column {column + 1} at {place(name)}, from it and to it",
        columns=4,
        on_pick=partial(take, key, "node"),
    )
    mechanisms_gate_parts.show(picture, looked, name, KINDS)


def _stages(looked: Looked) -> dict[str, str]:
    """Where positions relate to one another: a stage in words, and the name of its probe."""
    found = [*looked.of("relation"), *looked.of("attention")]
    gating = [n for n in found if _gating(n, looked.kinds[n], looked.tokens[n])]
    return {place(name): name for name in gating}


def _both_ways(looked: Looked, name: str, position: int) -> tuple[np.ndarray, np.ndarray]:
    """What a position relates to, and what relates to it, as maps (h, w)."""
    seen, grid = looked.seen[name][0], looked.tokens[name].grid
    if looked.kinds[name] == "relation":
        return gates.relations(seen, position, grid)
    return tuple(each.numpy().reshape(grid) for each in (seen[0, position], seen[0, :, position]))


def _strongest(looked: Looked, name: str, tokens: Tokens) -> tuple[str, str]:
    """A position of a stage measured on this picture, and what it is: the one whose gate is the most
    open or, without gates, the one that is attended to most."""
    gates_of = {place(n): seen for n, seen in looked.of("spatial").items()}
    gate = gates_of.get(place(name))
    if gate is None and looked.kinds[name] == "attention":
        most = looked.seen[name][0].mean(dim=(0, 1))  # (N,): over heads and rows
        return places(tokens)[int(most.argmax())], ", the position attended to most"
    if gate is None:
        return places(tokens)[0], ""
    return places(tokens)[int(gate[0, 0].argmax())], ", the most open position of this stage"


def _channels(picture: Picture, looked: Looked) -> None:
    found = {place(name): seen[0].numpy() for name, seen in looked.of("channel").items()}
    if not found:
        return
    st.subheader("Over channels", anchor=False)
    told = "; ".join(f"{name} {each.min():.3g} to {each.max():.3g}" for name, each in found.items())
    figures.chart(
        charts.gates(list(found), list(found.values())),
        Said(
            "What each channel is multiplied by after each stage, largest first, for this picture "
            f"({told}). Hovering tells the channel.",
            r"$x'_{c,i} = g_c\, x_{c,i}$ for channel $c$ at position $i$",
            GATED,
        ),
        key=picture.key("channel gates"),
        alt=f"Channel gates of {picture.label}, sorted, stage by stage: {told}",
        table=pd.concat(
            pd.DataFrame(dict(stage=name, channel=np.arange(len(each)), gate=each))
            for name, each in found.items()
        ),
    )


def _others(run: Run) -> None:
    """Runs with another attention at the same places, or how to get one."""
    model, mine = run.experiment.model, getattr(run.experiment.options, "attention", None)
    others: dict[str, list[str]] = {}
    for each in list_runs():
        asked = each.experiment
        if asked.model == model and (kind := getattr(asked.options, "attention", None)) != mine:
            others.setdefault(kind, []).append(each.name)
    if others:
        names = "; ".join(f"{kind}: {', '.join(runs)}" for kind, runs in others.items())
        st.caption(f"The same places with another attention ({names}): choose such a run beside.")
    else:
        st.caption(
            "No run has another attention at these places yet. CBAM, or a non-local block (nl), or "
            "its simplified form (snl), is one training away: "
            f"`python -m reid_core train --model {model} --recipe {run.experiment.recipe} "
            "--set attention=cbam`; then choose it beside this run."
        )
