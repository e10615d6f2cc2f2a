"""List files: their lines, their numbers, and whether the images that they name are there."""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from reid_core.errors import BadInput, from_system


def lines_of(table: Path) -> Iterator[tuple[str, str]]:
    """The lines of a list file that are not empty, each as ("FILE, line N", line). Raises BadInput,
    also for a list without any."""
    empty = True
    try:
        with table.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    empty = False
                    yield f"{table}, line {number}", line.strip()
    except UnicodeDecodeError as error:
        raise BadInput(f"{table} is no text in UTF-8 ({error}): unpack it anew") from None
    except OSError as error:
        raise from_system(error) from None
    if empty:
        raise BadInput(f"{table} is empty: unpack it anew")


def whole(text: str, where: str, what: str) -> int:
    """A whole number in a list file. Raises BadInput, with the line."""
    try:
        return int(text)
    except ValueError:
        raise BadInput(f"{where}: expected {what} as a whole number, got {text!r}") from None


_absent: ContextVar[list[tuple[Path, list[Path], str]] | None] = ContextVar("absent", default=None)
AGAIN = "unpack the archive again, it looks half extracted"


@contextmanager
def absent_allowed() -> Iterator[list[tuple[Path, list[Path], str]]]:
    """In this block a reader goes on where images that a list names are missing. Yields a list that
    fills with each such list file, the images that it names and nobody finds, and what to do."""
    token = _absent.set(found := [])
    try:
        yield found
    finally:
        _absent.reset(token)


def all_there(paths: Sequence[Path], said_by: Path, remedy: str = "") -> None:
    """Raises BadInput where images that a list names are missing: how many, the first, and what to do."""
    try:
        missing = [path for path in paths if not _is_file(path)]
    except PermissionError as error:
        raise from_system(error) from None
    remedy = remedy or f"{AGAIN}; if the images are there, mend the paths in {said_by.name}"
    if missing and (told := _absent.get()) is not None:
        told.append((said_by, missing, remedy))
    elif missing:
        raise BadInput(
            f"{said_by} names {len(paths)} images and {len(missing)} of them are missing, the first "
            f"is {missing[0]}: {remedy}"
        )


def _is_file(path: Path) -> bool:
    """Whether an image is there. Raises PermissionError where its folder doesn't say."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except PermissionError:
        raise
    except (OSError, ValueError):
        return False
