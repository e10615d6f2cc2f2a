"""What people note of a run's queries: reviewed or not, tags of their own, a word. Kept in the run's
folder, `notes.json`, where it travels with the run.

Every change reads the file anew under a lock and changes one thing in it, so that two sessions lose
nothing of one another's.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace

from filelock import FileLock, Timeout

from reid_core.errors import BadInput, from_system
from reid_core.runs import Run

FILE = "notes.json"
TAGS = ("wrong label", "hard for people too", "look again")  # to begin with
MOST = 9  # tags; each has a digit on the keyboard
LONGEST = 40  # letters of a tag


@dataclass(frozen=True)
class Note:
    """What was noted of one query."""

    reviewed: bool = False
    tags: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Notes:
    """A run's own tags, and the notes of its queries by the name of the image."""

    tags: tuple[str, ...] = TAGS
    queries: dict[str, Note] = field(default_factory=dict)

    def of(self, name: str) -> Note:
        return self.queries.get(name, Note())


def read(run: Run) -> Notes:
    """The notes of a run. Raises BadInput for a file that is no such notes."""
    try:
        kept = json.loads((run.folder / FILE).read_text("utf-8"))
        queries = {name: _note(**each) for name, each in kept["queries"].items()}
        return Notes(_labels(kept["tags"]), queries)
    except FileNotFoundError:
        return Notes()
    except OSError as error:
        raise from_system(error) from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BadInput(
            f"run {run.name!r} has a damaged {FILE}: mend it or move it out of the run's folder"
        ) from None


def _note(reviewed: bool = False, tags: list[str] = (), text: str = "") -> Note:
    """A note as the file has it. Raises ValueError for values of other kinds: people edit files."""
    if not isinstance(reviewed, bool) or not isinstance(text, str):
        raise ValueError("expected true or false and a text")
    return Note(reviewed, _labels(tags), text)


def _labels(tags: list[str]) -> tuple[str, ...]:
    """Tags as the file has them, each once. Raises ValueError for anything but texts."""
    if isinstance(tags, str) or not all(isinstance(each, str) and each.strip() for each in tags):
        raise ValueError("expected a list of texts")
    return tuple(dict.fromkeys(tags))


def review(run: Run, name: str, reviewed: bool) -> None:
    """Mark a query as reviewed or not. Raises BadInput where nothing can be written."""
    _change_note(run, name, lambda note: replace(note, reviewed=reviewed))


def tag(run: Run, name: str, label: str, on: bool) -> None:
    """Give a query a tag or take it away. Raises BadInput as `review`."""

    def changed(note: Note) -> Note:
        others = tuple(each for each in note.tags if each != label)
        return replace(note, tags=(*others, label) if on else others)

    _change_note(run, name, changed)


def write(run: Run, name: str, text: str, seen: str) -> None:
    """Change a query's text. seen is what its writer saw before: where somebody else has written
    meanwhile, both texts stay. Raises BadInput as `review`."""

    def changed(note: Note) -> Note:
        return replace(note, text=text if note.text in (seen, text) else f"{note.text}\n{text}")

    _change_note(run, name, changed)


def add_tag(run: Run, label: str) -> None:
    """One more tag of one's own. Raises BadInput for an empty, long or tenth one."""
    label = " ".join(label.split())
    if not 0 < len(label) <= LONGEST:
        raise BadInput(f"expected a tag of 1 to {LONGEST} letters, got {len(label)}: shorten it")
    with _changing(run) as (notes, keep):
        if label not in notes.tags:
            if len(notes.tags) >= MOST:
                raise BadInput(
                    f"expected {MOST} tags at most, one for each digit; {label!r} is one more: use "
                    "a note instead"
                )
            keep(replace(notes, tags=(*notes.tags, label)))


def _change_note(run: Run, name: str, change: Callable[[Note], Note]) -> None:
    with _changing(run) as (notes, keep):
        queries = notes.queries | {name: change(notes.of(name))}
        keep(
            replace(notes, queries={each: note for each, note in queries.items() if note != Note()})
        )


@contextmanager
def _changing(run: Run) -> Iterator[tuple[Notes, Callable[[Notes], None]]]:
    """The notes as they are now and a function that keeps others, with everybody else waiting."""

    def keep(notes: Notes) -> None:
        content = json.dumps(asdict(notes), indent=2, ensure_ascii=False) + "\n"
        run.write(FILE, content.encode())

    try:
        with FileLock(run.folder / f".{FILE}.lock", timeout=5):
            yield read(run), keep
    except Timeout:
        raise BadInput(f"{FILE} of run {run.name!r} is in use: try again") from None
    except OSError as error:
        raise from_system(error) from None
