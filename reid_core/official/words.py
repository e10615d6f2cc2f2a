"""Tensors and knobs in words."""

from collections.abc import Collection
from typing import Any

from torch import Tensor


def shape_of(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"


def text(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()


def tensors(names: Collection[str]) -> str:
    return f"{len(names)} tensor{'s' * (len(names) != 1)}"


def few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
