"""Runs side by side, against loops and known cases."""

from dataclasses import replace

import numpy as np
import pytest
from test_rerank import split

from reid_core.analysis.comparison import (
    differences,
    knobs_that_differ,
    patterns,
    same_split,
)
from reid_core.errors import BadInput
from reid_core.evaluate import Evaluation


def scored(first_hit, precision=None) -> Evaluation:
    first_hit = np.array(first_hit)
    precision = (
        np.where(first_hit > 0, 1 / np.maximum(first_hit, 1), np.nan)
        if precision is None
        else precision
    )
    return Evaluation(np.asarray(precision, float), np.asarray(precision, float), first_hit, 100)


def test_every_judged_query_is_in_one_pattern():
    draw = np.random.default_rng(0)
    scores = [scored(np.append(draw.integers(1, 4, 60), 0)) for _ in range(3)]
    found = patterns(scores)
    assert len(found) == 8
    assert sorted(np.concatenate([each.queries for each in found])) == list(range(60))
    for each in found:
        for query in each.queries:
            assert each.right == tuple(bool(run.first_hit[query] == 1) for run in scores)
    sizes = [len(each.queries) for each in found]
    assert sizes == sorted(sizes, reverse=True)


def test_patterns_are_said_in_words():
    names = ["transreid", "pha", "rga"]
    said = {each.right: each.says(names) for each in patterns([scored([1])] * 3)}
    assert said[False, True, False] == "only pha is right"
    assert said[False, True, True] == "only transreid is wrong"
    assert said[True, True, True] == "all are right"
    assert said[False, False, False] == "all are wrong"
    assert patterns([scored([1])] * 4)[0].says([*names, "x"]) == "all are right"
    four = {each.right: each.says([*names, "x"]) for each in patterns([scored([1])] * 4)}
    assert four[True, True, False, False] == "transreid and pha are right, rga and x wrong"


def test_paired_bootstrap_of_a_constant_shift_has_no_width():
    a, b = scored([1, 2, 3, 4], [0.1, 0.3, 0.5, 0.7]), scored([1, 2, 3, 4], [0.2, 0.4, 0.6, 0.8])
    precision, rank = differences(dict(a=a, b=b))
    assert (precision.measure, rank.measure) == ("mAP", "rank-1")
    assert precision.difference == pytest.approx(0.1)
    assert precision.low == pytest.approx(0.1) and precision.high == pytest.approx(0.1)
    assert precision.clear and not rank.clear and rank.difference == 0


def test_paired_bootstrap_of_a_fair_coin_holds_the_normal_interval():
    draw = np.random.default_rng(1)
    change = draw.normal(0.02, 0.3, 2000)
    a = scored(np.ones(2000, int), np.full(2000, 0.5))
    shift = differences(dict(a=a, b=scored(np.ones(2000, int), 0.5 + change)), draws=2000)[0]
    error = change.std() / np.sqrt(2000)
    assert shift.low == pytest.approx(change.mean() - 1.96 * error, abs=0.15 * error)
    assert shift.high == pytest.approx(change.mean() + 1.96 * error, abs=0.15 * error)


def test_queries_without_a_match_count_for_neither():
    a, b = scored([1, 0, 2]), scored([1, 0, 1])
    rank = differences(dict(a=a, b=b))[1]
    assert rank.difference == pytest.approx(0.5)


def test_the_same_split_passes():
    same_split(dict(a=split(), b=replace(split(), vectors=split(seed=9).vectors)))


@pytest.mark.parametrize("count", [1, 6])
def test_two_to_five_runs(count):
    with pytest.raises(BadInput, match="2 to 5 runs"):
        same_split({str(number): split() for number in range(count)})


def test_what_differs_is_said():
    one = split()
    names = one.names.copy()
    names[2] = "x.jpg"
    cases = {
        "6 and 7 queries": split(queries=7),
        "34 and 30 gallery": split(gallery=30),
        "1 queries differ, first '2.jpg' and 'x.jpg'": replace(one, names=names),
        "cameras of 40 images": replace(one, cameras=one.cameras + 1),
    }
    for said, other in cases.items():
        with pytest.raises(BadInput, match="same test split") as raised:
            same_split(dict(a=one, b=other))
        assert said in str(raised.value)


def test_only_knobs_that_differ_are_told():
    a = dict(model="pha", data=None, knobs=dict(epochs=3, size=(64, 32), share=0.4))
    b = dict(
        model="vit",
        data=None,
        knobs=dict(epochs=3, size=[64, 32]),
        encoder=dict(run="x", knobs=dict(depth=2)),
    )
    assert knobs_that_differ(dict(a=a, b=b)) == {
        "model": ["pha", "vit"],
        "share": [0.4, None],
        "encoder.run": [None, "x"],
        "encoder.depth": [None, 2],
    }
