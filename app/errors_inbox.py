"""The triage inbox: a queue of queries, the evidence for each one, and what people note of it."""

from collections.abc import Callable
from zlib import crc32

import numpy as np
import streamlit as st

from app import address, cached, errors, errors_queue, galleries, pickers, projector
from app.components import query_strip, ranked_gallery
from app.errors import Case
from app.errors_walk import current, walk
from app.notices import explained, plain, say
from reid_core import notes
from reid_core.analysis import tags as rules
from reid_core.errors import BadInput
from reid_core.notes import Note, Notes
from reid_core.runs import Run

PROBLEM = "notes problem"
PILLS = {errors.WRONG: "Rank 1 wrong", errors.RIGHT: "Rank 1 right", errors.EVERY: "All"}


def show(run: Run, case: Case, source: tuple[str, str], bar) -> None:
    """Draw it, what is chosen from into the bar; ends the page where no query is left."""
    with explained():
        kept = notes.read(run)
    order = _chosen(case, kept, bar)
    labels = cached.labels(run.name, case.stamp)
    row = st.container(horizontal=True, vertical_alignment="center", gap="small")
    query = walk(run.name, case.stamp, order, row)
    name = case.name(query)
    with row:
        _reviewed(run, case, kept.of(name))
    items = galleries.strip(source, case.found, case.lists, labels, order, query)
    query_strip(items, key="queue", on_pick=lambda: pickers.pick_query("queue"))
    left, right = st.columns([5, 3], gap="medium")
    with left:
        _evidence(case, query, drawn=source[0] == "pedestrians")
    with right:
        _tags(run, case, kept, kept.of(name).tags)
        _note(run, name, kept.of(name))
    ranking = cached.ranked(run.name, case.stamp, query)
    facts = galleries.query(source, case.found, ranking, labels[query], case.queries[query])
    places = galleries.shown(ranking, 20, ghosts=False)
    ranked_gallery(facts, galleries.tiles(source, case.found, ranking, places), key="list")
    errors_queue.show(case, kept, order, labels)


def _chosen(case: Case, kept: Notes, bar) -> np.ndarray:
    """Positions of the queries to walk through, worst first."""
    masks, parts = errors.shown_by(case, kept), errors.parts(case)
    pickers.linked("show", list(masks), _usual(case, masks))
    pickers.linked("part", parts, errors.ALL)
    wanted = errors.in_part(case, st.session_state["part"])
    counts = {name: int((mask & wanted).sum()) for name, mask in masks.items()}
    bar.selectbox(
        "Of",
        parts,
        key="part",
        width=projector.wide(260),
        filter_mode="contains",
        label_visibility="collapsed",
        help="A pair of cameras: the query's, and that of a true match.",
    )
    called = {name: f"{PILLS.get(name, name)} {count}" for name, count in counts.items()}
    pickers.labelled("show", called)
    st.pills(
        "Show",
        list(masks),
        key="show",
        required=True,
        format_func=called.get,
        label_visibility="collapsed",
        wrap=True,
    )
    order = errors.worst_first(
        case, masks[st.session_state["show"]] & wanted, st.session_state["part"]
    )
    if not len(order):
        say("info", "No query is left: choose others above.")
        address.stop()
    return order


def _usual(case: Case, masks: dict[str, np.ndarray]) -> str:
    """The failures; but all queries where a link asks for one that is none."""
    labels, asked = cached.labels(case.run, case.stamp), address.get("query")
    right = asked in labels and not masks[errors.WRONG][labels.index(asked)]
    return errors.EVERY if right else errors.WRONG


def _reviewed(run: Run, case: Case, note: Note) -> None:
    st.button(
        "Reviewed",
        key="reviewed",
        icon=":material/check_circle:" if note.reviewed else ":material/circle:",
        type="primary" if note.reviewed else "secondary",
        shortcut="X",
        on_click=_kept,
        args=(lambda: _turn(run, case),),
    )
    if problem := st.session_state.pop(PROBLEM, ""):
        say("error", problem)


def _turn(run: Run, case: Case, label: str = "") -> None:
    """Turn a tag of the query, or without one its mark as reviewed."""
    name = case.name(current(case.run, case.stamp))
    note = notes.read(run).of(name)
    if label:
        notes.tag(run, name, label, label not in note.tags)
    else:
        notes.review(run, name, not note.reviewed)


def _tags(run: Run, case: Case, kept: Notes, has: tuple[str, ...]) -> None:
    """Own tags, one key each."""
    with st.container(horizontal=True, gap="xsmall", key="own tags"):
        for digit, label in enumerate(kept.tags, 1):
            st.button(
                plain(label),
                key=f"own {digit}",
                type="primary" if label in has else "secondary",
                shortcut=str(digit) if digit <= notes.MOST else None,  # a file may hold more
                on_click=_kept,
                args=(lambda label=label: _turn(run, case, label),),
            )
    # A form empties its field at once: what is typed next is another tag. Not in the row, where a new
    # button before it would make another field of it, without the cursor.
    form = st.form("a tag of one's own", clear_on_submit=True, border=False, width="content")
    with form, st.container(horizontal=True, gap="xsmall"):
        st.text_input(
            "New tag",
            key="new tag",
            placeholder="New tag",
            label_visibility="collapsed",
            width=projector.wide(130),
            max_chars=notes.LONGEST,
        )
        st.form_submit_button(
            "",
            key="add tag",
            icon=":material/add:",
            help="A tag of your own, for this run.",
            on_click=_kept,
            args=(lambda: _new_tag(run),),
        )


def _new_tag(run: Run) -> None:
    label = st.session_state["new tag"]
    if label.strip():
        notes.add_tag(run, label)


def _kept(change: Callable[[], None]) -> None:
    """Change the notes; what went wrong is said in the next run of the page."""
    try:
        change()
    except BadInput as problem:
        st.session_state[PROBLEM] = str(problem)


def _evidence(case: Case, query: int, drawn: bool) -> None:
    """Each rule's verdict on this query and the numbers behind it; drawn people have right labels."""
    lines = []
    for name in rules.TAGS:
        text = plain(errors.evidence(case, name, query))
        if case.tags[name].holds[query]:
            lines.append(f":small[:material/label: **{name}**: {text}]")
        else:
            lines.append(f":small[:gray[:material/remove: {name}: {text}]]")
    if drawn and case.tags[rules.LABEL].holds[query]:
        lines.append(
            ":small[Drawn people's labels are right: here that last tag is a false alarm.]"
        )
    if case.lists.first_hit[query] == 1:
        lines.append(":small[Rank 1 is right, so there is no tag; the numbers are the same.]")
    with st.container(key="evidence", gap=None):
        st.markdown("  \n".join(lines))
        st.caption(
            "What goes together with this failure, not what caused it. The rules are ours; distances "
            "are those of the list."
        )


def _note(run: Run, name: str, note: Note) -> None:
    """A text area of its own for each query and text, so that none shows another's."""
    key = f"note {crc32(f'{run.name} {name} {note.text}'.encode())}"
    with st.container(key="note", horizontal=True, gap="xsmall", vertical_alignment="bottom"):
        st.text_area(
            "Note",
            note.text,
            key=key,
            height=68,
            placeholder="N to write, Esc to save in notes.json",
            label_visibility="collapsed",
            on_change=lambda: _kept(
                lambda: notes.write(run, name, st.session_state[key], note.text)
            ),
        )
        st.button(
            "Note",
            key="write",
            icon=":material/edit_note:",
            shortcut="N",
            type="tertiary",
        )
