"""The sharing modes side by side: what sharing a map changes, and what it costs. R runs."""

import numpy as np
import pandas as pd
import streamlit as st

from app import cached, charts_sharing, figures, studies
from app.charts import COLOURS, fine
from app.charts_sharing import Measure
from app.figures import Said
from app.notices import explained
from reid_core.analysis import orders
from reid_core.analysis.costs import flops, parameters
from reid_core.analysis.intervals import bootstrap, interval
from reid_core.analysis.orders import BOUND, HIGH, UNITS
from reid_core.errors import BadInput
from reid_core.runs import Run, list_runs, open_run

MOST = 6  # runs that are compared without being asked for
ORDER = ("shared", "prior-mixed", "weighted", "independent")  # from the least freedom to the most
SHADES = [COLOURS[name] for name in ("transreid", "pha", "nformer", "ohformer", "rga", "vit-bot")]
MODES = """
What a high order attends by, from its layer's first-order map $A$ (softmax over each row):

- **shared**: $A$ itself, so its JS is 0 by construction.
- **prior-mixed** (OH-Former's own idea, the form ours): $\\mathrm{softmax}(\\log A + P)$ with a learned
  prior $P$ for each head, the same for every image.
- **independent**: queries and keys of its own.
- **weighted**: queries and keys of its own; training holds the map to $\\mathrm{softmax}(\\log A + P)$,
  the first-order map times a learned weight matrix $\\exp(P)$. JS with a weight matrix is an idea of
  one of the paper's readers; its form is ours.

**JS** between the first and the high order: mean over layers, heads and rows.
**JS to order 1 times its learned weights**: to $\\mathrm{softmax}(\\log A + P)$ where there is a $P$;
0 by construction in prior-mixed, and what training holds down in weighted.
**Diversity** between heads: mean JS over all pairs of heads, rows and layers (ours).
**FLOPs** of one image's forward pass, two for each multiplication and addition: convolutions, linear
layers and both products of attention, counted by PyTorch; deformable convolutions as plain ones; not
softmax, normalisation, activations or interpolation.
**Parameters** and FLOPs include the classifiers that only training needs.
**Intervals**: 95 % bootstrap over images (JS, diversity) or over queries (mAP). Each run is one
training: a second one with another seed may differ by more.
"""
SOURCE = (
    "Chen et al., OH-Former, arXiv 2109.11159, 2021, section 3; Lin 1991. There is no official code: "
    "what our sources leave open is decided here, as the model's description says."
)


def with_orders() -> list[Run]:
    """The runs whose models have attention of high orders and a test split, by name."""
    return [run for run in list_runs() if run.has_embeddings and has_orders(run)]


def has_orders(run: Run) -> bool:
    try:
        return any(HIGH.fullmatch(name) for name in cached.probes(run.name, run.stamp()))
    except BadInput:
        return False


def show(run: Run, found: dict[str, np.ndarray] | None, unit: str) -> None:
    """The table and the chart of the runs that the reader chose. found: what was measured of the
    page's run, which the page itself follows."""
    known = {each.name: each for each in with_orders()}
    with explained():
        home = cached.folder(run.experiment)
    same = [name for name, each in known.items() if cached.folder(each.experiment) == home]
    default = [name for name in same if known[name].shipped or name == run.name]
    default = default if len(default) > 1 else same[:MOST]
    chosen = st.multiselect(
        "Runs",
        same,
        default=default,
        key="compared",
        bind="query-params",
        help="Runs with high orders that were tested on the same data set.",
    )
    ready = {name: found if name == run.name else _measured(known[name]) for name in chosen}
    ready = {name: found for name, found in ready.items() if found is not None}
    if not ready:
        st.info("Choose a run, and let its maps be measured.", icon=":material/info:")
        return
    with explained():
        rows = [_row(known[name], found, UNITS[unit]) for name, found in ready.items()]
    place = lambda row: ORDER.index(row["sharing"]) if row["sharing"] in ORDER else len(ORDER)  # noqa: E731
    frame = pd.DataFrame(sorted(rows, key=place))
    said = Said(
        f"Runs on {run.experiment.dataset}, in {unit}; JS and diversity over {len(found_of(ready))} "
        "queries, mAP over all. Bars are 95 % intervals. In mode shared JS is 0 by construction.",
        MODES,
        SOURCE,
        (orders.diversity, flops, parameters, bootstrap),
    )
    figures.chart(
        _chart(frame, UNITS[unit], unit),
        said,
        key="sharing-chart",
        alt="JS divergence, diversity between heads, parameters, FLOPs and mAP of each run",
        table=frame.assign(unit=unit),
    )
    figures.table(_written(frame, unit), said, key="sharing-table")


def found_of(ready: dict[str, dict[str, np.ndarray]]) -> np.ndarray:
    return next(iter(ready.values()))["query"]


def _measured(run: Run) -> dict[str, np.ndarray] | None:
    return studies.study(run, "orders", label=f"Measure the orders of {run.name}", start=True)


def _row(run: Run, found: dict[str, np.ndarray], factor: float) -> dict[str, object]:
    """One run's numbers; the interval of each stands in "... low" and "... high". Raises BadInput."""
    stamp = run.stamp()
    measured = {
        "JS": factor * found["js"].mean(axis=(1, 2)),  # (n,)
        "diversity high": factor * found["diversity"][..., 1].mean(axis=1),
        "diversity first": factor * found["diversity"][..., 0].mean(axis=1),
        "mAP": cached.evaluation(run.name, stamp).average_precision,
    }
    if np.isfinite(found["reweighted"]).all():
        measured["JS reweighted"] = factor * found["reweighted"].mean(axis=(1, 2))
    count, operations = cached.cost(run.name, stamp)
    row: dict[str, object] = dict(run=run.name, sharing=_sharing(run))
    for name, values in measured.items():
        row[name] = float(np.nanmean(values))
        row[f"{name} low"], row[f"{name} high"] = (
            interval(values) if np.isfinite(values).any() else (np.nan, np.nan)
        )
    return row | dict(parameters=count, FLOPs=operations)


def _sharing(run: Run) -> str:
    return str(getattr(open_run(run.name).experiment.options, "sharing", "unknown"))


def _chart(frame: pd.DataFrame, factor: float, unit: str):
    both = lambda name: frame[[f"{name} low", f"{name} high"]].to_numpy()  # noqa: E731
    column = lambda name: frame[name].to_numpy(float)  # noqa: E731
    most = BOUND * factor
    measures = [
        Measure(f"JS ({unit})", column("JS"), both("JS"), ".3f", most),
        Measure(
            f"Diversity ({unit})", column("diversity high"), both("diversity high"), ".3f", most
        ),
        Measure("Parameters (million)", column("parameters") / 1e6, None, ".3f"),
        Measure("MFLOPs an image", column("FLOPs") / 1e6, None, ".1f"),
        Measure("mAP", column("mAP"), both("mAP"), ".3f", 1.0),
    ]
    names = [f"{row.sharing}<br>{row.run}" for row in frame.itertuples()]
    return charts_sharing.modes(
        names, measures, [SHADES[n % len(SHADES)] for n in range(len(frame))]
    )


def _written(frame: pd.DataFrame, unit: str) -> pd.DataFrame:
    """The same as text, each with its interval: a row for each measure, a column for each run."""

    def said(name: str) -> list[str]:
        kept = frame if name in frame else frame.assign(**{name: np.nan})
        return [
            "none"
            if np.isnan(row[name])
            else f"{fine(row[name])} ({fine(row[f'{name} low'])} to {fine(row[f'{name} high'])})"
            for _, row in kept.iterrows()
        ]

    rows = {
        "Sharing mode": list(frame["sharing"]),
        f"JS to order 1, {unit}": said("JS"),
        f"JS to order 1 times its learned weights, {unit}": said("JS reweighted"),
        f"Diversity of heads, high orders, {unit}": said("diversity high"),
        f"Diversity of heads, order 1, {unit}": said("diversity first"),
        "Parameters": [f"{count:,}" for count in frame["parameters"]],
        "MFLOPs of one image": [f"{count / 1e6:.1f}" for count in frame["FLOPs"]],
        "mAP": said("mAP"),
    }
    table = pd.DataFrame(rows, index=list(frame["run"])).T
    return table.rename_axis("").reset_index()
