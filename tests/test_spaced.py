"""A few of many, evenly spaced."""

import numpy as np
import pytest

from reid_core.data.spaced import spaced


@pytest.mark.parametrize("count, most", [(1, 5), (7, 7), (7, 100), (36, 24), (3368, 64), (10, 2)])
def test_the_first_the_last_and_even_steps(count, most):
    found = spaced(count, most)
    assert found[0] == 0 and found[-1] == count - 1 and len(found) == min(count, most)
    steps = np.diff(found)
    assert (steps > 0).all() and np.ptp(steps) <= 1 if len(steps) else count == 1


def test_one_of_many_is_the_first():
    assert spaced(9, 1).tolist() == [0]
