"""What the page Clusters takes at Market-1501's size: random features, 23,100 images, in a folder of
its own that is removed afterwards.

python benchmarks/clusters.py [--queries 3368] [--gallery 19732] [--dimensions 768] [--method pca] [--json]

Times the studies (crops, spread, projection) and the server's part of each change on the page: the
whole script without a browser. Targets of issue 4: lasso of 2,000 points under 300 ms, app under 3 GB.
"""

import argparse
import json
import logging
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for reid_core and app

import numpy as np
import psutil
from PIL import Image
from streamlit.testing.v1 import AppTest

from reid_core.evaluate import Embeddings
from reid_core.experiment import Experiment
from reid_core.models import Facts
from reid_core.runs import Run
from reid_core.studies import Study

MAIN = Path(__file__).resolve().parents[1] / "app" / "main.py"
IDENTITIES, CAMERAS, REPEATS = 750, 6, 12


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--queries", type=int, default=3368)
    asked.add_argument("--gallery", type=int, default=19732)
    asked.add_argument("--dimensions", type=int, default=768)
    asked.add_argument("--method", default="pca", choices=["pca", "umap", "tsne"])
    asked.add_argument("--lasso", type=int, default=2000)
    asked.add_argument("--json", action="store_true")
    asked = asked.parse_args()
    logging.disable(logging.WARNING)  # Streamlit misses its server
    with tempfile.TemporaryDirectory() as folder:
        os.environ["REID_RUNS"] = str(Path(folder) / "runs")
        run = made(Path(folder) / "data", asked)
        result = dict(images=asked.queries + asked.gallery, dimensions=asked.dimensions)
        result["study_s"] = studies(run, asked.method)
        result["study_peak_gb"] = round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2
        )
        result |= page(run, asked)
    print(json.dumps(result, indent=2) if asked.json else table(result))
    return 0


def made(root: Path, asked: argparse.Namespace) -> Run:
    """A run whose embeddings are noise about one centre per identity, and a data set of one picture."""
    random = np.random.default_rng(0)
    count = asked.queries + asked.gallery
    identities = np.sort(random.integers(1, IDENTITIES + 1, count))
    identities = np.concatenate([random.permutation(identities[:: count // asked.queries])[: asked.queries],
                                 random.integers(0, IDENTITIES + 1, asked.gallery)])  # fmt: skip
    centres = random.normal(size=(IDENTITIES + 1, asked.dimensions))
    vectors = centres[identities] + 1.5 * random.normal(size=(count, asked.dimensions))
    cameras = random.integers(1, CAMERAS + 1, count)
    is_query = np.arange(count) < asked.queries
    folders = np.where(is_query, "query", "bounding_box_test")
    names = [
        f"{folder}/{who:04d}_c{camera}s1_{place:06d}_00.jpg"
        for place, (folder, who, camera) in enumerate(
            zip(folders, identities, cameras, strict=True)
        )
    ]
    for each in ("bounding_box_train", "query", "bounding_box_test"):
        (root / each).mkdir(parents=True)
    one = root / "bounding_box_train" / "0001_c1s1_000000_00.jpg"
    Image.fromarray(random.integers(0, 255, (128, 64, 3)).astype(np.uint8)).save(one)
    for name in names:
        os.link(one, root / name)
    experiment = Experiment.create(
        model="vit-bot", recipe="demo", dataset="market1501", data=str(root)
    )
    run = Run.create(experiment, Facts(751, tuple(range(1, CAMERAS + 1)), ()), "noise", weights={})
    run.keep_embeddings(
        Embeddings(vectors.astype(np.float32), np.array(names), identities, cameras, np.full(count, -1), is_query)
    )  # fmt: skip
    return run


def studies(run: Run, method: str) -> dict[str, float]:
    """Seconds of each study, one after another."""
    took = {}
    for name, settings in (("crops", {}), ("spread", {}), ("projection", dict(method=method))):
        started = time.perf_counter()
        Study.asked(run, name, settings).compute()
        took[name] = round(time.perf_counter() - started, 1)
    return took


def page(run: Run, asked: argparse.Namespace) -> dict:
    """Milliseconds of the page's script for each change, and the memory after them."""
    app = AppTest.from_file(str(MAIN), default_timeout=600)
    titles = {"umap": "UMAP", "pca": "PCA", "tsne": "t-SNE"}
    app.query_params["map"] = titles[asked.method]
    app.run()
    app.switch_page("../pages/clusters.py")
    first = milliseconds(app.run)
    key = Study.asked(run, "projection", dict(method=asked.method)).key
    rows = np.random.default_rng(1).permutation(asked.queries + asked.gallery)
    times: dict[str, list[float]] = {"recolour": [], "next query": [], "lasso": []}
    for turn in range(REPEATS):
        app.selectbox(key="colour").set_value(("Identity", "AP", "Rank-1", "Trust")[turn % 4])
        times["recolour"].append(milliseconds(app.run))
        times["next query"].append(milliseconds(app.button(key="next").click().run))
        app.session_state[f"map {key}"] = {"rows": np.roll(rows, 97 * turn)[: asked.lasso].tolist()}
        times["lasso"].append(milliseconds(app.run))
    memory = psutil.Process().memory_info().rss / 1e9
    medians = {name: round(statistics.median(values), 1) for name, values in times.items()}
    return dict(first_view_ms=round(first), changes_ms=medians, resident_gb=round(memory, 2))


def milliseconds(act) -> float:
    started = time.perf_counter()
    app = act()
    spent = 1000 * (time.perf_counter() - started)
    if app.exception:
        sys.exit(f"clusters.py: the page failed: {app.exception[0].message}")
    return spent


def table(result: dict) -> str:
    lines = [f"{result['images']:,} images, {result['dimensions']} dimensions"]
    lines += [f"study {name:<12}{seconds:>8} s" for name, seconds in result["study_s"].items()]
    lines += [f"{'first view':<18}{result['first_view_ms']:>8} ms"]
    lines += [
        f"{name:<18}{median:>8} ms (median of {REPEATS})"
        for name, median in result["changes_ms"].items()
    ]
    lines += [
        f"memory            {result['resident_gb']:>8} GB after, {result['study_peak_gb']} GB at the studies' peak"
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
