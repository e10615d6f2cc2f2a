"""All models on the pedestrians, over several seeds: the table in the README.

    python -m benchmarks.models [NAME ...] [--seeds 0 1 2] [--runs DIR]

Trains each demo recipe with each seed, about two minutes each on two quiet cores; a run that is
already in DIR is taken as it is. Prints mean and spread, and NFormer beside its own encoder with the
interval of the paired difference.
"""

import argparse
import os
from typing import Any

import numpy as np

from reid_core.analysis.intervals import paired as differ
from reid_core.data import prepare
from reid_core.evaluate import evaluate
from reid_core.experiment import Experiment
from reid_core.runs import Run, open_run, runs_folder
from reid_core.ship import SHIPPED, UNUSED
from reid_core.train import create, train

VARIANTS = ("sharing", "attention")  # what makes a row of its own


def trained(name: str, seed: int) -> Run:
    """The run of one row and seed: trained now, unless it is there and finished."""
    asked = SHIPPED[name]
    run = f"{name}-{seed}"
    if (runs_folder() / run).is_dir():
        found = open_run(run)
        if found.resumable:
            found.ask_stop(False)
            train(found)
        return found
    # The recipe itself: what a shipped run was trained longer with is left out.
    kind = {key: value for key, value in asked["settings"].items() if key in VARIANTS}
    experiment = Experiment.create(
        model=asked["model"], recipe="demo", settings=kind | dict(seed=seed)
    )
    train(made := create(experiment, run))
    return made


def paired(run: Run, seed: int, draws: int = 10_000) -> tuple[float, float, float]:
    """How much refining adds to mAP over the encoder alone, on the same queries: the mean difference
    of average precision and its 95% bootstrap interval over the queries."""
    found = run.embeddings()
    alone = evaluate(type(found)(**vars_of(found) | dict(vectors=found.encoded, encoded=None)))
    scores = (evaluate(found).average_precision, alone.average_precision)
    return differ(*scores, draws, seed)


def vars_of(found) -> dict[str, Any]:
    return {name: getattr(found, name) for name in found.__dataclass_fields__}


def line(name: str, runs: list[Run]) -> str:
    """A row of the table: mean and spread over the seeds."""
    scores = [run.metrics() for run in runs]
    cells = []
    for values in ([s["mAP"] for s in scores], [s["cmc"]["1"] for s in scores]):
        cells.append(f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
    # An epoch's median, so that whatever else the machine did meanwhile counts for little.
    seconds = np.mean([steps_seconds(run.history(), run.experiment.first_epochs) for run in runs])
    cells += [f"{parameters(runs[0]) / 1e6:.2f} M", f"{seconds:.0f} s"]
    return f"| {name} | " + " | ".join(cells) + " |"


def parameters(run: Run) -> int:
    """How many parameters a run has without what only training needs: classifiers and the centres of
    the centre loss."""
    named = run.model().named_parameters()
    return sum(p.numel() for name, p in named if not any(word in name for word in UNUSED))


def steps_seconds(history: list[dict[str, Any]], first: int) -> float:
    """What a training's steps take: of each stage the median epoch times their number."""
    stages = history[:first], history[first:]
    seconds = [[entry["seconds"] for entry in stage] for stage in stages if stage]
    return float(sum(np.median(each) * len(each) for each in seconds))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", default="benchmarks/runs")
    asked = parser.parse_args()
    os.environ["REID_RUNS"] = asked.runs
    prepare("pedestrians")
    rows = {name: [trained(name, seed) for seed in asked.seeds] for name in asked.names or SHIPPED}
    print("| | mAP: mean (least to most) | rank-1 | parameters | steps |\n|---|---|---|---|---|")
    for name, runs in rows.items():
        print(line(name, runs))
    for run, seed in zip(rows.get("nformer-demo", []), asked.seeds, strict=False):
        mean, low, high = paired(run, seed)
        print(
            f"{run.name} beside its encoder: {mean:+.3f} mAP, 95% interval {low:+.3f} to {high:+.3f}"
        )


if __name__ == "__main__":
    main()
