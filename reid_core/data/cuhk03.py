"""CUHK03 (Li et al., CVPR 2014) under its new protocol, CUHK03-NP (Zhong et al., CVPR 2017): boxes
drawn by hand ("labeled") or by a detector ("detected"). Three forms, all of the same images:

cuhk03-np/{labeled,detected}/{bounding_box_train,query,bounding_box_test}/0001_c1_1.png
images_{labeled,detected}/1_001_1_01.png           as torchreid and fast-reid unpack them
cuhk03_release/cuhk-03.mat                         the original file (`cuhk03_mat`)

The last two need cuhk03_new_protocol_config_{labeled,detected}.mat beside them, which are no part of
CUHK03's archive. In the images' names, pair_person_camera_image, the third number is the camera.
"""

import re
from functools import partial
from pathlib import Path

from reid_core.data import cuhk03_mat
from reid_core.data.base import Dataset, Family, Progress, Split, first_names
from reid_core.data.lists import AGAIN, all_there
from reid_core.data.market import FOLDERS, has_folders, read_market
from reid_core.errors import BadInput, from_system

SPLITS = ("train", "query", "gallery")
SPELLINGS = {"labeled": ("labeled", "labelled"), "detected": ("detected",)}
PLAIN = re.compile(r"\w[^/\\:]*")  # a name without folders, which could lead anywhere
PROTOCOLS = {kind: f"cuhk03_new_protocol_config_{kind}.mat" for kind in SPELLINGS}
WHERE = "github.com/zhunzhong07/person-re-ranking has them in evaluation/data/CUHK03"


def _folders(kind: str, home: Path) -> Path | None:
    """Where the three image folders of a kind lie: below the home, or the home itself."""
    places = [home / name for name in SPELLINGS[kind]]
    places += [home] if home.name in SPELLINGS[kind] else []
    return next((place for place in places if has_folders(place)), None)


def _protocol(kind: str, home: Path) -> Path | None:
    name, places = PROTOCOLS[kind], (home, home / "cuhk03_release", home.parent)
    return next((place / name for place in places if (place / name).is_file()), None)


def _images(kind: str, home: Path) -> Path | None:
    folder = home / f"images_{kind}"
    return folder if folder.is_dir() else None


def _original(home: Path) -> Path | None:
    places = (home / "cuhk03_release" / "cuhk-03.mat", home / "cuhk-03.mat")
    return next((place for place in places if place.is_file()), None)


def recognise(kind: str, folder: Path) -> str | None:
    """Why a folder is CUHK03-NP with boxes of this kind, or None."""
    place = _folders(kind, folder)
    if place and all(name.endswith(".png") for name in first_names(place / FOLDERS[1])):
        return f"{place.name}/ with {', '.join(FOLDERS)} of PNG images"
    protocol, images, original = (of(kind, folder) for of in (_protocol, _images, _mat))
    if protocol and (images or original):
        what = (
            f"{images.name}/" if images else f"{original.name}, whose images need unpacking once,"
        )
        return f"{what} and {protocol.name}"
    return None


def _mat(kind: str, home: Path) -> Path | None:
    return _original(home)


def read(kind: str, home: Path) -> Dataset:
    """The images of a kind, unpacked first where they lie in the original file. Raises BadInput."""
    if place := _folders(kind, home):
        return read_market(place)
    protocol, images, original = (of(kind, home) for of in (_protocol, _images, _mat))
    if not images and not original:
        raise BadInput(
            f"expected {kind}/{FOLDERS[0]}, images_{kind} or cuhk03_release/cuhk-03.mat in {home}"
        )
    if not protocol:
        lacks = [PROTOCOLS[each] for each in PROTOCOLS if not _protocol(each, home)]
        raise BadInput(
            f"expected {' and '.join(lacks)} in {home}, with the splits of CUHK03-NP, which CUHK03's "
            f"archive lacks: download them apart and put them there; {WHERE}"
        )
    folder = images or cuhk03_mat.extract(original, kind)
    return Dataset(folder, *_splits(protocol, folder), listed=True)


def extract(kind: str, home: Path, progress: Progress | None = None) -> None:
    """Unpack the images of the original file, where there is nothing else to read."""
    original = _original(home)
    if original and _protocol(kind, home) and not (_folders(kind, home) or _images(kind, home)):
        cuhk03_mat.extract(original, kind, progress)


def _splits(protocol: Path, folder: Path) -> list[Split]:
    """Training, query and gallery images as a protocol file names them. Raises BadInput."""
    from scipy.io import loadmat

    try:
        with protocol.open("rb") as file:  # scipy doesn't say why it can't
            said = loadmat(file)
        names = [str(cell.item()) for cell in said["filelist"].ravel()]
        identities = said["labels"].ravel().astype(int)
        cameras = [int(name.split("_")[2]) for name in names]
        rows = [said[f"{split}_idx"].ravel().astype(int) - 1 for split in SPLITS]  # from 1
        inside = all(numbers.min() >= 0 and numbers.max() < len(names) for numbers in rows)
        if len(identities) != len(names) or not inside:
            raise ValueError("its lists do not fit together")
        if odd := [name for name in names if not PLAIN.fullmatch(name)]:
            raise ValueError(f"it names {odd[0]!r}, which is no image right in {folder.name}")
    except OSError as error:
        known = from_system(error) if error.errno else None
        damaged = BadInput(f"{protocol} can't be read ({error}): download it anew")
        raise (known if isinstance(known, BadInput) else damaged) from None
    except Exception as error:  # whatever scipy says of a damaged file
        raise BadInput(f"{protocol} is no protocol file ({error}): {WHERE}") from None
    paths = [folder / name for name in names]
    all_there([paths[row] for numbers in rows for row in numbers], protocol, AGAIN)
    return [Split.of([(paths[r], identities[r], cameras[r]) for r in numbers]) for numbers in rows]


# Counts: Zhong et al., CVPR 2017, and zhunzhong07/person-re-ranking.
COUNTS = {"labeled": (7368, 5328), "detected": (7365, 5332)}
ABOUT = {"labeled": "boxes drawn by hand", "detected": "boxes of a detector"}


def family(kind: str) -> Family:
    """CUHK03-NP with boxes of a kind."""
    train, gallery = COUNTS[kind]
    return Family(
        f"CUHK03-NP ({kind})",
        f"Li et al., CVPR 2014, {ABOUT[kind]}; 767 people to train on and 700 to test with, as Zhong "
        "et al., CVPR 2017 cut it. Scores of the older protocol are not comparable.",
        partial(read, kind),
        partial(recognise, kind),
        (
            (f"{kind}/{FOLDERS[0]}", f"{kind}/{FOLDERS[1]}", f"{kind}/{FOLDERS[2]}"),
            (f"images_{kind}", PROTOCOLS[kind]),
            ("cuhk03_release/cuhk-03.mat", PROTOCOLS[kind]),
        ),
        {"train": (train, 767), "query": (1400, 700), "gallery": (gallery, 700)},
        extract=partial(extract, kind),
        apart={PROTOCOLS[kind]: WHERE},
    )
