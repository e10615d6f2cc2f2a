"""How long the views Why similar and Deletion take for a new picture, by a ViT-B at 256x128.

python benchmarks/mechanisms.py [--stride 12] [--threads 2]
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for reid_core

import torch

from reid_core.analysis import faithfulness, occlusion
from reid_core.analysis.similarity import account, left_out
from reid_core.experiment import Experiment
from reid_core.models.base import Facts
from reid_core.runs import build


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--stride", type=int, default=12)
    asked.add_argument("--threads", type=int, default=2)
    asked = asked.parse_args()
    torch.set_num_threads(asked.threads)
    settings = {"pretrained": "none", "stride": asked.stride}
    experiment = Experiment.create(model="transreid", recipe="paper", settings=settings)
    model = build(experiment, Facts(751, (1, 2, 3, 4, 5, 6))).eval()
    embed, tokens = occlusion.alone(model, experiment, 1), occlusion.positions_of(model)
    images = torch.rand(2, 3, *experiment.training.size)
    start = time.perf_counter()
    query, gallery = (left_out(embed, image, tokens) for image in images)
    passes, seconds = 2 * (2 + len(query.without)), time.perf_counter() - start
    print(f"leave-one-out of two images: {passes} passes, {seconds:.1f} s")
    start = time.perf_counter()
    account(query, gallery)
    print(f"all contributions and pairs: {1000 * (time.perf_counter() - start):.1f} ms")
    start = time.perf_counter()
    order = faithfulness.random_orders(len(query.without), 1)[0]
    steps = len(faithfulness.curve(embed, images[0], tokens, order))
    print(f"one deletion curve: {steps} passes, {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
