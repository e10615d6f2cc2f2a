"""Whether what a run's files say can be what we wrote, value by value."""

import math
from typing import Any

import numpy as np

from reid_core.errors import BadInput
from reid_core.models import Facts

# Of embeddings.npz, the letters by which numpy knows what each array may hold.
KINDS = dict(vectors="f", names="U", identities="iu", cameras="iu", views="iu", is_query="b")


def facts(record: dict[str, Any]) -> Facts:
    """Raises KeyError, TypeError or BadInput where a record has none."""
    classes, *ids = (record["facts"][name] for name in ("classes", "cameras", "views"))
    if not (_is_whole(classes) and classes):
        raise BadInput(f"classes: expected a whole number of 1 or more, got {classes!r}")
    for name, given in zip(("cameras", "views"), ids, strict=True):
        if not (isinstance(given, list | tuple) and all(map(_is_whole, given))):
            raise BadInput(f"{name}: expected a list of whole numbers, got {given!r}")
    return Facts(classes, *map(tuple, ids))


def source(record: dict[str, Any]) -> dict[str, str]:
    """The file that a record's run was made of, as `Run.imported`. Raises BadInput."""
    match record.get("imported") or None:
        case None:
            return {}
        case {"file": str(), "sha256": str()} as source:
            return source
        case other:
            raise BadInput(f"imported: expected a file's name and its sha256, got {other!r}")


def scores(metrics: dict[str, Any]) -> dict[str, Any]:
    """The scores of metrics.json. Raises KeyError, TypeError, AttributeError or ValueError."""
    shares = metrics["mAP"], metrics["cmc"]["1"], metrics.get("mINP", 0)
    counts = [metrics.get(name, 0) for name in ("queries", "valid_queries", "gallery")]
    fits = all(map(_is_share, (*shares, *metrics["cmc"].values()))) and all(map(_is_whole, counts))
    if not (fits and isinstance(metrics.get("protocol", ""), str)):
        raise ValueError
    return metrics


def epoch(entry: dict[str, float]) -> dict[str, float]:
    """A line of history. Raises TypeError, ValueError or OverflowError where it is none; no training
    keeps a loss that is no finite number."""
    names = {"mAP", "mINP", "rank1"}
    if not {"epoch", "loss"} <= entry.keys() or names & entry.keys() not in (set(), names):
        raise ValueError
    if not all(type(value) in (float, int) and math.isfinite(value) for value in entry.values()):
        raise TypeError
    if not (_is_whole(entry["epoch"]) and entry["epoch"]):
        raise ValueError
    if not all(_is_share(entry.get(name, 0)) for name in names):
        raise ValueError
    return entry


def check_arrays(arrays: dict[str, np.ndarray]) -> None:
    """Raises KeyError or ValueError for embeddings that lack an array, or hold one of another kind or
    length."""
    kinds = KINDS | ({"encoded": "f"} if "encoded" in arrays else {})
    for name, kind in kinds.items():
        array, dimensions = arrays[name], 2 if kind == "f" else 1
        fits = array.ndim == dimensions and len(array) == len(arrays["vectors"])
        if not fits or array.dtype.kind not in kind:
            raise ValueError(name)


def _is_whole(value: Any) -> bool:
    """Whether it is a count or an id that arrays can hold."""
    return type(value) is int and 0 <= value < 2**31


def _is_share(value: Any) -> bool:
    """Whether it is a score, which NaN is not."""
    return type(value) in (float, int) and 0 <= value <= 1
