"""Data sets: images, identities, cameras. One family, one row in DATASETS."""

import os
from collections.abc import Callable, Collection
from pathlib import Path

from reid_core.data import cuhk03, duke, joined, msmt17, own, vehicleid, veri
from reid_core.data.base import (
    ARCHIVES,
    ROOT,
    Dataset,
    Family,
    Found,
    Split,
    entries,
    own_place,
    walk,
)
from reid_core.data.market import MARKET, PEDESTRIANS, has_folders
from reid_core.data.market_500k import MARKET_500K
from reid_core.data.places import OWN, no_folder, not_found, survey, was_drawn
from reid_core.errors import BadInput
from reid_core.knobs import unknown
from reid_core.words import few

PEDESTRIAN_IDENTITIES = 340

DATASETS: dict[str, Family] = {
    "pedestrians": PEDESTRIANS,
    "market1501": MARKET,
    "market1501-500k": MARKET_500K,
    "dukemtmc-reid": duke.DUKE,
    "occluded-duke": duke.OCCLUDED_DUKE,
    "msmt17-v1": msmt17.family("V1", ("train",)),
    "msmt17-v1-trainval": msmt17.family("V1", ("train", "val")),
    "msmt17-v2": msmt17.family("V2", ("train",)),
    "msmt17-v2-trainval": msmt17.family("V2", ("train", "val")),
    "cuhk03-labeled": cuhk03.family("labeled"),
    "cuhk03-detected": cuhk03.family("detected"),
    "veri776": veri.VERI,
    "vehicleid-800": vehicleid.family(800),
    "vehicleid-1600": vehicleid.family(1600),
    "vehicleid-2400": vehicleid.family(2400),
    OWN: own.OWN,
}
# These share a layout: a folder that is one of them can be read as any of them.
ALIKE = ("pedestrians", "market1501", OWN)


def names_of(name: str) -> list[str]:
    """The data sets in a name: one, or several joined by "+". Raises BadInput for unknown ones."""
    names = name.split("+")
    for each in names:
        if each not in DATASETS:
            raise BadInput(unknown("dataset", each, DATASETS))
    if len(set(names)) < len(names):
        raise BadInput(f"dataset: {name} joins a set with itself; name each once")
    return names


def family_of(name: str) -> Family:
    """The family of a data set or of several joined. Raises BadInput for an unknown one."""
    families = [DATASETS[each] for each in names_of(name)]
    return joined.family_of(families) if len(families) > 1 else families[0]


def default_root(name: str) -> Path:
    """Where a data set lies when no folder is named: under `data/`, or under $REID_DATA. A folder of
    its name there; else, and where sets are joined, anywhere below."""
    place = own_place() / name
    return place if os.path.isdir(place) or name in ("pedestrians", OWN) else own_place()


def find(root: Path, asked: Collection[str] = ()) -> list[Found]:
    """The data sets that lie in a folder or a few levels below it, nearest first; one folder may be
    several (with and without distractors, labelled and detected), and is `folder` only where it is
    nothing else or that is asked for. Raises BadInput where there is no such folder or it may not be
    read."""
    found: list[Found] = []
    for here in survey(DATASETS, root):
        found += [each for each in here if each.name != OWN or OWN in asked] or here
    return found


def open_dataset(name: str, data: str | Path | None = None) -> Dataset:
    """The images of a data set, found in or below `data` or its own place. Raises BadInput."""
    names = names_of(name)
    if len(names) > 1:
        parts = [open_dataset(each, data) for each in names]
        return joined.join(names, [DATASETS[each] for each in names], parts)
    return DATASETS[name].read(located(name, data))


def located(name: str, data: str | Path | None = None) -> Path:
    """The folder of a data set, in or below `data` or its own place. Raises BadInput."""
    family = DATASETS[name]
    root = Path(data) if data else default_root(name)
    if not os.path.isdir(root) and data is None:
        make = "; python -m reid_core synth DIR makes the pedestrians" * (name == "pedestrians")
        raise BadInput(
            f"no folder {root}: put {family.title} there, or name its folder where the command asks for one "
            f"(--data DIR), or the one above it in $REID_DATA{make}"
        )
    below = root / name
    if os.path.isdir(below) and not (name == OWN and _lies_in(root, name)):
        root = below
    found, own, others = [], [], []
    for here in survey(DATASETS, root):
        if any(each.name == name for each in here):
            if name != OWN or here[0].home == root:
                return here[0].home
            (own if len(here) == 1 else others).append(here[0].home)
        found += here
    if homes := own or others:  # Market-1501 is meant by `folder` only where nothing else can be
        if len(homes) > 1:
            raise BadInput(f"{name}: several lie in {root}: {few(homes)}; name one of them")
        return homes[0]
    alike = name in ALIKE and root != own_place()  # what was named is meant, whatever else it is
    if alike and found and all(each.name in ALIKE for each in found):
        return found[0].home
    if alike and not found and (home := next(filter(has_folders, walk(root, was_drawn)), None)):
        return home  # its images have other names: its reader says so
    raise not_found(DATASETS, name, root, [each for each in found if each.name != OWN])


def _lies_in(root: Path, name: str) -> bool:
    return any(each.name == name and each.home == root for each in next(survey(DATASETS, root), []))


def prepare(
    name: str, data: str | Path | None = None, progress: Callable[[int, int], None] | None = None
) -> Dataset:
    """Like `open_dataset`, but renders the pedestrians first when they are missing, and unpacks what
    lies inside one file, telling how far it is."""
    for each in names_of(name):
        if each == "pedestrians" and data is None and not default_root(each).exists():
            render_pedestrians(default_root(each), progress)
        elif extract := DATASETS[each].extract:
            extract(located(each, data), progress)
    return open_dataset(name, data)


def render_pedestrians(root: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """The default pedestrians; $REID_PEDESTRIANS gives another number of identities."""
    from reid_core.data import pedestrians

    try:
        identities = int(os.environ.get("REID_PEDESTRIANS") or PEDESTRIAN_IDENTITIES)
        root.parent.mkdir(parents=True, exist_ok=True)
        pedestrians.render(root, identities=identities, progress=progress)
    except ValueError as error:
        raise BadInput(f"REID_PEDESTRIANS: {error}") from None


__all__ = [
    "ARCHIVES",
    "DATASETS",
    "ROOT",
    "Dataset",
    "Family",
    "Found",
    "Split",
    "default_root",
    "entries",
    "family_of",
    "find",
    "located",
    "names_of",
    "no_folder",
    "open_dataset",
    "prepare",
]
