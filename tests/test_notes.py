"""Notes of a run's queries: two sessions lose nothing, and damage is said."""

from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import pytest

from reid_core import notes
from reid_core.errors import BadInput
from reid_core.notes import Note
from reid_core.runs import Run


@pytest.fixture
def run(tmp_path) -> Run:
    return Run("noted", tmp_path)


def test_nothing_noted_yet(run):
    assert notes.read(run).queries == {} and notes.read(run).tags == notes.TAGS


def test_what_is_noted_is_read_back(run):
    notes.review(run, "query/a.jpg", True)
    notes.tag(run, "query/a.jpg", "look again", True)
    notes.write(run, "query/a.jpg", "the bag changed sides", "")
    assert notes.read(run).of("query/a.jpg") == Note(True, ("look again",), "the bag changed sides")
    assert notes.read(run).of("query/b.jpg") == Note()


def test_a_note_without_content_is_forgotten(run):
    notes.review(run, "a", True)
    notes.review(run, "a", False)
    assert notes.read(run).queries == {}


def test_a_tag_is_there_once(run):
    notes.tag(run, "a", "x", True)
    notes.tag(run, "a", "x", True)
    assert notes.read(run).of("a").tags == ("x",)
    notes.tag(run, "a", "x", False)
    assert notes.read(run).of("a").tags == ()


def test_two_texts_of_two_writers_both_stay(run):
    notes.write(run, "a", "mine", seen="")
    notes.write(run, "a", "theirs", seen="")
    assert notes.read(run).of("a").text == "mine\ntheirs"
    notes.write(run, "a", "both, shorter", seen="mine\ntheirs")
    assert notes.read(run).of("a").text == "both, shorter"


def test_own_tags_have_a_digit_each(run):
    for number in range(notes.MOST - len(notes.TAGS)):
        notes.add_tag(run, f"  own   {number} ")
    assert notes.read(run).tags[len(notes.TAGS)] == "own 0"
    notes.add_tag(run, "own 0")  # is there already
    with pytest.raises(BadInput, match="9 tags at most"):
        notes.add_tag(run, "a tenth")


@pytest.mark.parametrize("label", ["", "   ", "x" * 41])
def test_a_tag_needs_some_letters_but_not_many(run, label):
    with pytest.raises(BadInput, match="1 to 40 letters"):
        notes.add_tag(run, label)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"tags": []}', '{"tags": [], "queries": {"a": 3}}']
)
def test_damage_is_said_and_nothing_is_overwritten(run, content):
    (run.folder / notes.FILE).write_text(content)
    with pytest.raises(BadInput, match=r"damaged notes\.json"):
        notes.review(run, "a", True)
    assert (run.folder / notes.FILE).read_text() == content


def test_what_cannot_be_written_is_the_users_to_mend(run, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied", "notes.json")

    monkeypatch.setattr(Run, "write", refused)
    with pytest.raises(BadInput, match=r"not allowed to use notes\.json"):
        notes.review(run, "a", True)


def test_two_threads_lose_nothing(run):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda number: notes.review(run, f"{number}", True), range(40)))
    assert len(notes.read(run).queries) == 40


def _many(folder, start):
    for number in range(start, start + 20):
        notes.tag(Run("noted", folder), "shared", f"tag {number}", True)


@pytest.mark.long
def test_two_processes_lose_nothing(run):
    spawn = get_context("spawn")
    writers = [spawn.Process(target=_many, args=(run.folder, start)) for start in (0, 20)]
    for each in writers:
        each.start()
    for each in writers:
        each.join(60)
    assert len(notes.read(run).of("shared").tags) == 40


@pytest.mark.parametrize(
    "content",
    [
        '{"tags": "abc", "queries": {}}',
        '{"tags": [1, null], "queries": {}}',
        '{"tags": [""], "queries": {}}',
        '{"tags": [], "queries": {"a": {"text": null}}}',
        '{"tags": [], "queries": {"a": {"reviewed": "yes"}}}',
        '{"tags": [], "queries": {"a": {"tags": [2]}}}',
    ],
)
def test_values_of_another_kind_are_damage(run, content):
    (run.folder / notes.FILE).write_text(content)
    with pytest.raises(BadInput, match="damaged"):
        notes.read(run)


def test_a_tag_written_twice_is_one(run):
    (run.folder / notes.FILE).write_text('{"tags": ["a", "a"], "queries": {}}')
    assert notes.read(run).tags == ("a",)


def test_a_file_that_cannot_be_read_is_the_users_to_mend(run):
    (run.folder / notes.FILE).mkdir()
    with pytest.raises(BadInput, match=notes.FILE):
        notes.read(run)
