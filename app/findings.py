"""The dataset doctor's findings on a page: grouped, with what to do and the pictures concerned."""

from itertools import groupby
from os import fsencode
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app import components, figures
from app.cached import data as cached
from app.figures import Said
from app.notices import plain, readable
from reid_core.data.doctor import KINDS
from reid_core.errors import BadInput

FIRST, TILE = 12, 160  # cases drawn of each finding; pixels high
UNSEEN = ("missing-file", "permission", "unreadable", "truncated", "layout")  # nothing to draw
SHORT = {"bounding_box_train": "train", "bounding_box_test": "gallery"}
LOOKS = {"error": ("red", "error"), "warning": ("orange", "warning")}


def show(rows: list[dict[str, Any]], place) -> None:
    """All findings, in the report's order; place (a data set's name and home) is None where there are
    no pictures to be drawn."""
    key = lambda row: (row["severity"], row["kind"], row["split"], row["message"])  # noqa: E731
    for number, (_, group) in enumerate(groupby(rows, key)):
        _finding(list(group), place, number)


def _finding(group: list[dict[str, Any]], place, number: int) -> None:
    first = group[0]
    colour, icon = LOOKS[first["severity"]]
    cases = [row for row in group if row["file"] or row["identity"] is not None]
    with st.container(border=True, gap="small"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.badge(
                first["kind"], color=colour, icon=f":material/{icon}:", help=KINDS[first["kind"]]
            )
            if first["split"]:
                st.markdown(f":gray[{first['split'].replace('+', ' and ')}]", width="content")
        message, remedy = plain(_capital(first["message"])), plain(first["remedy"])
        st.markdown(f"{message}.  \n:gray[To do:] {remedy}.")
        if cases:
            _cases(cases, place, number)


def _cases(cases: list[dict[str, Any]], place, number: int) -> None:
    """The first pictures, and all cases as a table to unfold."""
    pictures = [
        (row[part], row) for row in cases[:FIRST] for part in ("file", "other") if row[part]
    ]
    root = _root(place)
    if root is not None and pictures and cases[0]["kind"] not in UNSEEN:
        items = [
            _tile(root / name, place.stamp, row, f"{each} {name}")
            for each, (name, row) in enumerate(pictures)
        ]
        components.query_strip(items, key=f"finding {number}", on_pick=lambda: None, wrap=True)
    columns = ["file", "other", "identity", "note"]
    text = lambda cell: readable(cell) if isinstance(cell, str) else cell  # noqa: E731
    shown = [{column: text(row[column]) for column in columns} for row in cases]
    table = pd.DataFrame(shown).dropna(axis=1, how="all")
    named = plain(str(cases[0]["file"] or f"identity {cases[0]['identity']}"))
    more = f" and {len(cases) - 1:,} more" if len(cases) > 1 else ""
    with st.expander(f"{named}{more}"):
        st.dataframe(table.head(500), hide_index=True, key=f"cases {number}")
        more = f" The first 500 of {len(cases):,}; the CSV has all." if len(cases) > 500 else ""
        said = Said(f"Files are named as below the data set's folder.{more}")
        figures.about(said, key=f"finding-{number}", table=table)


def _root(place) -> Path | None:
    """The folder that files are named below; None where the images can't be listed."""
    try:
        return place and cached.images(place.name, place.home, place.stamp).root
    except BadInput:
        return None


def _tile(path: Path, stamp: int, row: dict[str, Any], label: str) -> dict[str, Any]:
    note = f", {row['note']}" if row["note"] else ""
    return dict(
        label=readable(label),
        src=cached.tile(fsencode(path), stamp, TILE),
        title=readable(f"{path.parent.name}/{path.name}{note}"),
        note=SHORT.get(path.parent.name, path.parent.name)[:8],
        share=None,
        chosen=False,
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
