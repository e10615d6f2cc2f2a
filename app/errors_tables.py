"""Where the failures are: by camera and by attribute. What is clicked opens in the inbox."""

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, charts, charts_errors, errors, figures, pickers
from app.errors import Case
from app.figures import Said
from reid_core.analysis.cameras import camera_pairs
from reid_core.analysis.errors import slices
from reid_core.experiment import Experiment

PRECISION = r"""
For a query $q$ and a camera $b$, only the true matches under $b$ count; those under other cameras are
taken out of the list, everybody else stays. With $r_1 < r_2 < \dots < r_n$ their ranks in that list

$$\mathrm{AP}_b(q) = \frac{1}{n}\sum_{j=1}^{n}\frac{j}{r_j},$$

and a cell is the mean over the queries under camera $a$ that have a true match under $b$. The rank
beside it is the median of $r_1$.
"""


def show(case: Case, asked: Experiment) -> None:
    """Draw both tables."""
    _cameras(case)
    known = [each for each in errors.ATTRIBUTES if each in cached.attributes(case.run, case.stamp)]
    if not known:
        st.info(
            "This data set has no attributes.csv, so there is no table by attribute. It would stand "
            "beside the image folders, with columns folder, name and any of "
            f"{', '.join(errors.ATTRIBUTES)}.",
            icon=":material/info:",
        )
        return
    _attributes(case, known, charts.colour(asked.model))


def _cameras(case: Case) -> None:
    pairs = case.pairs
    names = [
        [errors.pair_name(pairs, a, b) for b in range(len(pairs.match_cameras))]
        for a in range(len(pairs.query_cameras))
    ]
    rows = [
        dict(
            query_camera=pairs.query_cameras[a],
            match_camera=pairs.match_cameras[b],
            queries=pairs.count[a, b],
            mAP=pairs.precision[a, b],
            low=pairs.low[a, b],
            high=pairs.high[a, b],
            median_first_rank=pairs.rank[a, b],
        )
        for a, b in zip(*pairs.count.nonzero(), strict=True)
    ]
    cameras, precision = case.found.cameras[case.queries], case.lists.average_precision
    own = [np.nanmean(precision[(cameras == a) & case.lists.judged]) for a in pairs.query_cameras]
    below = sum(row["high"] < pairs.mean for row in rows)
    st.subheader("Camera by camera", anchor=False)
    figures.chart(
        charts_errors.cameras(pairs, names, own),
        Said(
            f"mAP over all queries and pairs {pairs.mean:.3f}; {below} of {len(rows)} pairs lie below "
            "it with their whole 95 % interval (bootstrap over queries), where some 2.5 % would by "
            "chance, more of those with few queries. Framed: the pair that takes most from the mean. Beside the rows: mAP of each query camera's whole lists. Click a cell to open its queries, worst first.",
            formula=PRECISION,
            source="Average precision as in Zheng et al. 2015; by pairs of cameras: ours.",
            code=(camera_pairs,),
        ),
        key="cameras",
        alt=f"mAP and rank of the first true match by query camera and camera of the match; mean "
        f"{pairs.mean:.2f}",
        table=pd.DataFrame(rows),
        on_select=lambda: _open("cameras"),
    )


def _attributes(case: Case, known: list[str], line: str) -> None:
    st.subheader("By attribute", anchor=False)
    pickers.linked("attribute", known, "occlusion" if "occlusion" in known else known[0])
    st.segmented_control(
        "Attribute",
        known,
        key="attribute",
        required=True,
        format_func=errors.ATTRIBUTES.get,
        label_visibility="collapsed",
    )
    attribute = st.session_state["attribute"]
    found = cached.slices(case.run, case.stamp, attribute)
    if attribute not in ("occlusion",):
        found = sorted(found, key=lambda each: each.precision)
    mean = float(np.nanmean(case.lists.average_precision))
    table = pd.DataFrame(
        dict(value=s.value, queries=s.count, mAP=s.precision, low=s.low, high=s.high, rank1=s.rank1)
        for s in found
    )
    figures.chart(
        charts_errors.by_value(
            found, [errors.part_name(attribute, s.value) for s in found], mean, line
        ),
        Said(
            "mAP of the queries that share a value, their number in brackets, with the 95 % bootstrap "
            f"interval over them; dashed: all queries, {mean:.3f}. From attributes.csv, of the "
            "query's image. Values go together with one another, so a low one need not be the cause. "
            "Click a point to open its queries.",
            code=(slices,),
        ),
        key="by value",
        alt=f"mAP by {errors.ATTRIBUTES[attribute]} with intervals, against {mean:.2f} for all",
        table=table,
        on_select=lambda: _open("by value"),
    )


def _open(key: str) -> None:
    """Show what was clicked in the inbox."""
    points = st.session_state[key]["selection"]["points"]
    if points and (name := _first(points[0].get("customdata"))):
        st.session_state.update({"errors": errors.VIEWS[0], "show": errors.EVERY, "part": name})


def _first(said):
    return said[0] if isinstance(said, list | tuple) else said
