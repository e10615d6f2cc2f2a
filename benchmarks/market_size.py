"""A run of Market-1501's size that nobody trained: 3,368 queries, 19,732 gallery images, 768-d, ViT-B.

For measuring how fast pages are, not for looking at: its pictures are noise and its weights random.

python -m benchmarks.market_size DIR      then REID_RUNS=DIR/runs streamlit run app/main.py
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from reid_core.evaluate import Embeddings, evaluate
from reid_core.experiment import Experiment
from reid_core.models import Facts
from reid_core.runs import Run, build

IDENTITIES, QUERIES, GALLERY, DISTRACTORS, CAMERAS = 750, 3368, 19_732, 2798, 6
DIFFERENT = 64  # pictures; the others are links to them


def make(folder: Path, model: str = "vit-bot", **settings) -> Run:
    """The run "market", in folder/runs, and the images that it speaks of, in folder/data."""
    os.environ["REID_RUNS"] = str(folder / "runs")
    data = folder / "data"
    names, identities, cameras, is_query = rows()
    if not data.exists():
        draw(data, names)
    experiment = Experiment.create(
        model=model,
        recipe="paper",
        dataset="market1501",
        data=str(data),
        settings=dict(pretrained="none") | settings,
    )
    facts = Facts(751, tuple(range(1, CAMERAS + 1)))
    torch.manual_seed(0)
    weights = build(experiment, facts).state_dict()
    imported = dict(file="random weights", sha256="0" * 64)
    run = Run.create(experiment, facts, "market", weights=weights, imported=imported)
    found = Embeddings(
        vectors(identities), names, identities, cameras, -np.ones_like(cameras), is_query
    )
    run.keep_evaluation(found, evaluate(found).as_dict(), "market1501", str(data))
    return run


def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Names, identities, cameras and whether it is a query, of each test image."""
    draw = np.random.default_rng(0)
    gallery = np.concatenate(
        [np.zeros(DISTRACTORS, int), draw.integers(1, IDENTITIES + 1, GALLERY - DISTRACTORS)]
    )
    identities = np.concatenate([1 + np.arange(QUERIES) % IDENTITIES, gallery])
    cameras = draw.integers(1, CAMERAS + 1, len(identities))
    is_query = np.arange(len(identities)) < QUERIES
    names = [
        f"{'query' if query else 'bounding_box_test'}/{who:04d}_c{camera}s1_{number:06d}_00.jpg"
        for number, (who, camera, query) in enumerate(
            zip(identities, cameras, is_query, strict=True)
        )
    ]
    return np.array(names), identities, cameras, is_query


def vectors(identities: np.ndarray) -> np.ndarray:
    """(N, 768) around a centre for each identity, so that lists are neither perfect nor noise."""
    draw = np.random.default_rng(1)
    centres = draw.standard_normal((IDENTITIES + 1, 768))
    noise = draw.standard_normal((len(identities), 768))
    alone = np.where(identities == 0, 0.0, 1.0)[:, None]
    return (0.35 * alone * centres[identities] + noise).astype(np.float32)


def draw(data: Path, names: np.ndarray) -> None:
    """Links to a few pictures under the names of all, and one training image for the layout."""
    random = np.random.default_rng(2)
    for part in ("bounding_box_train", "query", "bounding_box_test", "different"):
        (data / part).mkdir(parents=True)
    files = []
    for number in range(DIFFERENT):
        files.append(data / "different" / f"{number}.jpg")
        blocks = random.integers(0, 255, (16, 8, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((64, 128), Image.Resampling.BICUBIC).save(files[-1])
    os.link(files[0], data / "bounding_box_train" / "9999_c1s1_000000_00.jpg")
    for number, name in enumerate(names):
        os.link(files[number % DIFFERENT], data / name)


if __name__ == "__main__":
    made = make(Path(sys.argv[1]))
    print(made.folder)
