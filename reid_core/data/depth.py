"""What PIL leaves to us: what it raises, and images of more than eight bits a channel, which it would
clip instead of dividing."""

import struct
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

# What it raises, among the many formats that it knows, for a file that can't be read as an image.
DAMAGED = (OSError, ValueError, SyntaxError, RuntimeError, ArithmeticError, LookupError, TypeError)
DAMAGED += (AttributeError, EOFError, struct.error, Image.DecompressionBombError)
# Its warning of a large image, which the doctor tells as a size.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def plain(image: Image.Image) -> Image.Image:
    """Upright, as a camera says that it was held, and of eight bits a channel: the upper byte of
    sixteen, of which PIL would make white. Others as they are. Raises what PIL raises for a damaged
    file, and ValueError for numbers whose white nobody knows."""
    deep = image.mode == "I" and image.format in ("PNG", "PPM")  # which have no more
    sixteen = image.mode.startswith("I;16") or deep
    image.load()
    orientation(
        image
    )  # which reads its EXIF; what else that says, or says badly, is of no use here
    for key in ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"):
        image.info.pop(key, None)
    image = ImageOps.exif_transpose(image)
    if image.mode in ("F", "I") and not sixteen:
        raise ValueError("its pixels are 32-bit numbers: save it with 8 bits a channel")
    if not sixteen:
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def orientation(image: Image.Image) -> int | None:
    """How a camera says that it was held, EXIF's 1 to 8; None where it can't be read."""
    with suppress(*DAMAGED):
        return image.getexif().get(ExifTags.Base.Orientation)
    return None


def turned(image: Image.Image) -> bool:
    """Whether its height and width in the file are its width and height upright."""
    upright = image.format == "TIFF"  # whose size is that upright already
    return orientation(image) in (5, 6, 7, 8) and not upright


def regular(path: str | Path) -> Path:
    """The path of a file. Raises OSError for a pipe or a device, for which a reader would wait."""
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError("it is no regular file")
    return path
