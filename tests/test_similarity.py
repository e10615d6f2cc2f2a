"""Leave-one-out against loops that blank the image by hand."""

import bright
import numpy as np
import pytest
import torch

from reid_core.analysis import occlusion
from reid_core.analysis.similarity import account, contributions, left_out, pairs, strongest
from reid_core.models.base import Tokens, Window

OVERLAPPING = Tokens((4, 2), (), Window(20, 14, -3))


def linear(pixels):
    """An embedding that is linear in the image: a random projection of it."""
    weights = torch.randn(3 * 64 * 32, 5, generator=torch.Generator().manual_seed(1))
    return pixels.flatten(1) @ weights


def nearest(pixel: int, window: Window, count: int) -> int:
    centres = [window.start + window.size / 2 + each * window.stride for each in range(count)]
    # of two that are as near, the later one
    return min(range(count), key=lambda each: (abs(pixel + 0.5 - centres[each]), -each))


@pytest.mark.parametrize("tokens", [Tokens((4, 2)), OVERLAPPING, Tokens((5, 3))])
def test_cells_are_the_pixels_nearest_to_each_window(tokens):
    rows, columns = tokens.grid
    found = occlusion.cells(tokens, (64, 32)).numpy()
    down = tokens.window or Window(64 / rows, 64 / rows)
    across = tokens.window or Window(32 / columns, 32 / columns)
    slow = [
        [nearest(y, down, rows) * columns + nearest(x, across, columns) for x in range(32)]
        for y in range(64)
    ]
    assert (found == slow).all()
    assert set(found.ravel()) == set(range(rows * columns))


def test_a_grid_that_is_too_fine_is_made_coarser():
    class Fine:
        grid, window = (31, 10), Window(16, 12)

    assert occlusion.positions_of(Fine) == Tokens((16, 5), (), Window(28, 24, 0))
    assert occlusion.positions_of(Fine, 400) == Tokens((31, 10), (), Window(16, 12))


@pytest.mark.parametrize("tokens", [Tokens((4, 2)), OVERLAPPING])
def test_contributions_and_pairs_against_loops(tokens):
    images = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(2))
    cells = occlusion.cells(tokens, (64, 32))
    unit = lambda vector: (vector / vector.norm()).double()  # noqa: E731
    whole = [linear(image[None])[0].double() for image in images]
    parts = []
    for image, vector in zip(images, whole, strict=True):
        moved = []
        for position in range(8):
            copy = image.clone()
            for channel in range(3):
                copy[channel][cells == position] = image[channel].mean()
            moved.append(vector - linear(copy[None])[0])
        parts.append(moved)
    slow = torch.stack([torch.stack([t @ u for u in parts[1]]) for t in parts[0]])
    slow /= whole[0].norm() * whole[1].norm()
    similarity = unit(whole[0]) @ unit(whole[1])
    each = [similarity - unit(whole[0] - t) @ unit(whole[1]) for t in parts[0]]

    query, gallery = (left_out(linear, image, tokens) for image in images)
    assert np.allclose(pairs(query, gallery), slow, atol=1e-6)
    assert np.allclose(contributions(query, gallery.embedding), each, atol=1e-6)
    told = account(query, gallery)
    assert told.similarity == pytest.approx(float(similarity), abs=1e-6)
    assert told.beyond_pairs == pytest.approx(float(similarity - slow.sum()), abs=1e-5)
    assert told.beyond_positions == pytest.approx(float(similarity - sum(each)), abs=1e-5)


def test_a_sum_of_positions_leaves_nothing_unexplained():
    """An embedding that adds up over positions, and is zero for a blank."""
    tokens = Tokens((4, 2))
    pooled = lambda x: torch.nn.functional.avg_pool2d(x, 16).flatten(1)  # noqa: E731
    image = torch.rand(3, 64, 32, generator=torch.Generator().manual_seed(3))
    mean = image.mean(dim=(1, 2))
    fixed = lambda x: pooled(x) - mean.repeat_interleave(8)  # noqa: E731
    one = left_out(fixed, image, tokens)
    told = account(one, one)
    assert told.pairs == pytest.approx(told.similarity, abs=1e-5)
    assert told.blank == pytest.approx(0, abs=1e-5)


def test_strongest_pairs_keep_to_their_side_of_zero():
    shares = np.array([[0.5, -0.2], [0.1, 0.0]])
    assert [link[:2] for link in strongest(shares, 5)] == [(0, 0), (1, 0)]
    assert [link[:2] for link in strongest(shares, 5, apart=True)] == [(0, 1)]
    assert len(strongest(shares, 1)) == 1


def test_everything_points_at_the_patch_that_is_copied():
    model, image = bright.Copies().eval(), bright.picture()
    embed = occlusion.alone(model, bright.asked(), None)
    tokens = occlusion.positions_of(model)
    one = left_out(embed, image, tokens)
    shares = contributions(one, one.embedding).reshape(tokens.grid)
    place = bright.BRIGHT[0] * tokens.grid[1] + bright.BRIGHT[1]
    assert np.unravel_index(shares.argmax(), shares.shape) == bright.BRIGHT
    assert strongest(pairs(one, one), 1)[0][:2] == (place, place)
