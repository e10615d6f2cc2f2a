"""Two to five runs on the same test split: who is right where, and is the difference more than chance?

Shapes: R runs, Q queries, P = 2^R patterns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from reid_core.analysis.intervals import paired
from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings, Evaluation

LEAST, MOST = 2, 5
DRAWS, SEED = 2000, 0


def same_split(splits: Mapping[str, Embeddings]) -> None:
    """Raises BadInput, saying what differs, unless all runs saw the same test split in one order."""
    if not LEAST <= len(splits) <= MOST:
        raise BadInput(f"expected {LEAST} to {MOST} runs, got {len(splits)}: choose others")
    (name, first), *others = splits.items()
    for other, split in others:
        if differs := _difference(first, split):
            raise BadInput(
                f"{name} and {other} did not see the same test split: {differs}; choose runs that "
                "were evaluated on one data set"
            )


def _difference(a: Embeddings, b: Embeddings) -> str:
    """What differs between two test splits, in words; empty where nothing does."""
    for said, here, there in (
        ("queries", a.names[a.query_rows], b.names[b.query_rows]),
        ("gallery images", a.names[a.gallery_rows], b.names[b.gallery_rows]),
    ):
        if len(here) != len(there):
            return f"{len(here)} and {len(there)} {said}"
        if (odd := np.flatnonzero(here != there)).size:
            first = str(here[odd[0]]), str(there[odd[0]])
            return f"{odd.size} {said} differ, first {first[0]!r} and {first[1]!r}"
    for said in ("is_query", "identities", "cameras"):
        if (odd := np.flatnonzero(getattr(a, said) != getattr(b, said))).size:
            return f"{said} of {odd.size} images differ, first of {str(a.names[odd[0]])!r}"
    return ""


@dataclass(frozen=True)
class Pattern:
    """Which runs have rank 1 right: right (R,) bools in the runs' order, and the queries."""

    right: tuple[bool, ...]
    queries: np.ndarray

    def says(self, names: Sequence[str]) -> str:
        """In words: "only pha is right", "all are wrong", ..."""
        right = [name for name, yes in zip(names, self.right, strict=True) if yes]
        wrong = [name for name, yes in zip(names, self.right, strict=True) if not yes]
        if not right or not wrong:
            return "all are right" if right else "all are wrong"
        if len(right) == 1:
            return f"only {right[0]} is right"
        if len(wrong) == 1:
            return f"only {wrong[0]} is wrong"
        return f"{' and '.join(right)} are right, {' and '.join(wrong)} wrong"


def patterns(scores: Sequence[Evaluation]) -> list[Pattern]:
    """The 2^R patterns over the queries that have a true match, the largest first.

    Every such query is in exactly one of them; empty ones are kept at the end.
    """
    first = np.stack([each.first_hit for each in scores])  # (R, Q)
    right, judged = first == 1, (first > 0).all(axis=0)
    found = []
    for wanted in product((True, False), repeat=len(scores)):
        those = judged & (right == np.array(wanted)[:, None]).all(axis=0)
        found.append(Pattern(wanted, np.flatnonzero(those)))
    return sorted(found, key=lambda pattern: -len(pattern.queries))


@dataclass(frozen=True)
class Difference:
    """How much better b is than a: the mean over the same queries, and its 95 % interval."""

    a: str
    b: str
    measure: str
    difference: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def differences(
    scores: Mapping[str, Evaluation], draws: int = DRAWS, seed: int = SEED
) -> list[Difference]:
    """Paired bootstrap over the queries, of mAP and rank-1, for every two runs."""
    found, names = [], list(scores)
    for place, a in enumerate(names):
        for b in names[place + 1 :]:
            for measure, of in (("mAP", _precision), ("rank-1", _right)):
                shift = paired(of(scores[b]), of(scores[a]), draws, seed)
                found.append(Difference(a, b, measure, *shift))
    return found


def _precision(scored: Evaluation) -> np.ndarray:
    return scored.average_precision


def _right(scored: Evaluation) -> np.ndarray:
    return np.where(scored.first_hit > 0, scored.first_hit == 1, np.nan)


def knobs_that_differ(asked: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """What runs were asked for and not alike: name -> value per run, None where it has no such knob.

    asked: each run's `Experiment.as_dict()`. Nested records are flattened with dots.
    """
    flat = [_flat(record) for record in asked.values()]
    names = list(dict.fromkeys(name for record in flat for name in record))
    values = {name: [record.get(name) for record in flat] for name in names}
    return {name: each for name, each in values.items() if any(one != each[0] for one in each)}


def _flat(record: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """A record without records inside; what was under "knobs" is called by its own name."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= _flat(value, above if name == "knobs" else f"{above}{name}.")
        else:
            found[above + name] = list(value) if isinstance(value, tuple) else value
    return found
