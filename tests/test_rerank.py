"""Re-ranking against literal, slow versions of the papers' equations."""

import math

import numpy as np
import pytest

from reid_core import rerank
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, directions, distances, evaluate
from reid_core.ranking import nearest as nearest_module
from reid_core.rerank import Reciprocal, expand, ranked
from reid_core.retrieve import retrieve
from reid_core.runs import open_run
from reid_core.studies import Study
from reid_core.studies import rerank as study


def split(queries=6, gallery=34, size=5, people=8, seed=0, spread=0.5) -> Embeddings:
    """Images around the centres of some people."""
    draw = np.random.default_rng(seed)
    identities = draw.integers(1, people + 1, queries + gallery)
    centres = draw.normal(size=(people + 1, size))
    vectors = centres[identities] + spread * draw.normal(size=(queries + gallery, size))
    return Embeddings(
        vectors.astype(np.float32),
        names=np.array([f"{row}.jpg" for row in range(queries + gallery)]),
        identities=identities,
        cameras=draw.integers(1, 4, queries + gallery),
        views=np.full(queries + gallery, -1),
        is_query=np.arange(queries + gallery) < queries,
    )


def literal(found: Embeddings, k1: int, k2: int, weight: float, power: int = 1) -> np.ndarray:
    """Zhong et al. 2017, eq. 1 to 12, set by set, as the authors' code reads them: d is the squared
    distance divided by the row's largest, rows of V sum to 1, and "more than" two thirds."""
    units = directions(found.vectors)
    count = len(units)
    d = [[float(((a - b) ** 2).sum()) for b in units] for a in units]
    d = [[(value / max(row)) ** power for value in row] for row in d]
    line = [sorted(range(count), key=lambda g, row=row: (round(row[g], 7), g)) for row in d]
    near = lambda p, k: set(line[p][: k + 1])  # noqa: E731 - eq. 1; an image is its own nearest
    mutual = lambda p, k: {g for g in near(p, k) if p in near(g, k)}  # noqa: E731 - eq. 3
    v = np.zeros((count, count))
    for p in range(count):
        grown = set(mutual(p, k1))
        for q in mutual(p, k1):
            half = mutual(q, round(k1 / 2))
            if len(mutual(p, k1) & half) > 2 / 3 * len(half):  # eq. 5
                grown |= half
        for g in grown:
            v[p, g] = math.exp(-d[p][g])  # eq. 7
        v[p] /= v[p].sum()
    if k2 > 1:  # eq. 11
        v = np.array([np.mean([v[q] for q in line[p][:k2]], axis=0) for p in range(count)])
    result = np.zeros((len(found.query_rows), len(found.gallery_rows)))
    for row, p in enumerate(found.query_rows):
        for column, g in enumerate(found.gallery_rows):
            jaccard = 1 - np.minimum(v[p], v[g]).sum() / np.maximum(v[p], v[g]).sum()  # eq. 10
            result[row, column] = (1 - weight) * jaccard + weight * d[p][g]  # eq. 12
    return result


@pytest.mark.parametrize(
    "k1, k2, weight, seed", [(20, 6, 0.3, 0), (5, 1, 0.0, 1), (7, 3, 1.0, 2), (4, 8, 0.5, 3)]
)
def test_k_reciprocal_is_the_papers(k1, k2, weight, seed):
    found = split(seed=seed)
    code = Reciprocal.of(found.directions, k1, k2)
    ours = code.distances(found, found.query_rows, weight)
    assert np.abs(ours - literal(found, k1, k2, weight)).max() < 1e-6


@pytest.mark.parametrize("k1, k2, weight", [(20, 6, 0.3), (50, 15, 0.3)])
@pytest.mark.parametrize("convention, power", rerank.POWERS.items())
def test_both_sets_of_parameters_and_both_conventions(k1, k2, weight, convention, power):
    found = split(queries=10, gallery=150, people=12, seed=6)
    code = Reciprocal.of(found.directions, k1, k2, convention=convention)
    expected = literal(found, k1, k2, weight, power)
    ours = code.distances(found, found.query_rows, weight)
    assert np.abs(ours - expected).max() < 1e-6
    again = Reciprocal.from_arrays(code.as_arrays())
    assert np.array_equal(again.distances(found, found.query_rows, weight), ours)


def test_another_convention_is_bad_input():
    with pytest.raises(BadInput, match="unknown convention 'cubes'"):
        Reciprocal.of(split().directions, convention="cubes")


def twins(seed: int = 7) -> Embeddings:
    """A split in which every other gallery image is the same as an earlier one."""
    found = split(queries=8, gallery=120, seed=seed)
    found.vectors[70:] = found.vectors[np.random.default_rng(seed).integers(8, 70, 58)]
    return found


@pytest.mark.parametrize("k2", [1, 4])
def test_equal_images(k2):
    """Ties are broken by row, so that every slow version agrees; and none depends on its company."""
    found = twins()
    code = Reciprocal.of(found.directions, 9, k2)
    ours = code.distances(found, found.query_rows)
    assert np.abs(ours - literal(found, 9, k2, 0.3)).max() < 1e-6
    alone = [code.distances(found, found.query_rows[[query]])[0] for query in range(8)]
    assert np.array_equal(alone, ours)


def test_without_numba_it_is_the_same(monkeypatch):
    found = twins()
    compiled = Reciprocal.of(found.directions).distances(found, found.query_rows)
    for each in (rerank, nearest_module):
        monkeypatch.setattr(each, "find_spec", lambda name: None)
    plain = Reciprocal.of(found.directions).distances(found, found.query_rows)
    np.testing.assert_allclose(compiled, plain, atol=3e-7)


def test_compiled_code_serves_large_sets(monkeypatch):
    found = split()
    expected = Reciprocal.of(found.directions).distances(found, found.query_rows)
    monkeypatch.setattr(nearest_module, "SMALL", 0)
    monkeypatch.setattr(nearest_module, "PAIRS", 0)
    monkeypatch.setattr(nearest_module, "TILE", 16)
    again = Reciprocal.of(found.directions).distances(found, found.query_rows)
    np.testing.assert_allclose(again, expected, atol=3e-7)


def test_codes_survive_a_file_and_come_in_any_rows():
    found = split()
    code = Reciprocal.of(found.directions)
    again = Reciprocal.from_arrays(code.as_arrays())
    all_rows = code.distances(found, found.query_rows)
    assert np.array_equal(again.distances(found, found.query_rows[2:3]), all_rows[2:3])


def test_nothing_of_n_times_n_is_kept():
    code = Reciprocal.of(split(gallery=300, people=40).directions, k1=5, k2=2)
    assert code.features.nnz < 0.2 * 306**2


@pytest.mark.parametrize("k1, k2", [(0, 6), (20, 0)])
def test_no_neighbours_are_bad_input(k1, k2):
    with pytest.raises(BadInput, match="1 or more"):
        Reciprocal.of(split().directions, k1, k2)


def test_more_neighbours_than_images_are_all_images():
    found = split(queries=2, gallery=5, people=2)
    assert np.isfinite(Reciprocal.of(found.directions).distances(found, found.query_rows)).all()


@pytest.mark.parametrize("neighbours, power", [(5, 0.0), (3, 3.0), (1, 1.0)])
def test_query_expansion_against_loops(neighbours, power):
    found = split(seed=4)
    units, gallery = found.directions, found.gallery_rows
    expanded = expand(found, found.query_rows, neighbours, power)
    for row, ours in zip(found.query_rows, expanded, strict=True):
        order = sorted(gallery, key=lambda g: round(float(((units[row] - units[g]) ** 2).sum()), 7))
        mixed = units[row].copy()
        for g in order[:neighbours]:
            mixed += max(float(units[row] @ units[g]), 0) ** power * units[g]
        mixed /= np.linalg.norm(mixed)
        slow = [np.linalg.norm(mixed - units[g]) for g in gallery]
        assert np.allclose(ours, slow, atol=1e-5)


def test_its_own_distances_give_its_own_list():
    found = split()
    own, other = (
        retrieve(found, 3),
        ranked(
            found,
            3,
            distances(
                found.directions[found.query_rows[[3]]], found.directions[found.gallery_rows]
            )[0],
        ),
    )
    assert np.array_equal(own.rows, other.rows) and np.array_equal(own.ranks, other.ranks)


def test_clusters_gain_from_their_neighbours():
    found = split(queries=40, gallery=260, people=25, size=8, spread=0.45, seed=5)
    code = Reciprocal.of(found.directions, 8, 3)
    before = evaluate(found).mAP
    assert evaluate(found, distances_to=lambda rows: code.distances(found, rows)).mAP > before
    assert evaluate(found, distances_to=lambda rows: expand(found, rows)).mAP > before


@pytest.mark.parametrize("method", study.METHODS)
def test_the_study_keeps_what_one_list_shows(method, tiny_run):
    run = open_run(tiny_run)
    told = []
    arrays = Study.asked(run, "rerank", dict(method=method)).compute(
        lambda done, total: told.append((done, total))
    )
    found = run.embeddings()
    options = study.Options(method=method)
    code = Reciprocal.from_arrays(arrays) if method == "k-reciprocal" else None
    rows = found.query_rows[[1]]
    one = ranked(found, 1, study.distances_by(found, options, code)(rows)[0])
    assert one.average_precision == pytest.approx(arrays["average_precision"][1])
    assert one.first_hit == arrays["first_hit"][1]
    assert told[-1][0] == told[-1][1] and sorted(told) == told


def test_a_run_without_refinement_has_no_encoder_features(tiny_run):
    with pytest.raises(BadInput, match="look at one another"):
        Study.asked(open_run(tiny_run), "rerank", dict(features="encoder")).compute()
