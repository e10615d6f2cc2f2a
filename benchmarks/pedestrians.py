"""How hard the pedestrians are: the table in the README.

    python -m benchmarks.pedestrians [--json]

Colour histograms, an untrained network, the demo recipe trained here and now, and the shipped run, on
the default test split. Takes about three minutes on two cores.
"""

import argparse
import json
import os
import tempfile
import time
from typing import Any

import numpy as np

from reid_core.data import Dataset, prepare
from reid_core.data.images import read
from reid_core.data.pedestrians import hsv_features
from reid_core.embed import embed_test
from reid_core.evaluate import Embeddings, evaluate
from reid_core.experiment import Experiment
from reid_core.feed import facts_of, seed
from reid_core.runs import Run, build, open_run
from reid_core.train import create, train


def histograms(dataset: Dataset) -> Embeddings:
    """The test split as colour histograms see it."""
    parts = (dataset.query, dataset.gallery)
    paths = [path for part in parts for path in part.paths]
    columns = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("identities", "cameras", "views")
    )
    vectors = np.stack([hsv_features(read(path, (256, 128))) for path in paths])
    names = np.array([path.name for path in paths])
    return Embeddings(vectors, names, *columns, np.arange(len(paths)) < len(dataset.query))


def untrained(experiment: Experiment, dataset: Dataset) -> Embeddings:
    """The test split as the model sees it before its first step."""
    seed(experiment.training.seed)
    return embed_test(build(experiment, facts_of(dataset.train)).eval(), experiment, dataset)


def demo(experiment: Experiment) -> tuple[Run, float]:
    """A run of the demo recipe, and the seconds that its training took."""
    run = create(experiment)
    start = time.perf_counter()
    train(run)
    return run, time.perf_counter() - start


def table() -> dict[str, dict[str, Any]]:
    """Scores by row of the README's table."""
    dataset = prepare("pedestrians")
    experiment = Experiment.create(model="transreid", recipe="demo")
    rows = {
        "colour histograms": evaluate(histograms(dataset)).as_dict(),
        "untrained": evaluate(untrained(experiment, dataset)).as_dict(),
        "shipped": evaluate(open_run("transreid-demo").embeddings()).as_dict(),
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ["REID_RUNS"] = folder
        run, seconds = demo(experiment)
        rows["demo"] = run.metrics() | dict(seconds=seconds)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    rows = table()
    if parser.parse_args().json:
        print(json.dumps(rows, indent=2))
    else:
        for name, row in rows.items():
            line = f"{name:<20} mAP {row['mAP']:.3f}  rank-1 {row['cmc']['1']:.3f}"
            print(line + (f"  {row['seconds']:.0f} s" if "seconds" in row else ""))
