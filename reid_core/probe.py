"""Named windows on a model's interior.

A model puts a `Probe` where a tensor is worth seeing; whoever wants to see it says so in a block:

    with observe(model, "*.attention") as seen:
        model(batch)
    seen["trunk.blocks.0.attn.attention"]        # (B, H, N, N)

Nothing is recorded outside the block, by another thread, or by a model that nobody watches.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from fnmatch import fnmatch
from types import MappingProxyType

from torch import Tensor, nn

from reid_core.errors import BadInput

# A ContextVar rather than hooks: on a server two threads share one cached model, and hooks recorded
# the other thread's tensors. A new thread starts with nobody watching.
_watched: ContextVar[Mapping["Probe", str]] = ContextVar("watched", default=MappingProxyType({}))
_seen: ContextVar[dict[str, Tensor] | None] = ContextVar("seen", default=None)


class Probe(nn.Module):
    """An identity module without weights, so that checkpoints keep their keys.

    kind says what the axes mean: "attention" (B, H, N, N) with rows that sum to 1, "values"
    (B, H, N, D/H) that such a map averages, "tokens" (B, N, D) after a layer, "features"
    (B, D, h, w), "spatial" (B, 1, h, w), "high frequency" (B, 1, h, w) of 0 and 1, "patch cosines"
    (K, B, B) in training alone, "channel" (B, C), "pooling" (B, 1, h, w) that sums to 1 and averages
    positions, "neighbours" (S, H, N, k) over images, "neighbour graph" (2, S, N, k) their rows and
    whether it is mutual, "neighbour projections" (3, S, H, N, D/H) queries, keys and values of
    images, "landmarks" (l,) their rows, "relation" (B, 2N, N) with a node's relations in a column,
    "channel relation" the same over channels, "own and related" (B, 1 + N/8, N) what a gate is made
    of, "channel own and related" the same, "prior" (H, M, M), "offsets" (B, 2K, h, w) with rows before
    columns.
    """

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    @property
    def watched(self) -> bool:
        """Whether this pass is observed here: a model may then compute what it otherwise skips."""
        return self in _watched.get()

    def forward(self, tensor: Tensor) -> Tensor:
        if self.watched:
            _seen.get()[_watched.get()[self]] = tensor
        return tensor


def probes(model: nn.Module) -> dict[str, Probe]:
    """All windows of a model by name, in the order of its modules."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Probe)}


@contextmanager
def observe(model: nn.Module, *patterns: str) -> Iterator[dict[str, Tensor]]:
    """Record what passes the probes whose names match a pattern (as in `fnmatch`).

    Yields a dictionary of name to tensor that fills during the block; of several passes the last
    one stays. Raises BadInput for a pattern without a match, for a match that no pass reached, and
    for a compiled model, which runs without its probes.
    """
    if hasattr(model, "_orig_mod"):
        raise BadInput("a compiled model can't be observed; observe the model it was compiled from")
    windows = probes(model)
    chosen = {}
    for pattern in patterns:
        matches = [name for name in windows if fnmatch(name, pattern)]
        if not matches:
            raise BadInput(f"no probe matches {pattern!r}; there are: {', '.join(windows)}")
        chosen |= {windows[name]: name for name in matches}
    seen: dict[str, Tensor] = {}
    watched_before, seen_before = _watched.set(chosen), _seen.set(seen)
    try:
        yield seen
    finally:
        _watched.reset(watched_before)
        _seen.reset(seen_before)
    if missed := [name for name in chosen.values() if name not in seen]:
        raise BadInput(f"no pass reached {', '.join(missed)}; reached: {', '.join(seen) or 'none'}")
