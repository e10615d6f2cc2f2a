"""What the doctor says: findings of a documented list of kinds, and the report they stand in."""

from dataclasses import dataclass, field
from typing import Any

ERROR, WARNING = "error", "warning"

# Every kind of finding, and what it means.
KINDS: dict[str, str] = {
    "wrong-level": "the folder lies inside a data set, or holds several of one's own: another is the one to give",
    "archive": "an archive that has not been extracted",
    "half-extracted": "some folders or files of a layout are there and others are missing",
    "wrong-version": "another version of the data set than its folder's name or the question says",
    "not-recognised": "no known layout lies in the folder",
    "layout": "a recognised layout whose lists, tables or folders can't be read",
    "permission": "a file or folder that this user may not read",
    "missing-file": "an image that a list names and the folder lacks",
    "unreadable": "a file that is no image, or a damaged one",
    "truncated": "an image that ends too early: half copied or half extracted",
    "misnamed": "an image that is left out, as its name tells no identity; a folder in other capitals",
    "empty-split": "a split without images",
    "too-few": "too few identities to train on",
    "count": "another number of images, identities or cameras than published",
    "no-match": "a query that the protocol can't score: no true match under another camera",
    "one-camera": "a split whose images all come from one camera",
    "unknown-camera": "images whose camera nobody knows",
    "single-image": "training identities with one image, which no other can be compared with",
    "leakage": "an identity or image of the training split that is in the test split too",
    "duplicate": "the same bytes twice",
    "near-duplicate": "nearly the same picture in the queries and in the gallery",
    "label-conflict": "the same bytes under two identities",
    "odd-size": "an image that is tiny, or of another shape or size than the others",
}


@dataclass(frozen=True)
class Case:
    """One file or identity that a finding is about. other is the second file of a pair."""

    file: str = ""
    identity: int | None = None
    other: str = ""
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """One thing that is odd, and all its cases (none where it is about the whole split).

    kind is one of KINDS; severity ERROR where it prevents training, else WARNING; message is one
    sentence; split is train, query or gallery, or two of them joined by a plus; folder is the one of
    the data set, below which the cases' files are named.
    """

    kind: str
    severity: str
    message: str
    remedy: str
    split: str = ""
    dataset: str = ""
    folder: str = ""
    cases: tuple[Case, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per case, as --json prints them."""
        said = dict(
            kind=self.kind,
            severity=self.severity,
            dataset=self.dataset,
            folder=self.folder or None,
            split=self.split,
            message=self.message,
            remedy=self.remedy,
        )
        return [
            said
            | dict(
                file=case.file or None,
                identity=case.identity,
                other=case.other or None,
                note=case.note or None,
            )
            for case in self.cases or (Case(),)
        ]


@dataclass(frozen=True)
class Counted:
    """Images, identities (a distractor's 0 is one; junk is left out) and known cameras of a split;
    None where nobody says."""

    images: int | None
    identities: int | None
    cameras: int | None


@dataclass(frozen=True)
class Recognised:
    """A data set in the folder: its name in DATASETS, where it lies, why it is taken for that.

    splits by name; published by split, empty where nothing is published; sizes are [height, width,
    images], most frequent first, of the images that were decoded.
    """

    name: str
    title: str
    home: str
    why: str
    splits: dict[str, Counted] = field(default_factory=dict)
    published: dict[str, Counted] = field(default_factory=dict)
    sizes: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """What the doctor found in a folder."""

    root: str
    recognised: tuple[Recognised, ...]
    findings: tuple[Finding, ...]
    looked_for: tuple[str, ...] = ()

    @property
    def code(self) -> int:
        """0: nothing prevents training. 1: something does. 2: nothing was recognised."""
        if not self.recognised:
            return 2
        return int(any(each.severity == ERROR for each in self.findings))

    def as_dict(self) -> dict[str, Any]:
        """As --json prints it."""
        recognised = [
            vars(each)
            | dict(
                splits={name: vars(count) for name, count in each.splits.items()},
                published={name: vars(count) for name, count in each.published.items()},
            )
            for each in self.recognised
        ]
        return dict(
            root=self.root,
            code=self.code,
            looked_for=list(self.looked_for),
            recognised=[
                {key: row[key] for key in ("name", "title", "home", "why", "splits")}
                for row in recognised
            ],
            counts={  # of two copies the nearer one, which a training would open
                row["name"]: {key: row[key] for key in ("splits", "published", "sizes")}
                for row in reversed(recognised)
            },
            findings=[row for each in self.findings for row in each.rows()],
        )
