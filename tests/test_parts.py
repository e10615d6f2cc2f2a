"""Shares on masks against loops over pixels; the maps they are shares of."""

import bright
import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.analysis.maps import CLASS, GATE, NORM, RECEIVED, LayerMap, maps_of, on_grid
from reid_core.analysis.parts import chance, even_shares, on_mask, points, shares
from reid_core.analysis.positions import spread
from reid_core.data.masks import IDS, PERSON, mask_of
from reid_core.errors import BadInput
from reid_core.look import Looked
from reid_core.models.base import Tokens, Window

PLACES = [
    Tokens((4, 2)),
    Tokens((5, 3)),
    Tokens((4, 2), ("class",), Window(16, 12)),
    Tokens((5, 3), (), Window(15, 10, -5)),
]


def side(count, length, window, place):
    """The pixels of one position along a side and how much of each, by hand."""
    size = stride = length / count
    start = 0
    if window:
        size, stride, start = window
    first, last = start + place * stride, start + place * stride + size
    kept = {p: min(p + 1, last) - max(p, first) for p in range(length)}
    return {p: much for p, much in kept.items() if much > 0}


@pytest.mark.parametrize("tokens", PLACES)
def test_spread_and_shares_against_loops(tokens):
    random = np.random.default_rng(0)
    size, (rows, columns) = (48, 32), tokens.grid
    weights, mask = random.random(tokens.grid), random.integers(0, 3, size)
    slow = np.zeros(size)
    for row in range(rows):
        for column in range(columns):
            down = side(rows, size[0], tokens.window, row)
            across = side(columns, size[1], tokens.window, column)
            total = sum(down.values()) * sum(across.values())
            for y, much in down.items():
                for x, more in across.items():
                    slow[y, x] += weights[row, column] * much * more / total
    assert np.allclose(spread(weights, tokens, size), slow)
    assert slow.sum() == pytest.approx(weights.sum())
    parts = [[0], [1, 2]]
    found = shares(np.stack([weights, 2 * weights]), tokens, mask, parts)
    expected = [slow[np.isin(mask, ids)].sum() / slow.sum() for ids in parts]
    assert np.allclose(found, [expected, expected])


def test_an_even_map_has_the_pixels_shares():
    mask = np.random.default_rng(1).integers(0, 3, (64, 32))
    parts = [[0], [1], [2]]
    pixels = [(mask == part).mean() for part in range(3)]
    assert np.allclose(even_shares(Tokens((4, 2)), mask, parts), pixels)
    assert np.isnan(shares(np.zeros((4, 2)), Tokens((4, 2)), mask, parts)).all()


def test_even_weights_of_overlapping_windows_count_the_middle_more_often():
    """Two windows of 16 over 24 pixels: the 8 in the middle have half of the weight, not a third."""
    mask = np.zeros((24, 24), int)
    mask[8:16] = 1
    even = even_shares(Tokens((2, 2), (), Window(16, 8)), mask, [[0], [1]])
    assert np.allclose(even, [0.5, 0.5])


@pytest.mark.parametrize("tokens", PLACES)
def test_the_pointing_game_against_a_loop(tokens):
    random = np.random.default_rng(2)
    mask = random.integers(0, 2, (48, 32))
    middles = []
    for row in range(tokens.grid[0]):
        for column in range(tokens.grid[1]):
            places = []
            for count, length, place in zip(tokens.grid, mask.shape, (row, column), strict=True):
                kept = side(count, length, tokens.window, place)
                middle = sum((p + 0.5) * much for p, much in kept.items()) / sum(kept.values())
                places.append(int(round(middle, 9)))
            middles.append(mask[tuple(places)] == 1)
    assert (on_mask(tokens, mask, [1]).ravel() == middles).all()
    assert chance(tokens, mask, [1]) == pytest.approx(np.mean(middles))
    maps = random.random((6, *tokens.grid))
    won = [middles[each.argmax()] for each in maps]
    assert (points(maps, tokens, mask, [1]) == won).all()
    tied = np.isin(np.arange(len(middles)), (0, 3, len(middles) - 1)).reshape(tokens.grid)
    share = np.mean([middles[0], middles[3], middles[-1]])
    assert points(tied.astype(float), tokens, mask, [1]) == pytest.approx(share)


def test_maps_by_kind_against_loops():
    random = torch.Generator().manual_seed(0)
    rows = lambda *shape: torch.rand(*shape, generator=random).softmax(dim=-1)  # noqa: E731
    first, high, part = rows(2, 3, 9, 9), rows(2, 3, 8, 8), rows(4, 3, 5, 5)
    gate, channels = torch.rand(2, 1, 4, 2), torch.randn(2, 5, 4, 2)
    kinds = dict(a="attention", b="attention", c="attention", d="spatial", e="features", f="tokens")
    grid = Tokens((4, 2))
    headed = Tokens((4, 2), ("class",))
    tokens = dict(a=headed, b=grid, c=Tokens((4, 2), ("class",), None, ((0, 1, 2, 3),) * 2))
    tokens |= dict(d=grid, e=grid, f=headed)
    stream = torch.randn(2, 9, 6)
    seen = dict(a=first, b=high, c=part, d=gate, e=channels, f=stream)
    found = {each.probe: each for each in maps_of(Looked(None, None, seen, tokens, kinds))}
    assert list(found) == ["a", "b", "d", "e", "f"]  # parts of the grid are left out
    assert [each.method for each in found.values()] == [CLASS, RECEIVED, GATE, NORM, NORM]
    for image in range(2):
        row = np.array([first[image, :, 0, 1 + place].mean() for place in range(8)])
        assert np.allclose(found["a"].weights[image].ravel(), row / row.sum(), atol=1e-6)
        into = [high[image, :, :, place].mean() for place in range(8)]
        assert np.allclose(found["b"].weights[image].ravel(), into, atol=1e-6)
        assert np.allclose(found["d"].weights[image], gate[image, 0])
        lengths = [channels[image, :, y, x].norm() for y in range(4) for x in range(2)]
        assert np.allclose(found["e"].weights[image].ravel(), lengths, atol=1e-5)
        lengths = [stream[image, 1 + place].norm() for place in range(8)]
        assert np.allclose(found["f"].weights[image].ravel(), lengths, atol=1e-5)


def test_a_map_moves_to_another_grid_by_its_pixels():
    fine = LayerMap("x", GATE, np.arange(32.0).reshape(1, 8, 4), Tokens((8, 4)))
    assert on_grid(fine, Tokens((8, 4)), (64, 32)) is fine.weights
    coarse = on_grid(fine, Tokens((4, 2)), (64, 32))[0]
    pixels = spread(fine.weights[0], fine.tokens, (64, 32))
    slow = [
        [pixels[16 * y : 16 * y + 16, 16 * x : 16 * x + 16].mean() for x in range(2)]
        for y in range(4)
    ]
    assert np.allclose(coarse, slow)


def test_masks_are_read_at_the_models_size(tiny_data, tmp_path):
    image = next((tiny_data / "query").glob("*.jpg"))
    mask = mask_of(tiny_data, f"query/{image.name}", (32, 16))
    assert mask.shape == (32, 16) and set(np.unique(mask)) <= set(IDS.values())
    assert np.isin(mask, [IDS[name] for name in PERSON]).any()
    assert mask_of(tmp_path, "query/x.jpg", (32, 16)) is None
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "x.png").write_bytes(b"no picture")
    with pytest.raises(BadInput, match=r"x\.png can't be read as a mask"):
        mask_of(tmp_path, "x.jpg", (32, 16))
    Image.new("L", (4, 8)).save(tmp_path / "masks" / "x.png")
    assert mask_of(tmp_path, "x.jpg", (8, 4)).shape == (8, 4)


def test_the_game_is_won_where_the_model_looks():
    model = bright.Copies().eval()
    mask = np.zeros(bright.SIZE, int)
    mask[20:28, 20:28] = 1  # a person inside the bright patch
    from reid_core.embed import batch_of
    from reid_core.look import look_at

    pixels = bright.picture()[None]
    with torch.no_grad():
        batch = batch_of(model, bright.asked(), pixels, [None])
        seen = look_at(model, batch, pixels, ("spatial", "features"))
    for each in maps_of(seen):
        assert points(each.weights, each.tokens, mask, [1]).all()
        assert shares(each.weights[0], each.tokens, mask, [[1]])[0] == pytest.approx(0.25, abs=1e-3)
