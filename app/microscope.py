"""The page Attention: which views there are, and one or two pictures of them side by side."""

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from app import cached, contents, pickers, pictures
from app.notices import explained, say
from app.pictures import Picture
from reid_core.errors import BadInput
from reid_core.models.base import Tokens
from reid_core.runs import Run, list_runs, open_run

Probes = dict[str, tuple[str, Tokens]]  # name -> kind and tokens


@dataclass(frozen=True)
class View:
    """One way to look: what it needs of a run, and what draws it.

    offered(run, probes) says whether the run has it; show(run, picture) draws it and names every
    widget and figure by `picture.key(...)`, since two of them may stand side by side.
    """

    about: str
    offered: Callable[[Run, Probes], bool]
    show: Callable[[Run, Picture], None]


def has(*kinds: str) -> Callable[[Run, Probes], bool]:
    """Offered where the model has a probe of one of these kinds."""
    return lambda run, probes: any(kind in kinds for kind, _ in probes.values())


def _todo(run: Run, picture: Picture) -> None:
    say("info", "not built yet")


# In the order of the page. Another view is one more row.
VIEWS: dict[str, View] = {
    "Layers and heads": View("Every attention map at once.", has("attention"), _todo),
}


def offered(run: Run) -> list[str]:
    """The views that a run has. Raises BadInput."""
    probes = cached.probes(run.name, run.stamp())
    return [name for name, view in VIEWS.items() if view.offered(run, probes)]
