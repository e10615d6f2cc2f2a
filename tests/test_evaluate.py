"""mAP, CMC and mINP against a loop written without looking at ours."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, evaluate
from reid_core.retrieve import retrieve, retrieve_vector


def embeddings(vectors, identities, cameras, is_query) -> Embeddings:
    count = len(vectors)
    names = np.array([f"{n}.jpg" for n in range(count)])
    return Embeddings(
        np.asarray(vectors, np.float32),
        names,
        np.asarray(identities),
        np.asarray(cameras),
        np.full(count, -1),
        np.asarray(is_query),
    )


def naive(e: Embeddings):
    """The protocol in words: one query, one gallery image at a time."""
    unit = [[float(x) for x in v] for v in e.vectors]
    unit = [[x / max(math.sqrt(sum(y * y for y in v)), 1e-12) for x in v] for v in unit]
    gallery = [n for n in range(len(unit)) if not e.is_query[n]]
    aps, inps, firsts = [], [], []
    for q in range(len(unit)):
        if not e.is_query[q]:
            continue
        candidates = []
        for position, g in enumerate(gallery):
            if e.identities[g] == -1:
                continue
            if e.identities[g] == e.identities[q] and e.cameras[g] == e.cameras[q]:
                continue
            similarity = sum(a * b for a, b in zip(unit[q], unit[g], strict=True))
            # Ties: similarities that agree to float32's precision.
            candidates.append((round(2 - 2 * similarity, 6), position, g))
        candidates.sort(key=lambda c: c[:2])
        hits = 0
        precisions, ranks = [], []
        for rank, (_, _, g) in enumerate(candidates, 1):
            if e.identities[g] == e.identities[q]:
                hits += 1
                precisions.append(hits / rank)
                ranks.append(rank)
        if hits:
            aps.append(sum(precisions) / hits)
            inps.append(hits / ranks[-1])
            firsts.append(ranks[0])
    cmc = [sum(f <= r for f in firsts) / max(len(firsts), 1) for r in range(1, 51)]
    return aps, inps, cmc


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    queries=st.integers(1, 6),
    gallery=st.integers(1, 25),
    cameras=st.integers(1, 4),
    values=st.sampled_from([2, 3, 1000]),
)
def test_scores_equal_the_naive_loop(seed, queries, gallery, cameras, values):
    """Random cases with ties (few values), junk (-1), distractors (0), queries without a match and
    a single camera."""
    draw = np.random.default_rng(seed)
    count = queries + gallery
    vectors = draw.integers(1, values + 1, (count, 4))
    identities = draw.integers(-1, 4, count)
    identities[:queries] = draw.integers(1, 5, queries)
    is_query = np.arange(count) < queries
    e = embeddings(vectors, identities, draw.integers(1, cameras + 1, count), is_query)
    aps, inps, cmc = naive(e)
    if not aps:
        with pytest.raises(BadInput, match="has a match that the protocol counts"):
            evaluate(e)
        return
    found = evaluate(e)
    assert found.valid_queries == len(aps)
    assert found.mAP == pytest.approx(np.mean(aps), abs=1e-6)
    assert found.mINP == pytest.approx(np.mean(inps), abs=1e-6)
    np.testing.assert_allclose(found.cmc, cmc, atol=1e-6)


def test_ties_are_broken_by_the_order_of_the_gallery():
    e = embeddings(
        [[1, 0], [1, 0], [1, 0], [1, 0]], [1, 2, 1, 1], [1, 2, 2, 3], [True] + [False] * 3
    )
    ranked = retrieve(e, 0)
    assert ranked.order.tolist() == [0, 1, 2]
    assert ranked.first_hit == 2
    assert evaluate(e).mAP == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_one_query_is_judged_as_in_the_evaluation():
    draw = np.random.default_rng(0)
    e = embeddings(
        draw.normal(size=(60, 8)),
        draw.integers(0, 6, 60),
        draw.integers(1, 4, 60),
        np.arange(60) < 20,
    )
    found = evaluate(e)
    for query in range(20):
        ranked = retrieve(e, query)
        assert ranked.first_hit == found.first_hit[query]
        np.testing.assert_equal(ranked.average_precision, found.average_precision[query])
        np.testing.assert_equal(
            ranked.inverse_negative_penalty, found.inverse_negative_penalty[query]
        )
        if ranked.first_hit:
            assert ranked.running_average_precision[-1] == pytest.approx(ranked.average_precision)


def test_copies_of_an_image_are_ties_for_one_query_as_for_all():
    """Matrix products of other shapes round differently; a copy must be no nearer for it."""
    for seed in range(60):
        draw = np.random.default_rng(seed)
        vectors = draw.normal(size=(6, 64))[draw.integers(0, 6, 55)]
        identities, cameras = draw.integers(1, 4, 55), draw.integers(1, 4, 55)
        e = embeddings(vectors, identities, cameras, np.arange(55) < 10)
        scores = evaluate(e).average_precision
        one = [retrieve(e, query).average_precision for query in range(10)]
        np.testing.assert_allclose(one, scores, rtol=0, atol=1e-12)


def test_an_unknown_query_ignores_nothing():
    e = embeddings([[1, 0], [1, 0.1], [0, 1]], [1, 1, 2], [1, 1, 2], [True, False, False])
    assert retrieve(e, 0).ignored.tolist() == [True, False]
    unknown = retrieve_vector(e, e.vectors[0])
    assert not unknown.ignored.any() and not unknown.match.any()
    assert not retrieve_vector(e, e.vectors[0], identity=1).ignored.any()
    assert np.isnan(unknown.average_precision)


def test_embeddings_that_are_no_numbers_are_refused():
    e = embeddings([[1, 0], [np.nan, 1]], [1, 1], [1, 2], [True, False])
    with pytest.raises(BadInput, match="1 embeddings hold NaN"):
        evaluate(e)


def test_a_split_without_gallery_is_refused():
    with pytest.raises(BadInput, match="queries and a gallery"):
        evaluate(embeddings([[1, 0]], [1], [1], [True]))
