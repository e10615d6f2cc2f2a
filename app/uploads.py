"""A visitor's pictures: looked at before they are decoded."""

import hashlib
import io
import warnings
from dataclasses import dataclass

from PIL import Image

from reid_core.data.images import opened
from reid_core.errors import BadInput

TYPES = ["jpg", "jpeg", "png", "webp"]
FORMATS = ("JPEG", "PNG", "WEBP")
MEGABYTES = 10
MEGAPIXELS = 40  # a small file can unfold into gigabytes
TOO_LARGE = f"expected at most {MEGAPIXELS} megapixels, got more: scale the picture down"


@dataclass(frozen=True)
class Upload:
    """A picture as it came, and what the visitor says of it; None is unknown."""

    name: str
    content: bytes
    camera: int | None = None
    view: int | None = None

    @property
    def digest(self) -> str:
        """What names it in the caches."""
        return hashlib.sha256(self.content).hexdigest()

    def image(self) -> Image.Image:
        """Decoded. Raises BadInput."""
        return picture(self.content)


def picture(content: bytes) -> Image.Image:
    """The upright RGB image. Raises BadInput, by size and header before anything is decoded."""
    if len(content) > MEGABYTES * 2**20:
        raise BadInput(
            f"expected a picture of at most {MEGABYTES} MB, got {len(content) / 2**20:.0f} MB: "
            "give a smaller one"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is lower
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        width, height = image.size
    except Image.DecompressionBombError:  # Pillow's own limit, which is above ours
        raise BadInput(TOO_LARGE) from None
    except Exception:  # whatever a decoder makes of bytes that are no picture
        raise BadInput(
            "expected a JPEG, PNG or WebP picture, got something else: save it anew as one of these"
        ) from None
    if width * height > MEGAPIXELS * 10**6:
        raise BadInput(TOO_LARGE)
    if min(width, height) < 8:
        raise BadInput(f"expected at least 8 x 8 pixels, got {width} x {height}: give a larger one")
    try:
        return opened(image)
    except Exception:
        raise BadInput(
            f"this {image.format} file is damaged or cut off: open and save it anew, or give another"
        ) from None
