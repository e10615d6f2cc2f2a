"""What is true behind a map: what it keeps, distances, and the images that lie among strangers."""

import pandas as pd
import streamlit as st

from app import charts_clusters, clusters, figures
from app.clusters import Shown
from app.figures import Said
from reid_core.analysis import outliers, projection

SILHOUETTE = r"""
$s_i = (b_i - a_i)/\max(a_i, b_i)$, with $a_i$ the mean distance of image $i$ to its identity's other
images and $b_i$ the smallest mean distance to another identity's images. 1: alone with its own;
below 0: another identity is nearer. Distractors are left out.
"""
TRUST = r"""
Neighbours kept by image $i$: $|N_{15}(i) \cap M_{15}(i)|/15$, its nearest images in the embeddings
($N$) and on the map ($M$). Trustworthiness:
$1 - \frac{2}{nk(2n-3k-1)} \sum_i \sum_{j \in M_k(i) \setminus N_k(i)} (r(i,j) - k)$ with $r$ the rank
in the embeddings.
"""


def keeps(view: Shown) -> None:
    """What the map keeps, as a table and as a distribution."""
    figures.table(
        clusters.kept_table(view),
        Said(
            "What cannot be seen on a map. Neighbours: each image's "
            f"{view.near} nearest ones in the embeddings that are its nearest on the map too. Silhouette "
            "and distances are means and medians over images and pairs.",
            TRUST + SILHOUETTE,
            "Venna and Kaski 2001; Rousseeuw 1987",
            (projection.kept, projection.trustworthiness, projection.spread),
        ),
        key="map keeps",
    )


def distribution(view: Shown) -> None:
    """Trust, point by point."""
    trust = dict(zip(view.names, view.maps["trust"], strict=True))
    figures.chart(
        charts_clusters.trust(trust, view.near / (len(view.found.names) - 1)),
        Said(
            "How many images keep which share of their nearest neighbours. Colour the map by Trust to "
            "see where.",
            TRUST,
            "",
            (projection.kept,),
        ),
        key="map trust",
        alt="Distribution of the share of neighbours that the map keeps",
        table=pd.DataFrame(trust).assign(image=view.found.names),
    )


def distances(view: Shown) -> None:
    """Distances within and between identities."""
    sides = {
        name: (lie["counts"], lie["edges"]) for name, lie in zip(view.names, view.lies, strict=True)
    }
    rows = [
        dict(embeddings=name, pairs=kind, distance_from=edges[place], count=count)
        for name, (counts, edges) in sides.items()
        for kind, each in zip(projection.KINDS, counts, strict=True)
        for place, count in enumerate(each)
        if count
    ]
    measure = (
        "length 1" if view.settings["metric"] == "cosine" else "the length the model gives them"
    )
    figures.chart(
        charts_clusters.distances(sides),
        Said(
            f"Distances in the embeddings (vectors of {measure}), all pairs of images whose identity is "
            "known; thin lines: medians. Where orange and grey overlap, no threshold tells people apart.",
            r"$d(x, y) = \lVert x - y \rVert$, with $x/\lVert x \rVert$ for cosine",
            "",
            (projection.spread,),
        ),
        key="map distances",
        alt="Distributions of distances within and between identities",
        table=pd.DataFrame(rows),
    )


def worst(view: Shown) -> None:
    """The outliers; a click opens one."""
    rows, frame = clusters.outlier_table(view)
    key = f"outliers {view.key}"

    def opened() -> None:
        if asked := st.session_state[key]["selection"]["rows"]:
            clusters.pick(view, rows[asked[0]])

    figures.table(
        frame,
        Said(
            f"The {len(rows)} images of the lowest silhouette in the embeddings, worst first; own and "
            "other: mean distance to its identity and to the nearest other one. Click a row to see it on "
            "the map. What goes together with it (not what caused it): "
            f"{clusters.shares_of_reasons(view, rows)}.",
            SILHOUETTE,
            "Rousseeuw 1987; the rules for reasons are ours",
            (outliers.worst, outliers.reasons),
        ),
        key=key,
        on_select=opened,
    )
