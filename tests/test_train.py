"""Training: what is drawn, what is learned, what survives a stop."""

import json
import math

import numpy as np
import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file
from timm.data.constants import IMAGENET_DEFAULT_MEAN

from reid_core import train
from reid_core.data import open_dataset
from reid_core.data.images import augment
from reid_core.data.sampler import batches
from reid_core.errors import BadInput
from reid_core.experiment import Experiment, Training
from reid_core.feed import prepared
from reid_core.optimize import learning_rate, optimizers_for
from reid_core.runs import open_run


def experiment(**settings) -> Experiment:
    return Experiment.create(model="transreid", recipe="demo", settings=TINY | settings)


def test_batches_hold_p_identities_k_times():
    identities = np.repeat(np.arange(7), [3, 4, 5, 8, 4, 1, 12])
    seen = []
    epoch = batches(identities, p=3, k=4, generator=np.random.default_rng(0))
    for rows in epoch:
        groups = identities[rows].reshape(3, 4)
        assert (groups == groups[:, :1]).all() and len(set(groups[:, 0])) == 3
        seen.append(rows)
    rows = np.concatenate(seen)
    many = rows[np.isin(identities[rows], [1, 2, 3, 4, 6])]
    assert len(set(many)) == len(many)  # no image twice where there are K of them
    again = batches(identities, p=3, k=4, generator=np.random.default_rng(0))
    assert all((a == b).all() for a, b in zip(epoch, again, strict=True))


def test_an_epoch_of_identities_shows_each_of_them_once():
    identities = np.repeat(np.arange(7), [3, 4, 5, 8, 4, 1, 12])
    epoch = batches(identities, p=3, k=4, generator=np.random.default_rng(0), once=True)
    assert len(epoch) == 7 // 3
    shown, counts = np.unique(identities[np.concatenate(epoch)], return_counts=True)
    assert len(shown) == 6 and (counts == 4).all()


def test_learning_rates_are_the_official_ones():
    """Epochs 1, 2, 4, 5, 60 and 119 of TransReID's schedule, read off its scheduler."""
    paper = Experiment.create(model="transreid", recipe="paper").training
    rates = [learning_rate(paper, epoch) for epoch in (1, 2, 4, 5, 60, 119)]
    expected = [0.001664, 0.003248, 0.006416, 0.007966, 0.004008, 1.7e-5]
    assert rates[:5] == pytest.approx(expected[:5], rel=1e-4)
    assert rates[5] == pytest.approx(expected[5], rel=0.03)  # noted with two digits


def test_a_multistep_schedule_falls_by_its_decay():
    steps = dict(schedule="multistep", warmup_epochs=0, learning_rate=1.0, steps="40,70")
    for decay in (0.1, 0.5):
        training = Training(**steps, decay=decay)
        rates = [learning_rate(training, e) for e in (39, 40, 70)]
        assert rates == pytest.approx([1, decay, decay**2])


def test_the_convolutional_baselines_learning_rates_are_the_official_ones():
    """3.5e-4 after ten epochs of warm-up from a hundredth, a tenth of it from 40 and 70 on."""
    paper = Experiment.create(model="resnet-bot", recipe="paper").training
    rates = [learning_rate(paper, epoch) for epoch in (1, 5, 10, 39, 40, 69, 70, 120)]
    factors = [0.109, 0.505, 1, 1, 0.1, 0.1, 0.01, 0.01]
    assert rates == pytest.approx([3.5e-4 * factor for factor in factors])


def test_biases_have_their_own_learning_rate():
    model = torch.nn.Linear(2, 3)
    model.bias2 = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
    groups = optimizers_for(model, Training())[0].param_groups
    assert [g["scale"] for g in groups] == [1, 2]
    assert [len(g["params"]) for g in groups] == [1, 1]


def test_augmentation_moves_mirrors_and_erases():
    torch.manual_seed(0)
    image = torch.randint(1, 256, (64, 3, 16, 8), dtype=torch.uint8)
    seen, clean = augment(image, flip=0.5, pad=2, erase=1.0, normalisation="half")
    whole = image.float() / 255
    for original, moved in zip(whole, clean, strict=True):
        padded = torch.nn.functional.pad(torch.stack([original, original.flip(2)]), (2,) * 4)
        crops = [
            padded[m, :, y : y + 16, x : x + 8] for m in (0, 1) for y in range(5) for x in range(5)
        ]
        assert any(torch.equal(crop, moved) for crop in crops)
    erased = (seen != (clean - 0.5) / 0.5).any(dim=1).float().mean(dim=(1, 2))
    assert ((erased > 0.01) & (erased < 0.45)).all()
    same, _ = augment(image, flip=0.0, pad=0, erase=0.0, normalisation="half")
    torch.testing.assert_close(same, (whole - 0.5) / 0.5)


def test_erasing_fills_with_zero_or_the_mean_up_to_its_area():
    torch.manual_seed(0)
    image = torch.randint(0, 256, (64, 3, 32, 16), dtype=torch.uint8)
    for fill, values in (("zero", (0, 0, 0)), ("mean", IMAGENET_DEFAULT_MEAN)):
        plain = dict(flip=0.0, pad=0, normalisation="imagenet", area=0.1, fill=fill)
        untouched, _ = augment(image, erase=0.0, **plain)
        seen, _ = augment(image, erase=1.0, **plain)
        erased = (seen - seen.new_tensor(values)[:, None, None]).abs().amax(
            dim=1
        ) < 1e-6  # (B, H, W)
        torch.testing.assert_close(
            seen.movedim(1, 3)[~erased], untouched.movedim(1, 3)[~erased], rtol=0, atol=1e-5
        )
        assert (erased.flatten(1).sum(dim=1) > 0).all()
        assert erased.float().mean(dim=(1, 2)).max() < 0.13  # whole pixels round up


def test_translation_enlarges_and_crops():
    torch.manual_seed(0)
    image = torch.randint(0, 256, (64, 3, 16, 8), dtype=torch.uint8)
    plain = dict(flip=0.0, pad=0, erase=0.0, normalisation="half")
    _, clean = augment(image, translate=0.5, **plain)
    whole, moved = image.float() / 255, 0
    for original, found in zip(whole, clean, strict=True):
        larger = torch.nn.functional.interpolate(original[None], size=(18, 9), mode="bilinear")[0]
        crops = [larger[:, y : y + 16, x : x + 8] for y in range(3) for x in range(2)]
        moved += any(torch.equal(crop, found) for crop in crops)
        assert torch.equal(original, found) or any(torch.equal(crop, found) for crop in crops)
    assert 16 < moved < 48


def weights(run):
    return load_file(run.folder / "weights.safetensors")


def numbers(run):
    timing = ("images_per_second", "seconds")
    return [{k: v for k, v in each.items() if k not in timing} for each in run.history()]


def test_a_stopped_run_ends_like_one_that_was_not(runs, monkeypatch):
    """Stopped twice in the middle of an epoch: the same weights bit for bit, the same history."""
    whole = train.create(experiment(epochs=3, evaluate_every=2), "whole")
    train.train(whole)

    broken = train.create(experiment(epochs=3, evaluate_every=2), "broken")
    original, steps = train.Progress.stepped, []

    def stepped(self, *arguments):
        steps.append(arguments)
        if len(steps) in (2, 5):
            broken.ask_stop()
        return original(self, *arguments)

    monkeypatch.setattr(train.Progress, "stepped", stepped)
    for _ in range(2):
        with pytest.raises(train.Stopped):
            train.train(broken)
        assert broken.status().state == "stopped" and broken.resumable
    train.train(broken)

    assert broken.status().state == "finished" and not broken.resumable
    assert numbers(broken) == numbers(whole)
    for name, weight in weights(whole).items():
        assert torch.equal(weight, weights(broken)[name]), name
    np.testing.assert_array_equal(whole.embeddings().vectors, broken.embeddings().vectors)


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(runs):
    made = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run = train.create(experiment(seed=seed), name)
        train.train(run)
        made.append(run)
    assert numbers(made[0]) == numbers(made[1]) != numbers(made[2])
    first, second = ((r.folder / "weights.safetensors").read_bytes() for r in made[:2])
    assert first == second


def test_a_holdout_is_taken_from_the_training_identities(runs, tiny_data):
    dataset = open_dataset("pedestrians")
    held = prepared(experiment(holdout=0.3), dataset)
    kept, out = set(held.train.identities), set(held.query.identities)
    assert kept | out == set(dataset.train.identities) and not kept & out
    assert out == set(held.gallery.identities) | out
    run = train.create(experiment(holdout=0.3), "held")
    train.train(run)
    assert set(run.embeddings().identities) == out


def test_a_loss_that_is_no_number_stops_the_run_with_its_reason(runs, monkeypatch):
    run = train.create(experiment(epochs=2), "nan")
    monkeypatch.setattr(
        train.step, "objective", lambda *a, **k: {"identity": a[0].embedding.sum() * float("nan")}
    )
    with pytest.raises(BadInput, match="NaN or infinite in epoch 1"):
        train.train(run)
    assert run.status().state == "failed" and "NaN" in run.status().message
    assert not run.has_embeddings and "NaN" in run.log_tail()


def test_a_run_is_trained_by_one_process_at_a_time(runs):
    run = train.create(experiment(), "one")
    with run.lock():
        with pytest.raises(BadInput, match="another process"):
            train.train(run)


def test_images_that_changed_are_noticed(runs, tiny_data, tmp_path, monkeypatch):
    import shutil

    run = train.create(experiment(), "moved")
    shutil.copytree(tiny_data, tmp_path / "data" / "pedestrians")
    for image in (tmp_path / "data/pedestrians/bounding_box_train").glob("0001_*"):
        image.unlink()
    monkeypatch.setenv("REID_DATA", str(tmp_path / "data"))
    with pytest.raises(BadInput, match="changed since"):
        train.train(run)


def test_more_identities_in_a_batch_than_there_are(runs):
    with pytest.raises(BadInput, match="give fewer"):
        train.create(experiment(identities_per_batch=50))


def test_a_run_folder_holds_what_it_should(tiny_run, runs):
    run = open_run(tiny_run)
    names = {path.name for path in run.folder.iterdir()}
    assert names == {
        "experiment.json",
        "history.jsonl",
        "metrics.json",
        "weights.safetensors",
        "embeddings.npz",
        "log.txt",
        "tensorboard",
        "state",
    }
    lines = (run.folder / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1]
    assert {"loss", "loss_identity", "loss_triplet", "learning_rate", "mAP", "rank1"} <= set(
        json.loads(lines[0])
    )
    assert not math.isnan(run.metrics()["mAP"])
    assert {"versions", "seed", "git", "knobs", "facts"} <= set(run.record)
    assert any(path.name.startswith("events") for path in (run.folder / "tensorboard").iterdir())
