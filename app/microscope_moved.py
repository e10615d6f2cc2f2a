"""Two ranked lists of one picture, one above the other: the first ranks of both, and what moved."""

from typing import Any

import numpy as np
import pandas as pd

from app.pictures import Picture
from reid_core.retrieve import RankedList


def ranked(picture: Picture, these: RankedList, those: RankedList, top: int) -> pd.DataFrame:
    """The first images of one list that the protocol does not ignore, and where the other has them.
    The index holds their rows in the run's Embeddings."""
    there = {int(row): int(rank) for row, rank in zip(those.rows, those.ranks, strict=True) if rank}
    kept = np.flatnonzero(~these.ignored)[:top]
    rows = these.rows[kept]
    found = {"rank": these.ranks[kept], "image": picture.found.names[rows]}
    if picture.identity is not None:
        found["true match"] = these.match[kept]
    return pd.DataFrame(found | {"rank in the other list": [there[row] for row in rows]}, rows)


def tiles(picture: Picture, ranked: pd.DataFrame, when: str) -> list[dict[str, Any]]:
    """A row of tiles, each with its rank in the other list."""
    matches = ranked.get("true match", pd.Series(False, ranked.index))
    elsewhere = ranked["rank in the other list"]
    return [
        dict(
            label=f"{rank} ✓" if match else str(rank),
            note=f"{when} {other}",
            src=picture.src_of(row),
            size=picture.size,
        )
        for row, rank, match, other in zip(
            ranked.index, ranked["rank"], matches, elsewhere, strict=True
        )
    ]


def links(above: pd.DataFrame, below: pd.DataFrame) -> list[dict[str, Any]]:
    """Lines between the tiles of images that are in both rows and have moved."""
    place = {row: at for at, row in enumerate(below.index)}
    return [
        {
            "from": [at, None, None],
            "to": [len(above) + place[row], None, None],
            "weight": 0.4,
            "text": f"rank {at + 1} to {place[row] + 1}",
        }
        for at, row in enumerate(above.index)
        if place.get(row, at) != at
    ]
