"""What the page Clusters opens on and what it points at, found by measurement."""

from typing import Any

import numpy as np

from app import cached
from app.clusters import ENCODER, NOTHING, Shown
from app.lessons import Step
from reid_core.analysis import outliers


def preset(view: Shown) -> dict[str, Any]:
    """The query that refining gained most for, else one of the most scattered identity's."""
    row = _gained(view) if len(view.names) > 1 else -1
    if row < 0:
        row = _scattered(view)[2]
    found = dict(colour="Identity")
    return found | (_query(view, row) if row >= 0 else {})


def steps(view: Shown) -> list[Step]:
    """Three things to see, each with its numbers."""
    third = _two(view) if len(view.names) > 1 else _right_and_wrong(view)
    return [each for each in (_apart(view), _lost(view), third) if each]


def _apart(view: Shown) -> Step | None:
    who, mean, row = _scattered(view)
    if row < 0:
        return None
    lie, rows = view.lies[0], np.flatnonzero(view.found.identities == who)
    rivals, count = np.unique(lie["rival"][rows], return_counts=True)
    text = (
        f"Of all identities with a query {who} is scattered most: the mean silhouette of its {len(rows)} images is "
        f"{mean:.2f}, that of all images {np.nanmean(lie['silhouette']):.2f}, and for {count.max()} of "
        f"them the nearest other identity is {rivals[count.argmax()]}. Switch from UMAP to t-SNE: the "
        "pieces move, the number stays, since it is measured in the embeddings."
    )
    return Step("The most scattered identity", text, dict(colour="Identity") | _query(view, row))


def _lost(view: Shown) -> Step:
    trust, k = view.maps["trust"][0], view.near
    text = (
        f"On average the map keeps {trust.mean():.0%} of an image's {k} nearest neighbours, where a map "
        f"at random would keep {k / (len(trust) - 1):.1%}; {(trust < 0.5).sum():,} of {len(trust):,} "
        "images keep less than half. The nearer a point's colour to the left end of the bar "
        "below the map, the more of its neighbourhood the map made up: look such a point up in the ranked "
        "list before you conclude anything."
    )
    return Step("What the map loses", text, dict(colour="Trust"))


def _two(view: Shown) -> Step | None:
    row = _gained(view)
    if row < 0:
        return None
    after, before = (lie["precision"][row] for lie in view.lies)
    moved, chance = (np.median(view.maps[name]) for name in ("moved", "chance"))
    text = (
        f"This query gains most from the second map to the first: its average precision is {before:.2f} "
        f"there and {after:.2f} here, and its lines to the first ten show why. Half of all points lie "
        f"{moved:.2f} radii or more apart on the two maps, but {chance:.2f} when the first map is made "
        f"twice; what is sure is that the embeddings share {view.maps['same'].mean():.0%} of each "
        "image's nearest neighbours."
    )
    return Step("The biggest gain", text, dict(colour="Identity", edges=True) | _query(view, row))


def _right_and_wrong(view: Shown) -> Step | None:
    lie = view.lies[0]
    judged, wrong = lie["first_hit"] > 0, lie["first_hit"] > 1
    if not judged.any():
        return None
    text = f"{wrong.sum()} of {judged.sum()} queries have somebody else at rank 1"
    if wrong.any() and wrong.sum() < judged.sum():
        middle = [np.nanmedian(lie["silhouette"][rows]) for rows in (wrong, judged & ~wrong)]
        text += f"; their median silhouette is {middle[0]:.2f}, that of the others {middle[1]:.2f}"
    worst = int(np.nanargmin(np.where(judged, lie["precision"], np.nan)))
    text += (
        f". The lines lead from the query with the lowest average precision, {lie['precision'][worst]:.2f}, "
        "to the first ten of its list: dashed ones end at somebody else."
    )
    return Step("Right and wrong", text, dict(colour="Rank-1", edges=True) | _query(view, worst))


def _gained(view: Shown) -> int:
    return outliers.gained(view.lies[1]["precision"], view.lies[0]["precision"])


def _scattered(view: Shown) -> tuple[int, float, int]:
    """The identity, its mean silhouette and its first query's row, -1 where it has none."""
    found, lie = view.found, view.lies[0]
    asked = np.isin(found.identities, found.identities[found.query_rows])
    who, mean = outliers.scattered(np.where(asked, lie["silhouette"], np.nan), found.identities)
    rows = np.flatnonzero((found.identities == who) & found.is_query)
    return who, mean, int(rows[0]) if len(rows) and who > 0 else -1


def _query(view: Shown, row: int) -> dict[str, Any]:
    """What sets the query, and with it the picked image, to a row."""
    label = cached.labels(view.run, view.stamp)[int(np.searchsorted(view.found.query_rows, row))]
    return {"query": label, "image": str(row), "image and query": [view.run, label]}


def opening(run_refines: bool) -> dict[str, str]:
    """Which maps a run opens with, before anything is computed."""
    return dict(second=ENCODER if run_refines else NOTHING)
