"""What looking at one another does to a ranked list, and what depends on the draw of the landmarks."""

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, charts_neighbours, figures, galleries, studies
from app.components import ranked_gallery
from app.figures import Said
from app.neighbours import Chosen
from reid_core.analysis import neighbours as analysis
from reid_core.evaluate import judge
from reid_core.retrieve import RankedList
from reid_core.studies import draws

SMALL, TOP, LISTED = 5000, 10, 10


def lists(chosen: Chosen) -> None:
    """The ranked list with and without the neighbour transformer, and what moved."""
    found = cached.embeddings(chosen.run.name, chosen.stamp)
    source = cached.folder(cached.experiment(chosen.run.name, chosen.stamp))
    label = cached.labels(chosen.run.name, chosen.stamp)[chosen.query]
    before, after = chosen.before, chosen.after
    said = f"AP {before.average_precision:.3f} → {after.average_precision:.3f}"
    said = said if len(before.hits) else "the gallery has no true match"
    st.subheader(f"The ranked list: {said}", anchor=False)
    pairs = [("Encoder alone", before, after, "now"), ("Refined", after, before, "was")]
    for name, ranking, other, word in pairs:
        there = _by_row(other, other.ranks)
        places = galleries.shown(ranking, TOP, ghosts=False)
        tiles = galleries.tiles(source, found, ranking, places)
        for tile, place in zip(tiles, places, strict=True):
            tile["distance"] += f", {word} {there[int(ranking.rows[place])]}"
            tile.pop("running", None)
        query = galleries.query(source, found, ranking, label, chosen.query_row)
        ranked_gallery(query | dict(caption=name), tiles, key=f"list {word}", compact=True)
    _moves(found, before, after)


def _moves(found, before: RankedList, after: RankedList) -> None:
    ranks = [_by_row(ranking, ranking.ranks) for ranking in (before, after)]
    match = _by_row(after, after.match)
    first = [(each[before.rows] > 0) & (each[before.rows] <= TOP) for each in ranks]
    rows = before.rows[first[0] | first[1]]
    frame = pd.DataFrame(
        {
            "encoder alone": ranks[0][rows],
            "refined": ranks[1][rows],
            "right": match[rows].astype(bool),
            "image": [str(found.names[each]) for each in rows],
        }
    )
    states = ["right" if each else "wrong" for each in frame["right"]]
    names = [galleries.title(found, each) for each in rows]
    moved = int((frame["encoder alone"] != frame["refined"]).sum())
    said = Said(
        f"All images that are among the first {TOP} of either list: {moved} of {len(rows)} have another "
        "rank. Solid and ✓: the same person. Both lists leave out what the protocol ignores.",
        code=(analysis.alone, judge),
    )
    figure = charts_neighbours.moves(frame["encoder alone"], frame["refined"], states, names)
    alt = f"Ranks before and after: {moved} of {len(rows)} images moved"
    left, right = st.columns(2, gap="large")
    with left:
        figures.chart(figure, said, key="moves", alt=alt, table=frame)
    with right:
        told = Said("The same ranks in numbers, in the order of the encoder's list.")
        short = frame["image"].str.rsplit("/", n=1).str[-1]  # the folder would leave no room for it
        figures.table(frame.assign(image=short), told, key="ranks")


def _by_row(ranking: RankedList, values: np.ndarray) -> np.ndarray:
    """What a ranking says of its images, by their row in the set; 0 for those that it does not hold."""
    found = np.zeros(int(ranking.rows.max()) + 1, int)
    found[ranking.rows] = values
    return found


def spread(chosen: Chosen, seen: analysis.Attention) -> None:
    """What depends on the draw of the landmarks, over ten of them."""
    st.subheader("The landmarks drawn anew", anchor=False)
    if seen.landmarks.shape[1] <= LISTED:
        _landmarks(chosen, seen)
    small = len(seen.neighbours) <= SMALL
    arrays = studies.study(chosen.run, "draws", label="Refine with ten draws", start=small)
    if arrays is None:
        return
    mine, common = arrays["precision"][:, chosen.query], arrays["common"]
    whole = np.nanmean(arrays["precision"], axis=1)
    count, least = len(whole), seen.landmarks.shape[1]
    others = common if chosen.own is None else common[1:]
    which = "these" if chosen.own is None else "the draws other than the run's own"
    matched = not np.isnan(mine).any()
    own = f"AP of this query: {mine.min():.3f} to {mine.max():.3f}. " if matched else ""
    st.markdown(
        f"{count} draws of {least} landmarks. {own}"
        f"mAP: {whole.min():.4f} to {whole.max():.4f}; the encoder alone has "
        f"{np.nanmean(arrays['before']):.4f}. Of the ten nearest in the stored list, {which} "
        f"keep {others[:, chosen.query].mean():.0%} for this query, and {others.mean():.1%} on average "
        "over all."
    )
    left, right = st.columns(2, gap="large")
    with left:
        _spread_weights(chosen, seen, arrays["weights"])
    with right:
        before = arrays["before"]
        lines = {"this query": (mine, before[chosen.query])} if matched else {}
        lines["mAP"] = (whole, np.nanmean(before))
        said = Said(
            "Average precision with each draw; dotted: the encoder alone."
            + ("" if chosen.own is None else " The first draw is the run's own."),
            code=(draws.compute, analysis.judged),
        )
        frame = pd.DataFrame(dict(draw=arrays["seeds"], this_query=mine, mAP=whole))
        figure = charts_neighbours.draws(arrays["seeds"], lines)
        figures.chart(figure, said, key="draws", alt="AP of each draw", table=frame)


def _landmarks(chosen: Chosen, seen: analysis.Attention) -> None:
    """The images that the others are compared through, layer by layer."""
    found = cached.embeddings(chosen.run.name, chosen.stamp)
    source = cached.folder(cached.experiment(chosen.run.name, chosen.stamp))
    tiles = [
        dict(
            label=f"layer {layer}",
            note=galleries.title(found, row).split(",")[0],
            src=cached.picture(*source, str(found.names[row]), galleries.TILE),
            size=(2, 1),
        )
        for layer, rows in enumerate(seen.landmarks, 1)
        for row in rows
    ]
    said = Said(
        f"The landmarks of draw {chosen.seed}: each layer compares images by how much both resemble "
        "these, whoever they show."
    )
    alt = f"{len(tiles)} landmarks, {seen.landmarks.shape[1]} of each layer"
    drawn = [(n, str(found.names[row])) for n, rows in enumerate(seen.landmarks, 1) for row in rows]
    table = pd.DataFrame(drawn, columns=["layer", "image"])
    figures.pictures(tiles, said, key="landmarks", alt=alt, columns=12, table=table)


def _spread_weights(chosen: Chosen, seen: analysis.Attention, weights: np.ndarray) -> None:
    """What the query's mutual neighbours get, draw by draw. weights (draws, Q, k)."""
    row = chosen.query_row
    here = weights[:, chosen.query]  # (draws, k)
    order = np.argsort(-here.mean(axis=0), kind="stable")
    order = order[seen.mutual[row][order] & (seen.neighbours[row][order] != row)]
    if not len(order):
        st.caption("Without a mutual neighbour there is no weight that could change.")
        return
    names, now = (
        [str(number + 1) for number in range(len(order))],
        cached.weights(chosen.run.name, chosen.stamp, chosen.seed)[row][order],
    )
    said = Said(
        "Weights of the query's mutual neighbours, mean over layers and heads, largest first: mean and "
        f"range over the draws, and draw {chosen.seed}."
    )
    here = here[:, order]
    columns = dict(least=here.min(axis=0), mean=here.mean(axis=0), most=here.max(axis=0), now=now)
    frame = pd.DataFrame(dict(neighbour=names) | columns)
    figure = charts_neighbours.spread(names, here, now)
    figures.chart(figure, said, key="weights", alt="Weights over the draws", table=frame)
