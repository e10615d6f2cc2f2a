"""The page Errors, run by Streamlit's own test harness without a browser."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from plotly.colors import sample_colorscale
from test_app import captions, drawn, nothing_cached, opened, said, unmatched  # noqa: F401

from app import cached, charts, charts_errors, charts_runs, errors, errors_queue, errors_rerank
from app.errors import Case
from app.notices import plain
from reid_core import notes
from reid_core.runs import open_run
from reid_core.studies import Study


def page(**address):
    return opened("errors", **address)


def case(name: str) -> Case:
    return Case.of(name, open_run(name).stamp())


@pytest.fixture
def two(tiny_run, runs) -> tuple[str, str]:
    """A second run with other vectors on the same split."""
    shutil.copytree(runs / tiny_run, runs / "other")
    run = open_run("other")
    found = run.embeddings()
    noise = np.random.default_rng(0).normal(size=found.vectors.shape)
    found.vectors[:] += 2 * found.vectors.std() * noise.astype(np.float32)
    run.keep_embeddings(found)
    return tiny_run, "other"


def test_opens_on_the_failure_with_the_most_tags(tiny_run):
    app, here = page(), case(tiny_run)
    held = np.sum([tag.holds for tag in here.tags.values()], axis=0)
    query = cached.labels(tiny_run, here.stamp).index(app.session_state["query"])
    assert here.lists.failed[query] and held[query] == held[here.lists.failed].max()
    shown = drawn(app, "ranked_gallery")
    facts = dict(shown["query"]["facts"])
    assert facts["AP"] == f"{here.lists.average_precision[query]:.3f}"
    words = " ".join(each.value for each in app.markdown)
    for name in here.held(query):
        assert f"**{name}**" in words


def test_the_queue_is_worst_first_and_walked_by_two_keys(tiny_run):
    app, here = page(), case(tiny_run)
    options = app.selectbox(key="query").options
    labels = cached.labels(tiny_run, here.stamp)
    precision = [here.lists.average_precision[labels.index(label)] for label in options]
    assert precision == sorted(precision) and len(options) == here.lists.failed.sum()
    at = options.index(app.session_state["query"])
    app.button(key="next").click().run()
    assert app.session_state["query"] == options[(at + 1) % len(options)]
    app.button(key="previous").click().run()
    app.button(key="previous").click().run()
    assert app.session_state["query"] == options[at - 1]
    shortcuts = {each.proto.shortcut for each in app.button if each.proto.shortcut}
    assert {"j", "k", "x", "n", "1"} <= {each.lower() for each in shortcuts}


@pytest.mark.parametrize("name", [errors.EVERY, errors.TODO])
def test_a_link_chooses_what_is_shown(tiny_run, name):
    app, here = page(show=name), case(tiny_run)
    mask = errors.shown_by(here, notes.Notes())[name]
    assert len(app.selectbox(key="query").options) == mask.sum()


def test_a_link_to_a_query_that_is_right_opens_it(tiny_run):
    found = open_run(tiny_run).embeddings()
    first = found.identities == found.identities[found.query_rows[0]]
    found.vectors[first] = np.eye(found.vectors.shape[1])[0] * 1e3 + found.vectors[first]
    open_run(tiny_run).keep_embeddings(found)
    here = case(tiny_run)
    right = int(np.flatnonzero(~here.lists.failed)[0])
    label = cached.labels(tiny_run, here.stamp)[right]
    app = page(query=label)
    assert app.session_state["query"] == label and app.session_state["show"] == errors.EVERY


@pytest.mark.parametrize("view", ["Inbox", "Runs", "Re-ranking"])
def test_a_link_to_a_query_that_is_not_here_says_so(two, view, monkeypatch):
    monkeypatch.setattr("reid_core.jobs.start_study", lambda study: None)
    app = page(errors=view, query="nobody.jpg")
    assert f"has no query nobody.jpg; shown is {plain(app.session_state['query'])}." in said(app)
    app.button(key="next").click().run()
    assert "nobody" not in said(app) and not app.exception


def test_a_query_that_is_filtered_out_is_none_that_is_not_here(tiny_run):
    app = page(show=errors.EVERY)
    app.session_state["show"] = errors.DONE
    app.run()
    assert "has no query" not in said(app)
    other = app.session_state["part"] = app.selectbox(key="part").options[-1]
    app.session_state["show"] = errors.EVERY
    app.run()
    assert app.session_state["part"] == other and "has no query" not in said(app)


def test_an_empty_choice_says_so(tiny_run):
    app = page(show=errors.DONE)
    assert "No query is left" in said(app)


def test_reviewing_tagging_and_writing_are_kept(tiny_run):
    app, run = page(), open_run(tiny_run)
    name = f"query/{app.session_state['query']}"
    app.button(key="reviewed").click().run()
    app.button(key="own 2").click().run()
    app.text_area[0].set_value("behind the bin").run()
    note = notes.read(run).of(name)
    assert note == notes.Note(True, (notes.TAGS[1],), "behind the bin")
    app.button(key="own 2").click().run()
    app.text_input(key="new tag").set_value("twins")
    app.button(key="add tag").click().run()
    assert notes.read(run).of(name).tags == () and "twins" in notes.read(run).tags
    assert app.button(key="own 4").label == "twins"
    assert not app.exception


def test_a_damaged_notes_file_is_said(tiny_run):
    (open_run(tiny_run).folder / notes.FILE).write_text("{")
    assert "damaged notes" in said(page())


def test_the_file_holds_every_number(tiny_run):
    here = case(tiny_run)
    table = errors_queue.evidence(here, notes.read(open_run(tiny_run)))
    assert len(table) == len(here.queries)
    for name, tag in here.tags.items():
        assert table[name].sum() == tag.holds.sum()
        assert {f"{name}: {number}" for number in tag.numbers} <= set(table)


def test_a_query_without_a_true_match_has_no_hit(tiny_run):
    run = open_run(tiny_run)
    unmatched(run)
    table = errors_queue.evidence(case(tiny_run), notes.read(run)).set_index("query")
    row = table.loc[run.embeddings().names[run.embeddings().query_rows[0]]]
    assert row[["AP", "first hit"]].isna().all() and table["first hit"].min() >= 1


def test_evidence_is_said_of_every_query(tiny_run):
    here = case(tiny_run)
    for query in range(len(here.queries)):
        for name in here.tags:
            assert errors.evidence(here, name, query)


def test_parts_are_those_of_the_data(tiny_run):
    here = case(tiny_run)
    cameras = here.found.cameras[here.queries]
    for part in errors.parts(here):
        mask = errors.in_part(here, part)
        assert mask.any()
        if part.startswith("camera"):
            assert set(cameras[mask]) == {int(part.split()[1])}
        if part.startswith("view: "):
            views = cached.attributes(here.run, here.stamp)["view"][here.queries]
            assert set(views[mask]) == {part.removeprefix("view: ")}


def test_a_pair_of_cameras_is_ordered_by_its_own_precision(tiny_run):
    here = case(tiny_run)
    part = next(each for each in errors.parts(here) if each.startswith("cameras "))
    order = errors.worst_first(here, errors.in_part(here, part), part)
    column = np.flatnonzero(here.pairs.match_cameras == int(part.split()[-1]))[0]
    assert (np.diff(here.pairs.of_query[order, column]) >= 0).all()


def test_a_clicked_cell_opens_its_queries(tiny_run):
    app, here = page(errors="Tables"), case(tiny_run)
    assert f"{here.pairs.mean:.3f}" in captions(app)
    part = next(each for each in errors.parts(here) if each.startswith("cameras "))
    linked = page(errors="Inbox", show=errors.EVERY, part=part)
    assert len(linked.selectbox(key="query").options) == errors.in_part(here, part).sum()


def test_tables_without_attributes_say_what_is_missing(tiny_run, monkeypatch):
    monkeypatch.setattr(cached, "attributes", lambda run, stamp: {})
    assert "no attributes.csv" in said(page(errors="Tables"))


def test_two_runs_side_by_side(two):
    app = page(run=two[0], errors="Runs")
    assert app.multiselect(key="against").value == ["other"]
    stamps = tuple((name, open_run(name).stamp()) for name in two)
    found, sure = cached.runs_compared(stamps)
    code = app.session_state["pattern"]
    chosen = next(p for p in found if "".join("01"[yes] for yes in p.right) == code)
    assert len(app.selectbox(key="query").options) == len(chosen.queries)
    galleries = [node for node in app.get("bidi_component")]
    assert sum(node.proto.component_name == "ranked_gallery" for node in galleries) == 2
    assert not app.exception
    assert sure[0].difference == pytest.approx(
        cached.evaluation(*stamps[1]).mAP - cached.evaluation(*stamps[0]).mAP
    )


def test_queries_of_one_score_are_not_drawn_as_worse(two):
    app = page(run=two[0], errors="Runs")
    assert "where neither is (" in captions(app) and f"its AP in {two[0]}" in captions(app)
    a, b = np.array([0.2, 0.5, 0.5, np.nan]), np.array([0.5, 0.5, 0.2, 0.1])
    marks = charts_runs.query_by_query((a, b), two, list("abcd"), "a").data[1].marker
    assert list(marks.symbol) == ["triangle-up", "circle", "triangle-down"]
    assert marks.color[1] == charts.QUIET and len(set(marks.color)) == 3


def test_a_run_alone_has_nothing_to_be_compared_with(tiny_run):
    assert "No other run" in said(page(errors="Runs"))


def test_another_split_is_said(two):
    run = open_run("other")
    found = run.embeddings()
    found.names[0] = "query/somebody.jpg"
    run.keep_embeddings(found)
    app = page(run=two[0], errors="Runs")
    assert "did not see the same test split" in said(app)


@pytest.mark.parametrize("method", ["average", "k-reciprocal"])
def test_a_re_ranked_list_says_what_moved(tiny_run, method, monkeypatch):
    settings = dict(method=method, features="as the run")
    arrays = Study.asked(open_run(tiny_run), "rerank", settings).compute()
    app = page(errors="Re-ranking", method=method)
    here, scored = case(tiny_run), cached.evaluation(tiny_run, open_run(tiny_run).stamp())
    query = cached.labels(tiny_run, here.stamp).index(app.session_state["query"])
    shown = drawn(app, "ranked_gallery")
    facts = dict(shown["query"]["facts"])
    assert facts["AP"] == f"{arrays['average_precision'][query]:.3f}"
    assert facts["AP before"] == f"{scored.average_precision[query]:.3f}"
    before = cached.ranked(tiny_run, here.stamp, query)
    was = dict(zip(before.rows, before.ranks, strict=True))
    names = {str(here.found.names[row]).rsplit("/", 1)[-1]: row for row in before.rows}
    for tile in shown["tiles"]:
        row = names[tile["title"].rsplit(", ", 1)[-1]]
        assert tile["note"] == errors_rerank.moved(was[row], tile["rank"])
    change = np.nanmean(arrays["average_precision"]) - scored.mAP
    new, old = round(float(np.nanmean(arrays["average_precision"])), 4), round(scored.mAP, 4)
    assert abs(new - old - change) < 2e-4
    assert f"mean {change:+.3f}" in captions(app)
    tile = next(each for each in app.metric if each.label == "mAP")
    assert (tile.value, tile.delta) == (f"{new:.4f}", f"{change:+.3f}")
    moved = arrays["average_precision"] - scored.average_precision
    assert f"{(moved == 0).sum()} unchanged" in captions(app)
    assert f"the {(np.abs(moved) < 0.025).sum()} lists that change" in captions(app)


def test_moved_in_words():
    assert [errors_rerank.moved(*each) for each in ((3, 3), (7, 2), (2, 7))] == [
        "stays",
        "▲ was 7",
        "▼ was 2",
    ]


def test_the_runs_own_list_moves_nothing(tiny_run):
    app = page(errors="Re-ranking", method="none")
    assert not any("note" in tile for tile in drawn(app, "ranked_gallery")["tiles"])


def test_steps_set_what_they_say(two):
    app = page(run=two[0])
    for number, view in ((1, "Inbox"), (2, "Tables"), (3, "Runs")):
        app.button(key=f"errors step {number}").click().run()
        assert not app.exception and app.session_state["errors"] == view


def test_a_run_without_data_says_what_is_missing(tiny_run, monkeypatch, tmp_path):
    monkeypatch.setenv("REID_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr("app.first_start.ensure_data", lambda: None)
    app = page()
    assert "nowhere" in said(app)


def test_the_runs_compared_with_are_in_the_address(two):
    app = page(run=two[0], errors="Runs")
    assert "other" in app.query_params["against"]
    app.multiselect(key="against").set_value([]).run()
    assert "Choose one to four runs" in said(app) and "against" not in app.query_params
    app.multiselect(key="against").set_value(["other"]).run()
    assert "other" in app.query_params["against"] and not app.exception
    assert page(run=two[0], errors="Runs", against="gone").multiselect[0].value == ["other"]
    app = page(run=two[0], errors="Runs", against=["gone", "other", "other", "lost"])
    assert app.multiselect[0].value == ["other"] and not app.exception
    assert "no run gone and lost to compare with; shown is other" in said(app)


def test_more_own_tags_than_digits(tiny_run):
    kept = dict(tags=[f"tag {number}" for number in range(12)], queries={})
    (open_run(tiny_run).folder / notes.FILE).write_text(json.dumps(kept))
    app = page()
    assert app.button(key="own 9").proto.shortcut and not app.button(key="own 12").proto.shortcut


def test_a_split_without_true_matches_says_so(tiny_run):
    run = open_run(tiny_run)
    found = run.embeddings()
    found.identities[found.query_rows] = 9000
    run.keep_embeddings(found)
    assert "query identity 9000 is not in the gallery" in said(page())


def test_two_runs_that_agree_everywhere(tiny_run, runs):
    shutil.copytree(runs / tiny_run, runs / "same")
    app = page(run=tiny_run, errors="Runs", look="3")
    assert app.session_state["pattern"] in ("11", "00")
    assert any("none is right at rank 1 where this one is wrong" in m.value for m in app.markdown)


def test_comparing_runs_chooses_no_second_map(two):
    app = page(run=two[0], errors="Runs")
    for key in ("beside", "second"):
        assert key not in app.session_state and key not in app.query_params


def test_patterns_that_are_not_drawn_are_counted():
    assert charts_runs.drawn(16) == "" and "16 largest of 20" in charts_runs.drawn(20)


def test_a_median_rank_is_written_as_it_is(tiny_run):
    pairs = replace(case(tiny_run).pairs, rank=np.full_like(case(tiny_run).pairs.rank, 2.5))
    names = [["a"] * len(pairs.match_cameras)] * len(pairs.query_cameras)
    figure = charts_errors.cameras(pairs, names, [0.5] * len(pairs.query_cameras))
    maps = [trace for trace in figure.data if trace.type == "heatmap"]
    assert {text for each in maps[2:] for row in each.text for text in row} == {"2.5", ""}


def test_figures_in_cells_are_easy_to_read():
    drawn = np.linspace(0.4, 0.7, 25).reshape(5, 5)
    drawn[0, 0] = np.nan
    white, black = charts.numbered(drawn, "{:.2f}".format, "Cividis")
    assert (white.textfont.color, black.textfont.color) == ("#ffffff", "#000000")
    assert (white.zmin, white.zmax) == (black.zmin, black.zmax)
    # Each number stands in one of both, white ones on the darker colours; none where nothing is known.
    assert np.array_equal(np.isfinite(white.z) ^ np.isfinite(black.z), np.isfinite(drawn))
    assert np.nanmax(white.z) < np.nanmin(black.z)
    assert white.text[0][0] == black.text[0][0] == ""
    shades = sample_colorscale("Cividis", np.linspace(0, 1, 200), colortype="tuple")
    for light in map(charts.luminance, shades):
        figures = 1.05 / (light + 0.05) if light < charts.SAME else (light + 0.05) / 0.05
        assert figures >= 4.5
