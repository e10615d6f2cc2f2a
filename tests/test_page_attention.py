"""The page Attention, run by Streamlit's own test harness without a browser."""

import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_app import captions, drawn, imported, nothing_cached, opened, said  # noqa: F401

from app import (
    cached,
    charts_side,
    jigsaws,
    microscope,
    microscope_jigsaw,
    microscope_maps,
    picture_picker,
    pictures,
)
from app.notices import plain
from reid_core.analysis import attention
from reid_core.analysis.orders import layers
from reid_core.errors import BadInput
from reid_core.models.base import Tokens, Window
from reid_core.models.transreid import TransReIDOptions, part_patches
from reid_core.runs import open_run


def page(**address):
    return opened("attention", **address)


def tiles(app, place: int = 0) -> list[dict]:
    """The tiles of the page's pictures, in the order of the page."""
    found = [node.proto for node in app.get("bidi_component")]
    shown = [each.json for each in found if each.component_name == "pictures"]

    return json.loads(shown[place])["tiles"]


def picture(run: str, row: int) -> pictures.Picture:
    return pictures.Picture(run, open_run(run).stamp(), row=row, query=0)


def test_opens_on_the_map_that_shows_most(tiny_run):
    app = page()
    queries, found = cached.surveyed(tiny_run, open_run(tiny_run).stamp())
    image, layer, head = found.strongest
    labels = app.selectbox(key="query").options
    assert app.session_state["query"] == labels[queries[image]]
    app.button(key="attention step 1").click().run()
    assert f"head {head + 1} of layer {layer + 1}" in " ".join(m.value for m in app.markdown)
    assert f"{found.person[image, layer, head]:.0%}" in " ".join(m.value for m in app.markdown)


def test_a_query_that_was_chosen_elsewhere_is_the_one_that_is_opened(tiny_run):
    app = opened("retrieval")
    queries = app.selectbox(key="query").options
    shown = app.session_state["query"]
    opens_on = page().session_state["query"]
    chosen = next(each for each in queries if each not in (shown, opens_on))
    app.selectbox(key="query").select(chosen).run()
    for name in ("attention", "errors", "home", "divergence", "clusters", "attention", "retrieval"):
        app.query_params.clear()  # as a link of the menu does
        app.switch_page(f"../pages/{name}.py").run()
        assert not app.exception
        assert name == "home" or app.session_state["query"] == chosen


def test_a_query_that_nobody_chose_gives_way_to_the_page_s_own(tiny_run):
    opens_on = page().session_state["query"]
    app = opened("retrieval")
    app.query_params.clear()
    app.switch_page("../pages/attention.py").run()
    assert app.session_state["query"] == opens_on


def test_the_tiles_are_the_rows_of_the_pass(tiny_run):
    app = page(lens="Layers and heads", token="class")
    found = open_run(tiny_run).embeddings()
    query = app.selectbox(key="query").options.index(app.session_state["query"])
    looked = picture(tiny_run, int(found.query_rows[query])).looked(attention.KINDS)
    maps = layers(looked)
    assert len(tiles(app)) == sum(1 + each.shape[1] for each in maps.values())
    for number, (name, each) in enumerate(maps.items(), start=1):
        tokens = looked.tokens[name]
        for head in range(each.shape[1]):
            tile = next(t for t in tiles(app) if t["label"] == f"layer {number}, head {head + 1}")
            row = each[0, head, 0].numpy()
            assert np.allclose(tile["map"], row[1:].reshape(tokens.grid), rtol=1e-4)
            assert tile["note"] == f"class {row[0]:.3f}"


def test_a_clicked_patch_is_the_token_everywhere(tiny_run):
    app = page()
    app.session_state["maps"] = {"picked": {"tile": 1, "row": 2, "column": 1}}
    microscope_maps_take(app)
    app.run()
    assert app.session_state["token"] == "row 3, column 2"
    assert all(tile["picked"] == [2, 1] for tile in tiles(app))
    app.selectbox(key="layer").select("2").run()
    app.selectbox(key="head").select("mean").run()
    assert [tile["label"] for tile in tiles(app)] == ["layer 2, mean"]
    received = app.segmented_control(key="direction").options[1]
    app.segmented_control(key="direction").set_value(received).run()
    assert "column of each map" in captions(app)


def microscope_maps_take(app) -> None:
    """What a click calls; the harness has no browser that could do it."""
    tokens = Tokens((7, 3), ("class",), Window(16, 8))
    state = app.session_state["maps"]["picked"]
    names = attention.token_names(tokens)
    app.session_state["token"] = names[1 + state["row"] * 3 + state["column"]]


@pytest.mark.parametrize("lens", ["Rollout", "Jigsaw", "Side information"])
def test_the_other_views(tiny_run, lens):
    app = page(lens=lens)
    assert not app.error and app.session_state["lens"] == lens
    assert tiles(app)


def test_rollout_says_its_target_and_follows_it(tiny_run):
    app = page(lens="Rollout")
    assert "squared norm" in app.selectbox(key="target").options
    before = tiles(app)
    app.selectbox(key="target").select("squared norm").run()
    after = tiles(app)
    labels = [tile["label"] for tile in after]
    assert labels == ["head mean, layer 2", "attention rollout", "gradient-weighted rollout"]
    assert after[1]["map"] == before[1]["map"] and after[2]["map"] != before[2]["map"]
    assert "squared norm of the embedding" in captions(app)
    assert "local features' own layer is not multiplied" in captions(app)


def test_jigsaw_draws_each_group_where_its_patches_lie(tiny_run):
    app = page(lens="Jigsaw")
    name = "local_layer.0.attn.attention"
    groups = cached.probes(tiny_run, open_run(tiny_run).stamp())[name][1].groups
    local = tiles(app, 1)
    assert len(local) == len(groups)
    for tile, group in zip(local, groups, strict=True):
        shown = [value is not None for row in tile["map"] for value in row]
        assert sorted(np.flatnonzero(shown)) == sorted(set(group))
        spent = float(tile["note"].split()[1].rstrip(","))
        total = sum(value for row in tile["map"] for value in row if value is not None)
        assert abs(total + spent - 1) < 0.006
    steps = pd.read_csv(io.StringIO(drawn(app, "pictures")["csv"]))
    shuffled = next(name for name in steps if name.startswith("shuffled"))
    for feature, group in enumerate(groups, start=1):
        there = steps[steps["local feature"] == feature]
        assert [each - 1 for each in there[shuffled]] == list(group)
    assert steps["patches"].dropna().tolist() == list(range(1, steps["patches"].count() + 1))


@pytest.mark.parametrize(
    "grid, beside, above", [((21, 10), 95, 62), ((16, 8), 93, 50), ((10, 5), 80, 16)]
)
def test_what_becomes_of_neighbours_is_counted(grid, beside, above):
    groups = part_patches(grid[0] * grid[1], TransReIDOptions())
    tokens = Tokens(grid, ("class",), None, tuple(map(tuple, groups)))
    said = microscope_jigsaw._neighbours(tokens)
    assert f"{beside}% of those side by side and {above}% of those above one another" in said
    # The same by a slow loop over the groups.
    of = lambda row, column: row * grid[1] + column  # noqa: E731
    pairs = [(of(r, c), of(r, c + 1)) for r in range(grid[0]) for c in range(grid[1] - 1)]
    together = sum(any({a, b} <= set(group) for group in groups) for a, b in pairs)
    assert f"{together / len(pairs):.0%} of those side by side" in said


def test_the_step_counts_the_runs_own_neighbours(tiny_run):
    app = page(lens="Jigsaw")
    step = next(
        each for each in microscope.steps(open_run(tiny_run)) if each.title.startswith("A jigsaw")
    )
    assert "end up in other groups" not in step.text
    said = step.text.split("group. ", 1)[1].split("group.")[0]
    assert said.startswith("Of neighbours") and said in captions(app)


@pytest.mark.parametrize("count, named", [(7, 7), (30, 4)])
def test_each_line_of_side_information_is_named_at_its_end(count, named):
    values = np.linspace(0.9, 0.901, count) * np.ones((4, 1))  # their ends lie on one another
    values[-1, 5], values[0] = 0.5, 0.95
    asked = charts_side.Asked([f"camera {n}" for n in range(count)], 1, 3, "1 x")
    figure = charts_side.curves({"cosine": values}, asked, "#000000")
    names = [trace for trace in figure.data if trace.text]
    assert {"camera 1", "camera 3", "camera 5"} < {trace.text[-1] for trace in names}
    assert len(names) == named
    heights = np.sort([trace.y[-1] for trace in names])
    assert np.diff(heights).min() > 0.07 * np.ptp(values)


def test_side_information_says_what_is_true(tiny_run):
    app = page(lens="Side information")
    frame = app.dataframe[0].value
    run = open_run(tiny_run)
    query = app.selectbox(key="query").options.index(app.session_state["query"])
    true = f"camera {run.embeddings().cameras[run.embeddings().query_rows[query]]}"
    here = frame[(frame["told"] == true) & (frame["coefficient"] == "1 x")]
    assert here["cosine"].item() == 1 and here["moved into the first 10"].item() == 0
    assert len(frame) == 3 * (len(run.facts.cameras) + 1) + 1
    assert frame["told"][0] == "any of them"  # at 0 all are one
    expected = cached.ranked(tiny_run, run.stamp(), query).average_precision
    assert abs(here["AP"].item() - expected) < 1e-3
    app.selectbox(key="tell").select("unknown camera").run()
    app.segmented_control(key="coefficient").set_value("2 x").run()
    assert not app.error and "told unknown camera, 2 x" in captions(app)
    shown = drawn(app, "pictures")
    moved = pd.read_csv(io.StringIO(shown["csv"]))
    assert moved["coefficient"].tolist() == ["1 x"] * 10 + ["2 x"] * 10
    assert [tile["note"].split()[1] for tile in shown["tiles"]] == [
        str(rank) for rank in moved["rank in the other list"]
    ]
    # An image that is in both lists has in each the rank that the other says.
    above, below = (part.set_index("image") for _, part in moved.groupby("coefficient"))
    for image in above.index.intersection(below.index):
        assert above["rank in the other list"][image] == below["rank"][image]
    assert [tile["label"].endswith("✓") for tile in shown["tiles"]] == moved["true match"].tolist()


def test_an_image_of_the_list_is_looked_at(tiny_run):
    app = page()
    app.session_state["image"] = "rank 2"
    app.run()
    assert not app.error
    items = drawn(app, "query_strip")["items"]
    assert [each["chosen"] for each in items].index(True) == 2


def test_two_runs_side_by_side(tiny_run, runs):
    shutil.copytree(runs / tiny_run, runs / "twin")
    for lens in ("Layers and heads", "Rollout", "Jigsaw", "Side information"):
        app = page(run=tiny_run, lens=lens, beside="twin")
        assert not app.error
        figures = [json.loads(each.json)["tiles"] for each in shown(app)]
        figures = [each for each in figures if each[0].get("src") is not None]  # not the toy
        half = len(figures) // 2
        assert half and figures[:half] == figures[half:]
        files = {json.loads(each.json)["file"] for each in shown(app)}
        assert files >= {each.replace("-twin-", f"-{tiny_run}-") for each in files}
        assert any(each.startswith("attention-twin-") for each in files)


def shown(app) -> list:
    found = [node.proto for node in app.get("bidi_component")]
    return [each for each in found if each.component_name == "pictures"]


def test_a_run_beside_that_was_tested_on_other_images(tiny_run, runs):
    shutil.copytree(runs / tiny_run, runs / "twin")
    run = open_run("twin")
    found = run.embeddings()
    found.names[:] = [f"x{name}"[:40] for name in found.names]
    run.keep_embeddings(found)
    app = page(run=tiny_run, beside="twin")
    assert "was not tested on" in said(app)


def test_a_run_without_a_test_split_looks_at_an_upload(runs, tiny_data):
    imported("official", depth=3)
    app = page()
    assert not app.error
    packed = io.BytesIO()
    Image.new("RGB", (40, 90), "red").save(packed, "PNG")
    app.file_uploader(key="picture").set_value(("red.png", packed.getvalue(), "image/png")).run()
    assert len(tiles(app)) == 9 and not app.error
    app.segmented_control(key="lens").set_value("Rollout").run()
    assert app.selectbox(key="target").options == ["squared norm"]
    app.segmented_control(key="lens").set_value("Side information").run()
    assert "no embeddings" in said(app)


def test_a_missing_data_set_is_told_and_an_upload_needs_none(tiny_run, tmp_path, monkeypatch):
    (tmp_path / "pedestrians").mkdir()
    monkeypatch.setenv("REID_DATA", str(tmp_path))
    app = page()
    assert "bounding_box_test" in said(app) or "query" in said(app)
    app.segmented_control(key="from").set_value("Upload").run()
    assert app.file_uploader(key="picture") and not app.error


def test_views_depend_on_what_the_model_has(tiny_run, runs):
    own = microscope.offered(open_run(tiny_run))
    assert {"Layers and heads", "Rollout", "Jigsaw", "Side information"} <= set(own)
    run = imported("cnn", model="resnet-bot")
    assert not {"Layers and heads", "Rollout", "Jigsaw"} & set(microscope.offered(run))
    run = imported("plain", sie="none", jpm=False)
    offered = microscope.offered(run)
    assert "Rollout" in offered and not {"Jigsaw", "Side information"} & set(offered)
    run = imported("non-local", model="rga", attention="nl")
    offered = microscope.offered(run)
    assert "Layers and heads" in offered and "Rollout" not in offered


def test_the_same_place_on_another_grid():
    first, other = Tokens((8, 4)), Tokens((4, 2))
    for row in range(8):
        for column in range(4):
            found = microscope_maps.same_place(f"row {row + 1}, column {column + 1}", first, other)
            assert divmod(found, 2) == (row // 2, column // 2)


def test_the_toy_is_the_readers_example():
    stages = {tile["label"]: tile for tile in jigsaws.toy(8, 1, 2)}
    numbers = [int(mark["text"]) for mark in stages["read off"]["marks"]]
    assert numbers == [1, 5, 2, 6, 3, 7, 4, 8]
    shifted = {tile["label"]: tile for tile in jigsaws.toy(8, 3, 2)}
    assert [int(m["text"]) for m in shifted["shifted by 2"]["marks"]] == [3, 4, 5, 6, 7, 8, 1, 2]
    with pytest.raises(BadInput, match="divide"):
        jigsaws.toy(9, 1, 2)


def test_rearranged_patches_stand_where_the_order_puts_them():
    image = np.random.default_rng(0).integers(0, 255, (32, 16, 3), np.uint8)
    tokens = Tokens((4, 2), window=Window(8, 8))
    order = [5, 0, 7, 2, 1, 6, 3, 4]
    moved = np.asarray(jigsaws.rearranged(image, tokens, order))
    for place, patch in enumerate(order):
        (r, c), (y, x) = divmod(place, 2), divmod(patch, 2)
        there = moved[8 * r : 8 * r + 8, 8 * c : 8 * c + 8]
        assert (there == image[8 * y : 8 * y + 8, 8 * x : 8 * x + 8]).all()


def test_curves_name_the_true_way():
    asked = charts_side.Asked(["camera 1", "unknown camera"], 0, 1, "1 x")
    figure = charts_side.curves({"cosine": np.ones((4, 2))}, asked, "#000000")
    assert [each.name for each in figure.data if each.name] == ["camera 1 (true)", "unknown camera"]


def test_non_local_maps_of_every_stage(runs, tiny_data):
    """Each stage has a grid of its own, and no class token."""
    imported("non-local", model="rga", attention="nl")
    app = page()
    packed = io.BytesIO()
    Image.new("RGB", (40, 90), "red").save(packed, "PNG")
    app.file_uploader(key="picture").set_value(("red.png", packed.getvalue(), "image/png")).run()
    app.segmented_control(key="lens").set_value("Layers and heads").run()
    assert not app.error and app.session_state["token"].startswith("row ")
    grids = {(len(tile["map"]), len(tile["map"][0])) for tile in tiles(app)}
    assert len(grids) > 1 and all(tile["picked"] for tile in tiles(app))
    assert not any(tile["note"] for tile in tiles(app))


def test_a_link_to_a_query_or_an_image_that_is_not_here_says_so(tiny_run):
    app = page(run=tiny_run, query="nobody.jpg", image="rank 99")
    first = app.selectbox(key="query").options[0]
    assert f"has no query nobody.jpg; shown is {plain(first)}." in said(app)
    assert "list is called rank 99; shown is the query." in said(app)
    app.run()
    assert "nobody.jpg" in said(app) and "rank 99" in said(app)  # whatever else is chosen
    app.button(key="next").click().run()
    assert not app.warning and not app.exception


def test_an_address_that_the_page_left_behind_is_no_link(tiny_run, monkeypatch):
    """The list of the next query is shorter than that of the image that was looked at."""
    app = page(run=tiny_run, image="rank 3")
    assert app.session_state["image"] == "rank 3" and not app.warning
    monkeypatch.setattr("app.picture_picker.NEAREST", 2)
    app.button(key="next").click().run()
    assert app.session_state["image"] == picture_picker.ITSELF and not app.warning


def test_another_query_is_looked_at_itself(tiny_run):
    app = page(image="rank 2")
    assert app.session_state["image"] == "rank 2"
    app.button(key="next").click().run()
    assert app.session_state["image"] == picture_picker.ITSELF


def test_a_picture_is_not_its_own_target(tiny_run):
    """The gradient of its cosine with itself would be rounding noise."""
    app = page(lens="Rollout", image="rank 2", target="rank 2")
    assert app.session_state["image"] == "rank 2"
    assert "rank 1" in app.selectbox(key="target").options
    assert "rank 2" not in app.selectbox(key="target").options


def test_a_run_beside_whose_data_set_is_gone(tiny_run, runs, tmp_path):
    shutil.copytree(runs / tiny_run, runs / "gone")
    said_there = runs / "gone" / "experiment.json"
    asked = json.loads(said_there.read_text()) | {"data": str(tmp_path / "nowhere")}
    said_there.write_text(json.dumps(asked))
    for lens in ("Layers and heads", "Why similar", "On the person"):
        app = page(run=tiny_run, lens=lens, beside="gone")
        assert "nowhere" in said(app) and not app.error and tiles(app)


def test_a_run_beside_with_another_grid_draws_the_same_place(tiny_run):
    from reid_core.__main__ import main

    imported("finer", stride=4)
    assert main(["evaluate", "finer", "--dataset", "pedestrians"]) == 0
    coarse, fine = (open_run(name).model().tokens("") for name in (tiny_run, "finer"))
    app = page(run=tiny_run, lens="Layers and heads", beside="finer", token="row 6, column 3")
    assert not app.error
    row, column = tiles(app, 1)[0]["picked"]
    assert tiles(app, 0)[0]["picked"] == [5, 2]
    for here, there, old, new in zip((5, 2), (row, column), coarse.grid, fine.grid, strict=True):
        assert there == int((here + 0.5) / old * new)
    assert f"the token row {row + 1}, column {column + 1} attends" in captions(app)


def test_a_model_without_attention_says_so(runs):
    imported("cnn", model="resnet-bot", size="64x32", width=8, trunk="resnet10t")
    app = page()
    packed = io.BytesIO()
    Image.new("RGB", (40, 90), "red").save(packed, "PNG")
    app.file_uploader(key="picture").set_value(("red.png", packed.getvalue(), "image/png")).run()
    assert "no attention inside an image" in captions(app)


@pytest.mark.parametrize("content", [b"no picture", None])
@pytest.mark.parametrize("lens", ["Why similar", "Side information", "Deletion"])
def test_an_upload_that_cannot_be_used_is_told_in_every_view(tiny_run, lens, content):
    small = io.BytesIO()
    Image.new("RGB", (3, 700)).save(small, "PNG")
    app = page(**{"lens": lens, "from": "Upload"})
    file = ("x.png", content or small.getvalue(), "image/png")
    app.file_uploader(key="picture").set_value(file).run()
    assert not app.exception and len(app.error) == 1
