"""The queries of a run as a queue: which are shown, in which order, and what is said of each."""

from dataclasses import dataclass

import numpy as np

from app import cached
from reid_core.analysis.cameras import Pairs
from reid_core.analysis.errors import Lists
from reid_core.analysis.tags import (
    CAMERA,
    HUB,
    LABEL,
    LOOKALIKE,
    OCCLUSION,
    RESOLUTION,
    SUSPECTS,
    TAGS,
    Rules,
    Tag,
)
from reid_core.evaluate import Embeddings
from reid_core.notes import Notes

VIEWS = ("Inbox", "Tables", "Runs", "Re-ranking")
WRONG, RIGHT, UNTAGGED, EVERY = "wrong", "right", "no tag", "all"
TODO, DONE = "to review", "reviewed"
ALL = "every query"
ATTRIBUTES = {  # those of attributes.csv that a table is made of, where they are there
    "view": "View",
    "occlusion": "Share covered",
    "occluder": "Covered by",
    "box_error": "Error of the box",
    "bag": "Bag",
    "upper_colour": "Upper colour",
    "lower_colour": "Lower colour",
    "lookalike_group": "Look-alike group",
}
RULES = Rules()


@dataclass(frozen=True)
class Case:
    """What a page needs of one run's errors; all of it is cached by the run's name and stamp."""

    run: str
    stamp: int
    found: Embeddings
    lists: Lists
    pairs: Pairs
    tags: dict[str, Tag]

    @classmethod
    def of(cls, run: str, stamp: int) -> "Case":
        """Raises BadInput."""
        asked = run, stamp
        return cls(
            *asked,
            cached.embeddings(*asked),
            cached.ranked_lists(*asked),
            cached.camera_pairs(*asked),
            cached.tags(*asked),
        )

    @property
    def queries(self) -> np.ndarray:
        """(Q,) rows of the embeddings."""
        return self.found.query_rows

    def name(self, query: int) -> str:
        """A query's image, as notes know it."""
        return str(self.found.names[self.queries[query]])

    def held(self, query: int) -> list[str]:
        """The tags of a query."""
        return [name for name, tag in self.tags.items() if tag.holds[query]]


def shown_by(case: Case, notes: Notes) -> dict[str, np.ndarray]:
    """Ways to choose queries, by name: a mask (Q,) each. Own tags are written with a sign before."""
    failed, lists = case.lists.failed, case.lists
    tagged = np.any([tag.holds for tag in case.tags.values()], axis=0)
    reviewed = marked(case, notes, lambda note: note.reviewed)
    masks = {
        WRONG: failed,
        **{name: case.tags[name].holds for name in TAGS},
        UNTAGGED: failed & ~tagged,
        RIGHT: lists.first_hit == 1,
        EVERY: np.ones(len(failed), bool),
        TODO: failed & ~reviewed,
        DONE: reviewed,
    }
    for label in notes.tags:
        masks[f"#{label}"] = marked(case, notes, lambda note, label=label: label in note.tags)
    return masks


def marked(case: Case, notes: Notes, holds) -> np.ndarray:
    """(Q,) whose note has something; only few have a note."""
    names = {name for name, note in notes.queries.items() if holds(note)}
    if not names:
        return np.zeros(len(case.queries), bool)
    return np.isin(case.found.names[case.queries], sorted(names))


def parts(case: Case) -> list[str]:
    """Parts of the test split to choose from: every query, camera pairs, values of attributes."""
    pairs = case.pairs
    found = [ALL, *(f"camera {a}" for a in pairs.query_cameras)]
    for row, column in zip(*np.nonzero(pairs.count), strict=True):
        found.append(pair_name(pairs, row, column))
    known = cached.attributes(case.run, case.stamp)
    for attribute in ATTRIBUTES:
        if attribute in known:
            values = cached.slices(case.run, case.stamp, attribute)
            found += [part_name(attribute, value.value) for value in values]
    return found


def pair_name(pairs: Pairs, row: int, column: int) -> str:
    """What a pair of cameras is called in the address."""
    return f"cameras {pairs.query_cameras[row]} to {pairs.match_cameras[column]}"


def part_name(attribute: str, value: str) -> str:
    """What the queries that share a value are called in the address."""
    return f"{attribute}: {value}"


def in_part(case: Case, part: str) -> np.ndarray:
    """(Q,) the queries of a part. For a pair: those that have true matches under its camera."""
    cameras = case.found.cameras[case.queries]
    if part.startswith("cameras "):
        here, _, there = part.removeprefix("cameras ").partition(" to ")
        column = int(np.flatnonzero(case.pairs.match_cameras == int(there))[0])
        return (cameras == int(here)) & np.isfinite(case.pairs.of_query[:, column])
    if part.startswith("camera "):
        return cameras == int(part.removeprefix("camera "))
    attribute, _, value = part.partition(": ")
    if part != ALL:
        return cached.attribute_values(case.run, case.stamp, attribute) == value
    return np.ones(len(cameras), bool)


def worst_first(case: Case, mask: np.ndarray, part: str) -> np.ndarray:
    """Positions of the chosen queries, by average precision, of a camera pair by that of the pair;
    those without a true match last."""
    precision = case.lists.average_precision
    if part.startswith("cameras "):
        there = int(part.rpartition(" ")[2])
        precision = case.pairs.of_query[:, np.flatnonzero(case.pairs.match_cameras == there)[0]]
    order = np.argsort(precision, kind="stable")
    return order[mask[order]]


# What is said of one query


def evidence(case: Case, name: str, query: int) -> str:
    """The numbers that a tag was judged by, in a line of Markdown."""
    tag = case.tags[name]
    numbers = {key: values[query] for key, values in tag.numbers.items()}
    if not case.lists.judged[query]:
        return "not judged: no true match in the gallery"
    if not tag.judged[query]:
        return UNKNOWN[name]
    return SAID[name](numbers)


def _camera(n: dict) -> str:
    return (
        f"cameras {n['query_camera']} to {n['match_camera']} (its first true match): "
        f"mAP {n['precision']:.2f} ({n['low']:.2f} to {n['high']:.2f}, {n['count']} queries); "
        f"all pairs {n['mean']:.2f}"
    )


def _lookalike(n: dict) -> str:
    who = "a distractor" if n["identity"] == 0 else f"identity {n['identity']}"
    where = "nearer" if n["margin"] < 0 else "farther"
    said = f"first wrong: {who}, {abs(n['margin']):.3f} {where} than the first true match, "
    said += f"{n['repeats']} of the top 10"
    if not n["known"]:
        return said + f" (tag from {RULES.repeats}; nobody knows who looks alike)"
    if not n["group"]:
        return said + "; the query is in no look-alike group"
    return said + f"; the query's look-alike group is {n['group']}"


def _occlusion(n: dict) -> str:
    return f"{n['share']:.0%} of the query is covered (tag above {RULES.occlusion:.0%})"


def _resolution(n: dict) -> str:
    return (
        f"{n['pixels']:,.0f} pixels (lowest {RULES.decile:.0%} of the queries: {n['limit']:,.0f})"
    )


def _hub(n: dict) -> str:
    return (
        f"the image at rank 1 is wrongly first for {_count(n['identities'], 'identity', 'identities')} "
        f"(tag from {RULES.hub}), first for {_count(n['first'], 'query', 'queries')} in all"
    )


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _label(n: dict) -> str:
    return (
        f"{SUSPECTS[n['suspect']]} is {n['own']:.2f} from its own identity and {n['other']:.2f} "
        f"from {n['nearest']}: {n['ratio']:.2f} times (tag above {RULES.label:g})"
    )


SAID = {
    CAMERA: _camera,
    LOOKALIKE: _lookalike,
    OCCLUSION: _occlusion,
    RESOLUTION: _resolution,
    HUB: _hub,
    LABEL: _label,
}
UNKNOWN = {
    CAMERA: "not judged",
    LOOKALIKE: "not judged: nobody else is in the gallery",
    OCCLUSION: "not judged: no attributes.csv tells how much is covered",
    RESOLUTION: "not judged: nearly all query files have the same number of pixels",
    HUB: "not judged",
    LABEL: "not judged: fewer than two images of an identity under other cameras",
}
