"""Lists, tables and tags of failures: against loops, and each rule on constructed embeddings."""

from dataclasses import replace

import numpy as np
import pytest
from test_rerank import split

from reid_core.analysis.cameras import camera_pairs, costliest
from reid_core.analysis.errors import binned, farther, lists, numbers, slices
from reid_core.analysis.tags import (
    CAMERA,
    HUB,
    LABEL,
    LOOKALIKE,
    OCCLUSION,
    RESOLUTION,
    TAGS,
    Known,
    Rules,
    clearest,
    tags,
)
from reid_core.data.attributes import attributes, sizes
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, evaluate
from reid_core.retrieve import retrieve


def made(rows) -> Embeddings:
    """Embeddings from (is query, identity, camera, angle in degrees): the angle between two images
    is their distance."""
    query, identity, camera, angle = map(np.array, zip(*rows, strict=True))
    angle = np.deg2rad(angle)
    return Embeddings(
        np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32),
        names=np.array([f"{row}.jpg" for row in range(len(rows))]),
        identities=identity,
        cameras=camera,
        views=np.full(len(rows), -1),
        is_query=query.astype(bool),
    )


def tagged(found: Embeddings, known: Known | None = None, **rules):
    ranked = lists(found)
    pairs = camera_pairs(ranked, found.cameras[found.query_rows])
    return tags(found, ranked, pairs, known or Known(), Rules(**rules))


# Lists


@pytest.mark.parametrize("seed", range(3))
def test_lists_are_those_that_are_shown(seed):
    found = split(queries=20, gallery=80, seed=seed)
    found.identities[-10:] = 0  # distractors
    found.identities[5] = 99  # without a true match
    ranked, scored = lists(found), evaluate(found)
    assert np.array_equal(ranked.average_precision, scored.average_precision, equal_nan=True)
    assert np.array_equal(ranked.first_hit, scored.first_hit)
    for query in range(20):
        shown = retrieve(found, query)
        order = shown.rows[~shown.ignored]
        match = shown.match[~shown.ignored]
        assert ranked.first[query] == order[0]
        wrong = [row for row, right in zip(order, match, strict=True) if not right]
        right = [row for row, right in zip(order, match, strict=True) if right]
        assert ranked.wrong[query] == wrong[0]
        assert ranked.right[query] == (right[0] if right else -1)
        assert ranked.last[query] == (right[-1] if right else -1)
        who = found.identities[wrong[0]]
        top = found.identities[order[:10]]
        assert ranked.repeats[query] == (1 if who == 0 else sum(each == who for each in top))
        assert list(ranked.match_rank[ranked.match_query == query]) == list(shown.hits)


def test_pairs_of_cameras_against_lists_without_the_other_matches():
    found = split(queries=20, gallery=80, people=6)
    ranked, cameras = lists(found), found.cameras[found.query_rows]
    pairs = camera_pairs(ranked, cameras)
    for query in range(20):
        shown = retrieve(found, query)
        keep, who = ~shown.ignored, found.cameras[shown.rows]
        for column, camera in enumerate(pairs.match_cameras):
            ranks, rank = [], 0
            for match, there in zip(shown.match[keep], who[keep], strict=True):
                if match and there != camera:
                    continue
                rank += 1
                if match:
                    ranks.append(rank)
            if not ranks:
                assert np.isnan(pairs.of_query[query, column])
                continue
            slow = np.mean([hits / rank for hits, rank in enumerate(ranks, 1)])
            assert pairs.of_query[query, column] == pytest.approx(slow)
            assert pairs.first_of_query[query, column] == ranks[0]
    for row, here in enumerate(pairs.query_cameras):
        for column in range(len(pairs.match_cameras)):
            those = pairs.of_query[cameras == here, column]
            those = those[np.isfinite(those)]
            assert pairs.count[row, column] == len(those)
            if len(those):
                assert pairs.precision[row, column] == pytest.approx(those.mean())
                assert pairs.low[row, column] <= those.mean() <= pairs.high[row, column]
    assert pairs.mean == pytest.approx(np.nanmean(pairs.of_query))
    loss = {
        cell: (pairs.mean - pairs.precision[cell]) * pairs.count[cell]
        for cell in np.ndindex(pairs.count.shape)
        if pairs.count[cell]
    }
    assert costliest(pairs) == max(loss, key=loss.get)


def test_slices_against_loops():
    found = split(queries=30, gallery=90)
    ranked = lists(found)
    values = np.array(["a", "b", ""] * 10)
    for each in slices(ranked, values):
        those = [q for q in range(30) if values[q] == each.value and ranked.judged[q]]
        assert each.count == len(those)
        assert each.precision == pytest.approx(np.mean(ranked.average_precision[those]))
        assert each.rank1 == np.mean([ranked.first_hit[q] == 1 for q in those])
        assert each.low <= each.precision <= each.high


def test_numbers_in_bins():
    texts = np.array(["0", "0.000", "0.05", "0.0501", "0.4", "1", "1.2", "-1", "", "x"])
    wanted = ["0", "0", "0 to 0.05", "0.05 to 0.2", "0.2 to 0.4", "0.4 to 1", "", "", "", ""]
    assert binned(texts).tolist() == wanted
    assert np.isnan(numbers(np.array(["", "x"]))).all()


# Tags. Every failure below: a query at 0 degrees whose first image is somebody else's.

FAILED = [(1, 1, 1, 0), (0, 2, 2, 5), (0, 1, 2, 10), (0, 1, 3, 12), (0, 3, 2, 90), (0, 3, 3, 95)]


def test_tags_are_for_failures_only():
    found = made(FAILED)
    right = replace(found, identities=np.where(found.identities == 2, 1, found.identities))
    known = Known(groups=np.full(6, "g"), occlusion=np.array([0.9]), pixels=np.array([8192]))
    assert not any(tag.holds.any() for tag in tagged(right, known, hub=0, label=0.0).values())
    assert list(tagged(found)) == list(TAGS)


def test_look_alike_of_the_same_group():
    found = made(FAILED)
    for groups, holds in ((["g", "g"], True), (["g", "h"], False), (["", ""], False)):
        tag = tagged(found, Known(groups=np.array([*groups, "", "", "", ""])))[LOOKALIKE]
        assert tag.holds[0] == holds
    assert tag.numbers["identity"][0] == 2 and tag.numbers["margin"][0] < 0


def test_look_alike_by_repeats_where_nobody_knows_the_groups():
    more = [*FAILED, (0, 2, 3, 6), (0, 2, 4, 7)]
    assert not tagged(made(FAILED))[LOOKALIKE].holds[0]
    tag = tagged(made(more))[LOOKALIKE]
    assert tag.holds[0] and tag.numbers["repeats"][0] == 3 and not tag.numbers["known"][0]


def test_occlusion_above_its_share():
    found = made(FAILED)
    for share, holds in ((0.31, True), (0.3, False), (np.nan, False)):
        tag = tagged(found, Known(occlusion=np.array([share])))[OCCLUSION]
        assert tag.holds[0] == holds
        assert tag.judged[0] == np.isfinite(share)
    assert not tagged(found)[OCCLUSION].judged[0]


def many(count=20) -> Embeddings:
    """As many failures, each in a direction of its own."""
    rows = []
    for number in range(count):
        at = 360 * number / count
        rows += [(1, 2 * number + 1, 1, at), (0, 2 * number + 2, 2, at + 1)]
        rows += [(0, 2 * number + 1, 2, at + 2), (0, 2 * number + 1, 3, at + 2.5)]
    return made(rows)


def test_low_resolution_is_the_lowest_decile():
    pixels = np.arange(1, 21) * 1000
    tag = tagged(many(), Known(pixels=pixels))[RESOLUTION]
    assert tag.holds.tolist() == [True, True] + [False] * 18
    gone = np.where(pixels < 3000, -1, pixels)  # their files are gone: nobody knows
    tag = tagged(many(), Known(pixels=gone))[RESOLUTION]
    assert not tag.judged[:2].any() and not tag.holds[:2].any() and tag.holds[2]


def test_low_resolution_is_not_judged_where_all_are_alike():
    tag = tagged(many(), Known(pixels=np.full(20, 8192)))[RESOLUTION]
    assert not tag.judged.any() and not tag.holds.any()


def test_a_hub_is_wrongly_first_for_several_identities():
    hub = [(0, 9, 2, 0)]
    for identity, at in ((1, -2), (2, 2), (3, 3)):
        hub += [(1, identity, 1, at), (0, identity, 2, at + 100), (0, identity, 3, at + 110)]
    tag = tagged(made(hub))[HUB]
    assert tag.holds.all() and set(tag.numbers["identities"]) == {3}
    twice = [
        row if row[1] != 3 else (row[0], 2, *row[2:]) for row in hub
    ]  # two people, three queries
    tag = tagged(made(twice))[HUB]
    assert not tag.holds.any() and set(tag.numbers["identities"]) == {2}
    assert set(tag.numbers["first"]) == {3}


def test_distance_to_own_and_other_identity_against_loops():
    found = split(queries=20, gallery=80, people=6)
    found.identities[-5:] = 0
    rows = np.arange(100)
    own, other, who = farther(found, rows)
    gallery, units = found.gallery_rows, found.directions
    for row in rows:
        away = {}
        for identity in set(found.identities[gallery]) - {0}:
            those = [
                g
                for g in gallery
                if found.identities[g] == identity and found.cameras[g] != found.cameras[row]
            ]
            if len(those) >= 2:
                squares = [((units[row] - units[g]) ** 2).sum() for g in those]
                away[identity] = np.sqrt(np.mean(squares))
        mine = away.pop(found.identities[row], None)
        if mine is None:
            assert np.isnan(own[row]) and who[row] == -1
            continue
        assert own[row] == pytest.approx(mine, abs=1e-9)
        assert other[row] == pytest.approx(min(away.values()), abs=1e-9)
        assert who[row] == min(away, key=away.get)


def test_a_wrong_label_is_found_where_it_was_made():
    draw = np.random.default_rng(3)
    found = split(queries=40, gallery=240, people=20, size=16, spread=0.3, seed=3)
    truth = found.identities.copy()
    wrong = draw.choice(40, 5, replace=False)
    found.identities[wrong] = truth[wrong] % 20 + 1
    tag = tagged(found)[LABEL]
    assert set(np.flatnonzero(tag.holds)) == set(wrong)
    assert (tag.numbers["suspect"][wrong] == 0).all()  # the query itself
    assert np.array_equal(tag.numbers["nearest"][wrong], truth[wrong])


def test_a_wrong_label_needs_two_images_to_tell():
    one = [row for row in FAILED if row[:3] != (0, 1, 3)]
    tag = tagged(made(one))[LABEL]
    assert np.isnan(tag.numbers["own"][0]) or tag.numbers["suspect"][0] != 0


def test_a_pair_of_cameras_below_all_pairs():
    rows = []
    for number in range(12):  # camera 2 finds its people at once, camera 3 after somebody else
        at = 30 * number
        rows += [(1, number + 1, 1, at), (1, number + 1, 4, at), (0, number + 1, 2, at + 0.5)]
    hard = []
    for number in range(12):
        at = 30 * number + 15
        hard += [
            (1, number + 101, 1, at),
            (0, number + 201, 2, at + 1),
            (0, number + 101, 3, at + 2),
        ]
    found = made(rows + hard)
    tag = tagged(found)[CAMERA]
    who = found.identities[found.query_rows]
    assert tag.holds[who > 100].all() and not tag.holds[who < 100].any()
    at = np.flatnonzero(who > 100)[0]
    said = {name: values[at] for name, values in tag.numbers.items()}
    assert (said["query_camera"], said["match_camera"]) == (1, 3)
    assert said["precision"] == 0.5 and said["high"] < said["mean"] and said["count"] == 12


def test_the_clearest_failure_has_the_most_tags_and_the_worst_list():
    found = many()
    ranked = lists(found)
    judged = tagged(
        found,
        Known(occlusion=np.array([0.9] * 3 + [0.0] * 17), pixels=np.append(1, np.full(19, 9))),
    )
    assert clearest(ranked, judged) == 0
    none = {name: replace(tag, holds=np.zeros(20, bool)) for name, tag in judged.items()}
    worst = np.nanargmin(ranked.average_precision)
    assert ranked.average_precision[clearest(ranked, none)] == ranked.average_precision[worst]


# What the files tell


def test_attributes_and_sizes_of_images(tiny_data):
    names = [
        "query/" + sorted(path.name for path in (tiny_data / "query").iterdir())[0],
        "query/gone.jpg",
    ]
    columns = attributes(tiny_data, names)
    assert columns["view"][0] in ("front", "side", "back") and columns["view"][1] == ""
    assert 0 <= float(columns["occlusion"][0]) <= 1
    assert sizes(tiny_data, names).tolist() == [[64, 32], [-1, -1]]


def test_no_table_no_columns(tmp_path):
    assert attributes(tmp_path, ["query/a.jpg"]) == {}
    (tmp_path / "attributes.csv").write_text("a,b\n1,2\n")
    assert attributes(tmp_path, ["query/a.jpg"]) == {}
    (tmp_path / "attributes.csv").write_bytes(b"folder,name\n\xff\xfe,x\n")
    with pytest.raises(BadInput, match="UTF-8"):
        attributes(tmp_path, ["query/a.jpg"])


def test_without_any_true_match_nothing_is_said():
    found = made([(True, 1, 1, 0), (False, 2, 2, 10), (False, 1, 1, 20)])
    with pytest.raises(BadInput, match="none of 1 query has a match"):
        lists(found)
