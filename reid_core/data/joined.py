"""Several data sets joined for training: `market1501+msmt17-v1`.

All train; the first one's queries and gallery are the test split. Nothing collides: identity i and
camera c of the n-th set, counted from 0, become n * IDENTITIES + i and n * CAMERAS + c, so that those
of the first stay what they are, and each can be told back (`divmod`). Unknown ones (-1) stay unknown.
Views are kept where a set names its views as the first does, and unknown otherwise.
"""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from reid_core.data.base import Dataset, Family, Split
from reid_core.errors import BadInput
from reid_core.words import number as number_of

IDENTITIES, CAMERAS = 10**9, 1000


def join(names: Sequence[str], families: Sequence[Family], parts: Sequence[Dataset]) -> Dataset:
    """The joined set. Raises BadInput for numbers too large to be told apart, for images that two of
    them train on, and for images that one trains on and the first is tested on."""
    first, folder = parts[0], cache(os.path.realpath)  # folders may be links
    splits: list[Split] = []
    whose: dict[tuple[str, str], str] = {}

    def place(path: Path) -> tuple[str, str]:
        path = Path(os.path.realpath(path)) if os.path.islink(path) else path
        return folder(path.parent), path.name

    def places(split: Split) -> list[tuple[str, str]]:
        return [place(path) for path in split.paths]

    tested = {*places(first.query), *places(first.gallery)}
    for number, (name, family, part) in enumerate(zip(names, families, parts, strict=True)):
        train = part.train
        here = places(train)
        if twice := [place for place in here if place in whose]:
            raise BadInput(
                f"{whose[twice[0]]} and {name} both train on {number_of(twice, 'image')} of "
                f"{part.root}, {twice[0][1]} the first: each would be two persons; join sets that "
                "share none"
            )
        if number and (leaked := tested.intersection(here)):
            raise BadInput(
                f"{name} trains on {number_of(leaked, 'image')} of {part.root} that are queries or gallery of "
                f"{names[0]}, {min(leaked)[1]} the first: what is trained on says nothing of new people; join "
                "sets that share none"
            )
        whose |= dict.fromkeys(here, name)
        identities = _moved(train.identities, number, IDENTITIES, name, "identity")
        cameras = _moved(train.cameras, number, CAMERAS, name, "camera")
        views = train.views
        if family.views != families[0].views:
            views = np.full_like(views, -1)
        splits.append(Split(train.paths, identities, cameras, views))
    return Dataset(first.root, Split.chain(splits), first.query, first.gallery)


def _moved(ids: np.ndarray, number: int, step: int, name: str, what: str) -> np.ndarray:
    if len(ids) and ids.max() >= step:
        raise BadInput(f"{name}: {what} {ids.max()} is too large to be joined, {step - 1} at most")
    return np.where(ids < 0, ids, ids + number * step)


def family_of(families: Sequence[Family]) -> Family:
    """What a joined set is called, for captions."""
    titles = " + ".join(family.title for family in families)
    return Family(
        titles,
        f"All of them train; queries and gallery are those of {families[0].title}.",
        families[0].read,
        families[0].recognise,
        families[0].layouts,
        {
            split: families[0].published[split]
            for split in families[0].published
            if split != "train"
        },
        families[0].views,
    )
