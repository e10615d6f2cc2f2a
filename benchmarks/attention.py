"""The page Attention with a ViT-B/16 at 256x128: its maps of a new image, and a change of layer or head.

python benchmarks/attention.py [--count 15] [--json]

Weights are drawn at random, since only time is measured. The page's times are those of its whole
script on the server, without a browser, on a picture that a visitor uploads.
"""

import argparse
import io
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for reid_core and app

import numpy as np
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from reid_core.analysis.attention import pulled
from reid_core.experiment import Experiment
from reid_core.look import look
from reid_core.models import Facts
from reid_core.runs import Run, build

MAIN = Path(__file__).resolve().parents[1] / "app" / "main.py"
TARGETS = {"new image": 500, "layer": 150, "head": 150}  # milliseconds, median


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--count", type=int, default=15, help="measurements of each (default 15)")
    asked.add_argument("--json", action="store_true")
    asked = asked.parse_args()
    logging.disable(logging.WARNING)  # Streamlit misses its server
    found = {}
    for stride in (16, 12):
        with tempfile.TemporaryDirectory() as folder:
            os.environ |= {"REID_RUNS": folder, "REID_DATA": folder}
            (Path(folder) / "pedestrians").mkdir()
            found |= measured(stride, asked.count)
    print(json.dumps(found, indent=2) if asked.json else table(found))
    return 0


def measured(stride: int, count: int) -> dict[str, float]:
    """Medians in milliseconds by what was done."""
    settings = dict(trunk="vit_base_patch16_224", pretrained="none", size="256x128", stride=stride)
    experiment = Experiment.create(model="transreid", recipe="paper", settings=settings)
    facts = Facts(751, (1, 2, 3, 4, 5, 6))
    model = build(experiment, facts).eval()
    source = dict(file="random.pth", sha256="0" * 64)
    Run.create(experiment, facts, "vit-b", weights=model.state_dict(), imported=source)
    pictures = [noise(seed) for seed in range(count)]
    name, found = f"stride {stride}, {model.grid[0]} x {model.grid[1]} patches", {}
    see = lambda image: look(model, experiment, [image], [1], kinds=("attention",))  # noqa: E731
    found["new image, the pass alone"] = median(see, pictures)
    pixels = [see(image).pixels for image in pictures[:5]]
    found["gradient of a new target"] = median(
        lambda image: pulled(model, experiment, image, 1, None), pixels
    )
    found |= page(pictures)
    return {f"{name}: {what}": round(value, 1) for what, value in found.items()}


def page(pictures: list[Image.Image]) -> dict[str, float]:
    """The page's script: another picture, another layer, another head, all maps at once."""
    app = AppTest.from_file(str(MAIN), default_timeout=120).run()
    app.switch_page("../pages/attention.py").run()

    def upload(image: Image.Image) -> None:
        packed = io.BytesIO()
        image.save(packed, "PNG")
        app.file_uploader(key="picture").set_value(
            ("new.png", packed.getvalue(), "image/png")
        ).run()
        checked(app)

    def choose(key: str, value: str) -> None:
        checked(app.selectbox(key=key).select(value).run())

    upload(noise(1000))  # loads the model
    found = {"new image, the page": median(upload, pictures)}
    numbers = [str(number % 12 + 1) for number in range(len(pictures))]
    choose("head", "mean")
    found["layer (one map)"] = median(lambda number: choose("layer", number), numbers)
    choose("head", "all")
    found["layer (its 13 maps)"] = median(lambda number: choose("layer", number), numbers)
    choose("layer", "all")
    found["head (12 maps)"] = median(lambda number: choose("head", number), numbers)
    choose("head", "all")
    tokens = [app.selectbox(key="token").options[1 + int(number)] for number in numbers]
    found["token (156 maps)"] = median(lambda token: choose("token", token), tokens)
    return found


def noise(seed: int) -> Image.Image:
    """A picture that nobody has seen."""
    pixels = np.random.default_rng(seed).integers(0, 255, (256, 128, 3), np.uint8)
    return Image.fromarray(pixels)


def checked(app: AppTest) -> None:
    if app.exception:
        sys.exit(f"attention.py: the page failed: {app.exception[0].message}")


def median(act, things: list) -> float:
    """Milliseconds, the first one left out where there are several."""
    spent = []
    for thing in things:
        started = time.perf_counter()
        act(thing)
        spent.append(1000 * (time.perf_counter() - started))
    return statistics.median(spent[1:] or spent)


def table(found: dict[str, float]) -> str:
    lines = [f"{torch.get_num_threads()} threads, medians; targets {TARGETS} ms"]
    return "\n".join([*lines, *(f"{what:<58}{value:>9.1f} ms" for what, value in found.items())])


if __name__ == "__main__":
    sys.exit(main())
