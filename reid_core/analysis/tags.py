"""Tags of failures: rules on ranked lists, each with the numbers that it was judged by. Ours.

A tag says what goes together with a failure, not what caused it. Shapes: N images, Q queries.
"""

from dataclasses import dataclass

import numpy as np

from reid_core.analysis.cameras import Pairs
from reid_core.analysis.errors import Lists, farther
from reid_core.evaluate import Embeddings

CAMERA, LOOKALIKE, OCCLUSION = "camera pair", "look-alike", "occlusion"
RESOLUTION, HUB, LABEL = "low resolution", "hub", "possibly wrong label"
TAGS = (CAMERA, LOOKALIKE, OCCLUSION, RESOLUTION, HUB, LABEL)
SUSPECTS = ("the query", "the image at rank 1", "the last true match")


@dataclass(frozen=True)
class Rules:
    """From where on a tag is given. All ours.

    occlusion: more than this share of the query is covered. decile: the query's pixels are among this
    share of the smallest. hub: the wrong first image is first for queries of as many identities, all
    wrong. repeats: as many of the top ten are the same wrong identity, where nobody knows who looks
    alike. label: an image is as many times farther from its own identity than from another.
    """

    occlusion: float = 0.3
    decile: float = 0.1
    hub: int = 3
    repeats: int = 3
    label: float = 1.5


@dataclass(frozen=True)
class Tag:
    """One rule, judged for all queries: holds (Q,) is False for what is no failure; judged (Q,) is
    whether the data tell; numbers are what it was judged by, (Q,) each."""

    holds: np.ndarray
    judged: np.ndarray
    numbers: dict[str, np.ndarray]


@dataclass(frozen=True)
class Known:
    """What the data set's files tell beside names, each None where they don't: lookalike group (N,)
    text, "" for none; occlusion (Q,) share, NaN unknown; pixels (Q,) height x width, -1 unknown."""

    groups: np.ndarray | None = None
    occlusion: np.ndarray | None = None
    pixels: np.ndarray | None = None


def tags(
    embeddings: Embeddings, found: Lists, pairs: Pairs, known: Known, rules: Rules | None = None
) -> dict[str, Tag]:
    """Every failure's tags, in the order of TAGS."""
    rules = rules or Rules()
    judged = {
        CAMERA: _camera(embeddings, found, pairs),
        LOOKALIKE: _lookalike(embeddings, found, known.groups, rules),
        OCCLUSION: _occlusion(found, known.occlusion, rules),
        RESOLUTION: _resolution(found, known.pixels, rules),
        HUB: _hub(embeddings, found, rules),
        LABEL: _label(embeddings, found, rules),
    }
    return {name: judged[name] for name in TAGS}


def clearest(found: Lists, tagged: dict[str, Tag]) -> int:
    """The failure with the most tags, of several the one with the lowest average precision; without
    any failure the worst list. The page's preset."""
    count = np.sum([tag.holds for tag in tagged.values()], axis=0)
    precision = np.where(found.judged, found.average_precision, np.inf)
    return int(np.lexsort((precision, -count, ~found.failed))[0])


def _camera(embeddings: Embeddings, found: Lists, pairs: Pairs) -> Tag:
    """The pair of the query's camera and that of its first true match is below the mean of all
    pairs with its whole interval."""
    cameras = embeddings.cameras[embeddings.query_rows]
    there = np.where(found.right >= 0, embeddings.cameras[found.right], -1)
    row = np.searchsorted(pairs.query_cameras, cameras)
    column = np.searchsorted(pairs.match_cameras, there).clip(max=len(pairs.match_cameras) - 1)
    known = found.judged
    names = ("precision", "low", "high", "count")
    numbers = {name: getattr(pairs, name)[row, column] for name in names}
    numbers |= dict(query_camera=cameras, match_camera=there)
    numbers["mean"] = np.full(len(cameras), pairs.mean)
    return Tag(found.failed & (numbers["high"] < pairs.mean), known, numbers)


def _lookalike(
    embeddings: Embeddings, found: Lists, groups: np.ndarray | None, rules: Rules
) -> Tag:
    """The nearest wrong identity is of the query's look-alike group. Where nobody knows the groups:
    it stands several times in the top ten."""
    numbers = dict(
        identity=np.where(found.wrong >= 0, embeddings.identities[found.wrong], -1),
        margin=found.wrong_distance - found.right_distance,
        repeats=found.repeats,
        known=np.full(len(found.wrong), groups is not None),
    )
    if groups is None:
        alike = found.repeats >= rules.repeats
    else:
        own = groups[embeddings.query_rows]
        alike = (own != "") & (own == groups[found.wrong]) & (found.wrong >= 0)
        numbers["group"] = own
    return Tag(found.failed & alike, found.judged & (found.wrong >= 0), numbers)


def _occlusion(found: Lists, share: np.ndarray | None, rules: Rules) -> Tag:
    share = np.full(len(found.first_hit), np.nan) if share is None else share
    return Tag(found.failed & (share > rules.occlusion), np.isfinite(share), dict(share=share))


def _resolution(found: Lists, pixels: np.ndarray | None, rules: Rules) -> Tag:
    """Nothing is judged where the smallest are as large as most."""
    size = len(found.first_hit)
    pixels = np.full(size, -1) if pixels is None else pixels
    known = pixels > 0
    limit = np.quantile(pixels[known], rules.decile) if known.any() else -1.0
    if known.any() and limit >= np.median(pixels[known]):
        known = np.zeros(size, bool)
    small = known & (pixels <= limit)
    return Tag(found.failed & small, known, dict(pixels=pixels, limit=np.full(size, limit)))


def _hub(embeddings: Embeddings, found: Lists, rules: Rules) -> Tag:
    """k-occurrence with k = 1 (Radovanovic et al. 2010), of wrong queries, by identity: two queries
    of one person are drawn to one image for one reason."""
    who = embeddings.identities[embeddings.query_rows]
    failures = np.unique(np.stack([found.first, who])[:, found.failed], axis=1)[0]
    wrong = np.bincount(failures, minlength=len(embeddings.names))
    first = np.bincount(found.first[found.judged], minlength=len(embeddings.names))
    at = np.where(found.first >= 0, found.first, 0)
    numbers = dict(identities=wrong[at], first=first[at])
    return Tag(found.failed & (wrong[at] >= rules.hub), found.judged, numbers)


def _label(embeddings: Embeddings, found: Lists, rules: Rules) -> Tag:
    """The query, the wrong first image or the last true match (SUSPECTS) is much nearer to another
    identity than to its own, both under other cameras than its own; the one with the largest ratio."""
    suspects = np.stack([embeddings.query_rows, found.first, found.last])  # (3, Q)
    rows, place = np.unique(suspects[suspects >= 0], return_inverse=True)
    own, other, who = farther(embeddings, rows)
    spread = {}
    for name, values in dict(own=own, other=other, nearest=who).items():
        spread[name] = np.full(suspects.shape, -1 if name == "nearest" else np.nan)
        spread[name][suspects >= 0] = values[place]
    ratio = spread["own"] / np.maximum(spread["other"], 1e-12)
    suspect = np.where(np.isfinite(ratio), ratio, -1).argmax(axis=0)
    take = suspect, np.arange(suspects.shape[1])
    numbers = {name: values[take] for name, values in spread.items()}
    numbers |= dict(ratio=ratio[take], suspect=suspect, row=suspects[take])
    known = np.isfinite(numbers["ratio"])
    return Tag(found.failed & known & (numbers["ratio"] > rules.label), known, numbers)
