"""NFormer's mechanisms against slow versions, and its second stage."""

import copy
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TINY
from formula import filled

from reid_core import train
from reid_core.__main__ import main
from reid_core.data.sampler import sequences
from reid_core.embed import per_query_distances, refine
from reid_core.errors import BadInput
from reid_core.evaluate import distances, evaluate
from reid_core.experiment import Experiment
from reid_core.losses import objective
from reid_core.models import nformer
from reid_core.models.base import Batch, Facts
from reid_core.models.nformer import (
    NeighbourAttention,
    NeighbourTransformer,
    NFormer,
    NFormerOptions,
    listen,
    mutual_neighbours,
    reciprocal_softmax,
)
from reid_core.models.nformer_query import GalleryPass
from reid_core.official.names import NAMES
from reid_core.optimize import optimizers_for
from reid_core.probe import observe
from reid_core.runs import open_run

SMALL = dict(width=8, layers=2, heads=2, landmarks=3, neighbours=4, dropout=0.0)


def transformer(**options) -> NeighbourTransformer:
    torch.manual_seed(0)
    made = NeighbourTransformer(NFormerOptions(**SMALL | options), 8, 5).eval()
    for parameter in made.parameters():  # far from the small start, where all affinities vanish
        parameter.data.normal_(std=0.5)
    return made


def vectors(count: int = 12) -> torch.Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(1))


def test_mutual_neighbours_against_a_double_loop():
    x = vectors()
    neighbours, mutual = mutual_neighbours(x, 4)
    cosine = [[F.cosine_similarity(a, b, dim=0).item() for b in x] for a in x]
    nearest = [set(np.argsort([-c for c in row], kind="stable")[:4].tolist()) for row in cosine]
    for i in range(12):
        assert set(neighbours[i].tolist()) == nearest[i] and i in nearest[i]
        for j, is_mutual in zip(neighbours[i].tolist(), mutual[i].tolist(), strict=True):
            assert is_mutual == (i in nearest[j])
    assert not mutual.all()


def test_landmark_attention_against_a_double_loop():
    """(q_i . k_L)(q_L . k_j) / sqrt(d), a dense softmax over mutual neighbours alone, times v."""
    torch.manual_seed(0)
    attention = NeighbourAttention(8, 2, 0.0).eval()
    x, landmarks = vectors(), [7, 0, 4]
    neighbours, mutual = mutual_neighbours(x, 4)
    with torch.no_grad():
        found = attention(x[None], torch.tensor(landmarks), neighbours[None], mutual[None])[0]
        q, k, v = attention.qkv(x).split(8, dim=1)
        heads = []
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            qh, kh, vh = q[:, part], k[:, part], v[:, part]
            rows = []
            for i in range(12):
                listened = [
                    j for j, m in zip(neighbours[i].tolist(), mutual[i].tolist(), strict=True) if m
                ]
                affinity = torch.tensor(
                    [
                        sum(float(qh[i] @ kh[each]) * float(qh[each] @ kh[j]) for each in landmarks)
                        / math.sqrt(4)
                        for j in listened
                    ]
                )
                rows.append(
                    sum(w * vh[j] for w, j in zip(affinity.softmax(0), listened, strict=True))
                )
            heads.append(torch.stack(rows))
        expected = attention.out(torch.cat(heads, dim=1))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_reciprocal_softmax_is_a_dense_masked_softmax():
    affinity = torch.randn(2, 6, 6)
    mutual = torch.rand(2, 6, 6) < 0.5
    mutual[:, range(6), range(6)] = True
    dense = (affinity * mutual + -1e9 * ~mutual).softmax(dim=-1)
    torch.testing.assert_close(reciprocal_softmax(affinity, mutual, training=True), dense)
    torch.testing.assert_close(reciprocal_softmax(affinity, mutual, training=False), dense)


def test_an_affinity_of_zero_is_no_neighbour_at_test_alone():
    """The official test path keeps affinities in a sparse matrix, where 0 is absence."""
    affinity, mutual = torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.ones(2, 2, dtype=torch.bool)
    training = reciprocal_softmax(affinity, mutual, training=True)
    assert training[0, 0] > 0 and training[1].tolist() == [0.5, 0.5]
    assert reciprocal_softmax(affinity, mutual, training=False).tolist() == [[0, 1], [0, 0]]


def test_with_as_many_landmarks_as_images_the_draw_does_not_matter():
    refined = transformer(landmarks=12)
    with torch.no_grad():
        torch.testing.assert_close(refined(vectors()[None], 0), refined(vectors()[None], 1))
        few = transformer(landmarks=2)
        assert not torch.allclose(few(vectors()[None], 0), few(vectors()[None], 1))


def test_an_image_listens_only_to_its_mutual_neighbours():
    one = transformer(layers=1, landmarks=1)
    x = vectors()
    _, mutual = mutual_neighbours(x, 4)
    with torch.no_grad(), observe(one, "*weights") as seen:
        one(x[None], 3)
    weights = seen["layers.0.attention.weights"][0, :, 0]  # (H, k) of image 0
    assert weights[:, ~mutual[0]].eq(0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(2))


def test_sets_smaller_than_the_numbers_of_landmarks_and_neighbours():
    refined = transformer(landmarks=50, neighbours=50)
    with torch.no_grad():
        assert refined(vectors(3)[None], 0).shape == (1, 3, 8)
        assert refined(vectors(1)[None], 0).isfinite().all()


def test_sequences_are_drawn_around_a_center():
    found = vectors(40).numpy()
    rows = sequences(found, 10, 30, np.random.default_rng(0))
    assert len(rows) == 30 and all(len(set(row)) == 10 for row in rows)
    again = sequences(found, 10, 30, np.random.default_rng(0))
    assert all((a == b).all() for a, b in zip(rows, again, strict=True))
    # Each lies within the 20 nearest of some image.
    pools = [set(np.argsort(-(found @ c), kind="stable")[:20]) for c in found]
    assert all(any(set(row) <= pool for pool in pools) for row in rows)
    assert len(sequences(found, 7000, 1, np.random.default_rng(0))[0]) == 40


def tiny(**settings) -> Experiment:
    usual = {k: v for k, v in TINY.items() if k not in ("depth", "width", "heads", "stride")}
    own = dict(width=16, layers=1, passes=2, sequence=20, images_per_sequence=10, trunk_width=8)
    return Experiment.create(model="nformer", recipe="demo", settings=usual | own | settings)


@pytest.fixture
def refined(runs):
    """A run that went through both stages."""
    run = train.create(tiny(), "refined")
    train.train(run)
    return run


def test_both_stages_in_one_run(refined):
    history = refined.history()
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    assert {"loss_identity", "loss_triplet", "loss_center"} <= set(history[-1])
    assert history[-1]["learning_rate"] == tiny().options.pass_learning_rate
    found = refined.embeddings()
    assert found.encoded.shape == found.vectors.shape and not np.allclose(
        found.encoded, found.vectors
    )
    model = refined.model()
    with torch.no_grad():
        again = model.refine(torch.from_numpy(found.encoded)).numpy()
    np.testing.assert_allclose(again, found.vectors, rtol=1e-4, atol=1e-5)


def test_time_left_is_only_told_in_the_last_stage(runs, monkeypatch):
    run, told = train.create(tiny(), "told"), {}
    usual = train.Progress.beat

    def beat(self, epoch, step, steps, seconds_left):
        told.setdefault(epoch, seconds_left)
        usual(self, epoch, step, steps, seconds_left)

    monkeypatch.setattr(train.Progress, "beat", beat)
    train.train(run)
    assert told[1] is None and told[2] > 0 and told[3] > 0


def test_the_second_stage_leaves_the_encoder_alone(runs):
    first = train.create(tiny(passes=1), "one")
    train.train(first)
    second = train.create(tiny(passes=3), "three")
    train.train(second)
    one, three = first.model().state_dict(), second.model().state_dict()
    encoder = [key for key in one if key.startswith("encoder.")]
    assert all(torch.equal(one[key], three[key]) for key in encoder)
    layers = [key for key in one if ".layers." in key]
    assert not any(torch.equal(one[key], three[key]) for key in layers)


def test_a_run_stopped_in_its_second_stage_ends_the_same(refined, runs, monkeypatch):
    stopped = train.create(tiny(), "stopped")
    steps = {"count": 0}
    usual = train.Progress.stepped

    def stepped(self, epoch, step, steps_, images):
        steps["count"] += 1
        if epoch in (1, 2) and step == 1:
            self.run.ask_stop()
        return usual(self, epoch, step, steps_, images)

    monkeypatch.setattr(train.Progress, "stepped", stepped)
    for _ in range(2):
        with pytest.raises(train.Stopped):
            train.train(stopped)
    train.train(stopped)
    expected, found = refined.model().state_dict(), stopped.model().state_dict()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    np.testing.assert_array_equal(refined.embeddings().vectors, stopped.embeddings().vectors)


def test_any_run_can_be_the_encoder(tiny_run):
    encoder = open_run(tiny_run)
    run = train.create(tiny(encoder=tiny_run, width=16), "over")
    train.train(run)
    assert len(run.history()) == 2  # passes alone
    found = run.embeddings()
    np.testing.assert_allclose(
        np.linalg.norm(found.encoded, axis=1) > 0, np.ones(len(found.encoded))
    )
    assert found.vectors.shape[1] == 16 != found.encoded.shape[1]
    assert run.experiment.knows_cameras and run.experiment.training.size == (64, 32)
    theirs, ours = encoder.model().state_dict(), run.model().encoder.state_dict()
    assert all(torch.equal(theirs[key], ours[key]) for key in theirs)
    with pytest.raises(BadInput, match="already refines"):
        train.create(tiny(encoder="over"), "twice")
    with pytest.raises(BadInput, match="unknown run"):
        train.create(tiny(encoder="nobody"), "twice")
    with pytest.raises(BadInput, match="holdout"):  # its encoder saw them all
        train.create(tiny(encoder=tiny_run, holdout=0.4), "leak")


def test_an_encoder_that_is_gone_or_another(tiny_run, runs):
    run = train.create(tiny(encoder=tiny_run, width=16), "over")
    (runs / tiny_run).rename(runs / "elsewhere")
    with pytest.raises(BadInput, match=r"encoder: run 'tiny', whose .* is gone"):
        train.train(run)
    other = train.create(tiny(passes=1), tiny_run)
    train.train(other)
    with pytest.raises(BadInput, match="no longer what it was"):
        train.train(run)


def test_a_run_that_has_trained_its_encoder_alone(runs, capsys):
    """Nobody is refined by layers that were never trained."""
    run = train.create(tiny(epochs=2), "half")
    usual = train.Progress.stepped

    def stepped(self, epoch, step, *counts):
        if epoch == 2:
            self.run.ask_stop()
        return usual(self, epoch, step, *counts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Progress, "stepped", stepped)
        with pytest.raises(train.Stopped):
            train.train(run)
    assert not run.refined and run.embeddings().encoded is None
    assert main(["evaluate", "half"]) == 0
    assert json.loads(capsys.readouterr().out)["protocol"] == "market"
    assert main(["evaluate", "half", "--stage", "refined"]) == 2
    assert "encoder alone" in capsys.readouterr().err
    train.train(run)
    assert run.refined


def test_a_stop_is_heard_while_features_are_embedded(runs, monkeypatch):
    run = train.create(tiny(), "deaf")
    usual = train.Progress.alive

    def alive(self, epoch):
        self.run.ask_stop()
        usual(self, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Progress, "alive", alive)
        with pytest.raises(train.Stopped):
            train.train(run)
    assert run.status().state == "stopped" and len(run.history()) == 1
    train.train(run)
    assert len(run.history()) == 3


def test_center_losses_move_their_centers_by_their_own_rate():
    """The gradient comes with the loss's weight; the centre must move by 0.5 of the bare one."""
    model = transformer().train()
    feature, identity = torch.randn(3, 8), torch.tensor([0, 0, 1])
    before = model.centers.centers.detach().clone()
    optimizers = optimizers_for(model, Experiment.create(model="nformer", recipe="paper").training)
    loss = model.centers(feature, identity)
    loss.backward()
    optimizers[1].step()
    expected = before.clone()
    for row in range(2):
        away = sum(
            2 * (before[row] - f)
            for f, i in zip(feature, identity.tolist(), strict=True)
            if i == row
        )
        expected[row] = before[row] - 0.5 * away / 3
    torch.testing.assert_close(model.centers.centers.detach(), expected)
    squares = [
        (f - before[i]).square().sum() for f, i in zip(feature, identity.tolist(), strict=True)
    ]
    torch.testing.assert_close(loss.detach(), 5e-4 * sum(squares) / 3)


def test_heads_must_divide_the_width():
    with pytest.raises(BadInput, match="heads"):
        transformer(heads=3)


def test_per_query_and_joint_agree_on_a_single_query(refined):
    """With one query the two sets are the same; with several a query meets the gallery alone."""
    found, model = refined.embeddings(), refined.model()
    gallery = found.gallery_rows
    rows = np.array([found.query_rows[0], *gallery])
    one = replace(
        found,
        **{
            name: getattr(found, name)[rows]
            for name in (
                "vectors",
                "encoded",
                "names",
                "identities",
                "cameras",
                "views",
                "is_query",
            )
        },
    )
    one = replace(one, vectors=refine(model, one.encoded))
    joint = distances(one.directions[:1], one.directions[1:])
    alone = per_query_distances(model, found)(found.query_rows[:2])
    np.testing.assert_allclose(alone[:1], joint, atol=1e-6)
    scored = evaluate(
        found, distances_to=per_query_distances(model, found), protocol="nformer-per-query"
    )
    assert scored.queries == len(found.query_rows) and scored.protocol == "nformer-per-query"
    assert evaluate(found).protocol == "nformer-joint"


SETS = {  # images, k, layers, landmarks, seed, and whether there are equal images
    "usual": (60, 4, 2, 3, 0, False),
    "equal images": (120, 6, 3, 2, 3, True),
    "tied k-sets": (40, 4, 2, 3, 3, True),
    "four layers": (200, 8, 4, 3, 3, False),
    "more landmarks than a head is wide": (150, 5, 2, 7, 2, False),
    "fewer images than k": (5, 8, 2, 3, 1, False),
    "everyone is a landmark": (10, 8, 2, 30, 1, False),
}


@pytest.mark.parametrize("case", SETS)
@pytest.mark.parametrize("neck", ["before", "after"])
def test_a_query_that_meets_the_gallery_is_refined_as_in_one_set(case, neck):
    count, k, layers, landmarks, seed, equal = SETS[case]
    torch.manual_seed(count)
    model = Refiner(neighbours=k, layers=layers, landmarks=landmarks, neck=neck)
    gallery = torch.randn(count, 8)
    if equal:
        gallery[count // 2 :] = gallery[torch.randint(count // 2, (count - count // 2,))]
    queries = torch.cat([torch.randn(8, 8), gallery[:6], torch.zeros(1, 8)])
    met = GalleryPass(model, gallery, seed)
    assert met.alone == (case not in ("fewer images than k", "everyone is a landmark"))
    before = [table.clone() for kept in getattr(met, "layers", []) for table in (kept.x, kept.v)]
    for query, found in zip(queries, met.meet(queries), strict=True):
        with torch.no_grad():
            slow = model.refine(torch.cat([query[None], gallery]), seed=seed)
        ours = met.refined.clone() if met.alone else torch.zeros(count, 8)
        ours[found.rows] = found.vectors
        torch.testing.assert_close(found.query, slow[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(ours, slow[1:], rtol=0, atol=1e-6)
        assert found.computed <= (count + 1) * layers
    after = [table for kept in getattr(met, "layers", []) for table in (kept.x, kept.v)]
    assert all(map(torch.equal, before, after))  # nobody has left a trace


def test_most_rows_are_left_alone_and_a_landmark_that_changes_changes_all():
    torch.manual_seed(0)
    centres = torch.randn(60, 8)
    gallery = centres.repeat(10, 1) + 0.05 * torch.randn(600, 8)
    model = Refiner(neighbours=6, layers=3, landmarks=2)
    met = GalleryPass(model, gallery, 4)
    landmark = gallery[met.layers[1].landmarks[0]]
    few, many = met.meet(torch.stack([centres[0], landmark]))
    assert few.computed < 100 and few.computed < many.computed
    assert many.computed >= 2 * 601  # the second layer and the third


class Refiner(torch.nn.Module):
    """NFormer without an encoder."""

    refine = NFormer.refine

    def __init__(self, neck: str = "after", **options):
        super().__init__()
        self.transformer, self.neck = transformer(**options), neck
        self.options = self.transformer.options
        for parameter in self.parameters():
            parameter.data.mul_(0.6)


def test_listening_is_the_same_with_and_without_gradients():
    weights, v = torch.rand(2, 3, 12, 4), torch.randn(2, 3, 12, 5, requires_grad=True)
    neighbours = torch.randint(12, (2, 12, 4))
    trained = listen(weights, v, neighbours)
    with torch.no_grad():
        torch.testing.assert_close(listen(weights, v, neighbours), trained)
        some = listen(weights[:, :, 3:7], v, neighbours[:, 3:7])
    torch.testing.assert_close(some, trained[:, :, 3:7])
    half = listen(weights.bfloat16(), v.detach().bfloat16(), neighbours)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), trained, rtol=0.05, atol=0.05)


def test_parts_of_a_set_are_refined_as_the_whole(monkeypatch):
    with torch.no_grad():
        whole = transformer()(vectors()[None], 0)
        monkeypatch.setattr(nformer, "ROWS", 5)
        monkeypatch.setattr(nformer, "GATHERED", 100)
        torch.testing.assert_close(transformer()(vectors()[None], 0), whole)


def test_memory_is_used_again_and_nobody_elses(monkeypatch):
    """Layers after the first write where they read; the caller's features stay, watched or not, and
    with gradients the result is the same."""
    monkeypatch.setattr(nformer, "ROWS", 5)
    made, given = transformer(layers=3), vectors()[None]
    before = given.clone()
    expected = made(given, 0).detach()
    with torch.no_grad():
        torch.testing.assert_close(made(given, 0), expected)
        for pattern in ("*weights", "*projected"):
            with observe(made, pattern) as seen:
                torch.testing.assert_close(made(given, 0), expected)
            assert len(seen) == 3 and all(12 in each.shape for each in seen.values())  # of all
    assert torch.equal(given, before)


def test_protocols_by_name_on_the_command_line(refined, tiny_run, capsys):
    for protocol in ("nformer-joint", "nformer-per-query"):
        assert main(["evaluate", "refined", "--protocol", protocol]) == 0
        assert json.loads(capsys.readouterr().out)["protocol"] == protocol
    assert main(["evaluate", "refined", "--stage", "encoder"]) == 0
    assert json.loads(capsys.readouterr().out)["protocol"] == "market"
    for wrong in (["refined", "--protocol", "market"], [tiny_run, "--protocol", "nformer-joint"]):
        assert main(["evaluate", *wrong]) == 2
        assert "unknown protocol" in capsys.readouterr().err


GOLDEN = Path(__file__).parent / "golden" / "nformer.npz"


@pytest.fixture(scope="module")
def official():
    """The official neighbour transformer's weights in our names, and what it made of them."""
    golden = dict(np.load(GOLDEN))
    made = {}
    for name, shape in json.loads(str(golden["keys"])).items():
        value = filled(name, tuple(shape))
        made[name] = value
    return golden, made


def golden_model(made) -> NFormer:
    weights = {}
    for name, value in made.items():
        for pattern, ours in NAMES["nformer"].items():
            if re.match(pattern, name):  # the official matrices are (in, out)
                weights[re.sub(pattern, ours, name)] = value.T if name.endswith(".w") else value
    options = NFormerOptions(pretrained="none", dropout=0.0, landmarks=24)
    with torch.device("meta"):
        model = NFormer(options, (64, 32), Facts(751))
    model.transformer.to_empty(device="cpu")
    model.load_state_dict(weights, strict=False, assign=True)  # the encoder stays empty
    model.transformer.centers.centers.data = filled("centers", (751, 256)) * 16
    return model


def test_the_official_test_features(official):
    golden, made = official
    model = golden_model(made).eval()
    model.neck = "after"
    with torch.no_grad():
        found = model.refine(torch.from_numpy(golden["vectors"]))
    error = np.linalg.norm(found.numpy() - golden["refined"]) / np.linalg.norm(golden["refined"])
    assert error < 1e-5


def test_the_official_training_loss_and_gradients(official):
    golden, made = official
    model = golden_model(made).train()
    stored = torch.from_numpy(golden["stored"])
    identity = torch.from_numpy(golden["identity"])
    batch = Batch(None, torch.empty(0), torch.empty(0), identity, 1, vectors=stored)
    terms = objective(model(batch), identity, margin=0.3, label_smoothing=0.1)
    for name in ("identity", "triplet", "center"):
        assert terms[name].item() == pytest.approx(float(golden[f"loss_{name}"]), rel=1e-5)
    sum(terms.values()).backward()
    layer = model.transformer.layers[0]
    for name, gradient in {
        "h.0.attn.c_attn.w": layer.attention.qkv.weight.grad.T,
        "h.0.ln_1.g": layer.norm1.weight.grad,
        "h.3.mlp.c_proj.w": model.transformer.layers[3].feed_forward[2].weight.grad.T,
    }.items():
        expected = torch.from_numpy(golden[f"gradient_{name}"])
        error = (gradient.flatten()[: len(expected)] - expected).norm() / expected.norm()
        assert error < 1e-3, name


def test_large_affinities_are_computed_in_float64():
    """Float32 drifts there; watched or not, met by one query or refined as one set."""
    torch.manual_seed(0)
    model = Refiner(layers=3)
    for parameter in model.parameters():
        parameter.data.mul_(4)
    gallery, query = torch.randn(90, 8), torch.randn(1, 8)
    whole = torch.cat([query, gallery])
    with torch.no_grad(), observe(model.transformer, "*weights") as seen:
        ours = model.refine(whole, seed=0)
    assert ours.dtype == torch.float32 and seen["layers.2.attention.weights"].dtype == torch.double
    doubled = copy.deepcopy(model).double()
    with torch.no_grad():
        exact = doubled.refine(F.normalize(whole, dim=1).double(), seed=0)
    assert (ours - exact).abs().max() < 1e-5
    met = GalleryPass(model, gallery, 0)
    assert met.alone and met.layers[0].x.dtype == torch.double
    (found,) = met.meet(query)
    torch.testing.assert_close(found.query, ours[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(found.vectors, ours[1:][found.rows], rtol=0, atol=1e-6)
