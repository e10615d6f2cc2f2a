"""Who is this, or nobody: one picture against a gallery, from the command line and on the page."""

import io
import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import ExifTags, Image
from test_app import captions, coloured, drawn, give, imported, jpeg, opened, said
from test_cli import fails
from test_nformer import refined  # noqa: F401 - a fixture

from app import own, uploads
from app.scores import RATES
from reid_core.__main__ import main
from reid_core.data import images
from reid_core.data.attributes import sizes
from reid_core.embed import embed_images, refine
from reid_core.evaluate import Embeddings, directions, distances
from reid_core.runs import open_run
from reid_core.scores.threshold import measured


def asked(capsys, *arguments) -> dict:
    """The JSON that a query prints."""
    assert main(["query", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def slow_threshold(found: Embeddings, share: float) -> tuple[float, int, int]:
    """Every pair that counts, one by one: the distance of the first stranger who is one too many,
    and how many pairs there are of two identities and of one."""
    matrix = distances(found.directions[found.query_rows], found.directions[found.gallery_rows])
    strangers, same = [], 0
    for q, query in enumerate(found.query_rows):
        for g, row in enumerate(found.gallery_rows):
            alike = found.identities[query] == found.identities[row]
            if not alike:
                strangers.append(matrix[q, g])
            elif found.cameras[query] != found.cameras[row]:
                same += 1
    strangers = np.sort(strangers)
    return float(strangers[int(share * len(strangers))]), len(strangers), same


def test_kept_embeddings_of_another_width_are_told(tiny_run, tiny_data, capsys):
    run = open_run(tiny_run)
    kept = run.embeddings()
    run.keep_embeddings(replace(kept, vectors=kept.vectors[:, :8]))
    image = next((tiny_data / "query").iterdir())
    line = fails(capsys, "query", tiny_run, "--images", str(image))
    assert "damaged embeddings.npz: vectors of 8 numbers" in line


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5])
def test_the_threshold_counts_pairs(tiny_run, share):
    found = open_run(tiny_run).embeddings()
    it = measured(found, share)
    expected, strangers, same = slow_threshold(found, share)
    assert (it.strangers, it.same) == (strangers, same)
    assert it.distance == pytest.approx(expected, abs=1e-5)
    assert it.false_accepts <= share < it.false_accepts + 1.5 / strangers + 1e-3
    assert it.accepts(it.distance - 1e-6) and not it.accepts(it.distance)


def test_a_query_of_the_test_split_is_ranked_as_ever(tiny_run, tiny_data, capsys):
    """Its distances are those of the kept embeddings, and the verdict is the threshold's."""
    run = open_run(tiny_run)
    kept = run.embeddings()
    answer = asked(capsys, tiny_run, "--images", tiny_data / "query", "--top", 3)
    gallery = answer["gallery"]
    assert gallery["images"] == len(kept.gallery_rows) and "test split" in gallery["title"]
    limit = answer["threshold"]
    assert limit["distance"] == measured(kept, 0.01).distance
    assert limit["pairs_of_two_identities"] == slow_threshold(kept, 0.01)[1]
    matrix = distances(kept.directions[kept.query_rows], kept.directions[kept.gallery_rows])
    names = {str(kept.names[row]).split("/")[1]: q for q, row in enumerate(kept.query_rows)}
    assert len(answer["queries"]) == len(names)
    for each in answer["queries"]:
        row = np.sort(matrix[names[each["query"]]])
        assert [e["distance"] for e in each["ranked"]] == pytest.approx(row[:3].tolist(), abs=2e-3)
        assert [e["rank"] for e in each["ranked"]] == [1, 2, 3]
        assert each["match"] == (each["nearest"] < limit["distance"])
        for entry in each["ranked"]:
            at = kept.names.tolist().index(entry["name"])
            assert entry["identity"] == kept.identities[at]


def test_no_match_at_a_threshold_of_ones_own(tiny_run, tiny_data, capsys):
    image = next((tiny_data / "query").iterdir())
    near = asked(capsys, tiny_run, "--images", image, "--threshold", 2.1)
    far = asked(capsys, tiny_run, "--images", image, "--threshold", 1e-6)
    assert [a["queries"][0]["match"] for a in (near, far)] == [True, False]
    assert near["threshold"] == dict(distance=2.1, measured_on=None)
    assert main(["query", tiny_run, "--images", str(image), "--threshold", "1e-6"]) == 0
    out = capsys.readouterr().out
    assert "no match: the nearest is at" in out and "   1  " in out
    assert main(["query", tiny_run, "--images", str(image), "--far", "1"]) == 0
    out = capsys.readouterr().out
    assert ": match" in out and "pairs of two identities" in out


@pytest.mark.parametrize("given", ("-1", "inf", "nan"))
def test_a_threshold_is_a_distance(tiny_run, tiny_data, capsys, given):
    image = next((tiny_data / "query").iterdir())
    assert main(["query", tiny_run, "--images", str(image), "--threshold", given]) == 2
    assert "expected a distance, 0 or more" in capsys.readouterr().err


def test_a_gallery_of_ones_own(tiny_run, tiny_data, tmp_path, capsys):
    """A picture is not an answer to itself, and an unknown person is not junk."""
    images = sorted((tiny_data / "query").iterdir())[:3]
    place = tmp_path / "gallery"
    place.mkdir()
    for path in images:
        (place / path.name).write_bytes(path.read_bytes())
    Image.open(images[0]).save(place / "somebody.png")
    (place / "bad.jpg").write_bytes(b"")
    answer = asked(capsys, tiny_run, "--images", place / images[0].name, "--gallery", place)
    (query,) = answer["queries"]
    listed = {entry["name"]: entry for entry in query["ranked"]}
    assert set(listed) == {images[1].name, images[2].name, "somebody.png"}
    assert listed["somebody.png"]["identity"] is None
    assert listed[images[1].name]["identity"] == int(images[1].name.split("_")[0])
    assert answer["gallery"] == dict(title=str(place), images=4)
    run = open_run(tiny_run)
    files = [images[0], *(place / name for name in listed)]
    cameras = [int(p.name.split("_c")[1][0]) if "_c" in p.name else None for p in files]
    vectors = directions(embed_images(run.model(), run.experiment, files, cameras))
    expected = distances(vectors[:1], vectors[1:])[0]
    found = [entry["distance"] for entry in listed.values()]
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_model_that_refines_asks_as_one_set(runs, tiny_data, tmp_path, capsys):
    run = imported("neighbours", model="nformer", trunk="resnet18", width=16)
    images = sorted((tiny_data / "query").iterdir())[:4]
    place = tmp_path / "gallery"
    place.mkdir()
    for path in images[1:]:
        (place / path.name).write_bytes(path.read_bytes())
    line = fails(capsys, "query", "neighbours", "--images", str(images[0]))
    assert "no gallery of its own yet: give --gallery DIR" in line
    where = ["--images", str(images[0]), "--gallery", str(place)]
    assert "--far: run 'neighbours' has no test split" in fails(
        capsys, "query", "neighbours", *where, "--far", "0.1"
    )
    answer = asked(capsys, "neighbours", *where)
    assert answer["threshold"] is None and answer["queries"][0]["match"] is None
    vectors = refine(run.model(), embed_images(run.model(), run.experiment, images, [None] * 4))
    vectors = directions(vectors)
    expected = dict(
        zip([p.name for p in images[1:]], distances(vectors[:1], vectors[1:])[0], strict=True)
    )
    for entry in answer["queries"][0]["ranked"]:
        assert entry["distance"] == pytest.approx(expected[entry["name"]], abs=2e-3)


@pytest.mark.parametrize(
    "more, message",
    [
        (["--images", "/nowhere"], "no file or folder"),
        (["--images", "/nowhere", "--far", "0.1", "--threshold", "1"], "not allowed with"),
        (["--images", "{data}", "--far", "2"], "false-accept rate from 0 to 1"),
        (["--images", "{data}", "--threshold", "nan"], "expected a distance"),
        (["--images", "{data}", "--top", "-1"], "expected 0 or more"),
        (["--images", "{data}", "--batch-size", "0"], "a whole number from 1"),
    ],
)
def test_mistakes(tiny_run, tiny_data, more, message, capsys):
    more = [each.format(data=tiny_data / "query") for each in more]
    assert message in fails(capsys, "query", tiny_run, *more)


# On the page


def test_no_match_on_the_page(tiny_run):
    """The verdict, from how many pairs and on which data, and whose gallery it says nothing of."""
    app = opened("retrieval")
    app.segmented_control(key="source").set_value(own.KIND).run()
    give(app, ("who.jpg", jpeg()), coloured())
    kept = open_run(tiny_run).embeddings()
    for rate in RATES:
        app.segmented_control(key="far").set_value(rate).run()
        assert not app.exception
        it = measured(kept, float(rate.removesuffix(" %")) / 100)
        nearest = float(drawn(app, "ranked_gallery")["tiles"][0]["distance"])
        words = said(app)
        assert ("No match" in words) == (nearest >= it.distance)
        assert f"{it.strangers:,} pairs of two identities" in captions(app)
        assert "nformer" not in captions(app)
        assert "the test split" in captions(app) and "not measured on your pictures" in captions(
            app
        )


def test_a_threshold_of_a_model_that_refines_says_where_it_comes_from(refined, tiny_data, capsys):  # noqa: F811
    """It was measured on queries and gallery refined as one set: in words, in JSON, on the page."""
    assert main(["query", "refined", "--images", str(next((tiny_data / "query").iterdir()))]) == 0
    assert "refined as one set" in " ".join(capsys.readouterr().out.split())
    answer = asked(capsys, "refined", "--images", next((tiny_data / "query").iterdir()))
    assert answer["threshold"]["protocol"] == "nformer-joint"
    app = opened("retrieval", run="refined")
    app.segmented_control(key="source").set_value(own.KIND).run()
    give(app, ("who.jpg", jpeg()), coloured())
    assert not app.exception and "It was measured by nformer-joint" in captions(app)


def test_an_upload_has_a_verdict_too(tiny_run):
    app = opened("retrieval")
    app.segmented_control(key="source").set_value("Upload").run()
    app.file_uploader[0].upload("somebody.png", jpeg(kind="PNG")).run()
    assert not app.exception and "match" in said(app)
    assert "not measured on your pictures" not in captions(app)


def turned(image: Image.Image, kind: str = "PNG") -> bytes:
    """As a telephone that was held sideways keeps it."""
    exif, packed = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(packed, kind, exif=exif)
    return packed.getvalue()


def careless(image: Image.Image) -> bytes:
    """Turned, by a program that wrote other tags wrongly: words for a number."""
    words = struct.pack("<HHI", ExifTags.Base.ImageWidth, 2, 4) + b"wide"
    held = struct.pack("<HHIHH", ExifTags.Base.Orientation, 3, 1, 6, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + words + held + bytes(4)
    packed = io.BytesIO()
    image.transpose(Image.Transpose.ROTATE_90).save(packed, "PNG", exif=exif)
    return packed.getvalue()


def deep(image: Image.Image) -> bytes:
    """Grey, of sixteen bits."""
    packed = io.BytesIO()
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(packed, "PNG")
    return packed.getvalue()


@pytest.mark.parametrize("odd, plain", [(turned, "RGB"), (careless, "RGB"), (deep, "L")])
def test_an_odd_picture_is_one_to_page_and_command(odd, plain, tiny_data, tmp_path):
    """A turned one is upright, and one of sixteen bits is divided, whoever reads it."""
    with Image.open(next((tiny_data / "query").glob("*.jpg"))) as image:
        seen = np.asarray(image.convert(plain).convert("RGB"))
        (tmp_path / "odd.png").write_bytes(odd(image))
    for read in (
        images.opened(tmp_path / "odd.png"),
        uploads.picture((tmp_path / "odd.png").read_bytes()),
        images.read(tmp_path / "odd.png", seen.shape[:2]),
    ):
        np.testing.assert_array_equal(np.asarray(read), seen)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_the_size_of_a_turned_picture_is_that_upright(kind, tmp_path):
    (tmp_path / "odd").write_bytes(turned(Image.new("RGB", (20, 50)), kind))
    assert images.opened(tmp_path / "odd").size == (20, 50)
    assert sizes(tmp_path, ["odd"]).tolist() == [[50, 20]]


def test_sixteen_bits_of_another_format(tmp_path):
    (tmp_path / "deep.pgm").write_bytes(b"P5 8 8 65535\n" + b"\x40\x00" * 64)
    assert np.asarray(images.opened(tmp_path / "deep.pgm")).max() == 0x40


def test_without_a_test_split_nothing_is_decided(runs):
    imported("brought")
    app = give(opened("retrieval", run="brought"), ("who.jpg", jpeg()), coloured())
    assert "match" not in said(app).lower()
    assert "No threshold" in captions(app)
