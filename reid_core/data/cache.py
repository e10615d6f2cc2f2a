"""Decoded images in a file, where memory is too small for them. N images of H x W pixels.

One record for each image: its pixels, which file they were read from (its size and times of change)
and a checksum. A record that is missing, of another file or damaged is as one that was never written:
its image is decoded and the record written anew. So there is no state of the whole that could break.
A killed process, a truncated file or a full disk only leave records out; of two processes that write
at once both write the same.

Records are read at their offset, not mapped: the page cache serves both alike, but a mapped file that
shrinks, or a bad disk below it, would end the process without a word.
"""

import hashlib
import logging
import os
import shutil
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reid_core.data.base import own_place

VERSION = 2  # of the records, and of how `images.read` makes pixels
SPARE = 2**30  # bytes left free for what a training has to save

log = logging.getLogger("reid_core")


class PixelFile:
    """The decoded images of a list of files, in `$REID_DATA/decoded/`. Several threads and processes
    may use it at once."""

    def __init__(self, files: Sequence[Path], size: tuple[int, int], filter: int, most: float):
        """most: GiB that all such files together may take."""
        self.files = files
        self.record = np.dtype([("pixels", "u1", (*size, 3)), ("source", "<u8"), ("sum", "<u4")])
        about = [f"{VERSION} {size} {filter}", *(os.path.abspath(file) for file in files)]
        key = hashlib.sha256(os.fsencode("\n".join(about))).hexdigest()[:16]
        self.path = own_place() / "decoded" / f"{key}.pixels"
        self.sources: dict[int, int] = {}
        self.writes, self.lock = True, threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.open("ab").close()
            self._make_sure_of_room(most)
        except OSError as error:
            self._give_up(error.strerror or str(error))

    def get(self, row: int) -> np.ndarray | None:
        """(H, W, 3) uint8, or None where the file has it not."""
        record = np.empty(1, self.record)
        source = self._source(
            row
        )  # before its image is decoded, so that it can't be of a later one
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(row * self.record.itemsize)
                read = file.readinto(record.view(np.uint8))
        except OSError:
            return None
        if read < self.record.itemsize or record["source"][0] != source:
            return None
        whole = record["sum"][0] == _checksum(record)
        return record["pixels"][0] if whole else None

    def put(self, row: int, pixels: np.ndarray) -> None:
        """Keep (H, W, 3) uint8; where that can't be done, no more is tried."""
        if not self.writes or not self._source(row):
            return
        record = np.zeros(1, self.record)
        record["pixels"], record["source"] = pixels, self._source(row)
        record["sum"] = _checksum(record)
        try:
            with self.path.open("r+b", buffering=0) as file:
                file.seek(row * self.record.itemsize)
                if file.write(record.view(np.uint8)) < self.record.itemsize:
                    self._give_up("no space left")
        except OSError as error:
            self._give_up(error.strerror or str(error))

    def lacking(self, rows: Sequence[int]) -> list[int]:
        """Of these rows those that `put` would keep and that are not there, damage aside."""
        if not self.writes:
            return []
        step, source = self.record.itemsize, self.record.fields["source"][1]
        found = []
        try:
            with self.path.open("rb", buffering=0) as file:
                for row in rows:
                    file.seek(row * step + source)
                    known = int.from_bytes(file.read(8), "little")
                    if known != self._source(row):
                        found.append(row)
        except OSError as error:
            self._give_up(error.strerror or str(error))
        return found

    def _source(self, row: int) -> int:
        """Which file a row is of, as a number that is not 0; 0 where there is none. It is looked at
        once: what is replaced while a training runs is seen by the next one."""
        if row not in self.sources:
            try:
                about = os.stat(self.files[row])
            except OSError:
                return 0
            # A copy may bring its old time along (cp -p), but not that of the change to the file.
            known = f"{about.st_size} {about.st_mtime_ns} {about.st_ctime_ns}".encode()
            digest = hashlib.blake2b(known, digest_size=8).digest()
            self.sources[row] = int.from_bytes(digest, "little") | 1
        return self.sources[row]

    def _make_sure_of_room(self, most: float) -> None:
        others = sum(
            each.stat().st_size
            for each in self.path.parent.glob("*.pixels")
            if each.name != self.path.name
        )
        here, whole = self.path.stat(), len(self.files) * self.record.itemsize
        if others + whole > most * 2**30:
            self._give_up(f"it would hold more than disk={most:g} GiB; delete what is old there")
        lacks = whole - (here.st_blocks * 512 if hasattr(here, "st_blocks") else here.st_size)
        free = shutil.disk_usage(self.path.parent).free
        if lacks > 0 and free < lacks + SPARE:
            self._give_up(f"{free / 2**30:.1f} GiB are free, {whole / 2**30:.1f} GiB needed")

    def _give_up(self, why: str) -> None:
        with self.lock:
            told, self.writes = not self.writes, False
        if not told:
            where = self.path.parent
            log.warning("%s keeps no more decoded images: %s. Others are decoded anew", where, why)


def _checksum(record: np.ndarray) -> int:
    return zlib.crc32(record["pixels"].data, int(record["source"][0]) & 0xFFFFFFFF)
