"""What PIL leaves to us: what it raises, and images of more than eight bits a channel, which it would
clip instead of dividing."""

import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

# What it raises, among the many formats that it knows, for a file that can't be read as an image.
DAMAGED = (OSError, ValueError, SyntaxError, RuntimeError, ArithmeticError, LookupError, TypeError)
DAMAGED += (AttributeError, EOFError, struct.error, Image.DecompressionBombError)
# Its warning of a large image, which the doctor tells as a size.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def eight_bits(image: Image.Image) -> Image.Image:
    """The upper byte of a grey image of sixteen bits, of which PIL would make white; others as they
    are. Raises what PIL raises for a damaged file."""
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def regular(path: str | Path) -> Path:
    """The path of a file. Raises OSError for a pipe or a device, for which a reader would wait."""
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError("it is no regular file")
    return path
