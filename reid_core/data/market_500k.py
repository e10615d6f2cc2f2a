"""Market-1501 with its 500,000 distractors: distractors_500k/ in its folder or beside it, or images/
in it, where torchreid wants them."""

from dataclasses import replace
from pathlib import Path

from reid_core.data.base import Dataset, Family, Split, image_files
from reid_core.data.market import (
    COUNTS,
    FOLDERS,
    parse_name,
    read_market,
    recognise_market,
)
from reid_core.errors import BadInput

DISTRACTORS = ("distractors_500k", "images")


def recognise_market_500k(folder: Path) -> str | None:
    why, more = recognise_market(folder), distractors_in(folder)
    return f"{why}; {more.name} beside them" if why and more else None


def distractors_in(home: Path) -> Path | None:
    """The folder of the 500,000 distractors, in the home or beside it."""
    places = [above / name for above in (home, home.parent) for name in DISTRACTORS[:1]]
    found = (place for place in (*places, home / DISTRACTORS[1]) if place.is_dir())
    return next(found, None)


def read_market_500k(home: Path) -> Dataset:
    """The same, and the 500,000 distractors in the gallery: identity 0, camera unknown unless named."""
    folder = distractors_in(home)
    if folder is None:
        raise BadInput(
            f"expected {' or '.join(DISTRACTORS)} with the 500k distractors in {home}: unpack "
            "distractors_500k.zip there, or take market1501"
        )
    files = image_files(folder)
    if not files:
        raise BadInput(f"no image in {folder}: unpack distractors_500k.zip again")
    own = read_market(home)
    if folder.parent != home:  # the names of all images are below one root
        own = replace(own, root=folder.parent)
    rows = [(path, 0, (parse_name(path.name) or (0, -1))[1]) for path in files]
    more = Split.of(rows)
    return replace(own, gallery=Split.chain([own.gallery, more]))


MARKET_500K = Family(
    "Market-1501 + 500k",
    "Market-1501 with its 500,000 distractors in the gallery: nobody's match, but in every ranking.",
    read_market_500k,
    recognise_market_500k,
    ((*FOLDERS, DISTRACTORS[0]),),
    {split: COUNTS[split] for split in ("train", "query")},
)
