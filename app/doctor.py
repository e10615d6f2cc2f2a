"""What is in a folder, and the dataset doctor's report on it, as the page Data shows them."""

import os
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app import address, contents, figures, pickers
from app.access import WHY_NOT, training_allowed
from app.cached import data as cached
from app.figures import Said
from app.findings import show
from app.notices import plain, say
from reid_core.data import DATASETS, default_root, doctor
from reid_core.data.base import own_place
from reid_core.data.doctor.checkup import Checkup
from reid_core.errors import BadInput

FOLDER, SET = "folder", "set"


@dataclass(frozen=True)
class Place:
    """A data set in a folder: its name in DATASETS, its home, why it is that, and its stamp."""

    name: str
    home: str
    why: str
    stamp: int

    @property
    def title(self) -> str:
        return DATASETS[self.name].title

    @property
    def in_one_file(self) -> bool:
        """Whether the images may have to be unpacked before they can be looked at."""
        return DATASETS[self.name].extract is not None


def choose() -> Place:
    """The folder and the data set in it; without one the page ends here, with what was looked for."""
    allowed = training_allowed()
    where, which = st.columns([3, 2], vertical_alignment="bottom")
    if allowed:
        pickers.typed(FOLDER)
        where.text_input(
            "Folder",
            key=FOLDER,
            placeholder=str(own_place()),
            help="A folder on the machine that runs this app, at or above the data sets. It is only "
            "ever read. Empty: the app's own data folder.",
        )
    else:
        where.text_input("Folder", str(own_place()), disabled=True, help=WHY_NOT)
    folder = (st.session_state.get(FOLDER) if allowed else "") or str(own_place())
    try:
        found = cached.data_sets(folder, cached.folder_stamp(folder))
    except BadInput:
        found = []  # the doctor says what is wrong
    if not found:
        _nothing(folder)
    labels = {f"{each.name} in {_short(str(each.home), folder)}": each for each in found}
    pickers.linked(SET, list(labels), next(iter(labels)))
    label = which.selectbox(
        "Data set", list(labels), key=SET, help="What the doctor has recognised in the folder."
    )
    chosen = labels[label]
    home = str(chosen.home)
    return Place(chosen.name, home, chosen.why, cached.folder_stamp(home))


def _short(home: str, folder: str) -> str:
    if home == folder:
        return "this folder"
    return home.removeprefix(folder).strip("/") or home


def _nothing(folder: str) -> None:
    """Say why nothing was recognised; nothing has to be decoded for that."""
    report = doctor.examine(folder)
    where = f" in {folder}" if os.path.isdir(folder) else ""  # else its name may be any text
    say("error", f"No data set was recognised{where}.")
    show(report.as_dict()["findings"], None)
    with st.expander("What was looked for", expanded=True, icon=":material/search:"):
        st.markdown("\n".join(f"- {plain(layout)}" for layout in report.looked_for))
        st.caption("By these names, in the folder and up to a few folders below it.")
    address.stop()


def recognised(place: Place) -> None:
    """What the data set is, why, and a way to train on it."""
    family = DATASETS[place.name]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(plain(place.title), anchor=False, width="content")
        st.badge("recognised", color="green", icon=":material/check:")
        st.space("stretch")
        _train_link(place)
    st.markdown(f"{plain(family.about)}  \n:gray[Known by {plain(place.why)}.]")
    st.caption(plain(place.home))


def _train_link(place: Place) -> None:
    """A way to the page Train with this data set filled in."""
    asked = {"view": "New training", "dataset": place.name}
    if place.home != str(default_root(place.name)):
        asked["data"] = place.home
    allowed = training_allowed()
    contents.link("Train on this", "train", "model_training", disabled=not allowed, **asked)


def checkup(place: Place) -> dict | None:
    """The doctor's report, or None while there is none."""
    work = cached.checkup(place.home, place.name, place.stamp)
    return work.report if work is not None and not work.running else None


def counts(place: Place, found: dict | None) -> None:
    """Images, identities and cameras per split, found and published; ends the page where the images
    can't be read, or have to be unpacked by the checkup first."""
    if place.in_one_file and not found:
        show_checkup(place)
        st.caption("Pictures and counts of this data set appear once it was checked.")
        address.stop()
    try:
        images = cached.images(place.name, place.home, place.stamp)
    except BadInput as problem:
        if not found:  # else the report says it
            say("error", str(problem))
        show_checkup(place)
        address.stop()
    published = DATASETS[place.name].published
    rows = []
    for split in doctor.SPLITS:
        has, said = doctor.counted(getattr(images, split)), published.get(split, (None, None))
        row = {"split": split} | vars(has)
        if published:
            row |= dict(zip(("published images", "published identities"), said, strict=True))
        rows.append(row)
    text = "Counted as the reader takes them: junk (identity -1) is left out, distractors (0) are "
    text += "one identity." + ("" if published else " Nothing is published to compare them with.")
    said = Said(text, code=(doctor.counted,))
    figures.table(pd.DataFrame(rows), said, key="data-counts")


def show_checkup(place: Place) -> None:
    """The report; until there is one a button, or how far the checkup is."""
    asked = place.home, place.name, place.stamp
    work = cached.checkup(*asked)
    if work is not None and work.running:
        st.fragment(_follow, run_every=1)(asked)
    elif work is not None and work.report is not None:
        _report(place, work.report)
    else:
        _offer(asked, work)


def _offer(asked: tuple, work: Checkup | None) -> None:
    """A button, and how the last checkup ended."""
    cancelled = work is not None and work.cancelled
    if work is not None and not cancelled:
        say("error", work.problem)
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.button(
            "Check every image",
            key="check",
            type="primary",
            icon=":material/stethoscope:",
            on_click=cached.begin,
            args=asked,
        )
        text = (
            "Opens every image: finds damaged ones, queries without a match, the same picture in "
        )
        text += "two splits, sizes out of line. "
        text += "Cancelled before it was done." if cancelled else "In a process of its own."
        st.markdown(f":gray[{text}]", width="stretch")


def _follow(asked: tuple) -> None:
    work = cached.checkup(*asked)
    if work is None or not work.running:
        st.rerun()
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="checkup"):
        left = work.seconds_left
        words = f"{work.done:,} of {work.total:,} images" if work.total else "Looking through it"
        words += f", {_clock(left)} left" if left is not None else ""
        st.progress(min(1.0, work.done / max(work.total, 1)), words)
        st.button("Cancel", key="cancel check", icon=":material/close:", on_click=work.cancel)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes}:{seconds:02} min"


def _report(place: Place, found: dict) -> None:
    """What the doctor found, errors first, and a way to ask again."""
    kinds = _kinds(found["findings"])
    errors = sum(each["severity"] == "error" for each in kinds)
    warnings = len(kinds) - errors
    opened = sum(row[2] for row in found["counts"].get(place.name, {}).get("sizes", []))
    row = st.container(horizontal=True, vertical_alignment="center")
    if errors:
        row.badge(f"{errors} to mend before training", color="red", icon=":material/error:")
    else:
        row.badge("Nothing prevents training", color="green", icon=":material/check:")
    if warnings:
        words = "1 warning" if warnings == 1 else f"{warnings} warnings"
        row.badge(words, color="orange", icon=":material/warning:")
    row.markdown(f":gray[{opened:,} images opened]", width="content")
    row.button(
        "Check again",
        key="check again",
        icon=":material/refresh:",
        type="tertiary",
        on_click=cached.begin,
        args=(place.home, place.name, place.stamp),
    )
    show(found["findings"], place)


def _kinds(rows: list[dict]) -> list[dict]:
    """One row of each finding."""
    return list({(each["kind"], each["split"], each["message"]): each for each in rows}.values())
