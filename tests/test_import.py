"""Official checkpoints: files by formula, as the official code would save them, into runs that give
the same features."""

import csv
import json
import math
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms as T
from formula import filled, images
from PIL import Image
from safetensors.torch import save_file
from test_cli import fails

from reid_core.__main__ import main
from reid_core.errors import BadInput
from reid_core.models import MODELS, Batch, Facts
from reid_core.models.weights import read_weights
from reid_core.official.names import kind_of
from reid_core.official.readers import side_information, size_and_stride
from reid_core.runs import list_runs, open_run

# The official names, from ours: written down here once more, the other way round.
BNNECKS = {
    r"necks\.0\.norm": "bottleneck",
    r"necks\.(\d)\.norm": r"bottleneck_\1",
    r"necks\.0\.classifier": "classifier",
    r"necks\.(\d)\.classifier": r"classifier_\1",
}
VIT = BNNECKS | {r"side$": "base.sie_embed", r"trunk\.": "base."}
OFFICIAL = {
    "transreid": VIT | {r"global_layer\.": "b1.", r"local_layer\.": "b2."},
    "pha": VIT
    | {
        r"global_layer\.0": "b1_block",
        r"global_layer\.1": "b1_norm",
        r"local_layer\.0": "b2_block",
        r"local_layer\.1": "b2_norm",
        r"high_neck\.norm": "bottleneck_mask",
        r"high_neck\.classifier": "classifier_mask",
        r"enhanced_norm": "bottleneck_mask_adv",
    },
    "rga": {
        r"trunk\.": "backbone.",
        r"head\.norm": "feat_bn",
        r"head\.classifier": "cls",
        r"attentions\.layer(\d)\.(\w+)\.own": r"backbone.rga_att\1.gx_\2",
        r"attentions\.layer(\d)\.(\w+)\.related": r"backbone.rga_att\1.gg_\2",
        r"attentions\.layer(\d)\.(\w+)\.weigh": r"backbone.rga_att\1.W_\2",
        r"attentions\.layer(\d)\.(\w+)\.(theta|phi)": r"backbone.rga_att\1.\3_\2",
    },
    "nformer": {
        r"encoder\.trunk\.": "backbone.base.",
        r"encoder\.projection\.": "backbone.projection.",
        r"encoder\.head\.norm\.": "backbone.bottleneck.",
        r"encoder\.head\.classifier\.": "backbone.classifier.",
        r"transformer\.neck\.norm\.": "nformer.bottleneck.",
        r"transformer\.neck\.classifier\.": "nformer.classifier.",
        r"transformer\.layers\.(\d)\.attention\.qkv\.(.).*": r"nformer.h.\1.attn.c_attn.\2",
        r"transformer\.layers\.(\d)\.attention\.out\.(.).*": r"nformer.h.\1.attn.c_proj.\2",
        r"transformer\.layers\.(\d)\.norm(\d)\.weight": r"nformer.h.\1.ln_\2.g",
        r"transformer\.layers\.(\d)\.norm(\d)\.bias": r"nformer.h.\1.ln_\2.b",
        r"transformer\.layers\.(\d)\.feed_forward\.0\.(.).*": r"nformer.h.\1.mlp.c_fc.\2",
        r"transformer\.layers\.(\d)\.feed_forward\.2\.(.).*": r"nformer.h.\1.mlp.c_proj.\2",
    },
}
SMALL = {
    "transreid": dict(trunk="vit_base_patch16_224", depth=2, width=32, heads=2),
    "pha": dict(trunk="vit_base_patch16_224", depth=2, width=32, heads=2, variant="official"),
    "rga": dict(trunk="resnet18", width=8),
    "nformer": dict(trunk="resnet18", trunk_width=8, width=16, layers=2, landmarks=40),
}
HEADS = {"transreid": ["heads=2"], "pha": ["heads=2"]}


def model_of(name: str, facts: Facts, size=(256, 128), **options):
    torch.manual_seed(0)
    options = dict(pretrained="none") | SMALL[name] | options
    return MODELS[name](MODELS[name].Options(**options), size, facts).eval()


def checkpoint(name: str, facts: Facts = Facts(5), size=(256, 128), **options):
    """(an official state dict by formula, our model with the same weights)."""
    model = model_of(name, facts, size, **options)
    official = {}
    with torch.no_grad():
        for key, own in model.state_dict().items():
            if "centers" in key:
                continue
            pattern = next(each for each in OFFICIAL[name] if re.match(each, key))
            theirs = re.sub(pattern, OFFICIAL[name][pattern], key)
            transposed = theirs.endswith(".w")
            official[theirs] = filled(theirs, tuple(own.T.shape if transposed else own.shape))
            own.copy_(official[theirs].T if transposed else official[theirs])
    if name in ("transreid", "pha"):
        official |= dead(name, model)
    return official, model


def dead(name: str, model) -> dict[str, torch.Tensor]:
    """What official files hold and never use."""
    found = {"base.fc.weight": torch.ones(1000, 32), "base.fc.bias": torch.ones(1000)}
    if model.options.jpm:
        last, norm = (part.state_dict() for part in model.global_layer)
        number = model.options.depth - 1
        found |= {f"base.blocks.{number}.{key}": value + 1 for key, value in last.items()}
        found |= {f"base.norm.{key}": value + 1 for key, value in norm.items()}
        if name == "pha":
            found |= {f"b1_block_mask.{key}": value + 2 for key, value in last.items()}
            found |= {f"b1_norm_mask.{key}": value + 2 for key, value in norm.items()}
            found["bottleneck_mask_branch.weight"] = torch.ones(32)
            found["classifier_mask_branch.weight"] = torch.ones(5, 32)
    return found


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Images of odd sizes, of cameras 1 to 3."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    draw = np.random.RandomState(1)
    for number in range(4):
        pixels = draw.randint(0, 256, (90 + 40 * number, 50 + 9 * number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"000{number}_c{number % 3 + 1}s1_000001_00.png")
    return folder


def transformed(folder: Path, size=(256, 128), half=True) -> torch.Tensor:
    """The official test transform."""
    mean, deviation = (
        ([0.5] * 3, [0.5] * 3) if half else ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    steps = T.Compose([T.Resize(size), T.ToTensor(), T.Normalize(mean, deviation)])
    return torch.stack(
        [steps(Image.open(path).convert("RGB")) for path in sorted(folder.iterdir())]
    )


def bring(weights, tmp_path, model: str, *settings: str, file="official.pth", **how) -> list[str]:
    """The arguments that import a state dict, which is saved first."""
    path = tmp_path / file
    torch.save(weights, path, **how)
    asked = ["import", str(path), "--model", model, "--run", "theirs"]
    settings = (*HEADS.get(model, ()), *settings)
    return [*asked, "--set", *settings] if settings else asked


def embed(tmp_path, folder: Path, *more: str) -> np.ndarray:
    out = tmp_path / "out.npz"
    assert main(["embed", "theirs", "--images", str(folder), "--out", str(out), *more]) == 0
    with np.load(out) as file:
        return file["embeddings"]


def close(found: np.ndarray, expected: torch.Tensor) -> bool:
    expected = expected.numpy()
    return np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)


def views_table(tmp_path, folder: Path, views: list[int]) -> str:
    path = tmp_path / "views.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "view"])
        rows.writerows([p.name, v] for p, v in zip(sorted(folder.iterdir()), views, strict=True))
    return str(path)


CAMERAS, VIEWS = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 0, 0, 1])


# What is right


@pytest.mark.parametrize("sie", ["none", "camera", "view", "both"])
@pytest.mark.parametrize("jpm, stride", [(True, 12), (False, 16)])
def test_transreid(runs, tmp_path, pictures, capsys, jpm, stride, sie):
    facts = dict(none=((), ()), camera=((1, 2, 3), ()), view=((), (0, 1)), both=((1, 2, 3), (0, 1)))
    facts = Facts(5, *facts[sie])
    weights, model = checkpoint("transreid", facts, jpm=jpm, stride=stride, sie=sie)
    settings = ["views=2"] if facts.views else []
    assert main(bring(weights, tmp_path, "transreid", *settings)) == 0
    out, err = capsys.readouterr()
    assert out == "theirs\n" and "ignored" in err and "missed nothing" in err
    run = open_run("theirs")
    assert run.facts == facts and run.experiment.options.stride == stride
    assert (run.experiment.options.jpm, run.experiment.options.sie) == (jpm, sie)
    more = ["--views", views_table(tmp_path, pictures, VIEWS.tolist())] if facts.views else []
    for neck in ("before", "after"):
        model.neck = neck
        with torch.no_grad():
            expected = model(Batch(transformed(pictures), CAMERAS, VIEWS)).embedding
        asked = [] if neck == "before" else ["--neck", "after"]
        assert close(embed(tmp_path, pictures, *more, *asked), expected)
    assert "mean" not in capsys.readouterr().err


def test_sizes_and_shift(runs, tmp_path, pictures):
    for size, shift in (((384, 128), 5), ((256, 256), 8)):
        weights, model = checkpoint("transreid", size=size, sie="none", stride=16, shift=shift)
        arguments = bring(weights, tmp_path, "transreid")
        arguments[arguments.index("theirs")] = f"of-{shift}"
        assert main(arguments) == 0
        run = open_run(f"of-{shift}")
        assert (run.experiment.training.size, run.experiment.options.shift) == (size, shift)
        batch = Batch(transformed(pictures, size), CAMERAS, VIEWS)
        with torch.no_grad():
            assert close(run.model()(batch).embedding.numpy(), model(batch).embedding)


def test_settings_decide(runs, tmp_path):
    weights, model = checkpoint("transreid", size=(128, 64), sie="none", stride=8, groups=1)
    asked = ["size=128x64", "stride=8", "groups=1", "neck=after", "sie_coefficient=2"]
    assert main(bring(weights, tmp_path, "transreid", *asked)) == 0
    experiment = open_run("theirs").experiment
    assert experiment.options.sie_coefficient == 2 and experiment.training.neck == "after"
    batch = Batch(images(2, (128, 64)), CAMERAS[:2], VIEWS[:2])
    model.neck = "after"
    with torch.no_grad():
        assert close(open_run("theirs").model()(batch).embedding.numpy(), model(batch).embedding)


def test_pha(runs, tmp_path, pictures, capsys):
    weights, model = checkpoint("pha", sie="none")
    assert main(bring(weights, tmp_path, "pha")) == 0
    err = capsys.readouterr().err
    assert "that never run: b1_block_mask" in err and "missed nothing" in err
    with torch.no_grad():
        expected = model(Batch(transformed(pictures), CAMERAS, VIEWS)).embedding
    assert close(embed(tmp_path, pictures), expected)
    kept = open_run("theirs").model().state_dict()
    assert torch.equal(kept["enhanced_norm.weight"], weights["bottleneck_mask_adv.weight"])


@pytest.mark.parametrize("spatial, channel", [(True, True), (True, False), (False, True)])
def test_rga(runs, tmp_path, pictures, spatial, channel):
    weights, model = checkpoint("rga", spatial=spatial, channel=channel)
    # As torch 0.4 wrote it: no counters, the old file format, numpy's number beside the weights.
    weights = {key: value for key, value in weights.items() if "num_batches" not in key}
    weights = dict(
        state_dict=weights, epoch=600, best_top1=np.float64(0.8), optimizer={"state": {}}
    )
    old = dict(_use_new_zipfile_serialization=False)
    assert main(bring(weights, tmp_path, "rga", file="checkpoint.pth.tar", **old)) == 0
    options = open_run("theirs").experiment.options
    assert (options.spatial, options.channel, options.width) == (spatial, channel, 8)
    for neck in ("before", "after") if spatial and channel else ("before",):
        model.neck = neck
        with torch.no_grad():
            expected = model(Batch(transformed(pictures, half=False), CAMERAS, VIEWS)).embedding
        asked = [] if neck == "before" else ["--neck", "after"]
        assert close(embed(tmp_path, pictures, *asked), expected)


def test_nformer(runs, tmp_path, pictures):
    """With as many landmarks as images the draw no longer matters."""
    weights, model = checkpoint("nformer")
    weights["backbone.classifier.weight"] = torch.ones(7, 16)  # stages with different identities
    settings = ["landmarks=40", "neighbours=3"]
    assert main(bring(weights, tmp_path, "nformer", *settings)) == 0
    model = model_of("nformer", Facts(5), neighbours=3)
    missing, _ = model.load_state_dict(
        {k: v for k, v in checkpoint("nformer")[1].state_dict().items() if "centers" not in k},
        False,
    )
    assert all("centers" in key for key in missing)
    batch = Batch(transformed(pictures, half=False), CAMERAS, VIEWS)
    with torch.no_grad():
        encoded = model(batch).embedding
        assert close(embed(tmp_path, pictures, "--stage", "encoder"), encoded)
        for neck in ("after", "before"):
            model.neck = neck
            asked = [] if neck == "after" else ["--neck", neck]
            assert close(embed(tmp_path, pictures, *asked), model.refine(encoded))
        model.encoder.neck = "before"
        before = embed(tmp_path, pictures, "--stage", "encoder", "--neck", "before")
        assert close(before, model(batch).embedding)
    kept = open_run("theirs").model().state_dict()
    assert kept["encoder.head.classifier.weight"].shape == (7, 16)
    assert kept["transformer.neck.classifier.weight"].shape == (5, 16)


def test_every_wrapping(runs, tmp_path):
    weights, _ = checkpoint("transreid", sie="none")
    prefixed = OrderedDict((f"module.{key}", value) for key, value in weights.items())
    for wrapped in (weights, {"state_dict": prefixed, "epoch": 3}, {"model": weights}):
        torch.save(wrapped, tmp_path / "w.pth")
        found = read_weights(tmp_path / "w.pth")
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[key], value) for key, value in weights.items())
    halves = {key: value.half().contiguous() for key, value in weights.items()}
    save_file(halves, tmp_path / "w.safetensors")
    found = read_weights(tmp_path / "w.safetensors")
    assert found["base.cls_token"].dtype == torch.float32


def test_classifiers_may_be_missing_or_of_any_size(runs, tmp_path, capsys):
    weights, _ = checkpoint("transreid", sie="none")
    weights["classifier_2.weight"] = torch.ones(3, 32)
    del weights["classifier_3.weight"]
    assert main(bring(weights, tmp_path, "transreid")) == 0
    err = capsys.readouterr().err
    assert "of another number of identities: classifier_2.weight" in err
    assert "missed 1 tensor, for training: necks.3.classifier.weight" in err
    assert open_run("theirs").facts.classes == 5 and open_run("theirs").model()


GOLDEN = Path(__file__).parent / "golden" / "transreid.npz"


@pytest.mark.parametrize("case", ["stride-12 jpm camera", "stride-16", "vit-small jpm camera"])
def test_the_official_numbers(runs, tmp_path, case):
    """The official state dict's own names and shapes, of two layers; what it gave for them."""
    golden = np.load(GOLDEN)
    keys = json.loads(str(golden[f"{case}/keys"]))
    weights = {key: filled(key, tuple(shape)) for key, shape in keys.items()}
    settings = ["heads=8", "trunk=vit_small_patch16_224_transreid", "depth=2", "heads=8"]
    settings = settings if "small" in case else ["heads=12"]
    path = tmp_path / "official.pth"
    torch.save(weights, path)
    asked = ["import", str(path), "--model", "transreid", "--run", "theirs", "--set", *settings]
    assert main(asked) == 0
    batch = Batch(images(2, (256, 128)), torch.tensor([1, 4]), torch.tensor([2, 0]))
    with torch.no_grad():
        found = open_run("theirs").model()(batch).embedding[:, ::8].numpy()
    expected = golden[f"{case}/before"]
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)


# What the shapes leave open


def test_tokens_tell_size_and_stride_of_official_configurations():
    for size in ((256, 128), (384, 128), (256, 256)):
        for stride in (16, 12, 11):
            patches = ((size[0] - 16) // stride + 1) * ((size[1] - 16) // stride + 1)
            assert size_and_stride(patches, 16, {}) == (size, stride)


@pytest.mark.parametrize(
    "patches, asked, message",
    [
        (100, {}, "none of 256x128 with stride 16 (128), 256x128 with stride 12 (210)"),
        (2, {"stride": 200}, "would be given by 256x128 with stride 200, 384x128 with stride 200"),
        (210, {"size": (384, 128)}, "none of 384x128 with stride 16 (192)"),
        (210, {"size": (256, 128), "stride": 16}, "none of 256x128 with stride 16 (128);"),
    ],
)
def test_none_or_several_are_listed(patches, asked, message):
    with pytest.raises(BadInput, match=re.escape(message)):
        size_and_stride(patches, 16, asked)


def test_rows_of_side_information():
    assert side_information(0, None) == ("none", (), ())
    assert side_information(6, None) == ("camera", (1, 2, 3, 4, 5, 6), ())
    assert side_information(6, 2) == ("both", (1, 2, 3), (0, 1))
    assert side_information(6, 6) == ("view", (), (0, 1, 2, 3, 4, 5))
    assert side_information(1, None) == ("camera", (1,), ())
    assert side_information(1, 1) == ("view", (), (0,))
    for rows, views in ((6, 4), (0, 2), (6, 12)):
        with pytest.raises(BadInput, match="views"):
            side_information(rows, views)


def test_kinds():
    assert kind_of(["base.cls_token", "b1.0.norm1.weight"]) == "transreid"
    assert kind_of(["base.cls_token", "b1_norm.weight"]) == "pha"
    assert kind_of(["conv1.weight"]) is None


# What is wrong


class Trap:
    """A pickle that would leave a file behind."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_pickle_is_executed(runs, tmp_path, capsys):
    mark = tmp_path / "mark"
    weights, _ = checkpoint("transreid", sie="none")
    for trap in (Trap(mark), weights | {"extra": Trap(mark)}, {"model": weights, "x": Trap(mark)}):
        for how in (True, False):
            asked = bring(trap, tmp_path, "transreid", _use_new_zipfile_serialization=how)
            assert "no code of a file is ever executed" in fails(capsys, *asked)
    asked = bring(torch.nn.Linear(2, 2), tmp_path, "transreid")
    assert "names torch.nn.modules.linear.Linear" in fails(capsys, *asked)
    assert not mark.exists() and not any(runs.iterdir())


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04", b"\x80\x02."])
def test_damaged_files(runs, tmp_path, capsys, content):
    path = tmp_path / "f.pth"
    path.write_bytes(content)
    asked = ["import", str(path), "--model", "transreid", "--run", "theirs"]
    assert "f.pth can't be read as weights" in fails(capsys, *asked)
    path.rename(tmp_path / "f.safetensors")
    asked[1] = str(tmp_path / "f.safetensors")
    assert "can't be read as weights" in fails(capsys, *asked)
    assert not any(runs.iterdir())


def test_a_file_cut_off(runs, tmp_path, capsys):
    asked = bring(checkpoint("transreid", sie="none")[0], tmp_path, "transreid")
    path = Path(asked[1])
    path.write_bytes(path.read_bytes()[:-5000])
    assert "can't be read as weights" in fails(capsys, *asked)
    path.unlink()
    assert "no weights at" in fails(capsys, *asked)


def changed(weights, **changes):
    """Weights with some replaced, or left out (None); dots are written as double underscores."""
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    weights = {key: value for key, value in weights.items() if changes.get(key, value) is not None}
    return weights | {key: value for key, value in changes.items() if value is not None}


ONE = torch.ones(1)


@pytest.mark.parametrize(
    "model, changes, settings, message",
    [
        ("transreid", {}, ["epoch=3"], "did you mean epochs"),
        ("transreid", {}, ["views=2"], "no side information"),
        ("transreid", {}, ["views=0"], "1 or more"),
        ("transreid", {}, ["holdout=0.2"], "leave it out"),
        ("nformer", {}, ["encoder=tiny"], "leave it out"),
        ("transreid", {}, ["size=256x256"], "none of 256x256 with stride 16"),
        ("transreid", {}, ["parts=5"], "lacks"),
        ("transreid", {}, ["jpm=false"], "lacks"),
        ("transreid", {}, ["depth=3"], "lacks"),
        ("transreid", {}, ["trunk=vit_huge"], "unknown trunk"),
        ("transreid", dict(base__sie_embed=torch.ones(6, 1, 32)), ["views=4"], "give a divisor"),
        ("transreid", dict(base__cls_token=ONE), [], "of 3 dimensions"),
        ("transreid", dict(base__cls_token=torch.full((1, 1, 32), math.nan)), [], "holds NaN"),
        ("transreid", dict(base__pos_embed=None), [], "it has no base.pos_embed"),
        ("transreid", dict(base__pos_embed=torch.ones(1, 8, 32)), [], "7 positions"),
        ("transreid", {"b1.0.norm1.weight": None}, [], "lacks 1 tensor of"),
        ("transreid", {"b1.0.attn.proj.weight": None}, [], "lacks 1 tensor of"),
        ("transreid", {"b2.0.attn.proj.weight": torch.ones(2, 2)}, [], "is 2 x 2, and 32 x 32"),
        ("transreid", dict(base__cls_token=None), [], "is no checkpoint of the official TransReID"),
        ("pha", dict(bottleneck_mask__weight=None), [], "lacks 1 tensor of"),
        ("rga", {}, ["size=384x128"], "2048 positions after the first stage"),
        ("rga", {}, ["views=2"], "unknown key 'views'"),
        ("rga", {"backbone.rga_att1.theta_spatial.0.weight": None}, [], "lacks 1 tensor of"),
        ("rga", {"backbone.rga_att1.gg_spatial.0.weight": torch.ones(2, 99, 1, 1)}, [], "49 pos"),
        ("rga", {"backbone.layer3.2.conv1.weight": torch.ones(1)}, [], "other trunks"),
        ("nformer", {"nformer.h.0.attn.c_attn.w": torch.ones(16, 16)}, [], "not 1 : 3"),
        ("nformer", {"nformer.h.1.attn.c_attn.w": None}, [], "lacks 1 tensor of"),
        ("nformer", {}, ["heads=3"], "heads: a width of 16"),
        ("transreid", {}, ["heads=5"], "heads: width=32 can't be divided by heads=5"),
    ],
)
def test_mistakes(runs, tmp_path, capsys, model, changes, settings, message):
    options = dict(sie="none") if model in ("transreid", "pha") else {}
    weights = changed(checkpoint(model, **options)[0], **changes)
    assert message in fails(capsys, *bring(weights, tmp_path, model, *settings))
    assert not any(runs.iterdir())


def test_the_wrong_model_is_named(runs, tmp_path, capsys):
    options = {"pha": dict(sie="none"), "rga": {}, "nformer": {}}
    files = {name: checkpoint(name, **more)[0] for name, more in options.items()}
    for name, weights in files.items():
        line = fails(capsys, *bring(weights, tmp_path, "transreid"))
        assert f"it looks like one of {name}'s" in line
    asked = bring({"conv1.weight": ONE}, tmp_path, "rga")
    assert "expected backbone.conv1.weight and feat_bn.weight in it, got conv1.weight" in fails(
        capsys, *asked
    )
    assert "did you mean pha" in fails(capsys, *[{"rga": "phaa"}.get(a, a) for a in asked])
    asked = bring({"optimizer": {}, "epoch": 3}, tmp_path, "rga")
    assert "holds no table of tensors" in fails(capsys, *asked)


def test_heads_that_nobody_knows(runs, tmp_path, capsys):
    asked = bring(checkpoint("transreid", sie="none")[0], tmp_path, "transreid")
    assert "give --set heads=N" in fails(capsys, *asked[:-2])


def test_a_taken_name_loses_nothing(tiny_run, runs, tmp_path, capsys):
    asked = bring(checkpoint("transreid", sie="none")[0], tmp_path, "transreid")
    asked[asked.index("theirs")] = "tiny"
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}
    assert "run 'tiny' exists already" in fails(capsys, *asked)
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == before


def test_a_full_disk_leaves_nothing(runs, tmp_path, capsys, monkeypatch):
    from reid_core.runs import Run

    def full(self, name, content):
        raise OSError(28, "No space left on device", name)

    monkeypatch.setattr(Run, "write", full)
    asked = bring(checkpoint("transreid", sie="none")[0], tmp_path, "transreid")
    assert "no space left" in fails(capsys, *asked)
    assert not any(runs.iterdir())


# The run afterwards


@pytest.fixture
def imported(runs, tmp_path):
    weights, _ = checkpoint("transreid", Facts(5, (1, 2, 3), (0, 1)), sie="both")
    assert main(bring(weights, tmp_path, "transreid", "views=2")) == 0
    return open_run("theirs")


def test_an_imported_run_is_a_run(imported, capsys):
    assert [run.name for run in list_runs()] == ["theirs"]
    assert imported.imported["file"] == "official.pth" and len(imported.imported["sha256"]) == 64
    assert imported.status().state == "finished" and not imported.resumable
    assert imported.history() == [] and imported.metrics() == {} and not imported.has_embeddings
    capsys.readouterr()
    assert main(["runs", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["model"], row["recipe"], row["state"]) == ("transreid", "paper", "finished")
    assert "it is finished" in fails(capsys, "train", "--resume", "theirs")


def test_evaluate_keeps_what_an_imported_run_gave(imported, tiny_data, capsys):
    assert main(["evaluate", "theirs", "--neck", "after"]) == 0
    assert not imported.has_embeddings  # not the run's own feature
    assert imported.experiment.dataset == "pedestrians" and imported.experiment.data is None
    capsys.readouterr()
    assert main(["evaluate", "theirs", "--data", str(tiny_data)]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert imported.metrics() == scores and len(imported.embeddings().names)
    experiment = open_run("theirs").experiment
    assert (experiment.dataset, experiment.data) == ("market1501", str(tiny_data))
    assert imported.imported["file"] == "official.pth"
    assert main(["evaluate", "theirs"]) == 0  # the same again
    assert json.loads(capsys.readouterr().out) == scores
    assert main(["evaluate", "theirs", "--dataset", "pedestrians"]) == 0
    assert open_run("theirs").experiment.data is None


def test_evaluate_takes_a_table_of_views(imported, tiny_data, tmp_path, capsys):
    """The front of a person is view 1 here, the side and back are view 0."""
    main(["evaluate", "theirs"])
    usual = imported.embeddings()
    table = tmp_path / "v.csv"
    names = [
        f"{name},{int(view == 0)}" for name, view in zip(usual.names, usual.views, strict=True)
    ]
    table.write_text("view_of,name,view\n" + "".join(f"x,{line}\n" for line in names))
    capsys.readouterr()
    assert main(["evaluate", "theirs", "--views", str(table)]) == 0
    assert "mean view" not in capsys.readouterr().err
    found = imported.embeddings()
    assert (found.views == (usual.views == 0)).all()
    same = usual.views == found.views
    assert np.allclose(found.vectors[same], usual.vectors[same], rtol=1e-3, atol=1e-4)
    assert not np.allclose(found.vectors[~same], usual.vectors[~same], rtol=1e-3, atol=1e-4)


def test_tables_of_views(imported, tmp_path, pictures, capsys):
    names = [path.name for path in sorted(pictures.iterdir())]
    table = tmp_path / "v.csv"
    ask = ["embed", "theirs", "--images", str(pictures), "--out", str(tmp_path / "o.npz")]
    ask += ["--views", str(table)]
    for content, message in (
        ("", "v.csv, line 1: expected the columns name and view"),
        ("name,side\n", "line 1: expected the columns"),
        (f"name,view\n{names[0]},1\n{names[1]},front\n", "line 3: expected a name and a view"),
        (f"name,view\n{names[0]},-1\n", "line 2"),
        (f"name,view\n{names[0]}\n", "line 2"),
        (f"name,view\n{names[0]},1\n{names[0]},0\n", "line 3"),
    ):
        table.write_text(content)
        assert message in fails(capsys, *ask)
    table.write_bytes(b"name,view\n\xff,1\n")
    assert "UTF-8" in fails(capsys, *ask)
    assert "No such file" in fails(capsys, *ask[:-1], str(tmp_path / "none.csv"))
    table.write_text(f"name,view\npictures/{names[0]},1\n{names[1]},0\n{names[2]},7\n")
    assert main(ask) == 0
    assert "2 of 4 images have a view that the model does not know" in capsys.readouterr().err


def test_what_a_model_is_not_told(tiny_run, tmp_path, capsys):
    ask = ["embed", "tiny", "--images", str(tmp_path), "--out", str(tmp_path / "o.npz")]
    Image.new("RGB", (64, 128)).save(tmp_path / "a.png")
    assert "refines no embeddings" in fails(capsys, *ask, "--stage", "refined")
    assert "is not told of views" in fails(capsys, *ask, "--views", "v.csv")
    assert "invalid choice" in fails(capsys, *ask, "--neck", "both")


def test_a_trained_run_has_its_own_neck(tiny_run, tiny_data, tmp_path):
    out = str(tmp_path / "o.npz")
    ask = ["embed", "tiny", "--images", str(tiny_data / "query"), "--out", out]
    found = {}
    for neck in (None, "before", "after"):
        assert main([*ask, *(["--neck", neck] if neck else [])]) == 0
        with np.load(out) as file:
            found[neck] = file["embeddings"]
    assert np.array_equal(found[None], found["before"])
    assert not np.allclose(found["before"], found["after"])
    assert main(["evaluate", "tiny", "--neck", "after"]) == 0
