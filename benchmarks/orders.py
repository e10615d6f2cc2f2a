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
    asked.add_argument("--threads", type=int, default=2)
    asked.add_argument("--size", default="256x128")
    asked = asked.parse_args()
    torch.set_num_threads(asked.threads)
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
                wall, used = median(act, asked.count)
                print(f"  {name:<44}{wall:>8.0f} ms, {used:.0f} ms of processor time")


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


def median(act, count: int) -> tuple[float, float]:
    """Milliseconds on the clock, and of processor time: on a busy machine only the latter is telling."""
    times = []
    for _ in range(count):
        started, used = time.perf_counter(), time.process_time()
        act()
        times.append((time.perf_counter() - started, time.process_time() - used))
    return tuple(1000 * statistics.median(column) for column in zip(*times, strict=True))


if __name__ == "__main__":
    main()
