"""Every image decoded once: whether it can be, its size, its bytes' hash and how it looks. N images."""

import hashlib
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from reid_core.data.depth import DAMAGED, plain

SIDE, LOOK = 32, 16  # pixels of what is hashed, and of what two pictures are compared by
STEP = 256  # images between two words on how far it is
ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND"}  # how a JPEG and a PNG begin and end

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Scan:
    """What was seen of N images.

    paths (N,); problem (N,) a kind of finding or "", with its note (N,); sizes (N, 2) int height and
    width, 0 where nobody could tell; digests (N,) of the bytes, "" where unread; looks (N,) uint64,
    the perceptual hash; thumbs (N, 16, 16) uint8 grey. decoded (N,) bool.
    """

    paths: list[Path]
    problem: np.ndarray
    notes: list[str]
    sizes: np.ndarray
    digests: np.ndarray
    looks: np.ndarray
    thumbs: np.ndarray

    @property
    def decoded(self) -> np.ndarray:
        return self.problem == ""


def scan(paths: Sequence[Path], progress: Progress | None = None) -> Scan:
    """Open all of them; whatever is wrong with one is noted, and the others are seen all the same."""
    count = len(paths)
    problem, notes = np.full(count, "", dtype="U16"), [""] * count
    sizes, digests = np.zeros((count, 2), int), np.full(count, "", dtype="U32")
    looks, thumbs = np.zeros(count, np.uint64), np.zeros((count, LOOK, LOOK), np.uint8)
    with ThreadPoolExecutor(max_workers=cpu_count()) as pool:  # PIL decodes without Python's lock
        for start in range(0, count, STEP):
            rows = slice(start, min(start + STEP, count))
            seen = list(pool.map(_open, paths[rows]))
            problem[rows] = [each[0] for each in seen]
            notes[rows] = [each[1] for each in seen]
            sizes[rows] = [each[2] for each in seen]
            digests[rows] = [each[3] for each in seen]
            grey = np.stack([each[4] for each in seen])  # (B, 32, 32)
            looks[rows] = hashes(grey)
            thumbs[rows] = grey.reshape(-1, LOOK, 2, LOOK, 2).mean((2, 4))
            if progress:
                progress(rows.stop, count)
    return Scan(list(paths), problem, notes, sizes, digests, looks, thumbs)


def _open(path: Path) -> tuple[str, str, tuple[int, int], str, np.ndarray]:
    """(kind of problem or "", its note, (height, width), digest, (32, 32) grey) of a file."""
    nothing = np.zeros((SIDE, SIDE), np.uint8)
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for without end
            return "unreadable", "no regular file", (0, 0), "", nothing
        content = path.read_bytes()
    except OSError as error:
        kinds = {FileNotFoundError: "missing-file", PermissionError: "permission"}
        kind = kinds.get(type(error), "unreadable")
        return kind, error.strerror or str(error), (0, 0), "", nothing
    if not content:
        return "truncated", "the file is empty", (0, 0), "", nothing
    digest, size = hashlib.blake2b(content, digest_size=16).hexdigest(), (0, 0)
    try:
        with Image.open(io.BytesIO(content)) as image:
            size = image.height, image.width
            image = plain(image)
            size = image.height, image.width
            grey = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    except DAMAGED as error:
        said = "no image" if isinstance(error, UnidentifiedImageError) else str(error)
        return "truncated" if _cut(content) else "unreadable", said, size, digest, nothing
    return "", "", size, digest, np.asarray(grey)


def _cut(content: bytes) -> bool:
    """Whether a file begins as an image does and does not end as one."""
    ends = [end for begin, end in ENDS.items() if content.startswith(begin)]
    return bool(ends) and ends[0] not in content[-64:]


def hashes(grey: np.ndarray) -> np.ndarray:
    """Perceptual hashes (B,) uint64 of (B, 32, 32) grey pictures: whether each of the 64 lowest
    frequencies but the mean is above their median (Zauner 2010, the hash called pHash)."""
    from scipy.fft import dctn

    low = dctn(grey.astype(np.float32), axes=(1, 2))[:, :9, :9].reshape(len(grey), -1)
    low = low[:, _diagonal()]  # (B, 64)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.ascontiguousarray(np.packbits(bits, axis=1)).view(np.uint64).ravel()


def _diagonal() -> np.ndarray:
    """Places in a (9, 9) block of its 64 lowest frequencies without the mean, from the corner out."""
    up, across = np.divmod(np.arange(81), 9)
    return np.argsort(up + across, kind="stable")[1:65]
