"""Nearest neighbours in blocks against one stable sort of the whole matrix."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reid_core.errors import BadInput
from reid_core.evaluate import directions, distances
from reid_core.ranking import nearest as module
from reid_core.ranking.nearest import nearest

CODE = {"compiled": 0, "torch": 10**9}  # above how many images the compiled code is taken


@pytest.fixture(params=CODE)
def small(request, monkeypatch):
    """Both kinds of code, in blocks far smaller than the set."""
    monkeypatch.setattr(module, "SMALL", CODE[request.param])
    monkeypatch.setattr(module, "PAIRS", CODE[request.param])
    monkeypatch.setattr(module, "TILE", 37)
    monkeypatch.setattr(module, "NUMBERS", 3000)
    return request.param


def units(count: int = 150, width: int = 6, seed: int = 0, kinds: int | None = None) -> np.ndarray:
    """Directions (N, D) float64; of so many different ones, where not all shall differ."""
    draw = np.random.default_rng(seed)
    found = draw.normal(size=(kinds or count, width))
    return directions(found if kinds is None else found[draw.integers(kinds, size=count)])


def naive(vectors: np.ndarray, others: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    matrix = distances(vectors, others)
    rows = np.argsort(matrix, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(matrix, rows, axis=1)


def same(found: module.Nearest, expected: tuple[np.ndarray, np.ndarray]) -> bool:
    return np.array_equal(found.rows, expected[0]) and np.array_equal(found.distances, expected[1])


@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("kinds", [None, 100, 12, 1])  # one kind: every image is every other's twin
def test_a_set_against_itself(small, k, kinds):
    vectors = units(kinds=kinds)
    vectors[7] = 0  # no direction at all: as far from itself as from everybody
    told = []
    found = nearest(
        torch.from_numpy(vectors), k, progress=lambda done, total: told.append((done, total))
    )
    assert same(found, naive(vectors, vectors, k))
    longest = distances(vectors, vectors).max(axis=1).astype(float) ** 2
    np.testing.assert_allclose(found.longest, np.maximum(longest, 1e-12), atol=1e-6)
    assert told[-1] == (150, 150) and sorted(told) == told and len(told) > 3


@pytest.mark.parametrize("kinds", [None, 12])
def test_a_set_against_another(small, kinds):
    vectors, others = units(40, seed=1), units(130, seed=2, kinds=kinds)
    found = nearest(torch.from_numpy(vectors), 9, torch.from_numpy(others))
    assert same(found, naive(vectors, others, 9))


def test_features_in_float32(small):
    """The products of float32 vectors, not of what they were rounded from."""
    vectors = F.normalize(torch.from_numpy(units(seed=3).astype(np.float32)), dim=1)
    double = vectors.double().numpy()
    assert same(nearest(vectors, 20), naive(double, double, 20))


def test_vectors_closer_than_float32_can_tell(small):
    """Candidates in float32 come in any order there; float64 decides."""
    draw = np.random.default_rng(4)
    vectors = directions(units(1, 24) + 2e-6 * draw.normal(size=(150, 24)))
    assert same(nearest(torch.from_numpy(vectors), 20), naive(vectors, vectors, 20))


@pytest.mark.parametrize("kinds", [None, 12, 1])
def test_what_a_training_step_asks_a_gpu_is_the_same(small, kinds):
    """Without looking at a number: twins tie by row, and what has no direction is far from all."""
    vectors, others = units(40, seed=1, kinds=kinds), units(130, seed=2, kinds=kinds)
    vectors[3] = others[5] = 0
    pair = torch.from_numpy(vectors), torch.from_numpy(others)
    for k in (1, 9, 200):
        found = module.among_all(*pair, k)
        assert all(map(np.array_equal, found, naive(vectors, others, k)))


def test_more_neighbours_than_images(small):
    vectors = units(5)
    assert same(nearest(torch.from_numpy(vectors), 20), naive(vectors, vectors, 5))
    assert nearest(torch.from_numpy(units(1)), 3).rows.tolist() == [[0]]


def test_many_neighbours_are_sorted_instead(monkeypatch):
    monkeypatch.setattr(module, "SMALL", 0)
    vectors = units(400)
    assert same(nearest(torch.from_numpy(vectors), 200), naive(vectors, vectors, 200))


def test_without_numba(small, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    vectors = units(kinds=60)
    assert same(nearest(torch.from_numpy(vectors), 8), naive(vectors, vectors, 8))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_numbers_are_bad_input(bad):
    vectors = torch.from_numpy(units())
    vectors[3, 2] = bad
    with pytest.raises(BadInput, match="NaN or infinity"):
        nearest(vectors, 3)
