"""A few of many, evenly spaced."""

import pytest

from reid_core.data.spaced import spaced


@pytest.mark.parametrize("count, most", [(1, 5), (7, 7), (7, 100), (36, 24), (3368, 64), (10, 2)])
def test_the_first_the_last_and_even_steps(count, most):
    found = spaced(count, most).tolist()
    assert found[0] == 0 and len(found) == min(count, most)
    if len(found) > 1:
        steps = [b - a for a, b in zip(found, found[1:], strict=False)]
        assert found[-1] == count - 1 and min(steps) > 0 and max(steps) - min(steps) <= 1


def test_one_of_many_is_the_first():
    assert spaced(9, 1).tolist() == [0]
