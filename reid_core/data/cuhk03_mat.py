"""The images inside CUHK03's cuhk-03.mat (HDF5, as MATLAB 7.3 writes it), unpacked once.

`labeled` and `detected` are cells of five camera pairs; a pair is a cell of people x 10 images: the
first five by the pair's first camera, the others by its second; missing ones are empty. Images are
(3, width, height) uint8. They are written as PNG, without loss, and named as torchreid names them:
pair_person_camera_image.

The given folder is only read. The images go to `data/unpacked/` (or $REID_DATA/unpacked/): each file
appears whole or not at all, so that unpacking may be cut short and goes on where it stood.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from reid_core.data.base import Progress, own_place
from reid_core.errors import BadInput, from_system

WHOLE = ".whole"  # written when every image is there
OLDER = b"MATLAB 5.0"  # what a file begins with that is no HDF5


def place_of(file: Path, kind: str) -> Path:
    """Where the images of a file go; another file, or a changed one, has another place."""
    about = file.stat()
    key = f"{file.resolve()}\n{about.st_size}\n{about.st_mtime_ns}"
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return own_place() / "unpacked" / f"cuhk03-{kind}-{digest}"


def extract(file: Path, kind: str, progress: Progress | None = None) -> Path:
    """The folder with the images of a kind, unpacked if they are not yet. Raises BadInput."""
    folder = place_of(file, kind)
    if (folder / WHOLE).is_file():
        return folder
    try:
        with file.open("rb") as opened:  # h5py doesn't say which file it may not open
            older = opened.read(len(OLDER)) == OLDER
    except OSError as error:
        raise from_system(error) from None
    import h5py  # a second to load, and only this file needs it

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with h5py.File(file, "r") as mat:
            _unpack(mat, kind, folder, progress)
        (folder / WHOLE).touch()
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, RuntimeError) as error:
        raise BadInput(
            f"{file} is not CUHK03's cuhk-03.mat ({error}): unpack cuhk03_release.zip again"
        ) from None
    except OSError as error:
        known = from_system(error) if error.errno else None
        if isinstance(known, BadInput):
            unpacked = f"{own_place() / 'unpacked'}; $REID_DATA names another place"
            raise BadInput(f"{known} (the images go to {unpacked})") from None
        if older:
            raise BadInput(
                f"{file} is a MATLAB file of version 5, CUHK03's own is of 7.3: unpack cuhk03_release.zip "
                "again, or save it with -v7.3"
            ) from None
        raise BadInput(
            f"{file} can't be read ({error}): unpack cuhk03_release.zip again, it looks half extracted"
        ) from None
    return folder


def _unpack(mat, kind: str, folder: Path, progress: Progress | None) -> None:
    cells = list(_cells(mat, kind))
    for done, (name, cell) in enumerate(cells, 1):
        path = folder / name
        if not path.is_file():
            pixels = mat[cell][()]
            if pixels.ndim == 3 and pixels.size and pixels.dtype == np.uint8:  # else an empty cell
                _write(pixels.T, path)  # (height, width, 3)
        if progress:
            progress(done, len(cells))


def _cells(mat, kind: str) -> Iterator[tuple[str, object]]:
    """(name of the file, reference to the image) of every cell."""
    import h5py

    if not isinstance(mat.get(kind, getlink=True), h5py.HardLink):  # links may lead to other files
        raise KeyError(f"no {kind!r} in it")
    for pair, people in enumerate(mat[kind][()].ravel(), 1):
        for person, images in enumerate(mat[people][()].T, 1):
            for image, cell in enumerate(images, 1):
                yield f"{pair}_{person:03d}_{1 if image <= 5 else 2}_{image:02d}.png", cell


def _write(pixels: np.ndarray, path: Path) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    Image.fromarray(np.ascontiguousarray(pixels)).save(beside, "PNG", compress_level=1)
    os.replace(beside, path)
