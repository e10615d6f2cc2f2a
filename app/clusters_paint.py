"""How the points of a map are coloured: one thing in focus, all else quiet; no legend of identities."""

from collections.abc import Callable
from typing import Any

import numpy as np
from plotly.colors import sample_colorscale

from app import cached
from app.charts import COLOURS
from app.clusters import Shown, packed

QUIET = "--st-gray-color"
FOCUS, SECOND, THIRD, FOURTH = (
    COLOURS[name] for name in ("pha", "transreid", "ohformer", "nformer")
)
LEVELS = 32
# Viridis without its ends, which would drown in a dark or a light page; low values matter most, they
# have 3 : 1 on both.
RAMP = sample_colorscale("Viridis", np.linspace(0.35, 0.9, LEVELS))
FAINT, FAINTER = 90, 60  # opacity of what stands back, 0 to 255


def choices(run: str, stamp: int) -> list[str]:
    """What a run's map can be coloured by."""
    known = cached.attributes_if_any(run, stamp)
    alike = ["Look-alikes"] if np.any(known.get("lookalike_group", np.array([""])) != "") else []
    return ["Identity", "Camera", "AP", "Rank-1", *alike, "Trust", "Silhouette"]


def paint(view: Shown, choice: str, row: int, camera: int | None) -> dict[str, Any]:
    """Colours of all points: a place in the palette each, and the legend. row: the picked image."""
    places, palette, entries, ramp = PAINTS[choice](view, row, camera)
    quiet = int((places == 0).sum())
    if quiet:
        entries.append(dict(colour=QUIET, label=f"{quiet:,} others", quiet=True))
    faint = FAINTER if len(places) > 5000 or ramp else FAINT
    colours = dict(colours=packed(places, "u1"), palette=[QUIET, *palette], faint=faint)
    if choice == "Rank-1":  # by a sign too: not everybody tells the colours apart
        colours["turned"] = packed(view.lies[0]["first_hit"] > 1, "u1")
        entries[0]["sign"], entries[1]["sign"] = "up", "down"
    return colours | dict(entries=entries, ramp=ramp)


def _identity(view: Shown, row: int, camera: int | None) -> tuple:
    found, who = view.found, view.found.identities[row]
    if who < 1:
        return _groups([(found.identities == who, FOCUS, "distractors" if who == 0 else "junk")])
    rival = view.lies[0]["rival"][row]
    return _groups(
        [
            (found.identities == who, FOCUS, f"identity {who}"),
            (found.identities == rival, SECOND, f"{rival}, the nearest other identity"),
        ]
    )


def _camera(view: Shown, row: int, camera: int | None) -> tuple:
    return _groups([(view.found.cameras == camera, FOCUS, f"camera {camera}")])


def _rank_one(view: Shown, row: int, camera: int | None) -> tuple:
    first = view.lies[0]["first_hit"]
    return _groups(
        [
            (first == 1, SECOND, "queries, rank 1 right"),
            (first > 1, FOCUS, "queries, rank 1 wrong"),
        ]
    )


def _alike(view: Shown, row: int, camera: int | None) -> tuple:
    """The identities of the picked image's group; without one, all images that have one."""
    groups = cached.attributes_if_any(view.run, view.stamp)["lookalike_group"]
    if not groups[row]:
        return _groups(
            [(groups != "", SECOND, "of some look-alike group; the picked image of none")]
        )
    who = np.unique(view.found.identities[groups == groups[row]])
    shades = (FOCUS, SECOND, THIRD, FOURTH)
    return _groups(
        [
            (view.found.identities == each, shade, f"identity {each}, group {groups[row]}")
            for each, shade in zip(who, shades, strict=False)
        ]
    )


def _groups(groups: list[tuple[np.ndarray, str, str]]) -> tuple:
    places = np.zeros(len(groups[0][0]), np.uint8)
    entries = []
    for number, (rows, colour, label) in enumerate(groups, 1):
        places[rows] = number
        entries.append(dict(colour=colour, label=f"{label} ({int(rows.sum()):,})"))
    return places, [colour for _, colour, _ in groups], entries, None


def _ramped(values: np.ndarray, name: str, low: float, high: float) -> tuple:
    """A sequence of colours over values (N,); what has none stands back."""
    level = np.clip((values - low) / max(high - low, 1e-9), 0, 1) * (LEVELS - 1)
    places = np.where(np.isfinite(values), 1 + np.nan_to_num(level), 0).astype(np.uint8)
    ramp = dict(colours=RAMP, low=f"{name} {low:.2f}", high=f"{high:.2f}")
    return places, RAMP, [], ramp


PAINTS: dict[str, Callable[[Shown, int, int | None], tuple]] = {
    "Identity": _identity,
    "Camera": _camera,
    "AP": lambda view, *_: _ramped(view.lies[0]["precision"], "average precision", 0, 1),
    "Rank-1": _rank_one,
    "Look-alikes": _alike,
    "Trust": lambda view, *_: _ramped(view.maps["trust"][0], "neighbours kept", 0, 1),
    "Silhouette": lambda view, *_: _ramped(
        view.lies[0]["silhouette"],
        "silhouette",
        *np.nanquantile(np.append(view.lies[0]["silhouette"], 0), [0.01, 0.99]),
    ),
}
