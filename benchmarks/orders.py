"""How long the Order lab's numbers take on a ViT-B: one picture, and a query of the study.

python benchmarks/orders.py [--count 5] [--size 256x128]
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for reid_core

import torch

from reid_core.analysis import orders
from reid_core.analysis.costs import flops, one_image
from reid_core.experiment import Experiment
from reid_core.look import look_at
from reid_core.models import Facts
from reid_core.runs import build
from reid_core.studies.orders import measured

DRAWS = 5


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--count", type=int, default=5, help="repetitions (default 5)")
    asked.add_argument("--size", default="256x128")
    asked = asked.parse_args()
    torch.set_num_threads(2)
    for model in ("ohformer", "transreid"):
        settings = dict(size=asked.size, pretrained="none")
        experiment = Experiment.create(model=model, recipe="paper", settings=settings)
        net = build(experiment, Facts(751, tuple(range(1, 7)))).eval()
        given = one_image(*experiment.training.size)
        with torch.no_grad():
            seen = look_at(net, given, given.image, ("attention", "prior"))
            print(
                f"{model}, ViT-B, {asked.size}, grid {net.grid}, {flops(net, given) / 1e9:.1f} GFLOPs"
            )
            for name, act in steps(net, given, seen).items():
                print(f"  {name:<44}{median(act, asked.count):>8.0f} ms")


def steps(net, given, seen) -> dict:
    """What is timed, by name."""
    maps = list(orders.comparable(seen).values())
    found = {
        "look at one picture, maps kept": lambda: look_at(
            net, given, given.image, ("attention", "prior")
        ),
        "layers of one picture, with baselines": lambda: orders.apart(
            orders.over_heads(maps)[0], DRAWS
        ),
        "heads of a layer, with baselines": lambda: orders.apart(maps[0][0], DRAWS),
        "one query of the study, all of it": lambda: measured(seen, DRAWS),
    }
    if pairs := orders.pairs(seen):
        found["orders of one picture, with baselines"] = lambda: [
            orders.orders_apart(pair, DRAWS) for pair in pairs
        ]
    return found


def median(act, count: int) -> float:
    """Milliseconds."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        act()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


if __name__ == "__main__":
    main()
