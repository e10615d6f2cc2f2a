"""Sweeps over a knob and over seeds: the part of the form that asks for one, and what one gave."""

from typing import Any

import pandas as pd
import streamlit as st

from app import address, charts_sweeps, figures, live, pickers
from app.figures import Said
from app.notices import explained, plain
from reid_core.experiment import knobs
from reid_core.jobs import sweeps
from reid_core.jobs.sweeps import Band, Sweep, band, failures, final
from reid_core.runs import list_runs

ALONE = "seeds alone"
SHOWN = 6  # names of runs


def form(asked: dict[str, Any], settings: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Ask for a sweep; returns what `jobs.start_sweep` takes and the count of runs, None without."""
    if not st.toggle(
        "Sweep",
        key="sweeping",
        help="The same training for each value of a setting and for each seed.",
    ):
        return None
    model = asked["model"]
    names = [ALONE, *(knob.name for knob in knobs(model) if knob.name != "seed")]
    over, what, seeds = st.columns([2, 3, 1])
    key = over.selectbox("Setting", names, key=f"sweep-knob-{model}")
    given = what.text_input(
        "Values",
        key="sweep values",
        placeholder="such as 0, 0.1, 0.3",
        disabled=key == ALONE,
        help="Separated by commas.",
    )
    count = seeds.number_input("Seeds", 1, 20, 3, key="sweep seeds", help="0, 1, 2 and so on.")
    values = [each.strip() for each in given.split(",")] if given.strip() else []
    swept = dict(name=name, seeds=list(range(count)))
    if key != ALONE:
        swept |= dict(key=key, values=values)
        if not values:
            st.info("Type the values to be tried.", icon=":material/info:")
            address.stop()
    if not name:
        st.info("A sweep wants a name: type one above, as the run's.", icon=":material/info:")
        address.stop()
    with explained():
        made = [each.run for each in sweeps.planned(**swept, settings=settings, **asked)]
    rest = f" and {len(made) - SHOWN} more" if len(made) > SHOWN else ""
    st.caption(plain(f"{len(made)} trainings: {', '.join(made[:SHOWN])}{rest}."))
    return swept | dict(count=len(made))


def any_there() -> bool:
    """Whether there is a sweep to look at."""
    return any(sweeps.note_of(run) for run in list_runs())


def show() -> None:
    """A sweep: bands over its epochs, and the scores at the end."""
    found = sweeps.sweeps()
    if not found:
        st.info("There is no sweep any more.", icon=":material/info:")
        address.stop()
    pickers.linked("sweep", list(found), next(iter(found)))
    name = st.selectbox("Sweep", list(found), key="sweep", width=300)
    runs = [run for each in found[name].runs.values() for run in each]
    news = any(run.status().active or run.status().queued for run in runs)
    st.fragment(_show, run_every=live.every(runs, news))(name)


def _show(name: str) -> None:
    sweep = sweeps.sweeps().get(name)
    if sweep is None:
        st.rerun()
    with explained():
        _drawn(sweep)


def _drawn(sweep: Sweep) -> None:
    label = lambda value: f"{sweep.key} {value}" if sweep.key else "all seeds"  # noqa: E731
    splits = list(dict.fromkeys(each[0].experiment.evaluated_on for each in sweep.runs.values()))
    apart = f", each value on its own images ({' or '.join(splits)}): not to be compared"
    left, right = st.columns(2, gap="medium")
    for column, metric, title in ((left, "loss", "Loss"), (right, "mAP", "mAP")):
        bands = {label(value): band(runs, metric) for value, runs in sweep.runs.items()}
        with column:
            st.markdown(f"**{title}**")
            if not any(len(each.epochs) for each in bands.values()):
                st.caption("Nothing yet.")
                continue
            scored = f" on {splits[0]}" if len(splits) == 1 else apart
            split = scored if metric == "mAP" else " of training"
            figures.chart(
                charts_sweeps.bands(bands, metric),
                Said(
                    f"{title}{split}. Mean over the seeds, with a band from the smallest to the "
                    "largest. At each epoch over the seeds that have come so far; how many stands "
                    "beside the pointer.",
                    code=(band,),
                ),
                key=f"sweep {metric}",
                alt=f"{title} per epoch of sweep {sweep.name}, {len(bands)} values",
                table=_table(bands, metric),
            )
    _final(sweep, "" if len(splits) == 1 else apart)
    _runs(sweep)


def _table(bands: dict[str, Band], metric: str) -> pd.DataFrame:
    rows = [
        pd.DataFrame(
            {
                "of": name,
                "epoch": each.epochs,
                metric: each.mean,
                "smallest": each.low,
                "largest": each.high,
                "seeds": each.seeds,
            }
        )
        for name, each in bands.items()
    ]
    return pd.concat(rows)


def _final(sweep: Sweep, apart: str) -> None:
    rows = []
    for value, runs in sweep.runs.items():
        scores = final(runs)
        said = (
            f"{scores.mean():.3f} ({scores.min():.3f} to {scores.max():.3f})" if scores.size else ""
        )
        row = {sweep.key: value} if sweep.key else {}
        lost = failures(runs)
        row |= {"mAP": said or ("none" if len(lost) == len(runs) else "not yet")}
        row |= {"finished": f"{scores.size} of {len(runs)} seeds"}
        rows.append(row | {"failed": "; ".join(f"{name}: {why}" for name, why in lost.items())})
    figures.table(
        pd.DataFrame(rows),
        Said(
            f"mAP of the last evaluation{apart}. Mean (smallest to largest) over the seeds whose training is "
            "finished. So few seeds tell a spread, and no significance.",
            code=(final,),
        ),
        key="sweep scores",
    )


def _runs(sweep: Sweep) -> None:
    with st.container(horizontal=True, gap="medium"):
        for runs in sweep.runs.values():
            for run in runs:
                state = run.status().state
                colour, icon = live.STATES[state]
                st.badge(f"{run.name}: {state}", color=colour, icon=f":material/{icon}:")
