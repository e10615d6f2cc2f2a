"""The runs that come with the product: `make checkpoints` trains them anew and makes them small.

python -m reid_core.ship [NAME ...]
"""

import json
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reid_core.data import ROOT, Dataset, prepare
from reid_core.embed import embed_test
from reid_core.evaluate import evaluate
from reid_core.experiment import Experiment
from reid_core.models.weights import packed, unpacked
from reid_core.runs import Run
from reid_core.train import create, train

# The demo recipes; where that is not enough, trained longer and so with more regularisation.
# Chosen on held-out training identities.
SHIPPED: dict[str, dict[str, Any]] = {
    name: dict(model=model, recipe="demo", settings=settings)
    for name, model, settings in (
        ("transreid-demo", "transreid", dict(epochs=84, erase=0.5, drop_path=0.1)),
        ("rga-demo", "rga", {}),
        ("rga-with-cbam", "rga", dict(attention="cbam")),
        ("nformer-demo", "nformer", {}),
        ("pha-demo", "pha", {}),
        ("ohformer-demo", "ohformer", {}),
        ("ohformer-shared", "ohformer", dict(sharing="shared")),
        ("ohformer-independent", "ohformer", dict(sharing="independent")),
        ("ohformer-weighted", "ohformer", dict(sharing="weighted")),
        ("vit-bot-demo", "vit-bot", dict(epochs=84, erase=0.5, drop_path=0.1)),
        ("resnet-bot-demo", "resnet-bot", {}),
    )
}
UNUSED = ("classifier", "centers")  # nobody classifies at test
KEPT = ("experiment.json", "history.jsonl", "log.txt")


def main(names: list[str]) -> None:
    """Train and ship the named runs, or all of them, into checkpoints/."""
    dataset = prepare("pedestrians")
    for name in names or SHIPPED:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["REID_RUNS"] = folder
            run = create(Experiment.create(**SHIPPED[name]), name)
            train(run)
            print(name, ship(run, dataset, ROOT / "checkpoints" / name))


def ship(run: Run, dataset: Dataset, target: Path) -> dict[str, Any]:
    """Copy a finished run, small: float16, no classifiers, nothing that only training needs.

    The scores are measured anew on what is shipped, and returned.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shipped = Run(target.name, target)
    for name in KEPT:
        shutil.copy(run.folder / name, target / name)
    record = run.record | dict(run=target.name, shipped=True)
    shipped.write("experiment.json", (json.dumps(record, indent=2) + "\n").encode())
    weights = unpacked(run.folder / "weights.safetensors")
    small = {
        name: weight.half() if weight.is_floating_point() else weight
        for name, weight in weights.items()
        if not any(word in name for word in UNUSED)
    }
    shipped.write("weights.safetensors", packed(small))
    embeddings = embed_test(shipped.model(), shipped.experiment, dataset)
    half = {
        name: array.astype(np.float16)
        for name in ("vectors", "encoded")
        if (array := getattr(embeddings, name)) is not None
    }
    shipped.keep_embeddings(replace(embeddings, **half))
    scores = evaluate(shipped.embeddings()).as_dict()
    shipped.write("metrics.json", (json.dumps(scores, indent=2) + "\n").encode())
    return scores


if __name__ == "__main__":
    main(sys.argv[1:])
