"""The queue as a table and as a file."""

import numpy as np
import pandas as pd
import streamlit as st

from app import components, figures
from app.errors import Case
from app.figures import Said
from reid_core import notes
from reid_core.analysis import tags as rules
from reid_core.analysis.errors import lists as rank_all
from reid_core.notes import Notes
from reid_core.runs import open_run


def show(case: Case, kept: Notes, order: np.ndarray, labels: list[str]) -> None:
    """The queue as a table, which opens when it is asked for, and all of it as a file."""
    opened = st.expander("The queue as a table", icon=":material/table_rows:", on_change="rerun")
    if opened.open:
        with opened:
            figures.table(
                frame(case, kept, order),
                Said(
                    f"{len(order)} queries, worst average precision first (of a pair of cameras: by that "
                    "of the pair, while AP is of the whole list). A chosen row is the query above.",
                    code=(rank_all, rules.tags),
                ),
                key="inbox",
                on_select=lambda: _pick([labels[position] for position in order]),
                column_config=dict(AP=st.column_config.NumberColumn(format="%.3f")),
            )
    st.download_button(
        "Inbox with all evidence (CSV)",
        lambda: figures.csv_of(evidence(case, notes.read(open_run(case.run)))),
        file_name=f"{components.file_name('inbox with evidence')}.csv",
        mime="text/csv",
        key="inbox csv file",
        icon=":material/download:",
        on_click="ignore",
        type="tertiary",
    )


def _pick(labels: list[str]) -> None:
    rows = st.session_state["inbox"]["selection"]["rows"]
    if rows:
        st.session_state["query"] = labels[rows[0]]


def frame(case: Case, kept: Notes, order: np.ndarray) -> pd.DataFrame:
    """One row for each query at these positions."""
    found, rows, lists = case.found, case.queries[order], case.lists
    wrong = lists.wrong[order]
    noted = [kept.of(str(name)) for name in found.names[rows]]
    return pd.DataFrame(
        {
            "query": found.names[rows],
            "identity": found.identities[rows],
            "camera": found.cameras[rows],
            "AP": lists.average_precision[order],
            "first hit": _known(lists.first_hit[order], lists.first_hit[order] > 0),
            "first wrong identity": _known(found.identities[wrong], wrong >= 0),
            "tags": [", ".join(case.held(query)) for query in order],
            "reviewed": [note.reviewed for note in noted],
            "own tags": [", ".join(note.tags) for note in noted],
            "note": [note.text for note in noted],
        }
    )


def _known(values: np.ndarray, known: np.ndarray) -> pd.Series:
    """Whole numbers, and nothing where there is none."""
    return pd.Series(values, dtype="Int64").where(known)


def evidence(case: Case, kept: Notes) -> pd.DataFrame:
    """All queries, worst first, with every number of every rule."""
    order = np.argsort(case.lists.average_precision, kind="stable")
    table = frame(case, kept, order)
    for name, tag in case.tags.items():
        table[name] = tag.holds[order]
        for number, values in tag.numbers.items():
            table[f"{name}: {number}"] = values[order]
    return table
