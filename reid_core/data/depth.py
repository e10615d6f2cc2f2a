"""Images of more than eight bits a channel, which PIL would cut off instead of dividing."""

import numpy as np
from PIL import Image


def eight_bits(image: Image.Image) -> Image.Image:
    """The upper byte of a grey image of sixteen bits, of which PIL would make white; others as they
    are. Raises what PIL raises for a damaged file."""
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
