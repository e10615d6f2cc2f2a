"""Every protocol against loops written from its definition, without looking at ours."""

import math
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, precision_recall_curve
from test_evaluate import embeddings

from reid_core.analysis.cameras import camera_pairs
from reid_core.analysis.errors import lists
from reid_core.errors import BadInput
from reid_core.evaluate import evaluate
from reid_core.ranking.listed import from_lists
from reid_core.rerank import Reciprocal
from reid_core.scores.measure import COSINE, UNNORMALISED, Measure, Rerank
from reid_core.scores.protocols import LEGACY, PROTOCOLS, SINGLE_SHOT, VEHICLES, named, score
from reid_core.scores.record import Wish, record


def drawn(seed: int, queries: int, gallery: int, cameras: int, values: int, dimensions: int = 4):
    """A random split with ties (few values), junk, distractors, queries without a match."""
    draw = np.random.default_rng(seed)
    count = queries + gallery
    identities = draw.integers(-1, 4, count)
    identities[:queries] = draw.integers(1, 5, queries)
    where = draw.integers(1, cameras + 1, count) if cameras else np.full(count, -1)
    vectors = draw.integers(1, values + 1, (count, dimensions))
    return embeddings(vectors, identities, where, np.arange(count) < queries)


def counted(e, query: int, away) -> list[tuple[float, int, bool]]:
    """One query's list by Market-1501's rules: (distance, position, whether it matches)."""
    found = []
    for position, g in enumerate(np.flatnonzero(~e.is_query)):
        same = e.identities[g] == e.identities[query] and e.identities[query] != -1
        own = same and e.cameras[g] == e.cameras[query] and e.cameras[query] != -1
        if e.identities[g] != -1 and not own:
            found.append((round(away(e.vectors[query], e.vectors[g]), 6), position, bool(same)))
    return sorted(found, key=lambda each: each[:2])


def euclidean(a, b) -> float:
    a, b = (v.astype(float) / math.sqrt(sum(float(x) ** 2 for x in v)) for v in (a, b))
    return float(((a - b) ** 2).sum())


def precision(ranks: list[int]) -> float:
    return sum(j / r for j, r in enumerate(ranks, 1)) / len(ranks)


def under_lines(matches: list[bool]) -> float:
    """Area under the straight lines through (recall, precision) after each image, from (0, 1)."""
    points, hits = [(0.0, 1.0)], 0
    for rank, match in enumerate(matches, 1):
        hits += match
        points.append((hits / sum(matches), hits / rank))
    return sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(points))


SPLITS = dict(
    seed=st.integers(0, 10**6),
    queries=st.integers(1, 6),
    gallery=st.integers(1, 25),
    cameras=st.integers(0, 4),
    values=st.sampled_from([2, 3, 1000]),
)


@settings(max_examples=120, deadline=None)
@given(**SPLITS, metric=st.sampled_from([None, COSINE, UNNORMALISED]))
def test_market_and_rga_equal_a_loop(seed, queries, gallery, cameras, values, metric):
    e = drawn(seed, queries, gallery, cameras, values)
    away = (lambda a, b: float(((a - b) ** 2).sum())) if metric == UNNORMALISED else euclidean
    found = [counted(e, query, away) for query in e.query_rows]
    matches = [[match for *_, match in each] for each in found]
    valid = [each for each in matches if any(each)]
    measure = Measure(metric) if metric else Measure()
    if not valid:
        for name in ("market", LEGACY, SINGLE_SHOT):
            with pytest.raises(BadInput, match="has a match that the protocol counts"):
                score(e, name, measure)
        return
    ranks = [[r for r, match in enumerate(each, 1) if match] for each in valid]
    scored = score(e, "market", measure)
    assert scored.mAP == pytest.approx(np.mean([precision(each) for each in ranks]), abs=1e-9)
    assert scored.mINP == pytest.approx(np.mean([len(r) / r[-1] for r in ranks]), abs=1e-9)
    cmc = [np.mean([each[0] <= rank for each in ranks]) for rank in range(1, 51)]
    np.testing.assert_allclose(scored.cmc, cmc, atol=1e-9)
    judged = (e.identities[e.gallery_rows] != -1).sum()  # junk is none
    assert (scored.valid_queries, scored.gallery) == (len(valid), judged)
    legacy = score(e, LEGACY, measure)
    assert legacy.mAP == pytest.approx(np.mean([under_lines(each) for each in valid]), abs=1e-9)
    np.testing.assert_array_equal(legacy.cmc, scored.cmc)
    np.testing.assert_array_equal(score(e, "cuhk03-np", measure).scores, scored.scores)


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-3, 1e6])
def test_how_long_vectors_are_changes_no_rank(scale):
    e = drawn(5, 20, 200, 3, 1000, 16)
    e.vectors[:] += np.random.default_rng(5).normal(size=e.vectors.shape)
    e.identities[-1] = -1
    away = np.array(list(Measure(UNNORMALISED).rows(e)))
    small = replace(e, vectors=e.vectors * np.float32(scale))
    small.vectors[-1] *= 1e4  # one long vector, of nobody
    before = score(e, "market", Measure(UNNORMALISED))
    found = score(small, "market", Measure(UNNORMALISED))
    assert (found.mAP, found.mINP) == (before.mAP, before.mINP)
    rows = np.array(list(Measure(UNNORMALISED).rows(small)))[:, :-1]
    np.testing.assert_allclose(rows / scale, away[:, :-1], rtol=1e-6)


def test_rga_is_the_area_that_scikit_learn_gives_without_ties():
    e = drawn(3, 40, 300, 3, 10**6, 16)
    found = [counted(e, query, euclidean) for query in e.query_rows]
    areas = []
    for each in found:
        away, _, match = (np.array(column) for column in zip(*each, strict=True))
        if match.any():
            p, r, _ = precision_recall_curve(match, -away)
            areas.append(auc(r, p))
    assert score(e, LEGACY).mAP == pytest.approx(np.mean(areas), abs=1e-9)
    assert score(e, LEGACY).mAP != pytest.approx(score(e).mAP, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(**SPLITS)
def test_single_shot_draws_one_image_of_each_identity(seed, queries, gallery, cameras, values):
    """Against a loop with many draws of its own; mAP is the whole gallery's, as in torchreid."""
    e = drawn(seed, queries, gallery, cameras, values)
    found = [counted(e, query, euclidean) for query in e.query_rows]
    valid = [each for each in found if any(match for *_, match in each)]
    if not valid:
        return
    scored = score(e, SINGLE_SHOT, repeats=400)
    assert scored.mAP == score(e).mAP and scored.mINP == score(e).mINP
    who = e.identities[e.gallery_rows]
    draw, firsts = np.random.default_rng(1), []
    for each in valid:
        groups = {}
        for place, (_, position, match) in enumerate(each):
            groups.setdefault(who[position], []).append((place, match))
        for _ in range(400):
            taken = sorted(group[draw.integers(len(group))] for group in groups.values())
            firsts.append([match for _, match in taken].index(True) + 1)
    cmc = [np.mean(np.array(firsts) <= rank) for rank in (1, 2, 5, 50)]
    # Two means of 400 draws each differ by their chance alone.
    np.testing.assert_allclose(scored.cmc[[0, 1, 4, 49]], cmc, atol=0.13)
    assert scored.cmc[49] == 1  # four identities


def test_single_shot_without_a_choice_is_exact():
    """One image per identity: every draw is the gallery itself."""
    e = drawn(5, 10, 0, 0, 1000)
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(40, 8))
    identities = np.tile(np.arange(1, 21), 2)
    e = embeddings(vectors, identities, np.repeat([1, 2], 20), np.arange(40) < 20)
    np.testing.assert_array_equal(score(e, SINGLE_SHOT).scores, score(e).scores)


@settings(max_examples=60, deadline=None)
@given(**SPLITS)
def test_vehicleid_draws_galleries_of_one_image_per_identity(
    seed, queries, gallery, cameras, values
):
    e = drawn(seed, queries, gallery, cameras, values)
    known = set(e.identities[e.query_rows].tolist())
    pool = [n for n in range(len(e.vectors)) if e.identities[n] != -1]
    of = {who: [n for n in pool if e.identities[n] == who] for who in known}
    count = sum(len(rows) - 1 for rows in of.values())
    if not count:
        with pytest.raises(BadInput, match="two images"):
            score(e, VEHICLES)
        return
    scored = score(e, VEHICLES, repeats=3)
    means = []
    for split, places in PROTOCOLS[VEHICLES].draws(e, 3, 0):
        assert len(places) == count == len(split.query_rows)
        drawn_ones = split.identities[split.gallery_rows]
        assert all((drawn_ones == who).sum() == 1 for who in known)
        assert len(drawn_ones) == len(pool) - count
        found = [counted(split, query, euclidean) for query in split.query_rows]
        ranks = [[m for *_, m in each].index(True) + 1 for each in found]  # the only true match
        means.append((np.mean([1 / r for r in ranks]), np.mean([r <= 1 for r in ranks])))
    mean = np.mean(means, axis=0)
    assert (scored.mAP, scored.cmc[0]) == pytest.approx(tuple(mean), abs=1e-9)
    assert scored.mAP == pytest.approx(scored.mINP, abs=1e-9)
    assert (scored.queries, scored.valid_queries) == (count, count)
    assert scored.times.sum() == 3 * count
    again = score(e, VEHICLES, repeats=3)
    np.testing.assert_array_equal(again.scores, scored.scores)


def test_every_protocol_has_a_loop_above_or_a_model():
    assert set(PROTOCOLS) == {
        *("market", "cuhk03-np", "vehicleid", "rga-sklearn-legacy"),
        *("nformer-joint", "nformer-per-query", "single-gallery-shot"),
    }
    assert named(None, False) == "market" and named(None, True) == "nformer-joint"
    for name, refined in (("market", True), ("nformer-joint", False), ("marke", False)):
        with pytest.raises(BadInput, match="unknown protocol"):
            named(name, refined)


def test_embeddings_that_looked_at_one_another_are_joint():
    e = drawn(0, 4, 20, 3, 1000)
    joint = SimpleNamespace(**vars(e) | dict(encoded=e.vectors))
    joint = type(e)(**{k: getattr(joint, k) for k in type(e).__dataclass_fields__})
    assert score(joint).protocol == "nformer-joint"
    np.testing.assert_array_equal(score(joint).scores, score(e).scores)
    with pytest.raises(BadInput, match="with the gallery"):
        score(joint, "nformer-per-query")


def test_reranked_distances_are_ranked_by_the_same_rules():
    e = drawn(1, 12, 120, 3, 10**6, 8)
    code = Reciprocal.of(e.directions, 8, 3)
    expected = evaluate(e, distances_to=lambda rows: code.distances(e, rows, 0.3))
    found = score(e, measure=Measure(rerank=Rerank(8, 3, 0.3)))
    np.testing.assert_allclose(found.precision, expected.average_precision, atol=1e-12)
    assert found.mINP == pytest.approx(expected.mINP)
    np.testing.assert_allclose(found.cmc, expected.cmc)


def test_what_a_search_misses_stands_last():
    e = drawn(2, 8, 60, 3, 10**6, 8)
    labels = [
        side[rows] for side in (e.identities, e.cameras) for rows in (e.query_rows, e.gallery_rows)
    ]
    away = np.array(
        [[euclidean(e.vectors[q], e.vectors[g]) for g in e.gallery_rows] for q in e.query_rows]
    )
    order = np.argsort(away, axis=1, kind="stable")
    whole = from_lists(order, *labels)
    np.testing.assert_array_equal(whole.ranks, Measure().hits(e).ranks)
    short = np.where(np.arange(60) < 10, order, -1)
    part = from_lists(short, *labels)
    assert len(part.ranks) == len(whole.ranks) and (part.ranks >= whole.ranks).all()


def test_pairs_of_cameras_are_those_of_the_page_errors():
    e = drawn(4, 30, 200, 4, 3)
    expected = camera_pairs(lists(e), e.cameras[e.query_rows])
    said = record(e, Wish(details=True))["camera_pairs"]
    assert len(said) == (expected.count > 0).sum()
    for each in said:
        a = int(np.flatnonzero(expected.query_cameras == each["query_camera"])[0])
        b = int(np.flatnonzero(expected.match_cameras == each["match_camera"])[0])
        assert each["mAP"] == pytest.approx(expected.precision[a, b], abs=1e-12)
        assert each["interval"] == pytest.approx([expected.low[a, b], expected.high[a, b]])


def test_intervals_are_of_the_queries_that_were_judged():
    e = drawn(6, 40, 300, 3, 1000)
    said = record(e, Wish(bootstrap=2000))
    scored = evaluate(e)
    values = scored.average_precision[scored.first_hit > 0]
    draw = np.random.default_rng(9)
    means = [values[draw.integers(len(values), size=len(values))].mean() for _ in range(2000)]
    low, high = said["intervals"]["mAP"]
    np.testing.assert_allclose([low, high], np.quantile(means, [0.025, 0.975]), atol=0.02)
    assert low < said["mAP"] < high
    assert (
        said["conditions"]["protocol"] == "market" and said["conditions"]["metric"] == "euclidean"
    )


@pytest.mark.parametrize(
    "wish, message",
    [
        (dict(bootstrap=-1), "--bootstrap"),
        (dict(bootstrap=10**11), "--bootstrap: expected 40 to 100,000"),
        (dict(far=1.5), "--far"),
        (dict(metric="cosin"), "did you mean cosine"),
        (dict(metric=UNNORMALISED, rerank=Rerank()), "length 1"),
        (dict(protocol="nformer-per-query", rerank=Rerank()), "no --rerank"),
        (dict(protocol="nformer-per-query", metric=COSINE), "no --metric"),
        (dict(approximate=True, rerank=Rerank()), "no --rerank"),
        (dict(approximate=True, protocol=SINGLE_SHOT), "exact distances"),
    ],
)
def test_wishes_that_cannot_be(wish, message):
    with pytest.raises(BadInput, match=message):
        Wish(**wish)


@pytest.mark.parametrize("name", ["market", LEGACY, VEHICLES, SINGLE_SHOT])
@pytest.mark.parametrize("measure", [Measure(), Measure(UNNORMALISED), Measure(COSINE)])
def test_embeddings_that_are_no_numbers_are_refused(name, measure):
    e = drawn(0, 4, 20, 3, 1000)
    e.vectors[7, 0], e.identities[7] = np.nan, 1
    with pytest.raises(BadInput, match="NaN"):
        score(e, name, measure)
