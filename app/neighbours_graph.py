"""The neighbour graph: whom a query attends to, and what that does to its ranked list."""

from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, charts_graph, figures, galleries, neighbours_lists
from app.charts_graph import Node
from app.charts_neighbours import STATES
from app.figures import Said
from app.neighbours import PAPER, QUERY, Chosen, back, true_matches
from app.notices import say
from reid_core.analysis import neighbours as analysis
from reid_core.models.nformer import NeighbourAttention, mutual_neighbours, reciprocal_softmax

ROUNDING = 2e-3  # relative; a shipped run keeps its features in 16 bits
ATTENTION = Said(
    "",
    r"""$$w_{ij} = \frac{\sum_L (q_i \cdot k_L)(q_L \cdot k_j)}{\sqrt{D/H}}, \qquad
a_{ij} = \frac{m_{ij}\, e^{w_{ij}}}{\sum_n m_{in}\, e^{w_{in}}}$$
$L$ runs over the landmarks; $m_{ij}=1$ where $i$ and $j$ are among each other's $k$ nearest, else 0.""",
    f"{PAPER}, sections 3.2 and 3.3. The paper takes the k largest of each row of $w$; its code, as "
    "here, the k nearest by cosine of what enters the first layer, for all layers.",
    (NeighbourAttention.forward, mutual_neighbours, reciprocal_softmax, analysis.listened),
)


def show(chosen: Chosen) -> None:
    """The graph, its pictures, the two ranked lists and the spread over draws."""
    seen = cached.attention(chosen.run.name, chosen.stamp, chosen.seed)
    row = chosen.row
    weights = cached.weights(chosen.run.name, chosen.stamp, chosen.seed, chosen.layer, chosen.head)
    told = analysis.listened(seen, row, weights)
    others = told.rows != row
    itself = float(told.weights[~others].sum())
    told = analysis.Listened(*(each[others] for each in vars(told).values()))
    nodes = _nodes(chosen, told, row)
    with st.container(key="beside graph"):  # one below the other in a narrow window
        drawn, facts = st.columns([3, 2], gap="large")
    with drawn:
        _drawing(chosen, seen, told, nodes, row, itself)
    with facts:
        _facts(chosen, told, nodes, itself)
    _tiles(chosen, told, nodes)
    neighbours_lists.lists(chosen)
    neighbours_lists.spread(chosen, seen)


def _nodes(chosen: Chosen, told: analysis.Listened, row: int) -> list[Node]:
    found = cached.embeddings(chosen.run.name, chosen.stamp)
    source = cached.folder(cached.experiment(chosen.run.name, chosen.stamp))
    identity = found.identities[row]
    return [
        Node(
            cached.picture(*source, str(found.names[each]), galleries.TILE),
            galleries.title(found, each),
            *(float(told.weights[place]), float(told.back[place]), bool(told.mutual[place])),
            "right" if identity > 0 and found.identities[each] == identity else "wrong",
        )
        for place, each in enumerate(told.rows)
    ]


def _drawing(chosen, seen, told, nodes, row, itself) -> None:
    run, stamp = chosen.run.name, chosen.stamp
    found = cached.embeddings(run, stamp)
    source = cached.folder(cached.experiment(run, stamp))
    centre = cached.picture(*source, str(found.names[row]), galleries.LARGE)
    layer = "all layers" if chosen.layer is None else f"layer {chosen.layer + 1}"
    head = "all heads" if chosen.head is None else f"head {chosen.head + 1}"
    caption = (
        f"{chosen.name[:1].upper()}{chosen.name[1:]} and its {len(nodes)} nearest images, by the encoder"
        f"{_some(nodes)}. A line's width grows with the weight that it gives ({_mean(chosen)}{layer}, "
        f"{head}; draw {chosen.seed} of the landmarks). Dotted: one-sided, "
        "it is not among the other's nearest, so that one gets no weight. Grey lines "
        "join neighbours that are mutual neighbours of each other."
    )
    figures.chart(
        charts_graph.graph(centre, itself, nodes, _ties(seen, told.rows)),
        replace(ATTENTION, caption=caption),
        key="neighbour graph",
        alt=f"{chosen.name} attends to {int(told.mutual.sum())} mutual neighbours; "
        f"{len(nodes) - int(told.mutual.sum())} are one-sided",
        table=_frame(found, told),
    )


def _some(nodes: list[Node]) -> str:
    drawn = charts_graph.DRAWN
    return f"; drawn are the {drawn} with most weight" if len(nodes) > drawn else ""


def _mean(chosen: Chosen) -> str:
    return "mean over " if None in (chosen.layer, chosen.head) else ""


def _ties(seen: analysis.Attention, rows: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of places whose images are mutual neighbours of one another."""
    place = {int(each): number for number, each in enumerate(rows)}
    return [
        (here, place[int(other)])
        for each, here in place.items()
        for other in seen.neighbours[each][seen.mutual[each]]
        if place.get(int(other), -1) > here
    ]


def _frame(found, told: analysis.Listened) -> pd.DataFrame:
    return pd.DataFrame(
        dict(
            image=found.names[told.rows],
            identity=found.identities[told.rows],
            camera=found.cameras[told.rows],
            weight=told.weights,
            gives_back=told.back,
            mutual=told.mutual,
        )
    )


def _facts(chosen: Chosen, told: analysis.Listened, nodes: list[Node], itself: float) -> None:
    """The query in numbers, and whether the pass is the one that the run kept."""
    # Rounded as they are shown, so that they and their difference add up.
    before, after = (round(each.average_precision, 3) for each in (chosen.before, chosen.after))
    one, two = st.columns(2)
    matched = len(chosen.before.hits) > 0
    one.metric("AP, encoder alone", f"{before:.3f}" if matched else "none")
    two.metric(
        "AP, refined",
        f"{after:.3f}" if matched else "none",
        f"{after - before:+.3f}" if matched else None,
    )
    if chosen.row != chosen.query_row:
        st.markdown(f"In the middle: `{chosen.name}`, a neighbour. The weights are its own.")
        st.button("Back to the query", icon=":material/undo:", on_click=back, key="back")
        one, two = st.columns(2)
    share = {s: sum(n.weight for n in nodes if n.state == s) for s in ("right", "wrong")}
    run, stamp = chosen.run.name, chosen.stamp
    matches = true_matches(run, stamp, chosen.query)
    identities = cached.embeddings(run, stamp).identities
    theirs = analysis.falls_on(cached.attention(run, stamp, chosen.seed), identities, matches)
    one.metric("Mutual neighbours", f"{int(told.mutual.sum())} of {len(nodes)}")
    two.metric("Weight on itself", f"{itself:.2f}")
    one.metric("On the same person", f"{share['right']:.2f}")
    two.metric("On other people", f"{share['wrong']:.2f}")
    if len(matches):
        st.markdown(
            f"The gallery is refined too: this query's {len(matches)} true matches there give "
            f"{theirs['right']:.2f} of their weight to the same person, {theirs['others']:.2f} to others "
            f"and {theirs['itself']:.2f} to themselves (mean over layers and heads)."
        )
    st.caption(
        "An image attends to those among its k nearest that have it among theirs; itself counts as one "
        "of the k. The refined feature is made of what they say, by weight, in every layer. Queries and "
        "gallery are one set (protocol `nformer-joint`), so a neighbour may be a query."
    )
    _repeats(chosen)


def _repeats(chosen: Chosen) -> None:
    """Say whether a pass with the run's own seed gives its stored features again."""
    if chosen.own is None:
        say(
            "info",
            "This run draws its landmarks anew at each pass, and nobody kept the draw of its stored "
            f"features. Everything here is of draw {chosen.seed}.",
        )
        return
    away = cached.repeated(chosen.run.name, chosen.stamp, chosen.own)
    if away > ROUNDING:
        say(
            "warning",
            f"A pass with the run's own seed is {away:.1%} away from its stored features, more than "
            "rounding explains: the graph is not exactly theirs. Evaluate the run anew.",
        )
    elif not chosen.stored:
        st.caption(
            f"The list below is refined with draw {chosen.seed}; the run's stored features are of draw "
            f"{chosen.own}."
        )
    else:
        why = " (a shipped run keeps 16 bits)" if chosen.run.shipped else ""
        st.caption(
            f"The graph's pass, repeated with the run's own seed, is {away:.2%} away from the stored "
            f"features{why}; the ranked lists are of the stored ones."
        )


def _tiles(chosen: Chosen, told: analysis.Listened, nodes: list[Node]) -> None:
    found = cached.embeddings(chosen.run.name, chosen.stamp)
    tiles = [
        dict(
            label=f"{STATES[node.state][1]} {node.weight:.3f}",
            note=f"{'mutual' if node.mutual else 'one-sided'} · {galleries.short(found, row)}",
            src=node.src,
            size=(2, 1),
        )
        for row, node in zip(told.rows, nodes, strict=True)
    ]
    said = Said(
        "The neighbours in order of weight, which is the number below: ✓ the same person, ✗ somebody "
        "else, c its camera. One-sided ones come last, nearest first. A click puts one in the middle."
    )
    alt = f"{len(tiles)} neighbours of {chosen.name}, in order of weight"
    names = found.names[told.rows].tolist()

    def take() -> None:
        if picked := st.session_state["neighbours"]["picked"]:
            row = int(told.rows[picked["tile"]])
            st.session_state["middle"] = names[picked["tile"]] if row != chosen.query_row else QUERY

    frame = _frame(found, told)
    figures.pictures(tiles, said, key="neighbours", alt=alt, columns=12, table=frame, on_pick=take)
