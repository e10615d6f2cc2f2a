"""A few of many, without chance: the same ones whoever asks."""

import numpy as np


def spaced(count: int, most: int) -> np.ndarray:
    """Places from 0 to count - 1, ascending, evenly spaced, the first and the last among them (of one
    alone the first): at most so many, each once."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))
