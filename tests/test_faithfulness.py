"""Deletion and insertion against a loop that alters the image step by step."""

from itertools import pairwise

import bright
import numpy as np
import pytest
import torch

from reid_core.analysis import faithfulness, occlusion
from reid_core.analysis.similarity import left_out
from reid_core.embed import batch_of
from reid_core.errors import BadInput
from reid_core.look import look_at
from reid_core.models.base import Tokens


def embed(pixels):
    weights = torch.randn(3 * 64 * 32, 5, generator=torch.Generator().manual_seed(1))
    return torch.tanh(pixels.flatten(1) @ weights)


@pytest.mark.parametrize("insertion", [False, True])
def test_curves_against_a_loop(insertion):
    tokens, order = Tokens((4, 2)), np.random.default_rng(0).permutation(8)
    image = torch.rand(3, 64, 32, generator=torch.Generator().manual_seed(2))
    mean = image.mean(dim=(1, 2))[:, None, None].expand(3, 64, 32)
    start, source = (mean, image) if insertion else (image, mean)
    copy, slow = start.clone(), []
    goal = embed(image[None])[0]
    for step in range(9):
        slow.append(torch.cosine_similarity(embed(copy[None])[0], goal, dim=0).item())
        if step < 8:
            row, column = divmod(int(order[step]), 2)
            place = (
                slice(None),
                slice(16 * row, 16 * row + 16),
                slice(16 * column, 16 * column + 16),
            )
            copy[place] = source[place]
    found = faithfulness.curve(embed, image, tokens, order, insertion)
    assert np.allclose(found, slow, atol=1e-5)
    slow_area = sum((a + b) / 2 / 8 for a, b in pairwise(slow))
    assert faithfulness.area(faithfulness.ticks(8), found) == pytest.approx(slow_area, abs=1e-5)


def test_a_wrong_order_is_refused():
    with pytest.raises(BadInput, match="8 positions"):
        faithfulness.curve(embed, torch.rand(3, 64, 32), Tokens((4, 2)), np.arange(7))


def test_random_orders_hold_every_position_once():
    orders = faithfulness.random_orders(30, 5, seed=1)
    assert (np.sort(orders, axis=1) == np.arange(30)).all()
    assert len({tuple(order) for order in orders}) == 5


def test_deleting_what_is_copied_hurts_most():
    model, image = bright.Copies().eval(), bright.picture()
    tokens = occlusion.positions_of(model)
    see = occlusion.alone(model, bright.asked(), None)
    with torch.no_grad():
        batch = batch_of(model, bright.asked(), image[None], [None])
        seen = look_at(model, batch, image[None], ("spatial", "features"))
    maps = faithfulness.candidates(seen, tokens, left_out(see, image, tokens))
    assert list(maps)[:2] == ["spatial gate", "feature norm"] and len(maps) == 3
    shuffled = faithfulness.random_orders(8, 6)
    for name, weights in maps.items():
        order = faithfulness.order_of(weights)
        assert divmod(int(order[0]), 2) == bright.BRIGHT, name
    orders = [faithfulness.order_of(maps[faithfulness.LEFT_OUT]), *shuffled]
    deletion, insertion = faithfulness.area(
        faithfulness.ticks(8), faithfulness.curves(see, image, tokens, orders)
    )
    assert deletion[0] <= deletion[1:].min() and insertion[0] >= insertion[1:].max()
