"""Data sets: images, identities, cameras. One family, one row in DATASETS."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reid_core.data.market import Dataset, Split, read_market
from reid_core.errors import BadInput
from reid_core.knobs import unknown

ROOT = Path(__file__).resolve().parents[2]
PEDESTRIAN_IDENTITIES = 340


@dataclass(frozen=True)
class Family:
    """A kind of data set: what it is called, what it is, how its folder is read."""

    title: str
    about: str
    read: Callable[[Path], Dataset]


DATASETS: dict[str, Family] = {
    "pedestrians": Family(
        "Pedestrians (synthetic)",
        "Drawn people whose truth is known: identities, views, body parts, look-alikes. Ours, made "
        "for teaching; scores on it say nothing about a public benchmark.",
        read_market,
    ),
    "market1501": Family(
        "Market-1501 layout",
        "Market-1501, or a folder of your own that follows its layout and names.",
        read_market,
    ),
}


def default_root(name: str) -> Path:
    """Where a data set lies when no folder is named: under `data/`, or under $REID_DATA."""
    return Path(os.environ.get("REID_DATA") or ROOT / "data") / name


def open_dataset(name: str, data: str | Path | None = None) -> Dataset:
    """The images of a data set, read from `data` or from its own place. Raises BadInput."""
    if name not in DATASETS:
        raise BadInput(unknown("dataset", name, DATASETS))
    root = Path(data) if data else default_root(name)
    if not root.is_dir():
        make = "python -m reid_core synth DIR makes the pedestrians"
        raise BadInput(
            f"no folder {root}: give --data DIR, a {DATASETS[name].title} folder; {make}"
        )
    return DATASETS[name].read(root)


def prepare(
    name: str, data: str | Path | None = None, progress: Callable[[int, int], None] | None = None
) -> Dataset:
    """Like `open_dataset`, but renders the pedestrians first when they are missing."""
    if name == "pedestrians" and data is None and not default_root(name).exists():
        render_pedestrians(default_root(name), progress)
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


__all__ = ["DATASETS", "Dataset", "Family", "Split", "default_root", "open_dataset", "prepare"]
