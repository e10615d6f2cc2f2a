"""Small pictures of all test images on one sheet, so that a map can show any of them at once."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from reid_core.data import open_dataset
from reid_core.data.depth import DAMAGED, plain, regular
from reid_core.runs import Run

SMALL, LARGE, MANY = (32, 16), (64, 32), 3000  # pixels (height, width); small for more than so many

IMAGES = True


@dataclass(frozen=True)
class Options:
    """Nothing to choose."""


def compute(run: Run, options: Options, progress) -> dict[str, np.ndarray]:
    """The crops of all N images of the run's embeddings, row by row on one sheet.

    sheet (bytes,) uint8, a JPEG; tile (2,) height and width of a crop in pixels; columns () crops per
    row. A picture that is gone stays grey. Raises BadInput where the data set is missing.
    """
    names, asked = run.embeddings().names, run.experiment
    root = open_dataset(asked.dataset, asked.data).root
    height, width = SMALL if len(names) > MANY else LARGE
    columns = int(np.ceil(np.sqrt(len(names) * height / width)))
    rows = -(-len(names) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "#808080")
    for place, name in enumerate(names):
        try:
            with Image.open(regular(root / str(name))) as image:
                image.draft("RGB", (2 * width, 2 * height))  # a JPEG decodes faster when smaller
                crop = (
                    plain(image).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
                )
        except DAMAGED:
            continue
        sheet.paste(crop, (place % columns * width, place // columns * height))
        progress(place + 1, len(names))
    packed = io.BytesIO()
    sheet.save(packed, "JPEG", quality=78)
    return dict(
        sheet=np.frombuffer(packed.getvalue(), np.uint8),
        tile=np.array([height, width]),
        columns=np.array(columns),
    )
