"""How fast a training is: its input, its passes, its steps, its epochs, beside timm's bare trunk and,
with --peers, beside the official repositories.

python -m benchmarks.training [--only MODEL ...] [--peers DIR] [--batch 8] [--rounds 3] [--batches 3]
                              [--device auto] [--json]

Images of 256x128, stride 16, weights drawn at random, images of the pedestrians. Each model has a
process of its own, in which ours, timm's and the official one are timed in turn: one in which others
ran before keeps their memory, and code that asks the system for much of it, as RGA's, would seem
faster. A ratio is the median over the rounds of two times of the same round, with the lowest and the
highest. Of a CPU, ratios of the processor's time are given too: on a machine that does
other things they say more. "share" is the achieved share of the rate of torch.matmul of large
squares, in the same precision and round. Memory is what a step takes beyond what was there before,
gradients included. An epoch is of so many --batches, as the loop runs it, state on disk left out.
Official code runs in float32 on a CPU, and on a GPU as its loop does (float16 where it says so).
"""

import argparse
import contextlib
import gc
import json
import logging
import os
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, set_start_method
from pathlib import Path

import torch

from benchmarks import training_ours as ours
from benchmarks.training_peers import MARKS, load
from reid_core.experiment import Training
from reid_core.optimize import device_for, has_bf16

MODELS = ("transreid", "pha", "rga")
SIDES = {"cpu": 2048, "cuda": 8192, "mps": 4096}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", nargs="+", choices=ours.SETTINGS, default=MODELS)
    parser.add_argument("--peers", type=Path, help="a folder with the official repositories")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=3, help="of an epoch; 0 leaves epochs out")
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    asked = parser.parse_args()
    if asked.batch < 4 or asked.batch % 4:
        parser.error(f"--batch: expected 4 or a multiple of it, got {asked.batch}")
    asked.device = device_for(Training(device=asked.device))
    if not asked.precisions:
        asked.precisions = ["fp32", "bf16"] if has_bf16(asked.device) else ["fp32"]
    found = dict(
        device=torch.cuda.get_device_name() if asked.device == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        load=round(os.getloadavg()[0], 1),
        batch=asked.batch,
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ["REID_RUNS"] = folder
        found["models"] = {}
        for name in asked.only:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                found["models"][name] = rows = process.submit(measured, name, asked).result()
            if not asked.json:
                print(text(name, rows), flush=True)
    if asked.json:
        print(json.dumps(found, indent=2))
    else:
        print(", ".join(f"{k} {v}" for k, v in found.items() if k != "models"))
    return 0


def measured(name: str, asked: argparse.Namespace) -> list[dict]:
    """A model's rows: passes and steps, then input and epochs."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    # The official loader's workers begin as in any process, not as this one did.
    set_start_method(None, force=True)
    loop = ours.began(ours.experiment(name, asked.batch, asked.device, "fp32"))
    wanted, there = max(INPUTS, asked.batches), ours.fewest_batches(loop, 2 + asked.rounds)
    if there < wanted:
        raise SystemExit(
            f"--batch {asked.batch}: an epoch of these images has {there} batches and {wanted} are timed; "
            "give a smaller one, or fewer --batches"
        )
    batch, paths = ours.first_batch(loop)
    sides, problem = {}, ""
    for precision in asked.precisions:
        sides[f"timm {precision}"] = ours.bare(name, batch, asked.device, precision == "bf16")
        sides[f"ours {precision}"] = ours.timed(loop, batch, precision)
    if asked.peers and name in MARKS:
        classes = loop.run.facts.classes
        try:
            sides["official"] = load(name, asked.peers, batch, asked.device, classes, paths)
        except ImportError as error:
            problem = str(error)
    rows = []
    for what in ("forward", "step"):
        rows += in_turn(what, {side: getattr(it, what) for side, it in sides.items()}, asked)
    for row in rows[len(sides) :]:
        row["megabytes"] = ours.peak(sides[row["side"]], asked.device)
    rows += in_turn("input", inputs(loop, asked), asked, count=INPUTS * asked.batch)
    if asked.batches:
        epochs = {"ours": ours.our_epoch(loop, asked.batches)}
        if "official" in sides:
            given = loop, sides["official"], asked.batches, asked.device
            epochs["official"] = ours.official_epoch(*given)
        rows += in_turn("epoch", epochs, asked, count=asked.batches * asked.batch)
    loop.progress.close()
    del loop, sides
    gc.collect()
    return rows + ([dict(what="official", problem=problem)] if problem else [])


INPUTS = 4  # batches of input that are timed


def inputs(loop, asked: argparse.Namespace) -> dict[str, Callable]:
    workers = min(8, os.cpu_count() or 1)
    return {
        "ours": ours.our_input(loop, INPUTS),
        "official": ours.official_input(loop, INPUTS, 0),
        f"official, {workers} workers": ours.official_input(loop, INPUTS, workers),
    }


def in_turn(
    what: str, calls: dict[str, Callable], asked: argparse.Namespace, count: int = 0
) -> list[dict]:
    """Rows of images/s, each thing timed once in each round, and ratios to the official ones."""
    count, device, model = count or asked.batch, asked.device, what in ("forward", "step")
    counted = {side: ours.flops(call) if model else call() for side, call in calls.items()}
    times: dict[str, list[tuple[float, float]]] = {side: [] for side in calls}
    rates: dict[str, list[float]] = {each: [] for each in asked.precisions if model}
    for call in calls.values():  # an optimiser's first step makes its state
        call()
    for _ in range(asked.rounds):
        for precision, held in rates.items():
            held.append(matrix_rate(device, precision == "bf16"))
        for side, call in calls.items():
            times[side].append(ours.seconds(call, device))
    rows = []
    for side, took in times.items():
        row = dict(what=what, side=side, rate=count / statistics.median(w for w, _ in took))
        if model:
            precision = side.split()[-1] if side != "official" else asked.precisions[0]
            rate = [counted[side] / w / r for (w, _), r in zip(took, rates[precision], strict=True)]
            row |= dict(gflop=counted[side] / 1e9 / count, share=statistics.median(rate))
            row |= dict(gflops=statistics.median(rates[precision]) / 1e9)
        for other in ("official", f"timm {side.split()[-1]}"):
            if side.startswith("ours") and other in times:
                row |= against(took, times[other], other.split()[0], device)
        rows.append(row)
    return rows


def against(own: list, others: list, name: str, device: str) -> dict:
    """How many times as fast as another: median, lowest and highest of the rounds."""
    kinds = {"": 0} | ({" cpu": 1} if device == "cpu" else {})
    row = {}
    for kind, at in kinds.items():
        ratios = sorted(b[at] / max(a[at], 1e-9) for a, b in zip(own, others, strict=True))
        row[f"x {name}{kind}"] = [statistics.median(ratios), ratios[0], ratios[-1]]
    return row


def matrix_rate(device: str, bf16: bool) -> float:
    """FLOP/s of torch.matmul of large squares."""
    side, kind = SIDES[device], torch.bfloat16 if bf16 else torch.float32
    one = torch.ones(side, side, dtype=kind, device=device)
    with contextlib.suppress(RuntimeError), torch.no_grad():
        torch.matmul(one, one)
    took = min(ours.seconds(lambda: torch.matmul(one, one), device)[0] for _ in range(3))
    return 2 * side**3 / took


def text(name: str, rows: list[dict]) -> str:
    """One line each."""
    lines = [name]
    for row in rows:
        if "problem" in row:
            lines.append(f"  {row['what']}: {row['problem']}")
            continue
        words = [f"  {row['what']:8} {row['side']:20} {row['rate']:8.2f} images/s"]
        if "share" in row:
            words.append(
                f"{row['gflop']:6.1f} GFLOP/image {row['share']:4.0%} of {row['gflops']:.0f}"
            )
        if row.get("megabytes") is not None:
            words.append(f"{row['megabytes']:.0f} MB")
        for key, value in row.items():
            if key.startswith("x "):
                words.append(f"{value[0]:.2f} [{value[1]:.2f} {value[2]:.2f}] {key}")
        lines.append(", ".join(words))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
