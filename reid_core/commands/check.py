"""`check`: the dataset doctor's report, as words for people or as JSON for programs."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from textwrap import fill

from reid_core.commands.asked import Bar

FIRST, WIDTH = 5, 100  # cases named of each finding; columns
ABOUT = (
    "Says which data sets lie in a folder and why it takes them for that, counts their images, "
    "identities and cameras, opens every image, and lists what is odd and what to do about it. Exits "
    "with 0 where nothing prevents training, with 1 where something does, with 2 where no data set is "
    "recognised."
)


def add(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    check = commands.add_parser(
        "check", help="what is in a data folder, and what is odd about it", description=ABOUT
    )
    check.add_argument("dir", type=_folder, metavar="DIR")
    check.add_argument(
        "--dataset",
        default=None,
        metavar="NAME",
        help="examine this one only, or several joined by +",
    )
    check.add_argument("--json", action="store_true", help="one JSON object on stdout")
    check.add_argument(
        "--progress", choices=("bar", "lines"), default="bar", help=argparse.SUPPRESS
    )
    usual = check.format_help
    check.format_help = lambda: f"{usual()}\n{kinds()}\n"
    check.set_defaults(act=act)


def _folder(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("no folder given")
    return Path(text)


def kinds() -> str:
    """The documented list of findings."""
    from reid_core.data.doctor import KINDS

    return "kinds of findings:\n" + "\n".join(f"  {kind:16} {KINDS[kind]}" for kind in KINDS)


def act(asked: argparse.Namespace) -> int:
    from reid_core.data.doctor import examine

    with Bar(asked.progress) as progress:
        report = examine(asked.dir, asked.dataset, progress)
    if asked.json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        print("\n".join(words(report)))
    return report.code


def words(report) -> Iterator[str]:
    """The report as lines to read."""
    from reid_core.words import number

    for each in report.recognised:
        yield from _recognised(each)
        yield ""
    errors = [each for each in report.findings if each.severity == "error"]
    warnings = [each for each in report.findings if each.severity != "error"]
    several = [len({getattr(e, of) for e in report.recognised}) > 1 for of in ("name", "home")]
    for title, findings in (("Prevents training", errors), ("Warnings", warnings)):
        if findings:
            yield title
            for each in findings:
                yield from _finding(each, *several)
            yield ""
    if not report.recognised:
        yield "No data set was recognised. Looked for:"
        for layout in report.looked_for:
            yield _wrapped(f"- {layout}", "  ", hanging="    ")
    elif errors:
        yield f"{len(errors)} {'thing prevents' if len(errors) == 1 else 'things prevent'} training."
    else:
        count = f" {number(warnings, 'warning')}." if warnings else ""
        yield f"Nothing prevents training.{count}"


def _recognised(each) -> Iterator[str]:
    yield f"{each.title} ({each.name}) in {each.home}"
    yield _wrapped(f"known by {each.why}", "  ")
    if each.splits:
        head = f"  {'':8}{'images':>10}{'identities':>12}{'cameras':>9}"
        yield head + ("  published" if each.published else "")
    for split, has in each.splits.items():
        said = each.published.get(split)
        published = ""
        if said is not None:
            same = (said.images, said.identities) == (has.images, has.identities)
            published = "the same" if same else f"{said.images:,} of {said.identities:,}"
        yield f"  {split:8}{has.images:>10,}{has.identities:>12,}{has.cameras:>9}  {published}".rstrip()


def _finding(each, several: bool, copies: bool) -> Iterator[str]:
    """A finding; with its data set where there are several, with its folder where they lie apart."""
    folder = f"in {each.folder}" if copies and each.folder else ""
    said = (each.dataset if several else "", folder, each.split)
    where = ", ".join(word for word in said if word)
    head = f"{each.kind}{f' ({where})' if where else ''}: {each.message}"
    yield _wrapped(head, "  ", hanging="    ")
    for case in each.cases[:FIRST]:
        both = " = ".join(name for name in (case.file, case.other) if name)
        said = [both or f"identity {case.identity}"] + ([case.note] if case.note else [])
        yield f"    - {': '.join(said)}"
    if len(each.cases) > FIRST:
        yield f"    - and {len(each.cases) - FIRST:,} more"
    yield _wrapped(f"To do: {each.remedy}.", "    ")


def _wrapped(text: str, indent: str, hanging: str = "") -> str:
    return fill(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=hanging or indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
