"""Ranks of the true matches, however they are counted, against sorting the gallery."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, directions, distances, evaluate, judge
from reid_core.ranking import ranks
from reid_core.ranking.approximate import approximate
from reid_core.ranking.ranks import true_ranks

WAYS = ("loops", "float64", "crowds")


@pytest.fixture
def way(request, monkeypatch):
    """Each way to count, however small the case."""
    if request.param != "float64":
        pytest.importorskip("numba")
    monkeypatch.setattr(ranks, "SMALL", 10**9 if request.param == "float64" else -1)
    monkeypatch.setattr(ranks, "CROWD", 3 if request.param == "crowds" else 512)
    monkeypatch.setattr(ranks, "PAIRS", 50)
    return request.param


def case(seed: int, dtype="f4", gallery: int = 90, values: int = 3):
    """A small split with many ties: vectors, identities, cameras of Q queries and of G images."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, 12), draw.integers(1, gallery)
    width, people, cameras = draw.integers(1, 7), draw.integers(1, 6), draw.integers(0, 3)
    vectors, identities, seen = [], [], []
    for size in sizes:
        if draw.random() < 0.3:
            drawn = draw.normal(size=(size, width))
        else:
            drawn = draw.integers(1 - values, values, (size, width))  # zero vectors among them
        vectors.append(drawn.astype(dtype))
        identities.append(draw.integers(-1, people, size))
        seen.append(draw.integers(-1, max(cameras, 0) + 1, size))
    return *vectors, *identities, *seen


def slow(queries, gallery, query_identities, gallery_identities, query_cameras, gallery_cameras):
    """Every gallery sorted and judged."""
    matrix = distances(directions(queries), directions(gallery))
    asked = zip(matrix, query_identities, query_cameras, strict=True)
    return [judge(row, gallery_identities, gallery_cameras, *whose) for row, *whose in asked]


def same(hits, judged) -> None:
    starts = np.concatenate([[0], np.cumsum([len(each.hits) for each in judged])])
    np.testing.assert_array_equal(hits.starts, starts)
    np.testing.assert_array_equal(hits.ranks, np.concatenate([each.hits for each in judged]))
    for name in ("average_precision", "inverse_negative_penalty", "first_hit"):
        expected = np.array([getattr(each, name) for each in judged])
        np.testing.assert_array_equal(getattr(hits, name), expected)  # to the last bit


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_ranks_are_those_of_the_sorted_gallery(way):
    @settings(max_examples=600, deadline=None)
    @given(
        seed=st.integers(0, 2**32),
        dtype=st.sampled_from(["f4", "f8", "f2", "i4"]),
        block=st.sampled_from([(512, 4096), (5, 16), (1, 1)]),
    )
    def check(seed, dtype, block):
        given_ = case(seed, dtype)
        same(true_ranks(*given_, block=block), slow(*given_))

    check()


@pytest.mark.parametrize("way", WAYS, indirect=True)
@pytest.mark.parametrize("copies", [1, 700])
def test_thousands_of_copies(way, copies):
    """More ties than a chunk of the loops holds: all images one, one vector or the zero vector."""
    draw = np.random.default_rng(0)
    gallery = np.repeat(draw.normal(size=(2000 // copies, 16)).astype("f4"), copies, axis=0)
    gallery[::5] = 0
    identities, cameras = draw.integers(-1, 400, len(gallery)), draw.integers(0, 3, len(gallery))
    queries = gallery[[0, 1, 6, 7]] * np.float32(3)
    given_ = queries, gallery, identities[1:5], identities, cameras[1:5], cameras
    same(true_ranks(*given_, block=(3, 700)), slow(*given_))


@pytest.mark.parametrize("way", WAYS, indirect=True)
@pytest.mark.parametrize("scale", [1e-30, 1e-13, 1e18, 1e38])
def test_any_length(way, scale):
    queries, gallery, *labels = case(3)
    given_ = (queries * np.float32(scale), gallery * np.float32(scale), *labels)
    same(true_ranks(*given_), slow(*given_))


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_nearly_alike_is_told_apart(way):
    """Differences far below float32's: only float64 sees them, and only some are ties."""
    draw = np.random.default_rng(1)
    centre = draw.normal(size=(1, 300))
    gallery = (centre + 1e-7 * draw.normal(size=(900, 300))).astype("f4")
    identities, cameras = draw.integers(0, 60, 900), draw.integers(0, 2, 900)
    given_ = gallery[:40], gallery[40:], *np.split(identities, [40]), *np.split(cameras, [40])
    same(true_ranks(*given_, block=(7, 100)), slow(*given_))


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_one_identity_one_camera_or_none(way):
    queries, gallery, *_ = case(5)
    one, all_ = np.ones(len(queries), int), np.ones(len(gallery), int)
    assert not len(true_ranks(queries, gallery, one, all_, one, all_).ranks)  # all are ignored
    everything = true_ranks(queries, gallery, one, all_, -one, all_)
    assert np.array_equal(everything.ranks.reshape(len(one), -1)[0], 1 + np.arange(len(all_)))
    nobody = true_ranks(queries, gallery, -one, -all_, one, all_)
    assert not len(nobody.ranks) and np.isnan(nobody.average_precision).all()
    assert len(true_ranks(queries[:0], gallery, one[:0], all_, one[:0], all_)) == 0


@pytest.mark.parametrize("way", WAYS, indirect=True)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_refused(way, bad):
    queries, gallery, *labels = case(7)
    gallery[0, 0] = bad
    labels[1][0] = -1  # even where the protocol leaves it out
    with pytest.raises(BadInput, match="1 embeddings hold NaN"):
        true_ranks(queries, gallery, *labels)


def test_euclidean_distance_of_the_vectors_themselves():
    for seed in range(100):
        queries, gallery, *labels = case(seed)
        square = ((queries[:, None].astype(float) - gallery) ** 2).sum(axis=2)
        matrix = np.sqrt(np.round(square, 10)).astype(np.float32)
        asked = zip(matrix, labels[0], labels[2], strict=True)
        judged = [judge(row, labels[1], labels[3], *whose) for row, *whose in asked]
        same(true_ranks(queries, gallery, *labels, normalise=False), judged)


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_a_gallery_mapped_from_a_file_with_its_queries_among_it(way, tmp_path):
    draw = np.random.default_rng(2)
    vectors = draw.integers(-2, 3, (200, 5)).astype("f4")
    identities, cameras = draw.integers(-1, 9, 200), draw.integers(0, 3, 200)
    is_query = draw.random(200) < 0.2
    np.save(tmp_path / "vectors.npy", vectors)
    names, views = np.arange(200).astype(str), np.full(200, -1)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    found = Embeddings(mapped, names, identities, cameras, views, is_query)
    rows = found.query_rows, found.gallery_rows
    labels = [each[those] for each in (identities, cameras) for those in rows]
    judged = slow(*(vectors[those] for those in rows), *labels)
    scores = evaluate(found)
    expected = [each.average_precision for each in judged]
    np.testing.assert_array_equal(scores.average_precision, expected)
    assert "directions" not in vars(found)  # no second copy, in float64, of what fits no memory


@pytest.mark.parametrize("way", WAYS, indirect=True)
@pytest.mark.filterwarnings("error")
def test_arrays_that_nobody_may_write_and_of_two_kinds(way):
    queries, gallery, *labels = case(13)
    queries.flags.writeable = gallery.flags.writeable = False
    expected = slow(queries, gallery, *labels)
    same(true_ranks(queries, gallery, *labels), expected)
    same(true_ranks(queries, gallery.astype(float), *labels), expected)


def test_without_numba_or_in_another_precision_the_loops_are_left_alone(monkeypatch):
    monkeypatch.setattr(ranks, "SMALL", -1)
    given_ = case(11)
    monkeypatch.setitem(sys.modules, "reid_core.ranking.loops", None)
    ranks._compiled.cache_clear()
    assert not ranks.compiled()
    same(true_ranks(*given_), slow(*given_))
    monkeypatch.undo()
    ranks._compiled.cache_clear()
    torch.set_float32_matmul_precision("medium")
    try:
        assert not ranks.compiled()
    finally:
        torch.set_float32_matmul_precision("highest")


def test_ranks_load_no_compiler_before_it_pays():
    code = "import sys, reid_core.evaluate; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu():
    for seed in range(50):
        given_ = case(seed)
        same(true_ranks(*given_, device="cuda"), slow(*given_))


def test_approximate_search_says_what_it_missed():
    pytest.importorskip("faiss")
    draw = np.random.default_rng(0)
    vectors, is_query = draw.normal(size=(3000, 8)).astype("f4"), np.arange(3000) < 100
    labels = draw.integers(0, 9, 3000)
    found = Embeddings(vectors, labels.astype(str), labels, labels, labels, is_query)
    all_, some = approximate(found, count=20, probes=1000), approximate(found, count=20, probes=1)
    assert all_.recall == 1 > some.recall > 0.1
    away = distances(found.directions[:100], found.directions[100:])
    exact = np.argsort(away, axis=1, kind="stable")[:, :20]
    assert np.mean(all_.lists == exact) > 0.99
    shares = [len(set(a) & set(b)) / 20 for a, b in zip(exact, some.lists, strict=True)]
    assert some.recall == pytest.approx(np.mean(shares))


def test_junk_takes_no_place_in_an_approximate_list():
    """It is never ranked: with it among the nearest a list would end before its number of images."""
    pytest.importorskip("faiss")
    draw = np.random.default_rng(1)
    vectors, is_query = draw.normal(size=(400, 8)).astype("f4"), np.arange(400) < 20
    labels = draw.integers(1, 9, 400)
    labels[100:300] = -1
    found = Embeddings(vectors, labels.astype(str), labels, labels, labels, is_query)
    lists = approximate(found, count=90, probes=1000).lists
    assert set(labels[found.gallery_rows][lists.ravel()]) <= set(range(1, 9))
    away = distances(found.directions[:20], found.directions[20:])
    away[:, labels[20:] == -1] = np.inf
    assert np.mean(lists == np.argsort(away, axis=1, kind="stable")[:, :90]) > 0.99
