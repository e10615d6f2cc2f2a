"""What is true behind a map: what it keeps, distances, and the images that lie among strangers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, charts_clusters, clusters, figures
from app.clusters import Shown
from app.figures import Said
from reid_core.analysis import outliers, projection
from reid_core.analysis.projection import KINDS, median
from reid_core.studies import Arrays

DIGITS = st.column_config.NumberColumn(format="%.3f")
LISTED = 200  # rows of the table of outliers
SILHOUETTE = r"""
$s_i = (b_i - a_i)/\max(a_i, b_i)$, with $a_i$ the mean distance of image $i$ to its identity's other
images and $b_i$ the smallest mean distance to another identity's images. 1: alone with its own;
below 0: another identity is nearer. Distractors are left out.
"""
TRUST = r"""
Neighbours kept by image $i$: $|N_k(i) \cap M_k(i)|/k$, its $k$ nearest images in the embeddings
($N$) and on the map ($M$), $k$ = 15 or what few images allow. Trustworthiness:
$1 - \frac{2}{nk(2n-3k-1)} \sum_i \sum_{j \in M_k(i) \setminus N_k(i)} (r(i,j) - k)$ with $r$ the rank
in the embeddings.
"""


def keeps(view: Shown) -> None:
    """What the map keeps, as a table and as a distribution."""
    table = _kept(view)
    figures.table(
        table,
        Said(
            "What cannot be seen on a map. Neighbours: each image's "
            f"{view.near} nearest ones in the embeddings that are its nearest on the map too. Silhouette "
            "and distances are means and medians over images and pairs.",
            TRUST + SILHOUETTE,
            "Venna and Kaski 2001; Rousseeuw 1987",
            (projection.kept, projection.trustworthiness, projection.spread),
        ),
        key="map keeps",
        column_config=dict.fromkeys(table.columns[1:-1], DIGITS),
    )


def distribution(view: Shown) -> None:
    """Trust, point by point."""
    trust = dict(zip(view.names, view.maps["trust"], strict=True))
    figures.chart(
        charts_clusters.trust(trust, view.near / (len(view.found.names) - 1)),
        Said(
            f"How many images keep which share of their {view.near} nearest neighbours. Colour the map "
            "by Trust to see where.",
            TRUST,
            "",
            (projection.kept,),
        ),
        key="map trust",
        alt="Distribution of the share of neighbours that the map keeps; mean "
        + ", ".join(f"{shares.mean():.0%} ({name})" for name, shares in trust.items()),
        table=figures.beside(dict(image=view.found.names), trust),
    )


def distances(view: Shown) -> None:
    """Distances within and between identities."""
    sides = {
        name: (lie["counts"], lie["edges"]) for name, lie in zip(view.names, view.lies, strict=True)
    }
    rows = []
    for name, side in sides.items():
        counts, edges = charts_clusters.drawn(*side)
        for kind, each in zip(kinds(view), counts, strict=True):
            part = dict(
                embeddings=name, pairs=kind, distance_from=edges[:-1], distance_to=edges[1:]
            )
            rows.append(pd.DataFrame(part | dict(count=each, share=each / max(each.sum(), 1))))
    measure = (
        "length 1" if view.settings["metric"] == "cosine" else "the length the model gives them"
    )
    figures.chart(
        charts_clusters.distances(sides, kinds(view)),
        Said(
            f"Distances in the embeddings (vectors of {measure}), all pairs of images whose identity is "
            "known; thin lines: medians. Where orange and grey overlap, no threshold tells people apart.",
            r"$d(x, y) = \lVert x - y \rVert$, with $x/\lVert x \rVert$ for cosine",
            "",
            (projection.spread,),
        ),
        key="map distances",
        alt="Distributions of distances within and between identities; medians: "
        + "; ".join(_medians(name, kinds(view), *side) for name, side in sides.items()),
        table=pd.concat(rows),
    )


def kinds(view: Shown) -> Sequence[str]:
    """What KINDS are called: what is not known to be of the same camera may be of any."""
    unknown = view.found.cameras[view.found.identities > 0] == -1
    if not unknown.any():
        return KINDS
    other = "camera unknown" if unknown.all() else "other or unknown camera"
    return KINDS[0], f"same identity, {other}", KINDS[2]


def _medians(name: str, kinds: Sequence[str], counts: np.ndarray, edges: np.ndarray) -> str:
    """The medians by kind of pairs, in words."""
    middle = [f"{kind} {median(each, edges):.2f}" for kind, each in zip(kinds, counts, strict=True)]
    return f"{name} {', '.join(middle)}"


def worst(view: Shown) -> None:
    """The outliers; a click opens one."""
    rows, frame = _outliers(view)
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
            f"{_shares(view, rows)}.",
            SILHOUETTE,
            "Rousseeuw 1987; the rules for reasons are ours",
            (outliers.worst, outliers.reasons),
        ),
        key=key,
        on_select=opened,
        column_config=dict.fromkeys(("silhouette", "own", "other"), DIGITS),
    )


def _kept(view: Shown) -> pd.DataFrame:
    """What the maps keep of the embeddings, and how identities lie in both."""
    count, k = len(view.found.names), view.near
    # The mean of max(0, rank - k) over ranks 1 to N - 1 that all are as likely.
    lost = (count - 1 - k) * (count - k) / (2 * (count - 1))
    random = {
        "Neighbours kept": k / (count - 1),
        "Trustworthiness": 1 - 2 * lost / (2 * count - 3 * k - 1),
    }
    columns = {}
    for side, name in enumerate(view.names):
        lie, trust = view.lies[side], view.maps["trust"][side]
        middle = [median(each, lie["edges"]) for each in lie["counts"]]
        columns[name] = {
            "Neighbours kept": trust.mean(),
            "Neighbours kept, lowest tenth of images": np.quantile(trust, 0.1),
            "Trustworthiness": float(view.maps["trustworthiness"][side]),
            "Silhouette of the embeddings": np.nanmean(lie["silhouette"]),
            "Silhouette of the map": np.nanmean(view.maps["silhouette"][side]),
            **{
                f"Median distance, {kind}": value
                for kind, value in zip(kinds(view), middle, strict=True)
            },
        }
    measures = list(next(iter(columns.values())))
    values = {name: [of[each] for each in measures] for name, of in columns.items()}
    frame = figures.beside(dict(measure=measures), values).round(3)
    return frame.assign(
        **{"by chance": [f"{random[each]:.3f}" if each in random else "–" for each in measures]}
    )


def _outliers(view: Shown) -> tuple[list[int], pd.DataFrame]:
    """Rows of the worst outliers, worst first, and what is known of each."""
    found, lie = view.found, view.lies[0]
    rows = outliers.worst(lie["silhouette"], found.identities)[:LISTED]
    why = cached.why_apart(view.run, view.stamp, view.settings["metric"])
    known = cached.attributes_if_any(view.run, view.stamp)
    frame = pd.DataFrame(
        dict(
            image=[str(found.names[row]).rpartition("/")[2] for row in rows],
            identity=found.identities[rows],
            camera=found.cameras[rows],
            silhouette=lie["silhouette"][rows].round(3),
            own=lie["own"][rows].round(3),
            other=lie["other"][rows].round(3),
            nearest=lie["rival"][rows],
            reason=[_reason(row, why, known, lie) for row in rows],
            folder=[str(found.names[row]).rpartition("/")[0] for row in rows],
        )
    )
    return rows.tolist(), frame


def _reason(row: int, why: outliers.Reasons, known: dict[str, np.ndarray], lie: Arrays) -> str:
    """What goes together with an image's place, with its evidence."""
    said = lambda column: str(known[column][row])  # noqa: E731
    by = f" by {said('occluder')}" if "occluder" in known else ""
    words = {
        "occluded": lambda: f"occluded: {float(said('occlusion')):.0%}{by}",
        "look-alike": lambda: f"look-alike of {lie['rival'][row]}, group {said('lookalike_group')}",
        "box error": lambda: f"box error: {said('box_error')}",
        "one camera": lambda: (
            f"camera: {why.nearest[row]:.0%} of its nearest are from {why.camera[row]}"
        ),
        "unknown": lambda: "unknown",
    }
    holds = why.holds[:, row]
    return "; ".join(
        words[name]() for name, is_so in zip(outliers.NAMES, holds, strict=True) if is_so
    )


def _shares(view: Shown, rows: list[int]) -> str:
    """How often each reason holds among the outliers, and among all images."""
    why = cached.why_apart(view.run, view.stamp, view.settings["metric"])
    return ", ".join(
        f"{name} {why.holds[place, rows].mean():.0%} ({why.share[place]:.0%} of all)"
        for place, name in enumerate(outliers.NAMES)
        if rows
    )
