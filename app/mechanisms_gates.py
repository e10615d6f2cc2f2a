"""The view Gates: what attention in a CNN lets through, and what a position relates to."""

import numpy as np
import streamlit as st

from app import charts_mechanisms as charts
from app import figures, pickers
from app.figures import Said
from app.mechanisms import at, clicked, place, places, tile
from app.pictures import Picture
from reid_core.analysis import gates
from reid_core.look import Looked
from reid_core.models.base import Tokens
from reid_core.models.rga import RelationAware
from reid_core.runs import Run, list_runs

KINDS = ("spatial", "channel", "relation", "attention")
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


def _spatial(picture: Picture, looked: Looked) -> None:
    found = looked.of("spatial")
    if not found:
        return
    tiles = []
    for name, seen in found.items():
        gate = seen[0, 0].numpy()
        told = gates.summary(gate)
        note = f"{told['least']:.2f} to {told['most']:.2f}, mean {told['mean']:.2f}"
        tiles.append(
            tile(picture, looked.tokens[name], place(name), gate, note=note, scale="shared")
        )
    one_map = all(abs(seen[0].sum() - 1) < 1e-3 for seen in found.values())
    said = (
        "One map for all positions of each stage: by it the mean is taken that every position "
        "receives (a softmax, its sum is 1)."
        if one_map
        else "What each position's features are multiplied by after each stage (a sigmoid: 0 closes, "
        "1 leaves as it is). The scale is shared by the stages."
    )
    st.subheader("Over positions", anchor=False)
    figures.pictures(
        tiles,
        Said(said, code=(gates.summary,)),
        key=picture.key("spatial gates"),
        alt=f"Spatial gates of {picture.label}, stage by stage",
        columns=len(tiles),
        unit="gate",
    )


def _relations(picture: Picture, looked: Looked) -> None:
    found = looked.of("relation")
    found |= {
        name: seen
        for name, seen in looked.of("attention").items()
        if _gating(name, "attention", looked.tokens[name])
    }
    if not found:
        return
    st.subheader("What a position relates to", anchor=False)
    stages = {place(name): name for name in found}
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    stage = picture.key("gate-stage")
    pickers.linked(stage, list(stages), list(stages)[-1])
    name = stages[bar.segmented_control("Stage", list(stages), key=stage, required=True)]
    tokens, state = looked.tokens[name], picture.key("gate-position")
    pickers.linked(state, places(tokens), _most_open(looked, name, tokens))
    row, column = at(st.session_state[state])
    position, seen = row * tokens.grid[1] + column, found[name][0]
    if looked.kinds[name] == "relation":
        said, (out, into) = RELATIONS, gates.relations(seen, position, tokens.grid)
    else:
        said = ROWS
        out, into = (
            each.reshape(tokens.grid) for each in (seen[0, position], seen[0, :, position])
        )
        out, into = out.numpy(), into.numpy()
    key = picture.key("relations")
    bar.caption(f"Picked: row {row + 1}, column {column + 1}, the most open one until you click.")
    figures.pictures(
        [
            tile(
                picture,
                tokens,
                f"{words} this position",
                drawn,
                picked=[row, column],
                scale="own",
                note=f"largest {drawn.max():.3g}, mean {drawn.mean():.3g}",
            )
            for words, drawn in (("from", out), ("to", into))
        ],
        said,
        key=key,
        alt=f"Relations of row {row + 1}, column {column + 1} at {place(name)}, from it and to it",
        columns=4,
        on_pick=clicked(key, state),
    )


def _most_open(looked: Looked, name: str, tokens: Tokens) -> str:
    """The position of a stage whose gate is the most open, measured on this picture."""
    stage = place(name)
    gate = next((seen for n, seen in looked.of("spatial").items() if place(n) == stage), None)
    return places(tokens)[0 if gate is None else int(np.argmax(gate[0, 0].numpy()))]


def _channels(picture: Picture, looked: Looked) -> None:
    found = {place(name): seen[0].numpy() for name, seen in looked.of("channel").items()}
    if not found:
        return
    st.subheader("Over channels", anchor=False)
    told = "; ".join(f"{name} {each.min():.2f} to {each.max():.2f}" for name, each in found.items())
    figures.chart(
        charts.gates(list(found), list(found.values())),
        Said(
            "What each channel is multiplied by after each stage, largest first, for this picture "
            f"({told}). Hovering tells the channel."
        ),
        key=picture.key("channel gates"),
        alt=f"Channel gates of {picture.label}, sorted, stage by stage: {told}",
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
