"""Features that lie in a file: read, refined, scored from the command line; what they can't be."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cli import fails
from test_nformer import refined  # noqa: F401 - a fixture
from test_protocols import drawn

from reid_core.__main__ import main
from reid_core.data import open_dataset
from reid_core.embed import embed_test
from reid_core.evaluate import evaluate
from reid_core.runs import open_run
from reid_core.scores.record import Wish, record
from reid_core.scores.stored import read_stored


def arrays(e) -> dict[str, np.ndarray]:
    return dict(
        embeddings=e.vectors, identities=e.identities, cameras=e.cameras, is_query=e.is_query
    )


@pytest.fixture
def split():
    return drawn(0, 20, 200, 3, 10**6, 16)


@pytest.fixture(params=["savez", "savez_compressed", "folder"])
def stored(request, split, tmp_path) -> Path:
    if request.param != "folder":
        getattr(np, request.param)(tmp_path / "f.npz", **arrays(split))
        return tmp_path / "f.npz"
    for name, array in arrays(split).items():
        np.save(tmp_path / f"{name}.npy", array)
    return tmp_path


def scored(capsys, *asked) -> dict:
    assert main(["evaluate", "--embeddings", *map(str, asked)]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_way_of_storing_gives_the_same(stored, split, capsys):
    found = read_stored(stored)
    for name, array in arrays(split).items():
        kept = getattr(found, name if name != "embeddings" else "vectors")
        np.testing.assert_array_equal(kept, array)
    mapped = not (stored.is_file() and "compressed" in stored.name)
    assert isinstance(found.vectors, np.memmap) == (mapped and not _packed(stored))
    said = scored(capsys, stored)
    expected = evaluate(split).as_dict()
    assert {key: said[key] for key in ("queries", "valid_queries", "gallery", "protocol")} == {
        key: expected[key] for key in ("queries", "valid_queries", "gallery", "protocol")
    }
    assert said["mAP"] == pytest.approx(expected["mAP"]) and said["cmc"] == pytest.approx(
        expected["cmc"]
    )
    assert said["seconds"] > 0 and said["peak_memory_bytes"] > 0
    assert said["conditions"]["dimensions"] == 16


def _packed(stored: Path) -> bool:
    import zipfile

    return stored.is_file() and any(i.compress_type for i in zipfile.ZipFile(stored).infolist())


@pytest.mark.parametrize(
    "asked",
    [
        ["--rerank", "8,3,0.3,squared"],
        ["--rerank", "8,3,0.3,fourth-power"],
        ["--protocol", "rga-sklearn-legacy"],
        ["--protocol", "vehicleid", "--bootstrap", "50"],
        ["--protocol", "single-gallery-shot", "--far", "0.01"],
        ["--metric", "euclidean-unnormalised", "--details", "--far", "0.1", "--bootstrap", "50"],
        ["--metric", "cosine", "--details"],
    ],
)
def test_the_record_says_what_was_asked(stored, capsys, asked):
    said = scored(capsys, stored, *asked)
    conditions = said["conditions"]
    assert conditions["protocol"] == said["protocol"]
    assert ("intervals" in said) == ("--bootstrap" in asked)
    assert ("verification" in said) == ("--far" in asked or "--details" in asked)
    assert len(said["cmc"]) == (50 if "--details" in asked else 3)
    if "--rerank" in asked:
        assert conditions["rerank"] == dict(
            k1=8, k2=3, weight=0.3, convention=asked[1].split(",")[3]
        )
    if "--metric" in asked:
        assert conditions["metric"] == asked[1]


def test_nothing_is_verified_without_pairs_of_both_kinds(split, tmp_path, capsys):
    """A query and a gallery of one person: mAP, but no threshold."""
    one = arrays(split) | dict(identities=np.ones(220, int))
    np.savez(tmp_path / "f.npz", **one)
    said = scored(capsys, tmp_path / "f.npz", "--details")
    assert said["mAP"] == 1 and said["verification"] is None and said["camera_pairs"]
    asked = ["--embeddings", str(tmp_path / "f.npz"), "--details", "--far", "0.1"]
    assert "no threshold can be chosen" in fails(capsys, "evaluate", *asked)


def test_what_files_cannot_be(split, tmp_path, capsys):
    good = arrays(split)

    def message(**changed) -> str:
        np.savez(tmp_path / "f.npz", **good | changed)
        return fails(capsys, "evaluate", "--embeddings", str(tmp_path / "f.npz"))

    assert "expected embeddings (N, D)" in message(embeddings=good["embeddings"][0])
    assert "floating-point" in message(embeddings=good["embeddings"].astype(int))
    assert "expected identities (220,)" in message(identities=good["identities"][1:])
    assert "of whole numbers" in message(cameras=good["cameras"].astype(float))
    assert "is_query" in message(is_query=good["identities"])
    assert "expected queries and a gallery" in message(is_query=np.zeros(220, bool))
    assert "is_query tells them apart" in message(is_query=np.ones(220, bool))
    assert "pickled" in message(identities=good["identities"].astype(object))
    nothing = good["embeddings"].copy()
    nothing[3] = np.nan
    said = message(embeddings=nothing)
    assert "1 of 220 embeddings hold NaN" in said and "row 3" in said and "learning" not in said
    large = np.full_like(good["embeddings"], 6e4, np.float16)  # no sum of them is a float16
    assert main(["evaluate", "--embeddings", str(_kept(tmp_path, good, embeddings=large))]) == 0
    capsys.readouterr()
    np.savez_compressed(tmp_path / "f.npz", **good | dict(cameras=np.array(["a"] * 220, object)))
    ask = ["evaluate", "--embeddings", str(tmp_path / "f.npz")]
    assert "pickled" in fails(capsys, *ask)
    np.savez(tmp_path / "f.npz", names=np.array(["a"]), embeddings=good["embeddings"])
    assert "has no identities, cameras, is_query" in fails(capsys, *ask)
    np.savez(tmp_path / "f.npz", **good)
    whole = (tmp_path / "f.npz").read_bytes()
    (tmp_path / "f.npz").write_bytes(whole[: len(whole) // 2])
    assert "is no .npz" in fails(capsys, *ask)
    assert "no file or folder" in fails(capsys, *ask[:-1], str(tmp_path / "g.npz"))
    (tmp_path / "empty").mkdir()
    assert "found none" in fails(capsys, *ask[:-1], str(tmp_path / "empty"))
    for name, array in good.items():
        np.save(tmp_path / "empty" / f"{name}.npy", array)
    (tmp_path / "empty" / "embeddings.npy").write_bytes(b"\x93NUMPY\x01\x00half")
    assert "embeddings is damaged" in fails(capsys, *ask[:-1], str(tmp_path / "empty"))
    np.save(tmp_path / "empty" / "embeddings.npy", good["embeddings"].astype(object))
    assert "pickled" in fails(capsys, *ask[:-1], str(tmp_path / "empty"))


def test_vectors_that_cannot_be_compared(split, tmp_path, capsys):
    """Numbers too large are told as such, and vectors without a direction are counted."""
    good = arrays(split)
    for kind, factor in ((np.float64, 1e200), (np.longdouble, 1e200)):
        large = good["embeddings"].astype(kind)
        large[3] *= factor
        path = _kept(tmp_path, good, embeddings=large)
        said = fails(capsys, "evaluate", "--embeddings", str(path))
        assert "1 of 220 embeddings hold numbers too large to compare" in said
        assert "row 3" in said and str(path) in said and "learning" not in said
    fine = good["embeddings"].astype(np.float64) * 1e100
    assert "without_direction" not in scored(capsys, _kept(tmp_path, good, embeddings=fine)).get(
        "conditions"
    )
    for kind, factor in ((np.float16, 0), (np.float32, 1e-30), (np.float64, 1e-200)):
        short = (good["embeddings"] / 1e6).astype(kind)
        short[5:9] *= kind(factor)
        said = scored(capsys, _kept(tmp_path, good, embeddings=short))
        assert said["conditions"]["without_direction"] == 4


@pytest.mark.parametrize("name", ("embeddings", "cameras"))
def test_one_changed_bit_of_a_mapped_array_is_noticed(split, tmp_path, capsys, name):
    good, out = arrays(split), tmp_path / "f.npz"
    np.savez(out, **good)
    content = bytearray(out.read_bytes())
    content[content.index(good[name].tobytes()) + 2] ^= 1
    out.write_bytes(content)
    assert f"{name} is damaged (Bad CRC-32" in fails(capsys, "evaluate", "--embeddings", str(out))


def test_members_that_are_no_arrays(split, tmp_path, capsys):
    """Raw bytes and a pickle, stored or compressed, and sizes that nothing has."""
    import io
    import pickle
    import zipfile

    good, out = arrays(split), tmp_path / "f.npz"
    huge = io.BytesIO()
    header = dict(shape=(99999999999999999999999, 8), fortran_order=False, descr="<f4")
    np.lib.format.write_array_header_1_0(huge, header)
    for content in (b"raw bytes", pickle.dumps({}), huge.getvalue(), b""):
        for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            for name in ("embeddings", "cameras", "encoded", "left_out"):
                np.savez(out, **{key: array for key, array in good.items() if key != name})
                with zipfile.ZipFile(out, "a") as archive:
                    archive.writestr(f"{name}.npy", content, kind)
                said = fails(capsys, "evaluate", "--embeddings", str(out))
                assert f"{name} is damaged" in said or "pickled" in said
    np.savez(out, **good)
    whole = out.read_bytes()
    at = whole.index(b"PK\x01\x02")
    for place, byte in ((at + 6, 99), (at + 45, 127), (len(whole) - 3, 1)):  # version, offset, end
        out.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
        assert "is no .npz" in fails(capsys, "evaluate", "--embeddings", str(out))


def _kept(folder: Path, good: dict, **changed) -> Path:
    np.savez(folder / "f.npz", **good | changed)
    return folder / "f.npz"


def test_loops_are_loaded_while_a_large_file_is_read(stored, capsys, monkeypatch):
    called = []
    monkeypatch.setattr("reid_core.scores.stored.warm", lambda: called.append(True))
    plain = scored(capsys, stored)
    assert not called
    monkeypatch.setattr("reid_core.scores.stored.SMALL", 1)
    assert scored(capsys, stored)["mAP"] == plain["mAP"] and called


def test_options_that_do_not_go_together(stored, capsys):
    ask = ["evaluate", "--embeddings", str(stored)]
    for more, message in (
        (["tiny"], "one of them"),
        (["--flip"], "needs images"),
        (["--neck", "after"], "--neck is for a RUN"),
        (["--data", "x"], "--data is for a RUN"),
        (["--batch-size", "8"], "--batch-size is for a RUN"),
        (["--precision", "bf16"], "--precision is for a RUN"),
        (["--rerank", "20,6"], "such as 20,6,0.3"),
        (["--rerank", "0,6,0.3"], "1 or more"),
        (["--rerank", "8,6,0.3,cubed"], "unknown convention"),
        (["--protocol", "nformer-joint"], "holds none (no encoded): refine them by --refine RUN"),
        (["--protocol", "nformer-per-query"], "refine them by --refine RUN"),
        (["--protocol", "vehicleId"], "did you mean vehicleid"),
        (["--metric", "l2"], "unknown metric"),
        (["--far", "2"], "from 0 to 1"),
        (["--refine", "nobody"], "unknown run"),
    ):
        assert message in fails(capsys, *ask, *more)
    assert "one of them" in fails(capsys, "evaluate")


def test_features_are_refined_by_a_run(refined, tmp_path, capsys):  # noqa: F811
    """The stored features of its encoder give the run's own scores."""
    run, found = open_run("refined"), refined.embeddings()
    encoded = type(found)(**vars_of(found) | dict(vectors=found.encoded, encoded=None))
    np.savez(tmp_path / "f.npz", **arrays(encoded))
    for protocol in ("nformer-joint", "nformer-per-query"):
        assert main(["evaluate", "refined", "--protocol", protocol]) == 0
        own = json.loads(capsys.readouterr().out)
        said = scored(capsys, tmp_path / "f.npz", "--refine", "refined", "--protocol", protocol)
        assert said["protocol"] == protocol and said["mAP"] == pytest.approx(own["mAP"], abs=1e-4)
        assert said["conditions"]["refined_by"] == "refined"
    narrow = arrays(encoded) | dict(embeddings=encoded.vectors[:, :-1])
    np.savez(tmp_path / "f.npz", **narrow)
    ask = ["evaluate", "--embeddings", str(tmp_path / "f.npz"), "--refine"]
    width = encoded.vectors.shape[1]
    assert f"expected features of {width} dimensions" in fails(capsys, *ask, run.name)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("stage", ["refined", "encoder"])
def test_what_nformer_wrote_is_scored_by_its_true_protocol(
    refined,  # noqa: F811
    tmp_path,
    capsys,
    stage,
    packed,
):
    """embed's file at either stage, with and without --refine, under every protocol."""
    out = tmp_path / "f.npz"
    given = ["--dataset", "pedestrians", "--stage", stage, "--out", str(out)]
    assert main(["embed", "refined", *given]) == 0
    if packed:
        with np.load(out) as file:
            np.savez_compressed(out, **dict(file))
    capsys.readouterr()
    own = {}
    for name in ("nformer-joint", "nformer-per-query", "market"):
        more = ["--stage", "encoder"] if name == "market" else []
        assert main(["evaluate", "refined", "--protocol", name, *more]) == 0
        own[name] = json.loads(capsys.readouterr().out)["mAP"]
    alone = {"market": True, "rga-sklearn-legacy": True, "cuhk03-np": True, "vehicleid": True}
    alone["single-gallery-shot"] = True
    for refiner in (None, "refined"):
        joint = refiner is not None or stage == "refined"
        takes = {"nformer-joint": joint, "nformer-per-query": refiner is not None}
        takes |= {name: not joint for name in alone}
        ask = [out, *(["--refine", refiner] if refiner else [])]
        usual = "nformer-joint" if joint else "market"
        assert scored(capsys, *ask)["protocol"] == usual
        for name, fits in takes.items():
            if fits:
                said = scored(capsys, *ask, "--protocol", name)
                assert said["protocol"] == said["conditions"]["protocol"] == name
                assert said["mAP"] == pytest.approx(own.get(name, said["mAP"]), abs=1e-4)
                continue
            line = fails(capsys, "evaluate", "--embeddings", *map(str, ask), "--protocol", name)
            expected = "and these are refined" if joint and name in alone else "by --refine RUN"
            assert f"--protocol {name} " in line and expected in line
        said = fails(capsys, "evaluate", "--embeddings", *map(str, ask), "--protocol", "nformer")
        assert "unknown protocol" in said and usual in said


def test_a_full_gpu_leaves_refining_to_the_processor(refined, tmp_path, capsys, monkeypatch):  # noqa: F811
    found = refined.embeddings()
    np.savez(tmp_path / "f.npz", **arrays(found) | dict(embeddings=found.encoded))
    asked, to = [], torch.nn.Module.to

    def full(self, device, *more):
        asked.append(device)
        if device == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return to(self, device, *more)

    for protocol in ("nformer-joint", "nformer-per-query"):
        given = tmp_path / "f.npz", "--refine", "refined", "--protocol", protocol
        expected = scored(capsys, *given)
        with monkeypatch.context() as patched:
            patched.setattr("reid_core.scores.stored.ranking_device", lambda pairs: "cuda")
            patched.setattr(torch.nn.Module, "to", full)
            assert scored(capsys, *given)["mAP"] == expected["mAP"]
        assert asked[-2:] == ["cuda", "cpu"]


def test_a_run_that_refines_nothing_is_refused(tiny_run, split, tmp_path, capsys):
    np.savez(tmp_path / "f.npz", **arrays(split))
    ask = ["evaluate", "--embeddings", str(tmp_path / "f.npz"), "--refine", tiny_run]
    assert "no neighbour transformer" in fails(capsys, *ask)
    assert "--refine is for --embeddings" in fails(capsys, "evaluate", tiny_run, "--refine", "x")


def vars_of(found) -> dict:
    return {name: getattr(found, name) for name in type(found).__dataclass_fields__}


def test_flipped_features_are_the_mean_of_both(tiny_run, tiny_data, capsys):
    run = open_run(tiny_run)
    model, asked, data = run.model(), run.experiment, open_dataset("pedestrians", str(tiny_data))
    from PIL import Image, ImageOps

    paths = [*data.query.paths, *data.gallery.paths]
    own = embed_test(model, asked, data)
    mirrored = [ImageOps.mirror(Image.open(path).convert("RGB")) for path in paths]
    other = embed_test(model, asked, data, images=mirrored)
    both = type(own)(**vars_of(own) | dict(vectors=(own.vectors + other.vectors) / 2))
    assert main(["evaluate", tiny_run, "--flip"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["mAP"] == pytest.approx(evaluate(both).mAP, abs=2e-3)
    assert said["conditions"]["flip"] and said["conditions"]["neck"] == "before"
    assert said["conditions"]["data_set"] == "pedestrians"


def test_an_approximate_search_tells_its_recall(stored, capsys):
    pytest.importorskip("faiss")
    exact, said = scored(capsys, stored), scored(capsys, stored, "--approximate", "faiss")
    assert 0 < said["recall"] <= 1 and said["conditions"]["approximate"] == "faiss"
    assert said["conditions"]["nearest"] == min(100, said["gallery"])
    assert 0 < said["mAP"] <= exact["mAP"] + 1e-9  # what it misses stands last
    ask = ["evaluate", "--embeddings", str(stored), "--approximate", "faiss"]
    assert "exact distances" in fails(capsys, *ask, "--protocol", "single-gallery-shot")
    assert "no --rerank" in fails(capsys, *ask, "--rerank", "8,3,0.3")


def test_a_package_that_is_not_there_is_named(stored, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    said = fails(capsys, "evaluate", "--embeddings", str(stored), "--approximate", "faiss")
    assert said.endswith("this needs faiss-cpu, which is not installed: pip install faiss-cpu\n")


def test_a_run_in_bfloat16_says_so(tiny_run, capsys):
    assert main(["evaluate", tiny_run, "--precision", "bf16", "--batch-size", "7"]) == 0
    assert json.loads(capsys.readouterr().out)["conditions"]["precision"] == "bf16"


def test_the_feature_that_was_asked_for_is_told(tiny_run, refined, capsys):  # noqa: F811
    """In the words of --flip, whether it is the run's own or not; unasked nothing is told."""

    def said(*asked) -> dict:
        assert main(["evaluate", *asked]) == 0
        return json.loads(capsys.readouterr().out)

    assert "conditions" not in said(tiny_run) and "conditions" not in said("refined")
    flipped = said(tiny_run, "--flip")["conditions"]
    for neck in ("before", "after"):
        found = said(tiny_run, "--neck", neck)["conditions"]
        assert found == flipped | dict(neck=neck, flip=False)
    encoder = said("refined", "--stage", "encoder")["conditions"]
    assert (encoder["stage"], encoder["neck"], encoder["protocol"]) == (
        "encoder",
        "after",
        "market",
    )
    assert said("refined", "--neck", "before")["conditions"]["stage"] == "refined"


def test_what_cannot_be_scored_is_told_before_images_are_read(refined, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr("reid_core.scores.scoring.embed_test", None)
    ask = ["evaluate", "refined", "--protocol", "nformer-per-query"]
    assert "no --rerank" in fails(capsys, *ask, "--rerank", "20,6,0.3")
    assert "no --metric" in fails(capsys, *ask, "--metric", "cosine")


def test_every_option_on_a_run(tiny_run, capsys):
    ask = ["evaluate", tiny_run, "--details", "--bootstrap", "50", "--far", "0.05"]
    assert main(ask) == 0
    said = json.loads(capsys.readouterr().out)
    expected = record(open_run(tiny_run).embeddings(), Wish(far=0.05))
    assert said["verification"]["threshold"] == pytest.approx(
        expected["verification"]["threshold"], abs=1e-3
    )
    assert said["verification"]["false_accepts"] <= 0.05
    assert {each["query_camera"] for each in said["camera_pairs"]} <= {1, 2, 3}
    assert said["conditions"]["run"] == tiny_run


@pytest.mark.parametrize("left_out", [np.array(["a", {}], dtype=object), np.array(3)])
def test_a_foreign_list_of_left_out_images(split, tmp_path, capsys, left_out):
    np.savez(tmp_path / "f.npz", **arrays(split), left_out=left_out)
    if left_out.dtype.hasobject:
        said = fails(capsys, "evaluate", "--embeddings", str(tmp_path / "f.npz"))
        assert "left_out holds pickled" in said
    else:
        assert scored(capsys, tmp_path / "f.npz")["conditions"]["left_out"] == 1


def test_a_header_that_is_no_python_is_damage(stored, capsys):
    path = stored / "cameras.npy" if stored.is_dir() else stored
    content = bytearray(path.read_bytes())
    if (at := content.find(b"'shape': (")) < 0:
        pytest.skip("compressed")
    at = content.find(b")", at)
    content[at : at + 1] = b"("
    path.write_bytes(content)
    assert "is damaged" in fails(capsys, "evaluate", "--embeddings", str(stored))


def test_encoded_vectors_of_other_images_are_refused(split, tmp_path, capsys):
    words = np.full((220, 4), "a", "<U32")
    for encoded in (np.zeros((3, 4), np.float32), words, words == "a", np.float32(3)):
        np.savez(tmp_path / "f.npz", **arrays(split), encoded=encoded)
        assert "expected encoded (220, D) of floating-point numbers" in fails(
            capsys, "evaluate", "--embeddings", str(tmp_path / "f.npz")
        )


def test_a_negative_seed(stored, capsys):
    asked = ("evaluate", "--embeddings", str(stored), "--bootstrap", "50", "--seed", "-1")
    assert "--seed: expected" in fails(capsys, *asked)
