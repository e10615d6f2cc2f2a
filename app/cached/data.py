"""The page Data."""

from os import fsdecode, scandir
from pathlib import Path

import streamlit as st
from PIL import Image

from app.cached.base import NO_PICTURE, data_url
from reid_core.data import Dataset, Found, find, open_dataset
from reid_core.data.depth import DAMAGED, regular
from reid_core.data.doctor.checkup import Checkup


def folder_stamp(folder: str) -> int:
    """Changes when a file comes or goes in a folder or right below: the latest of their times."""
    latest = 0
    try:
        latest = Path(folder).stat().st_mtime_ns
        with scandir(folder) as inside:
            for entry in inside:
                latest = max(latest, entry.stat().st_mtime_ns)
    except (OSError, ValueError):
        pass  # closed, gone, or no path at all: what reads it next says so
    return latest


@st.cache_data(max_entries=64, show_spinner="Looking for data sets", ttl=60)
def data_sets(folder: str, stamp: int) -> list[Found]:
    """The data sets in a folder or a few levels below. Raises BadInput."""
    return find(Path(folder))


@st.cache_resource(max_entries=4, show_spinner="Looking through the data set")
def images(name: str, home: str, stamp: int) -> Dataset:
    """A data set's images. Raises BadInput."""
    return open_dataset(name, home)


@st.cache_data(max_entries=20_000, show_spinner=False)
def tile(path: bytes, stamp: int, height: int) -> str:
    """An image as a data URL; a quiet tile where it can't be read. path as bytes (os.fsencode): what
    is no text can't be hashed as one."""
    try:
        with Image.open(regular(Path(fsdecode(path)))) as image:
            return data_url(image, height)
    except DAMAGED:
        return NO_PICTURE


@st.cache_resource(max_entries=16, show_spinner=False)
def _checkup(home: str, name: str | None, stamp: int) -> list[Checkup]:
    """Where the checkup of a folder is kept, for all sessions; empty until somebody asks."""
    return []


def checkup(home: str, name: str | None, stamp: int) -> Checkup | None:
    """The checkup of a folder that was asked for last, or None."""
    kept = _checkup(home, name, stamp)
    return kept[0] if kept else None


def begin(home: str, name: str | None, stamp: int) -> None:
    """Start the checkup of a folder, unless one is under way."""
    kept = _checkup(home, name, stamp)
    if not kept or not kept[0].running:
        kept[:] = [Checkup(home, name)]
