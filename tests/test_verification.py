"""ROC and thresholds against every pair counted one by one, and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve
from test_evaluate import embeddings
from test_protocols import SPLITS, drawn

from reid_core.errors import BadInput
from reid_core.evaluate import distances
from reid_core.scores.measure import COSINE, UNNORMALISED, Measure, Rerank
from reid_core.scores.protocols import PROTOCOLS, VEHICLES
from reid_core.scores.verification import roc, threshold_at


def pairs(e, away=None) -> tuple[np.ndarray, np.ndarray]:
    """Distances of the pairs of one and of two identities that the protocol counts."""
    own, other = [], []
    matrix = (
        distances(e.directions[e.query_rows], e.directions[e.gallery_rows])
        if away is None
        else away
    )
    for q, row in zip(e.query_rows, matrix, strict=True):
        for g, far in zip(e.gallery_rows, row, strict=True):
            if e.identities[g] == -1:
                continue
            if e.identities[g] != e.identities[q] or e.identities[q] == -1:
                other.append(far)
            elif e.cameras[g] != e.cameras[q] or e.cameras[q] == -1:
                own.append(far)
    return np.array(own), np.array(other)


@settings(max_examples=50, deadline=None)
@given(**SPLITS, rate=st.sampled_from([0, 0.01, 0.1, 0.5, 1]))
def test_every_pair_is_counted_once(seed, queries, gallery, cameras, values, rate):
    e = drawn(seed, queries, gallery, cameras, values)
    own, other = pairs(e)
    if not len(own) or not len(other):
        with pytest.raises(BadInput, match="pairs of two identities"):
            roc(e)
        return
    found = roc(e)
    assert (found.genuine.sum(), found.impostor.sum()) == (len(own), len(other))
    point = found.at(rate)
    assert point.false_accepts == pytest.approx((other < point.threshold).mean())
    assert point.true_accepts == pytest.approx((own < point.threshold).mean())
    assert point.false_accepts <= rate
    if point.threshold < found.thresholds[found.last]:  # one bin more would be too many
        assert (other < point.threshold + found.width).mean() > rate
    assert threshold_at(e, rate) == point.threshold


def test_the_curve_is_scikit_learns():
    e = drawn(0, 30, 400, 3, 10**6, 12)
    own, other = pairs(e)
    truth = np.concatenate([np.ones(len(own)), np.zeros(len(other))])
    nearness = -np.concatenate([own, other])
    false, true, _ = roc_curve(truth, nearness, drop_intermediate=False)
    found = roc(e)
    assert found.area == pytest.approx(roc_auc_score(truth, nearness), abs=1e-6)
    for rate in (0.001, 0.01, 0.03, 0.1, 0.5):
        best = true[np.searchsorted(false, rate, "right") - 1]
        assert found.at(rate).true_accepts == pytest.approx(best, abs=1e-9)
    middle = np.abs(false - (1 - true)).argmin()
    expected = (false[middle] + 1 - true[middle]) / 2
    assert found.equal_error == pytest.approx(expected, abs=1 / len(own))
    drawn_curve = found.curve()
    for threshold, accepted, right in drawn_curve[:: len(drawn_curve) // 20]:
        assert accepted == pytest.approx((other < threshold).mean(), abs=1e-12)
        assert right == pytest.approx((own < threshold).mean(), abs=1e-12)


@pytest.mark.parametrize(
    "measure", [Measure(COSINE), Measure(UNNORMALISED), Measure(rerank=Rerank(6, 3, 0.3))]
)
def test_other_distances(measure):
    e = drawn(1, 15, 150, 3, 10**6, 8)
    rows = np.array(list(measure.rows(e)))
    if measure.metric == COSINE:
        expected = 1 - e.directions[e.query_rows] @ e.directions[e.gallery_rows].T
        np.testing.assert_allclose(rows, expected, atol=1e-6)
    if measure.metric == UNNORMALISED:
        a, b = e.vectors[e.query_rows].astype(float), e.vectors[e.gallery_rows].astype(float)
        expected = np.linalg.norm(a[:, None] - b, axis=2)
        np.testing.assert_allclose(rows, expected, rtol=1e-6)
    own, other = pairs(e, rows)
    point = roc(e, measure=measure).at(0.05)
    assert point.true_accepts == pytest.approx((own < point.threshold).mean())
    assert point.false_accepts == pytest.approx((other < point.threshold).mean())


def test_repeated_galleries_are_counted_together():
    e = drawn(2, 10, 60, 3, 1000)
    found = roc(e, VEHICLES, repeats=4)
    total = np.zeros(2, int)
    for split, _ in PROTOCOLS[VEHICLES].draws(e, 4, 0):
        total += [len(side) for side in pairs(split)]
    assert (found.genuine.sum(), found.impostor.sum()) == tuple(total)


def test_copies_and_opposites_are_within_the_bins():
    e = embeddings(
        [[1, 0], [1, 0], [-1, 0], [0, 1]], [1, 1, 2, 2], [1, 2, 2, 2], [True, *[False] * 3]
    )
    found = roc(e)
    assert found.at(0).true_accepts == 1 and found.at(0).threshold <= 2**0.5
    assert found.at(1).false_accepts == 1 and found.at(1).threshold == pytest.approx(2, abs=1e-5)
    assert found.area == 1 and found.equal_error == 0


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_rates_that_are_none(rate):
    with pytest.raises(BadInput, match="from 0 to 1"):
        threshold_at(drawn(0, 10, 60, 3, 1000), rate)


def test_what_has_no_pairs_is_refused():
    e = drawn(0, 4, 20, 3, 1000)
    with pytest.raises(BadInput, match="queries and a gallery"):
        threshold_at(embeddings(e.vectors, e.identities, e.cameras, np.ones(24, bool)))
    e.vectors[3, 1] = np.inf
    with pytest.raises(BadInput, match="NaN or infinity"):
        threshold_at(e)
