"""How long an evaluation takes and how much memory, beside the bare matrix product and other code.

python -m benchmarks.evaluation --size market|msmt17 [--json] [--peers DIR] [--repeats 5]

Random features with planted identities. What is timed is all of it: normalising, distances, mAP, CMC,
mINP. Each row is a process of its own, whose peak memory is the system's word; "matmul" is the float32
product alone, in the same process with the same blocks, in turn with what is timed. With --peers,
torchreid, fast-reid and TransReID are looked for below DIR; their Cython is compiled in a temporary
copy.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

WIDTH = 768
# Queries, gallery images, identities, whether there are distractors, cameras.
SIZES = {
    "market": (3368, 19732, 750, True, 6),
    "msmt17": (11659, 82161, 3060, False, 15),
}
NOISE = {"market": 2.3, "msmt17": 2.45}  # mAP of 0.88 and 0.65, about as the trained models have


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--size", choices=SIZES, default="market")
    asked.add_argument("--json", action="store_true", help="print the rows as JSON")
    asked.add_argument("--peers", type=Path, help="a folder with other repositories")
    asked.add_argument("--repeats", type=int, default=5)
    asked.add_argument("--noise", type=float, help="more: harder to rank, and slower")
    asked.add_argument("--only", choices=("evaluation", "sets"), help="half of the rows")
    asked.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where ours computes"
    )
    asked.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)  # what, share, where from
    asked = asked.parse_args()
    asked.noise = asked.noise or NOISE[asked.size]
    if asked.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # here and in the rows' processes
    if asked.measure:
        what, share, source = asked.measure
        print(json.dumps(measure(what, asked.size, float(share), source, asked)))
        return 0
    rows = table(asked) if asked.only != "sets" else []
    rows += sets(asked) if asked.only != "evaluation" else []
    print(json.dumps(dict(size=asked.size, rows=rows), indent=2) if asked.json else text(rows))
    return 0


def table(asked: argparse.Namespace) -> list[dict]:
    """All rows, or why there is none."""
    rows = [child(asked, "ours"), child(asked, "ours", share=0.5), child(asked, "naive")]
    if asked.peers:
        from benchmarks.evaluation_peers import NAMES, prepare

        with tempfile.TemporaryDirectory() as folder:
            found = prepare(asked.peers, Path(folder))
            for name in NAMES:
                source, problem = found[name]
                rows.append(
                    dict(name=name, problem=problem)
                    if problem
                    else child(asked, name, source=source)
                )
    for row in rows[2:]:
        if "seconds" in row:
            row["times_ours"] = row["seconds"] / rows[0]["seconds"]
    return rows


def sets(asked: argparse.Namespace) -> list[dict]:
    """Re-ranking and NFormer, without the peers where those need more than there is."""
    from benchmarks import evaluation_sets

    rows = []
    for name in evaluation_sets.NAMES:
        for peers in dict.fromkeys((asked.peers, None)):
            try:
                rows += evaluation_sets.rows(asked.size, peers, (name,))
                break
            except subprocess.CalledProcessError:
                rows.append(dict(name=name, problem=f"ended early{' with a peer' * bool(peers)}"))
    return rows


def child(asked: argparse.Namespace, what: str, share: float = 1, source: str = "") -> dict:
    """A row from a fresh process."""
    queries, gallery = (int(share * count) for count in SIZES[asked.size][:2])
    name = what if share == 1 else f"{what}, {queries:,} x {gallery:,}"
    free, need = psutil.virtual_memory().available, needs(what, queries, gallery)
    if need > free:
        return dict(
            name=name, problem=f"needs about {need / 1e9:.0f} GB, {free / 1e9:.0f} are free"
        )
    command = [sys.executable, "-m", "benchmarks.evaluation", "--size", asked.size]
    command += ["--repeats", str(asked.repeats), "--noise", str(asked.noise)]
    command += ["--device", asked.device, "--measure", what, str(share), source]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        return dict(name=name, problem=said)
    if what == "TransReID" and what not in source:
        name += f", the copy in {Path(source).parts[-3]}"
    return dict(name=name) | json.loads(done.stdout.splitlines()[-1])


def needs(what: str, queries: int, gallery: int) -> float:
    """Bytes, roughly: others keep the whole matrix, and sort its positions or copy it."""
    bytes_per_pair = {"ours": 0, "naive": 5, "torchreid": 21, "fast-reid": 13, "TransReID": 25}
    return 1.2e9 + bytes_per_pair[what] * queries * gallery


def measure(what: str, size: str, share: float, source: str, asked) -> dict:
    """Time one thing in this process."""
    from reid_core.evaluate import Embeddings, evaluate
    from reid_core.ranking.nearer import BLOCK
    from reid_core.ranking.ranks import compiled

    vectors, labels, queries = split(size, share, asked.noise)
    row = dict(cpus=os.cpu_count(), load=round(os.getloadavg()[0], 1))
    if what == "ours":
        names, views = np.zeros(len(vectors), "U1"), np.full(len(vectors), -1)
        is_query = np.arange(len(vectors)) < queries
        found = Embeddings(vectors, names, *labels, views, is_query)
        compiled()  # the app loads the loops at its start
        sides = vectors[:queries], vectors[queries:], BLOCK, asked.device

        def call() -> float:
            return evaluate(found).mAP

        alone = [took(matmul, *sides)[0]]  # one to warm up, which wakes a GPU
        times = []
        for _ in range(asked.repeats):
            alone.append(took(matmul, *sides)[0])
            seconds, precision = took(call)
            times.append(seconds)
        row |= dict(matmul=statistics.median(alone[1:]))
        row |= dict(ratio=statistics.median(times) / row["matmul"], block=BLOCK)
    else:
        from benchmarks import evaluation_peers

        once = what == "naive" or size == "msmt17"
        peer = evaluation_peers.load(what, source)
        given = (
            vectors[:queries],
            vectors[queries:],
            *(part for label in labels for part in (label[:queries], label[queries:])),
        )
        times = []
        for _ in range(1 if once else asked.repeats):
            seconds, precision = took(peer, *given)
            times.append(seconds)
    row |= dict(seconds=statistics.median(times), repeats=len(times), mAP=float(precision))
    return row | dict(gigabytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


def split(size: str, share: float, noise: float):
    """Vectors (N, 768) float32, queries first; identities and cameras (N,); how many queries."""
    queries, gallery, people, distractors, cameras = SIZES[size]
    queries, gallery = int(share * queries), int(share * gallery)
    draw = np.random.default_rng(0)
    identities = np.concatenate(
        [1 + np.arange(queries) % people, draw.integers(1 - distractors, people + 1, gallery)]
    )
    centres = draw.standard_normal((people + 1, WIDTH), np.float32)
    vectors = np.empty((len(identities), WIDTH), np.float32)
    for start in range(0, len(vectors), 4096):
        part = slice(start, start + 4096)
        vectors[part] = draw.standard_normal(vectors[part].shape, np.float32)
        vectors[part] = centres[identities[part]] + noise * vectors[part]
    return vectors, (identities, draw.integers(1, cameras + 1, len(vectors))), queries


def matmul(queries: np.ndarray, gallery: np.ndarray, block: tuple[int, int], device: str) -> None:
    """The products that an evaluation can't do without, block by block, and nothing else."""
    import torch

    queries, gallery = (torch.from_numpy(each).to(device) for each in (queries, gallery))
    held = torch.empty(block[0] * block[1], device=device)
    for start in range(0, len(gallery), block[1]):
        images = gallery[start : start + block[1]]
        for first in range(0, len(queries), block[0]):
            rows = queries[first : first + block[0]]
            out = held[: len(rows) * len(images)].view(len(rows), len(images))
            torch.mm(rows, images.T, out=out)
    if device == "cuda":
        torch.cuda.synchronize()


def took(call, *given):
    started = time.perf_counter()
    result = call(*given)
    return time.perf_counter() - started, result


def text(rows: list[dict]) -> str:
    """One line each."""
    lines = []
    for row in rows:
        if "problem" in row:
            lines.append(f"{row['name']}: {row['problem']}")
            continue
        words = [f"{row['name']}: {row['seconds']:.2f} s, peak {row['gigabytes']:.2f} GB"]
        words += [f"{key} {value:.3g}" for key, value in row.items() if key in SAID]
        words += [f"{each['peer']} {each['times']:.3g} times" for each in row.get("official", ())]
        lines.append(", ".join(words))
    return "\n".join(lines)


SAID = ("matmul", "ratio", "times_ours", "mAP", "load")

if __name__ == "__main__":
    sys.exit(main())
