"""Pieces of an embedding and learned positions, against loops and against the models' own passes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_attention import made, pixels

from reid_core.analysis import pieces, position_vectors, side
from reid_core.analysis.errors import lists
from reid_core.embed import batch_of
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, evaluate
from reid_core.models.vit import resize_positions


def drawn(count: int = 40, width: int = 12, seed: int = 0) -> Embeddings:
    """People under three cameras, a third of them queries, with much noise."""
    random = np.random.default_rng(seed)
    identities = random.integers(1, 7, count)
    vectors = random.normal(size=(7, width))[identities] + random.normal(size=(count, width))
    names = np.array([f"{number}.jpg" for number in range(count)])
    cameras = random.integers(1, 4, count)
    views = np.full(count, -1)
    return Embeddings(
        vectors.astype(np.float32), names, identities, cameras, views, np.arange(count) % 3 == 0
    )


# Pieces


def test_what_pieces_add_is_the_squared_distance():
    found = drawn()
    query, gallery = found.vectors[0], found.vectors[1:9]
    added = pieces.squared(query, gallery, 3)
    for image, row in zip(gallery, added, strict=True):
        one, other = query / np.linalg.norm(query), image / np.linalg.norm(image)
        slow = [sum((one[d] - other[d]) ** 2 for d in range(4 * p, 4 * p + 4)) for p in range(3)]
        assert np.allclose(row, slow, atol=1e-6)
        assert row.sum() == pytest.approx(np.linalg.norm(one - other) ** 2, rel=1e-5)
    with pytest.raises(BadInput, match="5 equal pieces, got 12 numbers"):
        pieces.squared(query, gallery, 5)


def test_scores_by_one_piece_and_without_it():
    found = drawn()
    scored = pieces.scores(found, 3, 1000)
    assert scored.whole.mAP == evaluate(found).mAP
    squares = np.square(found.vectors.astype(float)).reshape(40, 3, 4).sum(2)
    assert np.allclose(scored.lengths, (squares / squares.sum(1, keepdims=True)).mean(0))
    for piece in range(3):
        mine = np.arange(12) // 4 == piece
        for kept, told in ((mine, scored.alone), (~mine, scored.without)):
            slow = evaluate(replace(found, vectors=found.vectors[:, kept]))
            expected = slow.average_precision  # NaN where there is no true match
            assert np.array_equal(expected, told[piece].average_precision, equal_nan=True)
    few = pieces.scores(found, 3, 4)
    assert few.whole.queries == 4 and few.whole.gallery == len(found.gallery_rows)


def test_the_mistake_that_one_piece_decides():
    found = drawn(90, seed=3)
    told = lists(found)
    best = pieces.culprit(found, told.failed, told.wrong, told.right, 3)
    turned = {}
    for query in np.flatnonzero(told.failed):
        unit = found.vectors.astype(float)
        unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
        asked = unit[found.query_rows[query]]
        for piece in range(3):
            rest = np.arange(12) // 4 != piece
            away = [
                np.sum((asked - unit[row])[rest] ** 2)
                for row in (told.wrong[query], told.right[query])
            ]
            turned[int(query), piece] = away[0] - away[1]  # above 0: the true match is nearer now
    query, piece = max(turned, key=turned.get)
    assert (best.query, best.piece) == (query, piece)
    margin = np.delete(best.wrong, piece).sum() - np.delete(best.right, piece).sum()
    assert margin == pytest.approx(turned[query, piece]) and margin > 0
    assert pieces.culprit(found, np.zeros_like(told.failed), told.wrong, told.right, 3) is None


def test_part_tokens_are_made_of_their_stripes():
    model, experiment = made("ohformer", parts=4, depth=3)
    found = model.pieces()
    rows, columns = model.grid
    assert list(found) == ["class", "part 1", "part 2", "part 3", "part 4"]
    for part, share in enumerate(list(found.values())[1:]):
        first, last = part * rows // 4, -(-(part + 1) * rows // 4)
        slow = np.zeros((rows, columns))
        slow[first:last] = 1 / ((last - first) * columns)
        assert np.allclose(share, slow)
    with torch.no_grad():
        embedding = model(batch_of(model, experiment, pixels(), [1, 1])).embedding
        tokens, _ = model.embed(batch_of(model, experiment, pixels(), [1, 1]).image), None
        for number, layer in enumerate(model.trunk.blocks, start=1):
            tokens = layer(tokens)[0] if number in model.oh_layers else layer(tokens)
        patches = model.trunk.norm(tokens)[:, 1:]
    width = embedding.shape[1] // len(found)
    for place, share in enumerate(list(found.values())[1:], start=1):
        slow = (patches * share.flatten()[None, :, None]).sum(dim=1)
        piece = embedding[:, place * width : (place + 1) * width]
        assert torch.allclose(piece, slow, atol=1e-5)


def test_local_features_are_made_of_their_groups():
    """A group's feature changes with its own patches after the layers before, and with no others."""
    model, experiment = made("transreid", parts=2)
    found = model.pieces()
    assert list(found) == ["global", "local 1", "local 2"]
    with torch.no_grad():
        tokens = model.encode(model.embed(batch_of(model, experiment, pixels(1), [1])))
        before = model.heads(tokens).embedding[0]
        width = len(before) // 3
        for place, share in enumerate(found.values()):
            for patch in range(tokens.shape[1] - 1):
                other = tokens.clone()
                other[:, 1 + patch] = torch.arange(tokens.shape[2]).sin()
                moved = (model.heads(other).embedding[0] - before).abs()
                moved = moved[place * width : (place + 1) * width].max() > 1e-6
                assert moved == (share is None or bool(share.flatten()[patch] > 0))
    assert list(made("transreid", jpm=False)[0].pieces()) == ["global"]
    assert list(made("rga")[0].pieces()) == ["global"]


# Positions


def test_likeness_of_positions_by_loops():
    found = np.random.default_rng(0).normal(size=(3, 2, 5))
    cosines = position_vectors.alike(found)
    for a in np.ndindex(3, 2):
        for b in np.ndindex(3, 2):
            u, v = found[a], found[b]
            assert cosines[a][b] == pytest.approx(u @ v / np.linalg.norm(u) / np.linalg.norm(v))
    rows, columns = position_vectors.by_distance(cosines)
    for away in range(3):
        slow = [cosines[r, c, r + away, c] for r in range(3 - away) for c in range(2)]
        assert rows[away] == pytest.approx(np.mean(slow))
    for away in range(2):
        slow = [cosines[r, c, r, c + away] for r in range(3) for c in range(2 - away)]
        assert columns[away] == pytest.approx(np.mean(slow))


def test_positions_are_resized_as_those_of_a_pretrained_trunk():
    model, _ = made("vit-bot")
    rows, columns = model.grid
    square = position_vectors.vectors(model, (5, 5))
    back = resize_positions(
        torch.cat([model.trunk.pos_embed[:, :1], torch.from_numpy(square).flatten(0, 1)[None]], 1),
        model.grid,
    )
    gone = position_vectors.there_and_back(model.trunk.pos_embed.detach(), model.grid, (5, 5))
    assert torch.allclose(back, gone, atol=1e-6)
    same = position_vectors.there_and_back(model.trunk.pos_embed.detach(), model.grid, model.grid)
    assert torch.allclose(same, model.trunk.pos_embed, atol=1e-6)
    assert np.array_equal(
        position_vectors.vectors(model).reshape(rows * columns, -1),
        model.trunk.pos_embed[0, 1:].detach(),
    )
    assert position_vectors.near((rows - 1, 0), model.grid, (14, 14)) == (13, 14 // columns // 2)


def test_an_altered_part_is_a_copys_own():
    model, experiment = made("vit-bot")
    before = model.trunk.pos_embed.clone()
    other = side.altered(model, position_vectors.PARAMETER, lambda value: value * 0)
    told = side.told(other, experiment, pixels(1), [(1, None)])
    assert torch.equal(model.trunk.pos_embed, before) and not other.trunk.pos_embed.any()
    assert other.trunk.blocks is model.trunk.blocks
    with torch.no_grad():
        model.trunk.pos_embed.zero_()
    assert np.array_equal(side.told(model, experiment, pixels(1), [(1, None)]), told)
    with pytest.raises(BadInput, match="no parameter 'positions'"):
        side.altered(model, "trunk.positions", lambda value: value)
