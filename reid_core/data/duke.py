"""DukeMTMC-reID (Ristani et al., ECCVW 2016; Zheng et al., ICCV 2017) and Occluded-Duke (Miao et al.,
ICCV 2019): Market-1501's folders with names like 0001_c2_f0046182.jpg.

The folder may be called anything (`dukemtmcreid`, `dukemtmc-reid/DukeMTMC-reID`, `DukeMTMC-reID`,
`Occluded_Duke`): the names of the images decide. Both sets name alike, so Occluded-Duke is told by
"occ" in the folder's name or by its 2,210 queries.
"""

import re
from pathlib import Path

from reid_core.data.base import Family, first_names
from reid_core.data.market import FOLDERS, has_folders, named_like, read_market

OFFICIAL = re.compile(r"\d{4}_c[1-8]_f\d+\.jpg", re.IGNORECASE)
OCCLUDED_QUERIES = 2210


def recognise_duke(folder: Path) -> str | None:
    """Why a folder is DukeMTMC-reID, or None."""
    name = _duke_name(folder)
    if not name or _occluded(folder):
        return None
    return f"{', '.join(FOLDERS)}, and names with camera and frame like {name}"


def recognise_occluded(folder: Path) -> str | None:
    """Why a folder is Occluded-Duke, or None."""
    name = _duke_name(folder)
    occluded = _occluded(folder) if name else ""
    return f"{', '.join(FOLDERS)}, names like {name}, and {occluded}" if occluded else None


def _duke_name(folder: Path) -> str:
    return named_like(folder, OFFICIAL) if has_folders(folder) else ""


def _occluded(folder: Path) -> str:
    """What tells that the images are the occluded ones, or ""."""
    called = next((part for part in (folder.name, folder.parent.name) if "occ" in part.lower()), "")
    if called:
        return f"a folder called {called}"
    count = len(first_names(folder / FOLDERS[1], OCCLUDED_QUERIES + 1))
    return f"{OCCLUDED_QUERIES:,} queries" if count == OCCLUDED_QUERIES else ""


DUKE = Family(
    "DukeMTMC-reID",
    "Zheng et al., ICCV 2017: 1,404 people under eight cameras on a campus, and 408 distractors in "
    "the gallery. Its authors withdrew it.",
    read_market,
    recognise_duke,
    (FOLDERS,),
    # Counts: layumi/DukeMTMC-reID_evaluation; images also in TransReID's and torchreid's readers.
    {"train": (16522, 702), "query": (2228, 702), "gallery": (17661, 1110)},
)
OCCLUDED_DUKE = Family(
    "Occluded-Duke",
    "Miao et al., ICCV 2019: DukeMTMC-reID cut anew so that every query is occluded.",
    read_market,
    recognise_occluded,
    (FOLDERS,),
    # Counts: Miao et al., ICCV 2019, section 4.1 and lightas/Occluded-DukeMTMC-Dataset.
    {"train": (15618, 702), "query": (2210, 519), "gallery": (17661, 1110)},
)
