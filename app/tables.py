"""Tables as the page shows them, and as a spreadsheet reads them."""

import re
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

FORMULA = re.compile(r"[=+@\t\r]|-(?![\d.])")  # how a spreadsheet's formulas begin
DIGITS = 4  # of a table's numbers, as Streamlit has it


def alike(frame: pd.DataFrame) -> dict[str, Any]:
    """As many digits for all numbers of a column as the longest has, up to DIGITS; columns with smaller
    numbers than these can tell stay as they are."""
    formats = {}
    for name in frame.select_dtypes("float"):
        values = frame[name].dropna().abs()
        if values.between(0, 10.0**-DIGITS, "neither").any():
            continue
        digits = next(
            (d for d in range(DIGITS) if np.allclose(values, values.round(d), 0, 1e-9)), DIGITS
        )
        formats[name] = st.column_config.NumberColumn(format=f"%.{digits}f")
    return formats


def csv_of(frame: pd.DataFrame) -> str:
    """A table as CSV, without words that a spreadsheet would take for a formula: those get an
    apostrophe in front, as in a spreadsheet."""
    tamed = frame.copy()
    for place, kind in enumerate(frame.dtypes):
        if not pd.api.types.is_numeric_dtype(kind):
            tamed.isetitem(place, frame.iloc[:, place].map(_tamed))
    return tamed.to_csv(index=False)


def _tamed(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell
