"""Ranked lists and queries as the components draw them: arrays in, lists of tiles out."""

from typing import Any

import numpy as np
from PIL import Image

from app import cached
from app.uploads import Upload
from reid_core.analysis.errors import Lists
from reid_core.evaluate import Embeddings, Evaluation
from reid_core.retrieve import RankedList

TILE, LARGE = 192, 320  # pixels high; tiles stand about 96 by 192 on screen
AROUND = 15  # thumbnails on either side of the query


def shown(ranking: RankedList, count: int, ghosts: bool) -> np.ndarray:
    """Places in a ranking down to a rank, with or without what the protocol ignores."""
    until = int(np.searchsorted(np.maximum.accumulate(ranking.ranks), count, side="right"))
    places = np.arange(until)
    return places if ghosts else places[~ranking.ignored[:until]]


def tiles(
    source: tuple[str, str],
    found: Embeddings,
    ranking: RankedList,
    places: np.ndarray,
    judged: bool = True,
) -> list[dict[str, Any]]:
    """The tiles at those places; judged is False where nobody knows who is right."""
    longest = float(ranking.distances[places].max(initial=1e-9))
    return [_tile(source, found, ranking, place, longest, judged) for place in places]


def own(found: Embeddings, ranking: RankedList, pictures: list[Upload]) -> list[dict[str, Any]]:
    """A visitor's pictures, row by row those of the embeddings, as tiles: nobody judges them."""
    longest = float(ranking.distances.max(initial=1e-9))
    tiles = []
    for place, row in enumerate(ranking.rows):
        picture = pictures[row]
        src = cached.thumbnail(picture.digest, TILE, picture.content)
        tile = _measured(found, ranking, place, longest)
        tiles.append(tile | dict(src=src, title=picture.name, state="unknown"))
    return tiles


def _tile(source, found, ranking, place, longest, judged) -> dict[str, Any]:
    row = ranking.rows[place]
    ignored, match = ranking.ignored[place], ranking.match[place]
    state = "ignored" if ignored else "unknown" if not judged else "right" if match else "wrong"
    src = cached.picture(*source, str(found.names[row]), TILE)
    tile = _measured(found, ranking, place, longest)
    tile |= dict(src=src, title=title(found, row), state=state)
    if state == "right":
        tile["running"] = f"{ranking.running_average_precision[place]:.2f}"
    return tile


def _measured(found, ranking, place, longest) -> dict[str, Any]:
    distance = float(ranking.distances[place])
    return dict(
        rank=int(ranking.ranks[place]),
        distance=f"{distance:.3f}",
        share=distance / longest,
        camera=camera(found, int(ranking.rows[place])),
    )


def camera(found: Embeddings, row: int) -> int | None:
    """The camera that took an image; None where nobody knows."""
    return None if found.cameras[row] == -1 else int(found.cameras[row])


def short(found: Embeddings, row: int) -> str:
    """The same as a note: c3, or c? where nobody knows."""
    seen = camera(found, row)
    return "c?" if seen is None else f"c{seen}"


def title(found: Embeddings, row: int) -> str:
    """Who an image shows, in words."""
    identity = int(found.identities[row])
    who = "distractor" if identity == 0 else f"identity {identity}" if identity > 0 else "junk"
    return f"{who}, {str(found.names[row]).rsplit('/', 1)[-1]}"


def query(
    source: tuple[str, str], found: Embeddings, ranking: RankedList, label: str, row: int
) -> dict[str, Any]:
    """The query as the large picture on the left, with its scores."""
    seen = camera(found, row)
    facts = [["Identity", str(int(found.identities[row]))]]
    facts.append(["Camera", "unknown" if seen is None else str(seen)])
    src = cached.picture(*source, str(found.names[row]), LARGE)
    return dict(src=src, title=label, facts=facts + scores(ranking))


def upload(picture: Upload, image: Image.Image) -> dict[str, Any]:
    """A visitor's picture as the query."""
    facts = [["Camera", "unknown" if picture.camera is None else str(picture.camera)]]
    facts.append(["Pixels", f"{image.width} x {image.height}"])
    src = cached.data_url(image, LARGE)
    return dict(src=src, title=picture.name, facts=facts, caption="Your picture")


def scores(ranking: RankedList) -> list[list[str]]:
    """A ranked list's own scores, as name and text."""
    if not len(ranking.hits):
        return [["True matches", "none"]]
    return [
        ["True matches", str(len(ranking.hits))],
        ["AP", f"{ranking.average_precision:.3f}"],
        ["First hit", f"rank {ranking.first_hit}"],
        ["INP", f"{ranking.inverse_negative_penalty:.3f}"],
    ]


def strip(
    source: tuple[str, str],
    found: Embeddings,
    scored: Evaluation | Lists,
    labels: list[str],
    order: np.ndarray,
    query: int,
) -> list[dict[str, Any]]:
    """The queries around one, in an order, as items of a filmstrip."""
    here = int(np.flatnonzero(order == query)[0])
    start = max(0, min(here - AROUND, len(order) - 2 * AROUND - 1))
    items = []
    for position in order[start : start + 2 * AROUND + 1]:
        row, precision = found.query_rows[position], scored.average_precision[position]
        known = bool(np.isfinite(precision))
        items.append(
            dict(
                label=labels[position],
                src=cached.picture(*source, str(found.names[row]), TILE),
                title=f"{title(found, row)}, average precision {precision:.2f}"
                if known
                else f"{title(found, row)}, no true match",
                note=f"AP {precision:.2f}" if known else "no match",
                share=float(precision) if known else 0,
                chosen=bool(position == query),
            )
        )
    return items
