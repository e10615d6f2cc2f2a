"""Features that lie in a file: an .npz or a folder of .npy, mapped where it is not compressed.

N images, D dimensions. Nothing that a file holds is executed.
"""

import os
import zipfile
from pathlib import Path

import numpy as np

from reid_core.errors import BadInput
from reid_core.evaluate import Embeddings

ARRAYS = ("embeddings", "identities", "cameras", "is_query")
ENCODED = "encoded"  # beside embeddings that were refined as one set
LOCAL_HEADER = 30  # bytes of a zip member's own header before its name


def read_stored(path: Path) -> Embeddings:
    """The features as a test split. Raises BadInput for anything that it can't be."""
    found = _folder(path) if path.is_dir() else _archive(path)
    if missing := [name for name in ARRAYS if name not in found]:
        raise BadInput(
            f"{path} has no {', '.join(missing)}: expected the arrays {', '.join(ARRAYS)}, "
            f"found {', '.join(found) or 'none'}"
        )
    vectors, identities, cameras, is_query = (found[name] for name in ARRAYS)
    count = len(vectors) if vectors.ndim else 0
    _refuse_no_vectors(vectors, path, "embeddings", "N", count)
    for name in ARRAYS[1:]:
        array = found[name]
        if array.shape != (count,) or array.dtype.kind not in "iub":
            kind = "booleans" if name == "is_query" else "whole numbers"
            raise BadInput(
                f"{path}: expected {name} ({count},) of {kind}, one for each embedding, got "
                f"{array.shape} of {array.dtype}"
            )
    if not np.isin(is_query, (0, 1)).all():
        raise BadInput(f"{path}: expected is_query to be true or false, got other numbers")
    encoded = found.get(ENCODED)
    if encoded is not None:
        _refuse_no_vectors(encoded, path, ENCODED, str(count), count)
    return Embeddings(
        vectors,
        names=np.arange(count),
        identities=identities.astype(np.int64),
        cameras=cameras.astype(np.int64),
        views=np.full(count, -1),
        is_query=is_query.astype(bool),
        encoded=encoded,
    )


def _refuse_no_vectors(array: np.ndarray, path: Path, name: str, rows: str, count: int) -> None:
    """Raises BadInput where an array is not (count, D) of floating-point numbers."""
    floating = np.issubdtype(array.dtype, np.floating)
    if array.ndim != 2 or not array.size or len(array) != count or not floating:
        raise BadInput(
            f"{path}: expected {name} ({rows}, D) of floating-point numbers, got "
            f"{array.shape} of {array.dtype}"
        )


def left_out(path: Path) -> int:
    """How many images `embed` could not read: the scores are those of fewer."""
    if path.is_dir():
        return 0
    with zipfile.ZipFile(path) as archive:
        written = "left_out.npy" in archive.namelist()
    return _unpacked(path, "left_out").size if written else 0


def _folder(path: Path) -> dict[str, np.ndarray]:
    files = {name: path / f"{name}.npy" for name in (*ARRAYS, ENCODED)}
    return {name: _mapped(file, 0, name) for name, file in files.items() if file.is_file()}


def _archive(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        raise BadInput(f"no file or folder {path}: give an .npz or a folder of .npy files")
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            members = {name: members[name] for name in (*ARRAYS, ENCODED) if name in members}
            offsets = {name: _offset(file, info) for name, info in members.items()}
            plain = {k for k, info in members.items() if info.compress_type == zipfile.ZIP_STORED}
            for name in plain:
                _check_sum(archive, members[name], path, name)
    except (zipfile.BadZipFile, NotImplementedError):  # the latter for a version that there is not
        raise BadInput(f"{path} is no .npz (or half of one): write it with numpy.savez") from None
    return {
        name: _mapped(path, offsets[name], name) if name in plain else _unpacked(path, name)
        for name in members
    }


def _check_sum(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, name: str) -> None:
    """Read a member once, bit by bit: what is mapped later is compared with no sum. Raises BadInput."""
    try:
        with archive.open(info) as member:
            while member.read(2**20):
                pass
    except (zipfile.BadZipFile, EOFError, RuntimeError) as error:  # the last where it is encrypted
        raise BadInput(f"{path}: {name} is damaged ({error}): write it anew") from None


def _offset(file, info: zipfile.ZipInfo) -> int:
    """Where a member's content begins: its own header has other lengths than the directory's."""
    if not 0 <= info.header_offset < os.fstat(file.fileno()).st_size:
        raise zipfile.BadZipFile(f"{info.filename} lies outside")
    file.seek(info.header_offset)
    header = file.read(LOCAL_HEADER)
    lengths = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    return info.header_offset + LOCAL_HEADER + sum(lengths)


def _mapped(path: Path, offset: int, name: str) -> np.ndarray:
    """An .npy that begins at an offset of a file: the embeddings mapped, labels read."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            version = np.lib.format.read_magic(file)
            read = {(1, 0): "1_0", (2, 0): "2_0"}.get(version)
            if read is None:
                raise ValueError(f"format {version}")
            shape, fortran, dtype = getattr(np.lib.format, f"read_array_header_{read}")(file)
            if dtype.hasobject:
                raise BadInput(_pickled(path, name))
            if 0 in shape:
                return np.empty(shape, dtype)
            order = "F" if fortran else "C"
            # Copied where it is written to, which torch wants to be free to do.
            array = np.memmap(file, dtype, "c", file.tell(), shape, order)
    except (BadInput, OSError):
        raise
    except Exception as error:  # numpy evaluates the header: what is wrong there has many names
        raise BadInput(f"{path}: {name} is damaged ({error}): write it anew") from None
    return array if name in ("embeddings", ENCODED) else np.array(array)


def _unpacked(path: Path, name: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as file:
            array = file[name]
        if not isinstance(array, np.ndarray):  # numpy gives the bytes of what is no .npy
            raise ValueError("no array as numpy writes it")
        return array
    except Exception as error:
        if "allow_pickle" in str(error):
            raise BadInput(_pickled(path, name)) from None
        raise BadInput(f"{path}: {name} is damaged ({error}): write it anew") from None


def _pickled(path: Path, name: str) -> str:
    return (
        f"{path}: {name} holds pickled Python objects, which are never opened; store numbers "
        f"(array.astype(...))"
    )
