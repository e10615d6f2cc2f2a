"""Weights out of files that anyone may have made: tensors are read, nothing is ever executed."""

import re
import warnings
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from reid_core.errors import BadInput, is_short_of_memory

# Plain numbers of numpy, which training scripts like to keep beside the weights (a best score);
# older versions of numpy wrote the first under another name.
_SCALAR = np._core.multiarray.scalar
HARMLESS = [_SCALAR, (_SCALAR, "numpy.core.multiarray.scalar"), np.dtype]
HARMLESS += {type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or torch file, floats in float32. Raises BadInput.

    The state dict may be bare or lie under "state_dict" or "model", its keys may begin with
    "module."; what else is in the file (an optimiser, an epoch) is left aside.
    """
    if not file.is_file():
        raise BadInput(f"no weights at {file}: give the path of a file")
    try:
        if file.suffix == ".safetensors":
            found = load_file(file)
        else:
            with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's own words advise to execute what is in the file
        if is_short_of_memory(error):
            raise
        raise BadInput(f"{file} can't be read as weights: {_reason(error)}") from None
    for key in ("model", "state_dict"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    tensors = {}
    if isinstance(found, dict):
        tensors = {k: v for k, v in found.items() if isinstance(k, str) and torch.is_tensor(v)}
    if not tensors:
        raise BadInput(
            f"{file} holds no table of tensors: give a state dict, bare or under state_dict or model"
        )
    # Half precision would stay half in the optimiser.
    return {
        key.removeprefix("module."): value.float() if value.is_floating_point() else value
        for key, value in tensors.items()
    }


def packed(weights: dict[str, Tensor], known: str | None = None) -> bytes:
    """A safetensors file that knows its checksum; known saves computing it."""
    return save(weights, metadata={"crc32": known or checksum(weights)})


def unpacked(file: Path) -> dict[str, Tensor]:
    """The tensors of such a file, or of one without a checksum. Raises ValueError where a byte of it
    has changed, and what safetensors raises."""
    with safe_open(file, "pt") as opened:
        weights = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - no dict
        said = (opened.metadata() or {}).get("crc32")
    if said not in (None, checksum(weights)):
        raise ValueError("its checksum is another, so bytes of it have changed")
    return weights


def header(file: Path) -> dict[str, str] | None:
    """What such a file says of itself (crc32, where it knows that); None for one that is gone, cut
    short or none. Reads no tensor."""
    try:
        with safe_open(file, "pt") as opened:
            return opened.metadata() or {}
    except Exception:  # safetensors has an exception of its own for each way
        return None


def checksum(weights: dict[str, Tensor]) -> str:
    """CRC-32 of names, kinds, shapes and bytes, as eight hexadecimal digits."""
    found = 0
    for key, each in sorted(weights.items()):
        found = zlib.crc32(f"{key} {each.dtype} {tuple(each.shape)}".encode(), found)
        found = zlib.crc32(each.reshape(-1).view(torch.uint8).numpy(), found)
    return f"{found:08x}"


def fill(module: nn.Module, weights: dict[str, Tensor], file: Path) -> None:
    """Put a file's tensors into a trunk. It may hold more, and lack counters of batches; anything
    else must fit. Raises BadInput."""
    own = module.state_dict()
    needed = [key for key in own if not key.endswith("num_batches_tracked")]
    wrong = [
        f"{key} {tuple(own[key].shape)}"
        + (f" but there {tuple(weights[key].shape)}" if key in weights else " missing there")
        for key in needed
        if key not in weights or weights[key].shape != own[key].shape
    ]
    if wrong:
        raise BadInput(
            f"{file} does not fit this trunk: {len(wrong)} of {len(needed)} tensors differ, such as "
            f"{wrong[0]}; give the file of the same trunk"
        )
    module.load_state_dict(weights, strict=False)


def _reason(error: Exception) -> str:
    named = re.search(r"GLOBAL (\w[\w.]*)", str(error))
    if named:
        return (
            f"beside tensors it names {named[1]}, and no code of a file is ever executed; save the "
            "state dict alone"
        )
    return "it is damaged, or no file of torch or safetensors; fetch it again"
