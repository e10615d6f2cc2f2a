"""The notes' claim that CNNs beat ViTs on high-frequency images, tested on two runs."""

import numpy as np
import streamlit as st

from app import pickers, trained
from app.frequency_tokens import Found
from app.notices import plain, say
from reid_core.analysis import filters
from reid_core.studies import filters as filter_study


def show(results: dict[str, Found]) -> None:
    """The notes' claim, on two of the runs."""
    st.subheader("CNNs beat ViTs on high-frequency images", anchor=False)
    by = {
        family: [name for name, found in results.items() if str(found["family"]) == family]
        for family in ("CNN", "ViT")
    }
    if not all(by.values()):
        missing = next(family for family, names in by.items() if not names)
        say(
            "info",
            f"To test this claim of the notes, lay a {missing} beside: none is computed yet.",
        )
        return
    row = st.container(horizontal=True)
    for family, names in by.items():
        key = family.lower()
        pickers.linked(key, names, names[0])
        row.selectbox(family, names, key=key, width=260)
    one, two = (st.session_state[family.lower()] for family in by)
    first, second = results[one], results[two]
    if not np.array_equal(first["names"], second["names"]):
        say("info", f"{one} and {two} were tested on other queries: they can't be compared.")
        return
    st.markdown(verdict(one, two, first, second) + trained.apart(one, two))


def verdict(one: str, two: str, first: Found, second: Found) -> str:
    """What the numbers say of the claim, for a CNN and a ViT on the same queries."""
    place = list(first["ways"]).index(filter_study.WAVELET_DETAIL)
    detail = filters.compared(first["precision"][place], second["precision"][place])
    lost = filters.compared(
        first["precision"][place] - first["precision"][0],
        second["precision"][place] - second["precision"][0],
    )
    original = filters.compared(first["precision"][0], second["precision"][0])
    said = {
        "agrees": "The claim agrees with these two runs",
        "disagrees": "The claim disagrees with these two runs",
        "not significant": "These two runs do not decide the claim",
    }[detail.verdict]
    more = {
        1: "loses less of its own score",
        -1: "loses more of its own score",
        0: "loses as much of it",
    }
    return (
        f"**{said}.** On details only, {plain(one)} has an mAP higher than {plain(two)} by "
        f"{_range(detail)}. On the original images the difference is {_range(original)}, so beside the "
        f"difference stands the loss: from original to details only {plain(one)} {more[lost.sign]} "
        f"{'than' if lost.sign else 'as'} {plain(two)}, by {_range(lost)}. Intervals: 95 %, paired bootstrap over "
        f"{np.isfinite(first['precision'][0]).sum()} queries. One training each: how far another seed would move "
        "this is not in the intervals."
    )


def _range(each: filters.Comparison) -> str:
    return f"{each.difference:+.3f} [{each.low:+.3f}, {each.high:+.3f}]"
