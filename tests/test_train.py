"""Training: what is drawn, what is learned, what survives a stop."""

import gc
import json
import math
import shutil
import struct
import subprocess
import sys
import warnings
import weakref

import numpy as np
import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file, save_file
from tensorboardX.proto.event_pb2 import Event
from timm.data.constants import IMAGENET_DEFAULT_MEAN
from torch.optim.optimizer import register_optimizer_step_post_hook

from reid_core import train
from reid_core.data import ROOT, open_dataset
from reid_core.data.images import augment
from reid_core.data.sampler import batches
from reid_core.errors import BadInput, as_told, is_short_of_memory
from reid_core.experiment import Experiment, Training
from reid_core.feed import Feed, prepared
from reid_core.models import vit
from reid_core.models.transreid import TransReID
from reid_core.models.weights import read_weights
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

    run = train.create(experiment(), "moved")
    shutil.copytree(tiny_data, tmp_path / "data" / "pedestrians")
    for image in (tmp_path / "data/pedestrians/bounding_box_train").glob("0001_*"):
        image.unlink()
    monkeypatch.setenv("REID_DATA", str(tmp_path / "data"))
    with pytest.raises(BadInput, match="changed since"):
        train.train(run)


def test_a_run_that_goes_on_with_other_images_says_so(
    runs, tiny_data, tmp_path, capsys, monkeypatch
):
    """Its scores are of two training sets."""
    data = tmp_path / "data" / "pedestrians"
    shutil.copytree(tiny_data, data)
    monkeypatch.setenv("REID_DATA", str(tmp_path / "data"))
    run = train.create(experiment(epochs=2), "fewer")
    stepped = train.Progress.stepped
    with monkeypatch.context() as patch, pytest.raises(train.Stopped):
        ask = lambda *given: run.ask_stop() or stepped(*given)  # noqa: E731
        patch.setattr(train.Progress, "stepped", ask)
        train.train(run)
    next((data / "bounding_box_train").glob("0001_*")).unlink()
    train.train(run)
    for said in (run.log_tail(200), capsys.readouterr().err):
        assert "training images: others than before (63 now, 64 then)" in said


def test_more_identities_in_a_batch_than_there_are(runs):
    with pytest.raises(BadInput, match="give fewer"):
        train.create(experiment(identities_per_batch=50))


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(heads=0), r"^heads: width=32 can't be divided by heads=0 \(the trunk's own\); give"),
        (dict(heads=5), "^heads: width=32 can't be divided by heads=5; give another"),
        (dict(epochs="1e99"), "^epochs: .* 1000000 at most, got '1e99'"),
        (dict(pretrained=__file__), "can't be read as weights"),
    ],
)
def test_knobs_that_cannot_be_are_named(runs, settings, message):
    with pytest.raises(BadInput, match=message):
        train.create(experiment(**settings))
    assert not list(runs.iterdir())


@pytest.mark.filterwarnings("error")
def test_weights_of_another_trunk_make_no_run(runs, tmp_path):
    options = experiment().options
    own = vit.chosen(options, patch_size=options.patch).state_dict()
    save_file(own, tmp_path / "trunk.safetensors")
    train.create(experiment(pretrained=str(tmp_path / "trunk.safetensors")), "fits")
    own.pop("cls_token")
    save_file(own, tmp_path / "trunk.safetensors")
    with pytest.raises(BadInput, match=r"does not fit this trunk: .* cls_token .* missing there"):
        train.create(experiment(pretrained=str(tmp_path / "trunk.safetensors")), "lacks")
    assert [each.name for each in runs.iterdir()] == ["fits"]


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


@pytest.mark.parametrize("state", ("last.pt", "before.pt"))
@pytest.mark.parametrize("damage", ("gone", "cut short", "one byte"))
def test_a_finished_run_gets_its_weights_back_from_its_last_state(runs, damage, state):
    """The message says how, and the bits are those it had."""
    run = train.create(experiment(epochs=2), "whole")
    train.train(run)
    path, history = run.folder / "weights.safetensors", numbers(run)
    whole, metrics, vectors = path.read_bytes(), run.metrics(), run.embeddings().vectors
    damaged = {"gone": None, "cut short": whole[:-9], "one byte": whole[:-9] + b"?" + whole[-8:]}
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(damaged[damage])
    if state != "last.pt":
        (run.folder / "state/last.pt").write_bytes(b"damaged too")
    with pytest.raises(BadInput, match=r"resume its training, which writes (them|it) anew"):
        run.model()
    assert run.resumable == (damage != "one byte")  # which only who reads all of it can know
    path.unlink(missing_ok=True)  # as the message says then
    assert run.resumable
    train.train(run)
    assert run.status().state == "finished" and not run.resumable
    assert (path.read_bytes(), run.metrics(), numbers(run)) == (whole, metrics, history)
    np.testing.assert_array_equal(run.embeddings().vectors, vectors)
    path.unlink()
    for each in (run.folder / "state").glob("*.pt"):
        each.unlink()
    assert not run.resumable
    with pytest.raises(BadInput, match="train a clone"):
        run.model()


def test_a_run_goes_on_without_the_batch_whose_loss_was_not_finite(runs, monkeypatch):
    """The batch, its seed and the state before are kept; the state is that of the step before."""
    run = train.create(experiment(epochs=2), "odd")
    original, steps = train.step.objective, []

    def spoilt(output, identities, **how):
        steps.append(identities)
        terms = original(output, identities, **how)
        return terms if len(steps) != 2 else {"identity": terms["identity"] / 0 * 0}

    monkeypatch.setattr(train.step, "objective", spoilt)
    with pytest.raises(BadInput, match=r"NaN or infinite in epoch 1, step 2 .*resume to go on"):
        train.train(run)
    (note,) = json.loads((run.folder / "state/nonfinite.json").read_text())
    assert (note["epoch"], note["step"], note["seed"]) == (1, 1, [0, 1, 1])
    assert len(note["images"]) == len(steps[1])
    assert all((open_dataset("pedestrians").root / name).is_file() for name in note["images"])
    state = torch.load(run.folder / "state/nonfinite.pt", weights_only=True)
    assert state["step"] == 1 and all(v.isfinite().all() for v in state["model"].values())
    assert run.resumable
    train.train(run)
    assert run.status().state == "finished" and "step 2 is left out" in run.log_tail()
    assert all(np.isfinite(entry["loss"]) for entry in run.history())


def test_a_gradient_that_is_no_number_leaves_the_model_as_it_was(runs, monkeypatch):
    run = train.create(experiment(), "gradient")
    original = train.step.objective

    def spoilt(output, identities, **how):
        terms = original(output, identities, **how)
        zero = output.branches[0].feature.sum() * 0
        return terms | {"odd": zero.square().sqrt()}  # 0, with a slope of 0 / 0

    monkeypatch.setattr(train.step, "objective", spoilt)
    with pytest.raises(BadInput, match="gradient became NaN"):
        train.train(run)
    kept = run.load_state()
    torch.manual_seed(0)
    assert kept["step"] == 0 and all(v.isfinite().all() for v in kept["model"].values())
    norms = {k: v for k, v in kept["model"].items() if "running_mean" in k}
    assert norms and all((v == 0).all() for v in norms.values())  # not even BatchNorm has moved


@pytest.mark.parametrize("what", ("loss", "gradient", "weights"))
def test_where_looking_is_waiting_the_step_is_named_and_the_state_before_is_whole(
    runs, monkeypatch, what
):
    """As on a GPU: steps are taken on after the odd one, until something is to be kept."""
    run = train.create(experiment(epochs=2), "late")
    original, calls, hooks = train.step.objective, [], []
    feed = Feed(run, run.experiment, torch.device("cpu"))
    first, second = (len(feed.plan(epoch)) for epoch in (1, 2))
    step = second - 1 if what == "weights" else 1  # of epoch 2

    def spoilt(output, identities, **how):
        calls.append(identities)
        terms = original(output, identities, **how)
        if len(calls) - 1 != first + step:
            return terms
        feature = output.branches[0].feature
        if what == "weights":
            hooks.append(register_optimizer_step_post_hook(ruin))
        zero = (feature * 0).sum() if what != "gradient" else (feature.sum() * 0).square().sqrt()
        return terms | {"odd": zero / 0 if what == "loss" else zero}

    def ruin(optimizer, *_):
        for group in optimizer.param_groups:
            for weight in group["params"]:
                weight.data.fill_(1e30)

    monkeypatch.setattr(train.step, "objective", spoilt)
    monkeypatch.setattr(train.step, "free_to_look", lambda fabric: False)
    with pytest.raises(BadInput, match=rf"the {what} became NaN or infinite in epoch 2"):
        train.train(run)
    for hook in hooks:
        hook.remove()
    (note,) = json.loads((run.folder / "state/nonfinite.json").read_text())
    assert (note["epoch"], note["step"]) == (2, step)
    kept = run.load_state()
    assert (kept["epoch"], kept["step"]) == (2, 0)
    assert all(value.isfinite().all() for value in kept["model"].values())


def test_a_damaged_state_gives_way_to_the_one_before(runs):
    whole = train.create(experiment(epochs=3), "whole")
    train.train(whole)
    run = train.create(experiment(epochs=3), "damaged")
    train.train(run)
    for _ in range(2):  # as after a kill in the last epoch
        state = run.folder / "state/last.pt"
        content = bytearray(state.read_bytes())
        content[len(content) // 2] ^= 255
        state.write_bytes(content)
        train.train(run)
    assert run.log_tail().count("going on from state/before.pt, the one before") == 2
    assert weights(run).keys() == weights(whole).keys()
    for name, weight in weights(whole).items():
        assert torch.equal(weight, weights(run)[name]), name
    history, said = run.folder / "history.jsonl", run.history()
    history.write_bytes(history.read_bytes()[:-9])
    with pytest.raises(BadInput, match=r"damaged history\.jsonl"):  # before it trains any further
        train.train(run)
    history.write_text("".join(json.dumps(line) + "\n" for line in said))
    for name in ("last.pt", "before.pt"):
        (run.folder / "state" / name).write_bytes(b"PK nothing")
    with pytest.raises(BadInput, match=r"damaged state/last\.pt and state/before\.pt: start"):
        train.train(run)
    assert run.log_tail().count("going on") == 2  # not said where there is none
    status = run.status()
    assert (status.state, status.epoch, status.epochs) == ("failed", 3, 3)
    shutil.rmtree(run.folder / "state")
    train.train(run)
    assert "no state is left of the 3 epochs in its history" in run.log_tail()
    before = (run.folder / "history-before.jsonl").read_text().splitlines()
    for lines in (before, run.history()):
        assert len(lines) == 3
    assert json.loads(before[0])["seconds"] != run.history()[0]["seconds"]
    for name in ("tensorboard", "tensorboard-before"):
        assert any((run.folder / name).iterdir())
    assert torch.equal(next(iter(weights(run).values())), next(iter(weights(whole).values())))


def test_what_a_killed_process_was_writing_is_swept_away(runs):
    run = train.create(experiment(), "swept")
    for name in (".metrics.json.4711", "state/.last.pt.4711"):
        (run.folder / name).write_bytes(b"half")
    train.train(run)
    assert not [path for path in run.folder.rglob(".*") if path.is_file()]


def test_an_image_that_goes_missing_within_an_epoch_loses_no_step(runs, tiny_data, monkeypatch):
    from reid_core import feed

    run = train.create(experiment(epochs=2), "missing")
    original, batches = feed.Feed.batch, []

    def batch(self, rows, epoch):
        batches.append(rows)
        if len(batches) == 2:
            raise BadInput("no image 0001_c1.jpg: was the data set moved?")
        return original(self, rows, epoch)

    monkeypatch.setattr(feed.Feed, "batch", batch)
    with pytest.raises(BadInput, match="was the data set moved"):
        train.train(run)
    assert run.status().state == "failed" and run.load_state()["step"] == 1
    train.train(run)
    assert run.status().state == "finished"


def test_a_full_disk_is_told_and_loses_nothing(runs, monkeypatch):
    from contextlib import contextmanager

    from reid_core.runs import Run

    run = train.create(experiment(epochs=2), "full")
    original, saves = Run.writing, []

    @contextmanager
    def writing(self, name):
        saves.append(name)
        if name == "state/last.pt" and saves.count(name) == 3:
            raise OSError(28, "No space left on device", str(self.folder / name))
        with original(self, name) as file:
            yield file

    monkeypatch.setattr(Run, "writing", writing)
    with pytest.raises(OSError):
        train.train(run)
    assert "no space left for" in run.status().message and run.resumable
    train.train(run)
    assert run.status().state == "finished"


def test_a_full_disk_in_torchs_words_is_told_and_loses_nothing(runs, monkeypatch):
    run = train.create(experiment(epochs=2), "full")
    original, saves = torch.save, []

    def save(state, file):
        saves.append(state["epoch"])
        if len(saves) != 4:
            return original(state, file)
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            raise RuntimeError(
                "[enforce fail at inline_container.cc:671] . unexpected pos"
            ) from None

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OSError, match="No space left"):
        train.train(run)
    assert "no space left for" in run.status().message and "last.pt" in run.status().message
    assert run.load_state()["epoch"] == 2 and run.resumable
    train.train(run)
    assert run.status().state == "finished" and len(run.history()) == 2


@pytest.mark.long
def test_a_file_that_may_not_grow_is_told_by_train_and_resume(runs):
    pytest.importorskip("resource")
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (180_000, 180_000)); "
        "from reid_core.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    knobs = [f"{key}={value}" for key, value in TINY.items()]
    first = ["--model", "transreid", "--run", "full", "--set", *knobs]
    for asked in (first, ["--resume", "full"]):
        command = [sys.executable, "-c", limited, "train", *asked]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        told = ended.stderr.splitlines()[-1]
        assert ended.returncode == 2 and "Traceback" not in ended.stderr
        assert told.startswith("reid_core: no space left for") and "state/last.pt" in told
        status = open_run("full").status()
        assert status.state == "failed" and status.epochs == TINY["epochs"]
        assert told == f"reid_core: {status.message}; go on with: train --resume full"
    train.train(open_run("full"))
    assert open_run("full").status().state == "finished"


def test_a_batch_that_did_not_fit_is_let_go_before_smaller_ones_are_tried(runs, monkeypatch):
    """Or they would be tried in what memory it left over."""
    run = train.create(experiment(identities_per_batch=6), "large")
    held, free = [], []

    def short(output, identities, **how):
        if held:
            free.append(held[0]() is None)
            return original(output, identities, **how)
        computed = output.embedding * 2
        held.append(weakref.ref(computed))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    original = train.step.objective
    monkeypatch.setattr(train.step, "objective", short)
    with pytest.raises(BadInput, match="identities_per_batch=5"):
        train.train(run)
    assert free and all(free)


def events(folder) -> list[tuple[str, int, float]]:
    """What TensorBoard's files of a run say: name, step, value."""
    found = []
    for file in sorted((folder / "tensorboard").iterdir()):
        content, at = file.read_bytes(), 0
        while at < len(content):  # length, its checksum, the event, its checksum
            (length,) = struct.unpack_from("Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            found += [(each.tag, event.step, each.simple_value) for each in event.summary.value]
            at += 16 + length
    return found


def test_tensorboard_has_the_history(tiny_run):
    run = open_run(tiny_run)
    lines = [(k, e["epoch"], v) for e in run.history() for k, v in e.items() if k != "epoch"]
    assert events(run.folder) == [(k, step, pytest.approx(v)) for k, step, v in lines]


def test_a_disk_that_takes_no_curves_ends_no_training(runs, monkeypatch):
    """They are a second copy of the history."""

    def full(self, event):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(train.progress.EventsWriter, "write_event", full)
    run = train.create(experiment(epochs=3), "uncurved")
    train.train(run)
    assert run.status().state == "finished" and len(run.history()) == 3
    assert run.log_tail().count("TensorBoard's curves end here (No space left on device)") == 1


@pytest.mark.parametrize("parts, room, more", [(1, 8, 2), (2, 4, 3)])
def test_out_of_memory_names_the_batch_that_fits(runs, monkeypatch, parts, room, more):
    run = train.create(experiment(identities_per_batch=6, accumulate=parts), "large")
    module = train.step if parts == 1 else train.parts
    original = module.objective

    def short(output, identities, **how):
        if len(identities) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return original(output, identities, **how)

    monkeypatch.setattr(module, "objective", short)
    said = rf"6 x 2 = 12 images.*identities_per_batch=4 \(8 images\).*accumulate={more} fits too$"
    with pytest.raises(BadInput, match=said):
        train.train(run)
    assert run.status().state == "failed"


@pytest.mark.parametrize(
    "whole, part, said",
    [  # images that fit in one pass, and beside what a batch in parts keeps of all of them
        (8, 8, "identities_per_batch=4 (8 images) fits, accumulate=2 fits too"),
        (8, 4, "identities_per_batch=4 (8 images) fits, accumulate=3 fits too"),
        (8, 1, "identities_per_batch=4 (8 images) fits"),
        (3, 2, "accumulate=6 fits"),
        (
            3,
            1,
            "in what is left not even 2 identities fit; give far fewer to a new run, a smaller size, a larger stride or a smaller model",
        ),
    ],
)
def test_what_is_advised_against_a_lack_of_memory_was_tried(whole, part, said):
    training, tried = Training(identities_per_batch=6, images_per_identity=2), []

    def attempt(images, parts):
        tried.append((images, parts))
        if images / parts > (whole if parts == 1 else part):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    problem = train.accidents.too_large(training, (12,), 1, attempt)
    assert str(problem) == f"out of memory with 6 x 2 = 12 images in a batch: {said}"
    for images, parts in tried:
        assert images == 12 if parts > 1 else images < 12
    problem = str(train.accidents.too_large(training, (12,), 1, attempt, fitted=True))
    assert " now" in problem and problem.endswith("with more memory free resume goes on")


def test_memory_that_is_short_outside_of_a_step_is_told_in_one_line(runs, monkeypatch, capsys):
    """In an evaluation, say: what was saved before it stands, and a resume goes on from there."""
    from reid_core.__main__ import main

    def short(*given, **how):
        raise MemoryError

    asked = ["train", "--model", "transreid", "--recipe", "demo", "--run", "short", "--set"]
    asked += [f"{key}={value}" for key, value in TINY.items()]
    with monkeypatch.context() as patch:
        patch.setattr(train.loop, "embed_test", short)
        assert main(asked) == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "reid_core:" in each]
    assert "out of memory (MemoryError): close other programs" in line
    assert line.endswith("go on with: train --resume short")
    run = open_run("short")
    assert "out of memory" in run.status().message and run.load_state()["step"] > 0
    assert "Traceback" not in run.log_tail()
    assert main(["train", "--resume", "short"]) == 0


def test_a_first_step_that_ruins_the_weights_has_a_state_before(runs):
    """It is found out when something is to be kept, after the step."""
    asked = experiment(epochs=1, identities_per_batch=6, learning_rate=1e308)
    run = train.create(asked, "first")
    said = r"weights became NaN or infinite in epoch 1, step 1 .*the state before are in state/non"
    with pytest.raises(BadInput, match=said):
        train.train(run)
    before = torch.load(run.folder / "state/nonfinite.pt", weights_only=True)
    assert (before["epoch"], before["step"]) == (1, 0)
    assert all(torch.isfinite(weight).all() for weight in before["model"].values())


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_statistics_that_are_no_numbers_are_not_kept(runs, value):
    """BatchNorm's: with an infinite variance the embedding is finite, and says nothing."""
    run = train.create(experiment(epochs=2), "statistics")
    feed, calls = Feed(run, run.experiment, torch.device("cpu")), []
    last = len(feed.plan(1)) + len(feed.plan(2))

    def ruin(optimizer, *_):
        calls.append(optimizer)
        if len(calls) == last:
            for model in [each for each in gc.get_objects() if type(each) is TransReID]:
                if model.training:
                    model.necks[0].norm.running_var.fill_(value)

    hook = register_optimizer_step_post_hook(ruin)
    try:
        with pytest.raises(BadInput, match="statistics became NaN or infinite in epoch 2"):
            train.train(run)
    finally:
        hook.remove()
    kept = run.load_state()
    assert all(v.isfinite().all() for v in kept["model"].values() if v.is_floating_point())


def test_torch_may_not_take_another_operation_where_memory_is_short(runs, monkeypatch):
    """It would go on with other last digits, and a resumed run would end otherwise."""
    run = train.create(experiment(), "other")
    original = train.step.objective

    def short(output, identities, **how):
        said = "mkldnn_matmul failed, switching to baddbmm:could not create a primitive"
        warnings.warn(said, stacklevel=1)
        return original(output, identities, **how)

    monkeypatch.setattr(train.step, "objective", short)
    with pytest.raises(BadInput, match="out of memory with 4 x 2 = 8 images"):
        train.train(run)


def test_weights_ruined_by_a_step_are_not_kept_when_the_next_one_fails(runs, monkeypatch):
    """On a processor, where the next step's loss is looked at before anything else is."""
    run = train.create(experiment(epochs=2), "ruined")
    feed = Feed(run, run.experiment, torch.device("cpu"))
    first, calls = len(feed.plan(1)), []

    def ruin(optimizer, *_):
        calls.append(optimizer)
        if len(calls) == first + 1:  # the first step of epoch 2
            for group in optimizer.param_groups:
                for weight in group["params"]:
                    weight.data.fill_(torch.inf)

    hook = register_optimizer_step_post_hook(ruin)
    try:
        with pytest.raises(BadInput, match="weights became NaN or infinite in epoch 2, step 1 "):
            train.train(run)
    finally:
        hook.remove()
    kept = run.load_state()
    assert (kept["epoch"], kept["step"]) == (2, 0)
    assert all(value.isfinite().all() for value in kept["model"].values())
    train.train(run)
    assert run.status().state == "finished" and "step 1 is left out" in run.log_tail()


@pytest.mark.parametrize("fits", [0, 2, 3, 7, 15])
@pytest.mark.parametrize(
    "words",
    ("DefaultCPUAllocator: can't allocate memory: you tried ...", "could not create a primitive"),
)
def test_the_largest_batch_that_fits(fits, words):
    from reid_core.train.accidents import largest_fitting

    def attempt(number):
        if number > fits:
            raise RuntimeError(words)

    assert largest_fitting(attempt, 15) == fits


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    from reid_core.train.accidents import largest_fitting

    def attempt(number):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        largest_fitting(attempt, 5)


def test_an_operation_without_a_deterministic_form_is_refused_by_name(runs, monkeypatch):
    run = train.create(experiment(deterministic=True), "steady")
    original = train.step.objective

    def unsteady(output, identities, **how):
        where = torch.zeros(1, dtype=torch.long)
        torch.zeros(3).put_(where, torch.ones(1))
        return original(output, identities, **how)

    monkeypatch.setattr(train.step, "objective", unsteady)
    with pytest.raises(BadInput, match=r"deterministic: .*put_.* no deterministic form"):
        train.train(run)
    assert not torch.are_deterministic_algorithms_enabled()
    monkeypatch.undo()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("can't start new thread"),
        RuntimeError("unable to mmap 6048432 bytes from file: Cannot allocate memory (12)"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError(12, "Cannot allocate memory"),
        MemoryError(),
    ],
)
def test_whatever_is_said_where_memory_is_short(tiny_run, monkeypatch, capsys, error):
    """Of a command too, and never that the weights are damaged."""
    from reid_core.__main__ import main

    def short(*given, **how):
        raise error

    monkeypatch.setattr("reid_core.runs.run.unpacked", short)
    assert main(["evaluate", tiny_run, "--dataset", "pedestrians"]) == 2
    assert "reid_core: out of memory (" in capsys.readouterr().err
    monkeypatch.setattr("reid_core.models.weights.load_file", short)
    with pytest.raises(type(error)):
        read_weights(open_run(tiny_run).folder / "weights.safetensors")


def test_a_library_that_found_no_memory_names_it_only_underneath():
    def load(why):
        try:
            raise OSError(why)
        except OSError:
            raise OSError("Could not find/load shared object file 'libllvmlite.so'")  # noqa: B904

    found = []
    for why in ("failed to map segment from shared object", "no such file"):
        with pytest.raises(OSError, match="libllvmlite") as caught:
            load(why)
        found.append(is_short_of_memory(caught.value))
    assert found == [True, False]
    told = BadInput("expected a number")
    told.__context__ = MemoryError()
    assert as_told(told) is told
