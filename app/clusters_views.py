"""The page Clusters' widgets, its map, the picked image and the gallery of the lasso."""

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app import clusters, clusters_lasso, clusters_paint, components, figures, pickers, projector
from app.clusters import ENCODER, METHODS, NOTHING, Shown
from app.figures import Said
from app.galleries import title
from reid_core.analysis import layout, projection
from reid_core.evaluate import Embeddings
from reid_core.runs import Run

HEIGHT = 540
NEIGHBOURS, APART = ["5", "10", "15", "30", "50"], ["0.0", "0.1", "0.25", "0.5", "0.9"]
DRAWN = (
    "One point per image of the test split, placed by its embedding alone; hover it for its crop, click "
    "to pick it. "
)
FORMULA = r"""
UMAP: positions $y$ that make the cross entropy between two sets of edge weights small,
$\sum_{ij} v_{ij} \log\frac{v_{ij}}{w_{ij}} + (1 - v_{ij}) \log\frac{1 - v_{ij}}{1 - w_{ij}}$, with
$v$ from the distances to the nearest neighbours and $w_{ij} = (1 + a \lVert y_i - y_j \rVert^{2b})^{-1}$.
t-SNE: the same idea with the Kullback-Leibler divergence between all pairs. PCA: the directions of
largest variance.
"""
WARNING = (
    "Only nearness can be read off a map, and only as far as its trust goes. On UMAP and t-SNE the "
    "distances between clusters, their sizes and the empty space mean little; PCA keeps the directions "
    "of largest variance and nothing else. "
)
SECOND = (
    "Two maps: each is fitted to its own embeddings alone. The second starts from the first one's "
    "positions (UMAP, t-SNE) and is then turned, mirrored and scaled onto it as a whole (Procrustes), so "
    "nothing pulls an image towards its counterpart. Colours are the first one's values on both. "
)


def settings(run: Run, found: Embeddings) -> tuple[dict[str, Any], str]:
    """The widgets that say which map and how it is coloured; returns the study's settings and the
    colour."""
    seconds = clusters.second_maps(run, found)
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    choose = lambda key, options, label, **more: _segments(bar, key, options, label, **more)  # noqa: E731
    method = choose("map", list(METHODS), "Map")
    dimensions = choose("dimensions", ["2-D", "3-D"], "Dimensions")
    pickers.linked("second", seconds, NOTHING)  # "beside" is another run's view, on Attention
    beside = bar.selectbox(
        "Beside it", seconds, key="second", width=projector.wide(190),
        help="A second map of the same images: before they looked at one another, or in another run.",
    )  # fmt: skip
    options = clusters_paint.choices(run.name, run.stamp())
    pickers.linked("colour", options, options[0])
    colour = bar.selectbox(
        "Colour", options, key="colour", width=projector.wide(130),
        help="One thing in focus, all else grey. Identity, Look-alikes: those of the picked image. "
        "AP, Rank-1: of the queries. Trust: neighbours that the map keeps.",
    )  # fmt: skip
    bar.toggle(
        "Lines", key="edges", bind="query-params",
        help="From the picked query to the first ten images of its ranked list, without what the "
        "protocol ignores.",
    )  # fmt: skip
    # Not in a popover: what lies in one is not in the browser while it is closed, misses what the page
    # sets meanwhile (a link, Back) and sends what it held before.
    folded = st.expander("Settings", icon=":material/tune:")
    with folded, st.grid("auto", min_column_width=190, gap="medium"):
        metric = _segments(
            st, "metric", list(projection.METRICS), "Metric",
            help="Cosine ranks neighbours exactly as the ranked lists do.",
        )  # fmt: skip
        near = _slider("neighbors", NEIGHBOURS, "15", "n_neighbors", "UMAP; t-SNE's perplexity.")
        apart = _slider("apart", APART, "0.1", "min_dist", "UMAP: how close points may lie.")
        seed = st.number_input("Seed", 0, 999, 0, key="seed", bind="query-params")
    asked = dict(method=METHODS[method], dimensions=int(dimensions[0]), metric=metric, seed=seed)
    # What a method does not know must not make another map of it.
    asked["n_neighbors"] = 15 if method == "PCA" else int(near)
    asked["min_dist"] = float(apart) if method == "UMAP" else 0.1
    other = "" if beside in (NOTHING, ENCODER) else beside
    return asked | dict(encoder=beside == ENCODER, other=other), colour


def the_map(view: Shown, choice: str, row: int) -> list[int]:
    """The map with its legend; returns the rows in the lasso."""
    key = f"map {view.key}"
    drawn = clusters.drawn(view)
    alt = f"Map of {len(view.found.names):,} embeddings by {view.settings['method']}"

    def picked() -> None:
        if (asked := st.session_state[key]["picked"]) is not None:
            clusters.pick(view, int(asked))

    lasso = lambda: clusters_lasso.take(key)  # noqa: E731
    components.embedding_map(drawn, key=key, height=HEIGHT, alt=alt, on_pick=picked, on_lasso=lasso)
    rows = clusters_lasso.selected(view)
    edges = clusters.lines(view, row) if st.session_state.get("edges") else [[] for _ in view.names]
    painted = clusters_paint.paint(
        view, choice, row, _camera(view, row) if choice == "Camera" else None
    )
    painted |= dict(id=drawn["id"], picked=row, selected=rows, edges=edges)
    components.embedding_legend(painted, key=f"legend {view.key}")
    caption = DRAWN + WARNING + (SECOND + _moves(view) if len(view.names) > 1 else "")
    code = (layout.lay_out, layout.aligned, layout.moved)
    figures.about(
        Said(caption, FORMULA, "McInnes et al. 2018; van der Maaten and Hinton 2008", code),
        key=f"map about {view.key}",
        table=clusters.places(view),
    )
    return rows


def _camera(view: Shown, row: int) -> int:
    cameras = [str(each) for each in np.unique(view.found.cameras)]
    pickers.linked("map camera", cameras, str(view.found.cameras[row]))
    return int(_pills("map camera", cameras, "Camera"))


def _moves(view: Shown) -> str:
    """What of the way between two maps is more than chance."""
    moved, chance, changed = view.maps["moved"], view.maps["chance"], 1 - view.maps["same"]
    said = (
        f"Half of the images lie {np.median(moved):.2f} radii or more apart on the two; made twice, the "
        f"first map alone gives {np.median(chance):.2f}. The embeddings share {1 - changed.mean():.0%} of "
        f"each image's {view.near} nearest neighbours"
    )
    if min(moved.std(), changed.std()) > 1e-6:
        drift = pd.Series(moved).corr(pd.Series(changed), method="spearman")
        said += f"; sharing fewer and lying farther apart have a rank correlation of {drift:.2f}"
    return said + "."


def picked(view: Shown, source: tuple[str, str], row: int) -> None:
    """The picked image and its numbers."""
    found, lie = view.found, view.lies[0]
    name = str(found.names[row])
    st.image(clusters.picture(source, name, 256), alt=title(found, row), width=110)
    who, kept = int(found.identities[row]), view.maps["trust"][0][row] * view.near
    lines = [
        f"**{'Query' if found.is_query[row] else 'Gallery'}**, {title(found, row).split(',')[0]}"
    ]
    lines.append(f"camera {found.cameras[row]}" if found.cameras[row] > 0 else "camera unknown")
    if np.isfinite(lie["precision"][row]):
        lines.append(f"average precision {lie['precision'][row]:.2f}")
    lines.append(f"keeps {kept:.0f} of {view.near} neighbours")
    if who > 0 and np.isfinite(lie["own"][row]):
        lines.append(f"own identity {lie['own'][row]:.2f} away")
    if who > 0 and np.isfinite(lie["other"][row]):
        lines.append(f"identity {lie['rival'][row]} {lie['other'][row]:.2f} away")
        lines.append(f"silhouette {lie['silhouette'][row]:.2f}")
    st.markdown("  \n".join(lines))
    st.caption(name.rsplit("/", 1)[-1])


def lassoed(view: Shown, source: tuple[str, str], rows: list[int], row: int) -> None:
    """The crops in the lasso, by identity, a page at a time."""
    if not rows:
        st.caption(
            "Draw a lasso on the map (button, L, or drag with Shift), or with keys a box (Shift and "
            "arrows, then Enter): its images stand here."
        )
        return
    found = view.found
    who = found.identities[rows]  # distractors, who are nobody in particular, come last
    rows = np.array(rows)[np.lexsort((found.cameras[rows], who, who < 1))]
    people, cameras = found.identities[rows], found.cameras[rows]
    who, cameras = (len(np.unique(each[each > 0])) for each in (people, cameras))
    bar = st.container(horizontal=True, vertical_alignment="center")
    bar.markdown(
        f"**In the lasso**: {len(rows):,} of {len(found.names):,} images, {who:,} identities, {cameras} cameras{_nobody(people)}"
    )
    pages = -(-len(rows) // clusters.PAGE)
    page = bar.pagination(pages, key=f"lasso {view.key} {len(rows)} {rows[0]}") if pages > 1 else 1
    first = clusters.PAGE * (page - 1)
    here = rows[first : first + clusters.PAGE].tolist()
    key = f"lassoed {view.key}"

    def picked() -> None:
        if asked := st.session_state[key]["picked"]:
            clusters.pick(view, int(asked))

    components.query_strip(
        clusters.items(view, source, here, row), key=key, on_pick=picked, wrap=True
    )


def _nobody(people: np.ndarray) -> str:
    """How many images are of no known identity, in words."""
    count = int((people < 1).sum())
    return f", {count:,} distractors" if count else ""


def _segments(where: Any, key: str, options: list[str], label: str, **more) -> str:
    pickers.linked(key, options, options[0])
    return where.segmented_control(label, options, key=key, required=True, **more)


def _pills(key: str, options: list[str], label: str) -> str:
    return st.segmented_control(label, options, key=key, required=True)


def _slider(key: str, options: list[str], default: str, label: str, help: str) -> str:
    pickers.linked(key, options, default)
    return st.select_slider(label, options, key=key, help=help)
