"""A GPU that is none: tensors that say they are on cuda:0 and are computed by the processor, to the last
bit as it computes its own. Whoever mixes them with the processor's, or hands one to numpy, is refused
as CUDA refuses it. What a GPU computes in another order, or as fast, it doesn't show.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
# What CUDA allows between a GPU's tensor and another: copies, and the places to take or to fill.
ALLOWED = {"copy_", "__getitem__", "to", "index", "type_as", "set_", "__set__"}


class OnGPU(Tensor):
    """Marks a tensor, and all that comes of it."""

    def __repr__(self) -> str:
        return f"OnGPU({self.as_subclass(Tensor)!r})"


def there(tree):
    """The same on the pretended GPU."""
    moved = lambda x: x if isinstance(x, OnGPU) else x.as_subclass(OnGPU)  # noqa: E731
    return tree_map_only(Tensor, moved, tree)


def here(tree):
    """The same on the processor."""
    with torch._C.DisableTorchFunction():
        return tree_map_only(OnGPU, lambda x: x.as_subclass(Tensor), tree)


class Pretended(TorchFunctionMode):
    """While it is on, device="cuda" is to be had."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        owner = getattr(function, "__self__", None)
        first = args[0] if args else None
        if name == "__get__" and isinstance(first, OnGPU):
            if owner is Tensor.device:
                return GPU
            if owner is Tensor.is_cuda:
                return True
            if owner is Tensor.is_cpu:
                return False
            if owner is Tensor.grad:
                return there(function(*args, **kwargs))
        if name in ("numpy", "__array__") and isinstance(first, OnGPU):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if name == "_has_compatible_shallow_copy_type":
            return False  # or Module.to would keep the parameter's class
        if name == "__deepcopy__" and isinstance(first, OnGPU):
            copy = first.detach().clone().requires_grad_(first.requires_grad)
            return nn.Parameter(copy) if isinstance(first, nn.Parameter) else copy
        if name == "pin_memory":
            assert not isinstance(first, OnGPU), "only CPU memory can be pinned"
            return first
        if name in ("cpu", "cuda", "to") and isinstance(first, Tensor):
            return self._moved(name, function, args, kwargs)
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        on = [x for x in tensors if isinstance(x, OnGPU)]
        off = [x for x in tensors if not isinstance(x, OnGPU)]
        if on and name not in ALLOWED:
            if name == "__setitem__":
                off = [x for x in off if x is args[-1] or x is first]
            wrong = [x for x in off if x.dim()]
            if wrong:
                raise RuntimeError(f"{name}: expected all tensors to be on the same device")
        asked = kwargs.pop("device", None)
        if asked is not None:
            device = torch.device(asked)
            if device.type == "cuda":
                return there(function(*args, **kwargs))
            found = function(*args, **kwargs | dict(device=device))
            return here(found) if device.type == "cpu" else found
        found = function(*args, **kwargs)
        return there(found) if on and not isinstance(found, (str, bool, int, float)) else found

    def _moved(self, name, function, args, kwargs):
        tensor, *rest = args
        asked = [_device(x) for x in (*rest, kwargs.get("device"))]
        device = dict(cpu=CPU, cuda=GPU).get(name) or next(filter(None, asked), None)
        if device is None or device.type not in ("cpu", "cuda"):
            return function(*args, **kwargs)
        goes, found = device.type == "cuda", tensor
        if name == "to":
            rest = [CPU if _device(x) and not isinstance(x, Tensor) else x for x in rest]
            found = function(
                tensor, *rest, **kwargs | ({"device": CPU} if "device" in kwargs else {})
            )
        if goes != isinstance(tensor, OnGPU) and found is tensor:
            found = found.clone()
        return there(found) if goes else here(found)


def _device(given) -> torch.device | None:
    """Where an argument of Tensor.to asks for."""
    if isinstance(given, Tensor):
        return GPU if isinstance(given, OnGPU) else CPU
    if isinstance(given, bool):
        return None
    if isinstance(given, int):
        return torch.device("cuda", given)
    return torch.device(given) if isinstance(given, (str, torch.device)) else None


def _casting(usual):
    """torch.autocast for a GPU casts the processor's operations."""

    def init(self, device_type, *args, **kwargs):
        usual(self, "cpu" if device_type == "cuda" else device_type, *args, **kwargs)

    return init


@contextmanager
def pretended(memory: int = 2**34) -> Iterator[None]:
    """A machine with one GPU."""
    save = torch.save
    event = SimpleNamespace(record=lambda *a: None, synchronize=lambda: None)
    stream = SimpleNamespace(is_capturing=lambda: False)
    properties = SimpleNamespace(total_memory=memory, name="pretended", major=8, minor=0)
    said = dict(
        is_available=lambda: True,
        device_count=lambda: 1,
        current_device=lambda: 0,
        is_initialized=lambda: True,
        set_device=lambda *_: None,
        get_device_capability=lambda *_: (8, 0),
        get_device_properties=lambda *_: properties,
        get_device_name=lambda *_: "pretended",
        is_bf16_supported=lambda *a, **k: True,
        empty_cache=lambda: None,
        synchronize=lambda *_: None,
        get_rng_state_all=lambda: [torch.get_rng_state()],
        set_rng_state_all=lambda states: None,
        manual_seed_all=lambda *_: None,
        Event=lambda *a, **k: event,
        _lazy_init=lambda: None,
        mem_get_info=lambda *_: (memory, memory),
        max_memory_allocated=lambda *_: 0,
        reset_peak_memory_stats=lambda *_: None,
        is_current_stream_capturing=lambda: False,
        clear_cublas_workspaces=lambda *_: None,
    )
    with (
        mock.patch.multiple(torch.cuda, create=True, **said),
        mock.patch.object(torch, "save", lambda what, *a, **k: save(here(what), *a, **k)),
        mock.patch.object(torch.accelerator, "current_stream", lambda *_: stream),
        mock.patch.object(Tensor, "pin_memory", lambda x, *_: x),
        mock.patch.object(torch.autocast, "__init__", _casting(torch.autocast.__init__)),
        Pretended(),
    ):
        yield
