"""How images come to a training: the fast way and the official one draw alike, and decoding ahead
changes nothing."""

import math
import random
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image
from safetensors.torch import load_file
from scipy.stats import chi2_contingency, ks_2samp, kstest
from timm.data.random_erasing import RandomErasing

from reid_core import distributed, feed, train
from reid_core.data.erasing import Evenly, at_once, erased
from reid_core.data.images import FILTERS, Images, drawn_places, normalise, read
from reid_core.errors import BadInput
from reid_core.experiment import Experiment, Training
from reid_core.input import INPUTS, Ahead, seed
from reid_core.train import Stopped

CPU = torch.device("cpu")
SIZE = (32, 16)
# Two samples are taken for one distribution unless they would differ so by chance in one of a
# thousand cases. The draws are fixed, so this holds or does not.
LEVEL = 1e-3
DRAWS = 2000


def experiment(**settings) -> Experiment:
    return Experiment.create(model="transreid", recipe="demo", settings=TINY | settings)


def feed_of(**settings) -> feed.Feed:
    run = train.create(experiment(**settings))
    return feed.Feed(run, run.experiment, CPU)


# The fast way and the official one


def located(folder: Path) -> Path:
    """An image whose pixels say where they are: red the row, green the column, both from 1."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 1
    file = folder / "located.png"
    Image.fromarray(np.stack([rows, columns, 0 * rows + 200], 2).astype(np.uint8)).save(file)
    return file


def drawn(way: str, file: Path, count: int, **asked) -> tuple[torch.Tensor, torch.Tensor]:
    """What a way makes of so many times the same image: seen and clean, (count, 3, H, W)."""
    training = replace(Training(), **dict(size=SIZE, pad=4) | asked)
    images = Images([file], training.size, FILTERS[training.resize])
    made = INPUTS[way](images, training, CPU)
    seed(5, sum(map(ord, way)))
    rows = np.zeros(count, int)
    seen, clean, plain = made.made(made.read(rows), (count, slice(0, count)))
    assert torch.equal(plain[0], torch.from_numpy(read(file, SIZE).copy()).permute(2, 0, 1) / 255)
    return seen, clean


@cache
def draws(way: str, file: Path, fill: str = "noise") -> dict[str, np.ndarray]:
    """What was drawn, read off the images: mirrored, top, left; of those erased area, aspect, place."""
    seen, clean = drawn(way, file, DRAWS, erase=0.6, flip=0.3, erase_fill=fill)
    middle = (clean[:, :, SIZE[0] // 2, SIZE[1] // 2] * 255).round().numpy()  # never in the border
    inside = (clean[:, 1, SIZE[0] // 2, SIZE[1] // 2 : SIZE[1] // 2 + 2] * 255).round().numpy()
    changed = (seen != normalise(clean, "half")).all(dim=1)  # (N, H, W)
    hit = changed.any(dim=2).any(dim=1)
    tall = changed.any(dim=2).sum(1)[hit].numpy()
    wide = changed.any(dim=1).sum(1)[hit].numpy()
    assert (changed[hit].sum((1, 2)).numpy() == tall * wide).all()  # a full rectangle each
    top, left = (changed.any(dim=axis)[hit].int().argmax(1).numpy() for axis in (2, 1))
    return dict(
        mirrored=inside[:, 1] < inside[:, 0],
        row=middle[:, 0],
        column=middle[:, 1],
        erased=hit.numpy(),
        area=tall * wide / math.prod(SIZE),
        aspect=tall / wide,
        above=top / (SIZE[0] - tall),
        beside=left / (SIZE[1] - wide),
        noise=seen[changed[:, None].expand_as(seen)].numpy()[:5000],
        mean=clean.double().mean(0).numpy(),
        deviation=clean.double().std(0).numpy(),
    )


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    file = located(tmp_path_factory.mktemp("located"))
    return draws("fast", file), draws("official", file)


@pytest.mark.parametrize("what", ["mirrored", "row", "column", "erased"])
def test_both_ways_flip_crop_and_choose_alike(both, what):
    """Chi-square over the values that occur."""
    values = np.unique(np.concatenate([each[what] for each in both]))
    counts = [[np.sum(each[what] == value) for value in values] for each in both]
    assert len(values) == dict(row=9, column=10).get(what, 2)
    assert chi2_contingency(counts).pvalue > LEVEL
    if what == "row":  # each of the 2 x 4 + 1 places as likely as the others
        assert np.abs(np.array(counts) / DRAWS - 1 / 9).max() < 5 * math.sqrt(8 / 81 / DRAWS)
    share = dict(mirrored=0.3, erased=0.6).get(what)
    for each in both if share else ():
        error = math.sqrt(share * (1 - share) / DRAWS)
        assert abs(each[what].mean() - share) < 4 * error


@pytest.mark.parametrize("what", ["area", "aspect", "above", "beside", "noise"])
def test_both_ways_erase_alike(both, what):
    """Kolmogorov-Smirnov."""
    assert ks_2samp(both[0][what], both[1][what]).pvalue > LEVEL
    if what == "noise":
        assert kstest(both[0][what], "norm").pvalue > LEVEL


@pytest.mark.parametrize("what", ["erased", "area", "aspect", "above", "beside"])
def test_both_ways_erase_alike_without_noise(tmp_path_factory, what):
    """With the convolutional models' rectangles, which are taller than timm's."""
    file = located(tmp_path_factory.getbasetemp())
    fast, official, noise = (
        draws(*way, file, fill)[what]
        for *way, fill in (("fast", "zero"), ("official", "zero"), ("fast", "noise"))
    )
    assert ks_2samp(fast, official).pvalue > LEVEL
    if what == "aspect":
        assert ks_2samp(fast, noise).pvalue < 1e-9


def test_both_ways_translate_to_the_same_places():
    """RGA's code rounds where a part begins."""
    torch.manual_seed(0), random.seed(0)
    fast = drawn_places((36, 18), (32, 16), (4000, slice(0, 4000)), CPU, rounded=True)
    for places, room in zip(fast, (4, 2), strict=True):
        official = np.bincount([round(random.uniform(0, room)) for _ in range(4000)])
        assert chi2_contingency([places.bincount().numpy(), official]).pvalue > LEVEL
        assert abs(official[0] / official[1] - 0.5) < 0.1


def test_their_mean_images_differ_by_the_error_of_the_draws(both):
    fast, official = both
    error = np.sqrt((fast["deviation"] ** 2 + official["deviation"] ** 2) / DRAWS)
    away = np.abs(fast["mean"] - official["mean"])
    assert (away <= 5 * error + 1e-7).all() and away.max() > 0


@pytest.mark.parametrize("resize", FILTERS)
@pytest.mark.parametrize("normalisation", ["half", "imagenet"])
def test_without_chance_they_are_equal(tmp_path, resize, normalisation):
    random_pixels = np.random.default_rng(0).integers(0, 256, (70, 45, 3), np.uint8)
    file = tmp_path / "one.jpg"
    Image.fromarray(random_pixels).save(file)
    asked = replace(Training(), size=SIZE, pad=0, flip=1.0, erase=0.0)
    asked = replace(asked, resize=resize, normalisation=normalisation)
    found = []
    for way in INPUTS.values():
        made = way(Images([file], SIZE, FILTERS[resize]), asked, CPU)
        found.append(made.made(made.read(np.array([0])), (1, slice(0, 1))))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    seen, clean, plain = found[0]
    assert torch.equal(clean, plain.flip(3)) and torch.equal(seen, normalise(clean, normalisation))


def test_the_official_translation_enlarges_the_file(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (60, 40, 3), np.uint8)
    file = tmp_path / "one.png"
    Image.fromarray(pixels).save(file)
    larger = torch.from_numpy(read(file, (36, 18), FILTERS["bilinear"]).copy()).permute(2, 0, 1)
    asked = dict(pad=0, flip=0.0, erase=0.0, translate=0.5, resize="bilinear")
    _, clean = drawn("official", file, 400, **asked)
    small = torch.from_numpy(read(file, SIZE, FILTERS["bilinear"]).copy()).permute(2, 0, 1)
    places = {(y, x): larger[:, y : y + 32, x : x + 16] for y in range(5) for x in range(3)}
    counts = dict.fromkeys([*places, None], 0)
    for image in (clean * 255).round().byte():
        known = [place for place, part in places.items() if torch.equal(part, image)]
        assert known or torch.equal(image, small)
        counts[known[0] if known else None] += 1
    assert abs(counts[None] / 400 - 0.5) < 4 * 0.025 and min(counts.values()) > 0


def test_the_official_convolutional_erasing_draws_the_aspect_evenly():
    """And the tests above would see it: the same share and areas, but another aspect."""
    random.seed(0)
    found = {True: [], False: []}
    for evenly, eraser in ((True, Evenly), (False, None)):
        for _ in range(DRAWS):
            image = torch.ones(3, 64, 64)
            if evenly:
                eraser(0.5, 0.1, "zero")(image)
            else:
                RandomErasing(0.5, max_area=0.1, device="cpu")(image)
            if (gone := image[0] == 0).any():
                found[evenly].append(gone.any(1).sum().item() / gone.any(0).sum().item())
    evenly, logarithms = found[True], np.log(found[False])
    assert abs(len(evenly) / DRAWS - 0.5) < 4 * 0.0112
    assert abs(np.mean(evenly) - (0.3 + 1 / 0.3) / 2) < 0.12 and abs(np.mean(logarithms)) < 0.12
    assert ks_2samp(evenly, found[False]).pvalue < 1e-9


# Erasing on a GPU, which here a CPU stands in for


@pytest.mark.parametrize("fill", ["zero", "mean", "noise"])
def test_erasing_at_once_takes_the_same_rectangles(fill):
    torch.manual_seed(3)
    image = torch.rand(200, 3, 24, 12)
    whole = 200, slice(0, 200)
    random.seed(4)
    expected = erased(image.clone(), 0.7, 1 / 3, fill)
    random.seed(4)
    found = at_once(image.clone(), 0.7, 1 / 3, fill, whole)
    if fill != "noise":
        assert torch.equal(found, expected)
        return
    gone = found != image
    assert (
        torch.equal(gone, expected != image) and 0.5 < gone.flatten(1).any(1).float().mean() < 0.9
    )
    assert kstest(found[gone].numpy()[:5000], "norm").pvalue > LEVEL


@pytest.mark.parametrize("erase", [erased, at_once])
@pytest.mark.parametrize("fill", ["zero", "noise"])
def test_a_part_of_a_batch_is_erased_as_in_the_whole(erase, fill):
    image = torch.rand(12, 3, 24, 12)
    found = []
    for own in (slice(0, 12), slice(0, 4), slice(4, 8), slice(8, 12)):
        random.seed(7), torch.manual_seed(7)
        found.append(erase(image[own].clone(), 0.7, 1 / 3, fill, (12, own)))
        found.append(torch.rand(1)[0])  # and the generators stand where they would
    assert torch.equal(found[0], torch.cat(found[2::2])) and len(set(found[1::2])) <= 4
    assert len({float(each) for each in found[1::2]}) == 1


@pytest.mark.parametrize("way", INPUTS)
def test_processes_make_the_images_of_one(runs, monkeypatch, way):
    made = feed_of(input=way, translate=0.5, erase=0.7, flip=0.5)
    rows = made.plan(1)[0]
    seed(1)
    whole = made.batch(rows, 1)
    monkeypatch.setattr(distributed, "world", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda own=rank: own)
        seed(1)
        parts.append(made.batch(rows, 1))
        made.expect([rows])  # the next time ahead
    for name in ("image", "clean", "plain", "identity", "camera"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(p, name) for p in parts])), name


# Ahead


@pytest.mark.parametrize("way", INPUTS)
def test_what_is_decoded_ahead_is_the_same(runs, way):
    found = []
    for ahead in (False, True):
        made = feed_of(input=way)
        plan = made.plan(1)
        assert len(plan) > 2
        for step, rows in enumerate(plan):
            seed(0, 1, step)
            found.append(made.batch(rows, 1).image)
            if ahead:
                made.expect(plan[step + 1 + (step == 1) :])  # one of them is not what comes
    half = len(found) // 2
    assert all(map(torch.equal, found[:half], found[half:]))


def test_a_problem_ahead_is_told_when_its_batch_is_asked_for():
    read_rows = []

    def reading(rows):
        read_rows.append(rows.tolist())
        if 3 in rows:
            raise BadInput("no image 3")
        return rows.sum()

    ahead = Ahead(reading, CPU)
    batches = [np.array(each) for each in ([0, 1], [2, 3], [4, 5])]
    ahead.expect(batches)
    assert ahead.take(batches[0]) == 1
    ahead.expect(batches[1:])
    with pytest.raises(BadInput, match="no image 3"):
        ahead.take(batches[1])
    assert ahead.take(batches[2]) == 9 and ahead.take(batches[0]) == 1
    assert read_rows == [[0, 1], [2, 3], [4, 5], [0, 1]]


# Trainings


def weights(run) -> dict[str, torch.Tensor]:
    return load_file(run.folder / "weights.safetensors")


def test_an_official_training_that_was_stopped_ends_like_one_that_was_not(runs, monkeypatch):
    asked = experiment(input="official", erase_fill="mean", translate=0.5, epochs=2)
    whole, broken = train.create(asked, "whole"), train.create(asked, "broken")
    train.train(whole, quiet=True)
    original, batches = feed.Feed.batch, []

    def batch(self, rows, epoch):
        batches.append(rows)
        if len(batches) == 3:
            broken.ask_stop()
        return original(self, rows, epoch)

    monkeypatch.setattr(feed.Feed, "batch", batch)
    with pytest.raises(Stopped):
        train.train(broken, quiet=True)
    train.train(broken, quiet=True)
    assert all(torch.equal(w, weights(broken)[name]) for name, w in weights(whole).items())
    fast = train.create(experiment(erase_fill="mean", translate=0.5, epochs=2), "fast")
    train.train(fast, quiet=True)
    assert not all(torch.equal(w, weights(fast)[name]) for name, w in weights(whole).items())


@pytest.mark.parametrize("way", INPUTS)
def test_a_bad_image_within_an_epoch_is_named_and_loses_no_step(
    runs, tiny_data, tmp_path, monkeypatch, way
):
    shutil.copytree(tiny_data, tmp_path / "data" / "pedestrians")
    monkeypatch.setenv("REID_DATA", str(tmp_path / "data"))
    run = train.create(experiment(epochs=2, input=way, save_minutes=0, cache=0), "bad")
    plan = feed.Feed(run, run.experiment, CPU).plan(1)
    bad = feed.Feed(run, run.experiment, CPU).dataset.train.paths[plan[2][0]]
    content = bad.read_bytes()
    bad.write_bytes(b"no image")
    early = next(step for step, rows in enumerate(plan) if plan[2][0] in rows)
    with pytest.raises(BadInput, match=f"{bad.name} can't be read as an image"):
        train.train(run, quiet=True)
    assert run.status().state == "failed" and run.load_state()["step"] == early
    bad.write_bytes(content)
    train.train(run, quiet=True)
    assert run.status().state == "finished"


def test_a_record_from_before_these_knobs_loads():
    written = experiment().as_dict()
    for name in ("input", "disk"):
        del written["knobs"][name]
    found = Experiment.from_dict(written)
    assert found == experiment() and found.training.input == "fast"
