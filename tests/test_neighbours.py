"""Who attends to whom, and the studies of it, against slow loops and scipy."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TINY
from scipy.stats import spearmanr
from torch import nn

from reid_core.analysis import neighbours as near
from reid_core.data import open_dataset
from reid_core.embed import embed_test, refine
from reid_core.errors import BadInput
from reid_core.evaluate import evaluate
from reid_core.experiment import Experiment
from reid_core.models import nformer
from reid_core.models.base import Facts
from reid_core.models.nformer import NeighbourTransformer, NFormerOptions, mutual_neighbours
from reid_core.retrieve import retrieve
from reid_core.runs import Run, build, open_run
from reid_core.studies import Stopped, Study, neighbour_count, set_size

COUNT, WIDTH, HEADS = 12, 8, 2


class Set(nn.Module):
    """A neighbour transformer as `refine` calls it."""

    def __init__(self, **options):
        super().__init__()
        torch.manual_seed(0)
        usual = dict(width=WIDTH, layers=2, heads=HEADS, landmarks=3, neighbours=4, dropout=0.0)
        self.transformer = NeighbourTransformer(NFormerOptions(**usual | options), WIDTH, 5).eval()
        for parameter in self.transformer.parameters():
            parameter.data.normal_(std=0.5)

    def refine(self, vectors, seed=0, **counts):
        return self.transformer(F.normalize(vectors, dim=1)[None], seed, **counts)[0]


def vectors(count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, WIDTH), np.float32)


def made(name: str, **settings) -> Run:
    """A run of NFormer with weights and encoder features drawn at random, the latter nearer to each
    other within an identity, and refined by those weights."""
    usual = {k: v for k, v in TINY.items() if k not in ("depth", "width", "heads", "stride")}
    own = dict(width=16, layers=2, passes=1, trunk_width=8, landmarks=3, neighbours=5)
    asked = Experiment.create(model="nformer", recipe="demo", settings=usual | own | settings)
    facts = Facts(5, (1, 2, 3), (0, 1, 2))
    torch.manual_seed(0)
    model = build(asked, facts).eval()
    for parameter in model.transformer.parameters():
        parameter.data.normal_(std=0.3)
    run = Run.create(asked, facts, name)
    found = embed_test(model, asked, open_dataset("pedestrians"), stage="encoder")
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((found.identities.max() + 1, 16), np.float32)
    encoded = centres[found.identities] + draw.standard_normal(found.vectors.shape, np.float32)
    found = replace(found, vectors=refine(model, encoded), encoded=encoded)
    run.keep(model, found, evaluate(found).as_dict())
    return run


@pytest.fixture
def refined(runs) -> Run:
    return made("refined")


# The mechanism


def test_weights_are_a_softmax_over_mutual_neighbours():
    """A double loop over images and heads of the first layer; rows sum to 1, one-sided ones get 0."""
    model = Set()
    seen = near.attend(model, vectors(), projections=True)
    assert seen.weights.shape == (2, HEADS, COUNT, 4) and seen.landmarks.shape == (2, 3)
    x = F.normalize(torch.from_numpy(vectors()), dim=1)
    cosine = (x @ x.T).numpy()
    nearest = [set(np.argsort(-row, kind="stable")[:4].tolist()) for row in cosine]
    q, k, _ = seen.projections[0]
    for i in range(COUNT):
        assert set(seen.neighbours[i].tolist()) == nearest[i]
        for head in range(HEADS):
            raised = {}
            for j in seen.neighbours[i]:
                if j in nearest[i] and i in nearest[j]:
                    affinity = sum(
                        float(q[head, i] @ k[head, m]) * float(q[head, m] @ k[head, j])
                        for m in seen.landmarks[0]
                    )
                    raised[int(j)] = math.exp(affinity / math.sqrt(WIDTH / HEADS))
            expected = [raised.get(int(j), 0) / sum(raised.values()) for j in seen.neighbours[i]]
            np.testing.assert_allclose(seen.weights[0, head, i], expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(seen.weights.sum(axis=3), 1, rtol=1e-5)
    assert not seen.weights[:, :, ~seen.mutual].any() and not seen.mutual.all()


def test_without_any_affinity_there_is_no_weight():
    model = Set()
    for layer in model.transformer.layers:
        layer.attention.qkv.weight.data.zero_()
        layer.attention.qkv.bias.data.zero_()
    seen = near.attend(model, vectors())
    assert not seen.weights.any()
    assert not near.effective_neighbours(seen.weights).any()


def test_watching_changes_nothing():
    model, x = Set(), torch.from_numpy(vectors())
    with torch.no_grad():
        alone = model.refine(x, seed=3)
    np.testing.assert_array_equal(near.attend(model, vectors(), seed=3).refined, alone.numpy())


@pytest.mark.parametrize("landmarks", [2, 4, 5, 12])
@pytest.mark.parametrize("gathered", [1, 40, 2**25])
def test_affinity_by_either_order_and_in_blocks(monkeypatch, landmarks, gathered):
    """With more landmarks than dimensions the sum is taken over them first; rows go in blocks."""
    monkeypatch.setattr(nformer, "GATHERED", gathered)
    draw = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, HEADS, COUNT, 4, generator=draw)
    drawn = torch.randperm(COUNT, generator=draw)[:landmarks]
    graph, _ = mutual_neighbours(torch.from_numpy(vectors()), 4)
    found = nformer.landmark_affinity(q, k, drawn, graph[None])[0]
    whole = near.landmark_affinity(torch.stack([q[0], k[0], v[0]]), drawn.numpy(), np.arange(COUNT))
    said = nformer.listen(found[None], v, graph[None])[0]
    for head in range(HEADS):
        for i in range(COUNT):
            rows = []
            for j in range(COUNT):
                slow = sum(
                    float(q[0, head, i] @ k[0, head, m]) * float(q[0, head, m] @ k[0, head, j])
                    for m in drawn
                )
                rows.append(slow / 2)  # the root of the width 4
            np.testing.assert_allclose(whole[head, i], rows, rtol=1e-3, atol=1e-4)
            expected = [rows[j] for j in graph[i]]
            np.testing.assert_allclose(found[head, i].numpy(), expected, rtol=1e-3, atol=1e-4)
            mixed = sum(found[head, i, n] * v[0, head, j] for n, j in enumerate(graph[i]))
            torch.testing.assert_close(said[head, i], mixed, rtol=1e-4, atol=1e-4)


def test_other_numbers_than_the_knobs():
    model = Set()
    seen = near.attend(model, vectors(), landmarks=7, neighbours=2)
    assert seen.landmarks.shape == (2, 7) and seen.neighbours.shape == (COUNT, 2)
    same = Set(landmarks=7, neighbours=2)
    same.load_state_dict(model.state_dict())
    np.testing.assert_allclose(seen.refined, near.attend(same, vectors()).refined, rtol=1e-5)


def test_the_three_forms_agree():
    model = Set(neighbours=5)
    given = set_size.first_layer(model, vectors(), 0)
    forms = [form(*given) for form in set_size.FORMS.values()]
    for other in forms[:2]:
        torch.testing.assert_close(other, forms[2], rtol=1e-4, atol=1e-5)
    seen = near.attend(model, vectors())
    mixed = np.einsum("hnk,hnke->hne", seen.weights[0], given[2][0].numpy()[:, seen.neighbours])
    np.testing.assert_allclose(forms[2][0].numpy(), mixed, rtol=1e-4, atol=1e-5)


# Measures


def test_whom_an_image_attends_to_in_order():
    seen = near.attend(Set(), vectors())
    for row in range(COUNT):
        weights = seen.mean(layer=1, head=0)
        np.testing.assert_array_equal(weights, seen.weights[1, 0])
        told = near.listened(seen, row, weights)
        count = int(told.mutual.sum())
        assert told.mutual[:count].all() and (np.diff(told.weights[:count]) <= 0).all()
        assert not told.weights[count:].any() and not told.back[count:].any()
        for other, weight, back in zip(told.rows, told.weights, told.back, strict=True):
            assert weight == weights[row][seen.neighbours[row].tolist().index(other)]
            theirs = seen.neighbours[other].tolist()
            assert back == (weights[other][theirs.index(row)] if row in theirs else 0)
    np.testing.assert_allclose(seen.mean(), seen.weights.mean(axis=(0, 1)), rtol=1e-6)


def test_rank_correlation_is_scipys():
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 6, (2, 5, 30)).astype(float)  # with ties
    expected = [spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(near.rank_correlation(a, b), expected)
    np.testing.assert_allclose(near.rank_correlation(a, 3 * a + 1), 1)
    assert np.isnan(near.rank_correlation(np.ones((1, 4)), a[:1, :4])).all()


def test_top_overlap_against_sets():
    a, b = np.random.default_rng(0).standard_normal((2, 2, 5, 30))
    found = near.top_overlap(a, b, 7)
    for head in range(2):
        for row in range(5):
            tops = [set(np.argsort(-x[head, row])[:7].tolist()) for x in (a, b)]
            assert found[head, row] == len(tops[0] & tops[1]) / 7
    assert (near.top_overlap(a, b, 99) == 1).all()


def test_effective_neighbours_of_known_weights():
    weights = np.array([[0.25, 0.25, 0.25, 0.25], [1, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(near.effective_neighbours(weights), [4, 1, 2, 0])


def test_where_the_weight_falls():
    seen, identities = near.attend(Set(), vectors()), np.array([0, -1, *([1, 2] * 5)])
    shares = dict(itself=0.0, right=0.0, others=0.0)
    for row in range(2, COUNT):
        for weight, other in zip(seen.mean()[row], seen.neighbours[row], strict=True):
            same = identities[other] == identities[row]
            shares["itself" if other == row else "right" if same else "others"] += float(weight)
    found = near.falls_on(seen, identities, range(2, COUNT))
    assert found == pytest.approx({name: share / 10 for name, share in shares.items()}, rel=1e-5)
    assert sum(near.falls_on(seen, identities).values()) == pytest.approx(1, rel=1e-5)
    assert near.falls_on(seen, identities, [0, 1])["right"] == 0
    assert math.isnan(near.falls_on(seen, identities, [])["right"])


def test_numbers_to_try():
    assert near.ladder(30, 8, 5, 99) == [1, 2, 5, 8, 10, 20, 30]
    assert near.ladder(1) == [1]


def test_lists_are_those_of_the_ranked_galleries(tiny_run):
    found = open_run(tiny_run).embeddings()
    precision, lists = near.judged(found, count=4, block=3)
    np.testing.assert_array_equal(precision, evaluate(found).average_precision)
    for query in range(len(found.query_rows)):
        ranking = retrieve(found, query)
        expected = ranking.rows[~ranking.ignored][:4].tolist()
        assert [row for row in lists[query].tolist() if row != near.NEVER] == expected
    other = np.where(lists == lists[:, :1], near.NEVER, lists)
    shares = near.in_common(lists, other)
    for a, b, share in zip(lists.tolist(), other.tolist(), shares, strict=True):
        mine = set(a) - {near.NEVER}
        assert share == len(mine & set(b)) / len(mine)


def test_a_run_whose_images_stay_alone(tiny_run):
    run = open_run(tiny_run)
    with pytest.raises(BadInput, match="choose a run of NFormer"):
        near.attend(run.model(), run.embeddings().vectors)
    for name in ("draws", "landmarks", "neighbour-count", "set-size"):
        with pytest.raises(BadInput, match="choose a run of NFormer"):
            Study.asked(run, name).compute()


# Studies


def test_draws(refined):
    steps = []
    found = Study.asked(refined, "draws", dict(draws=3)).compute(lambda *at: steps.append(at))
    stored = refined.embeddings()
    assert steps[0] == (0, 3) and steps[-1] == (3, 3)
    np.testing.assert_array_equal(found["stored"], evaluate(stored).average_precision)
    np.testing.assert_array_equal(found["before"], evaluate(near.alone(stored)).average_precision)
    # The first draw is the run's own, which gives its stored features again.
    assert found["refined_difference"][0] < 1e-5 < found["refined_difference"][1:].min()
    assert (found["common"][0] == 1).all() and found["common"].min() < 1
    np.testing.assert_allclose(found["precision"][0], found["stored"], rtol=1e-6)
    queries = len(stored.query_rows)
    assert found["weights"].shape == (3, queries, 5)
    again = near.attend(refined.model(), stored.encoded, seed=2)
    np.testing.assert_allclose(found["weights"][2], again.mean()[stored.query_rows], rtol=1e-5)


def test_landmarks(refined):
    found = Study.asked(refined, "landmarks", dict(draws=2, rows=7)).compute()
    stored, numbers = refined.embeddings(), found["landmarks"].tolist()
    count = len(stored.vectors)
    assert numbers[-1] == found["images"] == count and {1, 3, 5} <= set(numbers)
    shape = 2, len(numbers), 2
    for name in ("correlation", "overlap", "own_difference", "growth", "effective"):
        assert found[name].shape == shape
    # With all images as landmarks it is its own value, and not the full affinity.
    assert found["own_difference"][:, -1].max() < 1e-4
    assert found["refined_difference"][-1].max() < 1e-4
    np.testing.assert_allclose(found["growth"][:, -1], 1, rtol=1e-4)
    assert found["own_difference"][:, 0].min() > 0.01 < found["refined_difference"][0].min()
    assert abs(found["correlation"][:, -1]).max() < 0.999
    # One number by hand: the first layer, the run's own draw.
    own = near.attend(refined.model(), stored.encoded, projections=True, seed=0)
    q, k, _ = own.projections[0]
    rows = np.random.default_rng(0).choice(count, 7, replace=False)
    each = []
    for head in range(2):
        middle = sum(torch.outer(k[head, m], q[head, m]) for m in own.landmarks[0])
        for row in rows:
            pair = (q[head, row] @ middle @ k[head].T, q[head, row] @ k[head].T)
            each.append(spearmanr(*(x.numpy() for x in pair)).statistic)
    assert found["correlation"][0, numbers.index(3), 0] == pytest.approx(np.mean(each), abs=1e-3)
    assert found["before"] == pytest.approx(evaluate(near.alone(stored)).mAP)
    assert found["mAP"][numbers.index(3), 0] == pytest.approx(evaluate(stored).mAP)


def test_neighbour_count(refined, monkeypatch):
    found = Study.asked(refined, "neighbour-count").compute()
    stored, numbers = refined.embeddings(), found["neighbours"].tolist()
    own = numbers.index(int(found["own"]))
    np.testing.assert_allclose(
        found["precision"][own], evaluate(stored).average_precision, rtol=1e-6
    )
    assert numbers[-1] == len(stored.vectors) and not found["cut"]
    assert found["itself"][0] == pytest.approx(1) and found["mutual"][0] == 1
    assert found["mutual"][-1] == len(stored.vectors)
    np.testing.assert_allclose(found["right"] + found["itself"] + found["others"], 1, rtol=1e-5)
    monkeypatch.setattr(neighbour_count, "PAIRS", 6 * len(stored.vectors))
    less = Study.asked(refined, "neighbour-count", dict(most=1000)).compute()
    assert less["neighbours"][-1] == 6 and less["cut"]


def test_set_size(refined, monkeypatch):
    monkeypatch.setattr(set_size, "SIZES", (20, 40, 80))
    found = Study.asked(refined, "set-size", dict(repeats=1)).compute()
    assert found["sizes"].tolist() == [20, 40, 80] and found["disagreement"].max() < 1e-4
    assert np.isfinite(found["seconds"]).all() and (found["megabytes"] > 0).all()
    # The dense form's memory grows with the square of N, and more than the others'.
    assert found["megabytes"][0, 2] / found["megabytes"][0, 1] == pytest.approx(4, rel=0.1)
    wrong = dict(set_size.FORMS, dense=lambda q, *_: q + 1)
    monkeypatch.setattr(set_size, "FORMS", wrong)
    with pytest.raises(ArithmeticError, match="dense is off"):
        Study.asked(refined, "set-size", dict(repeats=2)).compute()


def test_one_precision_for_all_sizes(refined, monkeypatch):
    """Where the model finds float32 too coarse at one size, memory grows with the size all the same."""
    monkeypatch.setattr(set_size, "SIZES", (40, 80, 160))
    usual = set_size.first_layer

    def coarse(model, vectors, seed):
        given = usual(model, vectors, seed)
        return (*(x.double() for x in given[:3]), *given[3:]) if len(vectors) == 40 else given

    monkeypatch.setattr(set_size, "first_layer", coarse)
    found = Study.asked(refined, "set-size", dict(repeats=1)).compute()
    assert found["bits"] == 64 and found["disagreement"].max() < 1e-12
    growth = found["megabytes"][0, 1:] / found["megabytes"][0, :-1]
    assert growth == pytest.approx([4, 4], rel=0.1)


def test_a_form_that_would_need_too_much_memory_is_left_out(refined, monkeypatch):
    monkeypatch.setattr(set_size, "SIZES", (20, 4000, 8000))
    assert set_size.expected([20, 40], np.array([3.0, np.nan]), 1) == 12
    assert set_size.expected([20, 40, 80], np.array([3.0, np.nan, np.nan]), 2) == float("inf")
    found = Study.asked(refined, "set-size", dict(memory=64, most=4000, repeats=1)).compute()
    assert np.isfinite(found["megabytes"][:, 0]).all()
    assert np.isnan(found["megabytes"][0, 1]) and np.isnan(found["seconds"][0, 1])


def test_allocated_memory_of_known_tensors():
    def call():
        held = torch.ones(2**18)  # 1 MB
        (held + 1).sum()  # another one, then gone
        return held * 2

    _, megabytes = set_size.allocated(call)
    assert megabytes == pytest.approx(2, abs=0.01)


def test_a_set_filled_up_with_noise():
    few = vectors(5)
    many = set_size.crowd(few, 12)
    assert {tuple(row) for row in few.tolist()} == {tuple(row) for row in many[:5].tolist()}
    assert len(np.unique(many, axis=0)) == 12
    away = [np.linalg.norm(row - few, axis=1).min() / np.linalg.norm(row) for row in many[5:]]
    assert 0 < np.mean(away) < 0.2
    assert len(set_size.crowd(few, 3)) == 3


def test_a_study_that_is_stopped(refined):
    for name in ("draws", "landmarks", "neighbour-count", "set-size"):
        study = Study.asked(refined, name)

        def stop(done, total, study=study):
            assert 0 <= done <= total
            study.stop()

        with pytest.raises(Stopped):
            study.compute(stop)
        assert study.standing().state == "stopped" and study.found() is None


def test_a_run_that_draws_its_landmarks_anew(runs):
    run = made("anew", landmark_seed=-1)
    found = Study.asked(run, "draws", dict(draws=2)).compute()
    assert found["seeds"].tolist() == [0, 1]
    assert run.experiment.options.landmark_seed == -1
