"""The two files that an evaluation leaves, embeddings.npz and metrics.json. Both know what they are
of: the checksum of the weights, and the data where others may be asked for.

The readers give that beside what the file holds, None where an older version wrote it. They raise
FileNotFoundError, or whatever a damaged file makes of itself.
"""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from reid_core.evaluate import Embeddings
from reid_core.runs import kept

OF = "of"
ARRAYS = tuple(Embeddings.__dataclass_fields__)


def read_scores(path: Path) -> tuple[dict[str, Any], str | None]:
    """No scores before the first evaluation."""
    metrics = json.loads(path.read_text("utf-8"))
    of = metrics.pop(OF, None)
    return (kept.scores(metrics) if metrics else {}), of


def read_embeddings(path: Path) -> tuple[Embeddings, str | None]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in ARRAYS if name in file}
        of = str(file[OF]) if OF in file else None
    kept.check_arrays(arrays)
    floats = {k: v.astype(np.float32) for k, v in arrays.items() if k in ("vectors", "encoded")}
    return Embeddings(**arrays | floats), of


def scores(metrics: dict[str, Any], of: str | None) -> dict[str, Any]:
    """What metrics.json says."""
    return metrics | ({OF: of} if metrics and of else {})


def archive(embeddings: Embeddings, of: str | None) -> memoryview:
    """embeddings.npz."""
    arrays = {name: getattr(embeddings, name) for name in ARRAYS} | {OF: of}
    packed = io.BytesIO()
    np.savez_compressed(packed, **{k: v for k, v in arrays.items() if v is not None})
    return packed.getbuffer()
