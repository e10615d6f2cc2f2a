"""Re-ranking and NFormer over whole test splits: seconds beside the bare matrix product, peak memory.

`rows(size, peers)` measures each in a process of its own. Features are random, around a centre for
each identity. With a folder of the official repositories (TransReID or PHA, fastreid, NFormer) the
same features go through their code too, once. TransReID sums shares in float16, which is what its
difference shows: with that type replaced by float32, its code and ours differ by less than 1e-6.

python -m benchmarks.evaluation_sets [--size market|msmt17] [--peers DIR] [--only NAME] [--json]
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
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from reid_core.evaluate import Embeddings, directions
from reid_core.models.nformer import NeighbourTransformer, NFormer, NFormerOptions
from reid_core.models.nformer_query import GalleryPass
from reid_core.ranking import nearest
from reid_core.rerank import Reciprocal

SIZES = {"market": (3368, 19_732), "msmt17": (11_659, 82_161)}
NFORMER = {"market": 20_000, "msmt17": 93_820}
REPEATS = {"market": 5, "msmt17": 3}
SETTINGS = {"re-ranking 20, 6, 0.3": (20, 6, 0.3), "re-ranking 50, 15, 0.3": (50, 15, 0.3)}
NAMES = (*SETTINGS, "NFormer", "NFormer per query")
ASKED = 30  # queries that meet the gallery


def rows(size: str, peers: Path | None = None, only: tuple[str, ...] = NAMES) -> list[dict]:
    """For each: name, seconds and matmul (medians; a query's own for "per query"), ratio of the two,
    gigabytes at most; with peers official, a list of {peer, seconds, gigabytes, times, difference},
    the difference that the 999th of 1,000 entries does not exceed, and the largest."""
    found = []
    for name in only:
        with tempfile.TemporaryDirectory() as folder:
            kept = f"{folder}/result.npy"
            row = _apart("own", name, size, kept)
            for peer in _peers(name, peers) if peers else ():
                theirs = _apart("peer", name, size, kept, str(peer))
                times = theirs["seconds"] / row["seconds"]
                row.setdefault("official", []).append(theirs | dict(times=times))
            found.append(row)
    return found


def _apart(*arguments: str) -> dict:
    command = [sys.executable, "-m", "benchmarks.evaluation_sets", "--measure", *arguments]
    alone = os.environ | {"CUDA_VISIBLE_DEVICES": ""}  # beside code of others on the processor
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=alone)
    return json.loads(done.stdout.splitlines()[-1])


def _peers(name: str, folder: Path) -> list[Path]:
    inside = {"re-ranking": ("TransReID/utils/reranking.py", "PHA/utils/reranking.py")}
    inside |= {"NFormer": ("NFormer/modeling/nformer.py",)}
    if name == "NFormer per query":
        return []
    found = [folder / path for path in inside[name.split()[0]] if (folder / path).is_file()][:1]
    fast = folder / "fastreid/fastreid/evaluation/rerank.py"
    return found + [fast] * (name in SETTINGS and fast.is_file())


def crowd(count: int, width: int) -> np.ndarray:
    """Features (N, D) float32, some 26 of each identity as in Market-1501's gallery."""
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((count // 26 + 1, width), np.float32)
    return centres[draw.integers(len(centres), size=count)] + 1.2 * draw.standard_normal(
        (count, width), np.float32
    )


def own(name: str, size: str, kept: str) -> dict:
    """Measure one of NAMES; what it gave goes to a file."""
    call, vectors = (_reranking if name in SETTINGS else _nformer)(name, size)
    repeats = REPEATS[size]
    call()  # compiled code and libraries are loaded
    spent, bare, result = [], [], None
    for _ in range(repeats):
        result = None  # one result at a time in memory
        seconds, result = took(call)
        spent.append(seconds)
        bare.append(product_seconds(vectors))
    if isinstance(result, np.ndarray):
        np.save(kept, result)
        result = {}
    seconds, bare = (statistics.median(each) for each in (spent, bare))
    told = dict(seconds=seconds, matmul=bare, ratio=seconds / bare, gigabytes=most_memory())
    return dict(name=name, size=size) | told | result


def _reranking(name: str, size: str):
    queries, gallery = SIZES[size]
    vectors = crowd(queries + gallery, 768)
    labels = dict.fromkeys(("names", "identities", "cameras", "views"), np.zeros(len(vectors), int))
    split = Embeddings(vectors, **labels, is_query=np.arange(len(vectors)) < queries)
    k1, k2, weight = SETTINGS[name]

    def call() -> np.ndarray:
        """All queries' distances, block by block; some are kept."""
        vars(split).pop("directions", None)
        code, some = Reciprocal.of(split.directions, k1, k2), []
        for start in range(0, queries, 256):
            rows = split.query_rows[start : start + 256]
            some.append(code.distances(split, rows, weight)[:16])
        return np.concatenate(some)

    return call, vectors


def _nformer(name: str, size: str):
    torch.manual_seed(0)
    options = NFormerOptions(pretrained="none")
    model = SimpleNamespace(options=options, neck="after")
    model.transformer = NeighbourTransformer(options, options.width, 751).eval()
    model.refine = lambda *given, **how: NFormer.refine(model, *given, **how)
    if name == "NFormer":
        vectors = crowd(NFORMER[size], options.width)

        @torch.no_grad()
        def call() -> np.ndarray:
            return model.refine(torch.from_numpy(vectors)).numpy()

        return call, vectors
    vectors = crowd(ASKED + SIZES[size][1], options.width)
    queries, gallery = torch.from_numpy(vectors).split([ASKED, len(vectors) - ASKED])
    met = GalleryPass(model, gallery)

    @torch.no_grad()
    def call() -> dict:
        """A query's seconds by itself, beside those of refining the whole set for it."""
        seconds, found = took(lambda: met.meet(queries))
        whole = took(lambda: model.refine(torch.cat([queries[:1], gallery])))[0]
        rows = statistics.mean(each.computed for each in found)
        return dict(seconds=seconds / ASKED, whole_seconds=whole, rows_computed=rows)

    return call, vectors


def product_seconds(vectors: np.ndarray) -> float:
    """Seconds of all products of a set with itself, in the blocks in which they are formed here."""
    units = F.normalize(torch.from_numpy(vectors), dim=1)
    size = min(nearest.TILE, len(units))
    kept = torch.empty(size, size)
    started = time.perf_counter()
    for left in units.split(size):
        for right in units.split(size):
            out = kept.view(-1)[: len(left) * len(right)].view(len(left), len(right))
            torch.mm(left, right.T, out=out)
    return time.perf_counter() - started


@torch.no_grad()
def peer(name: str, size: str, kept: str, path: str) -> dict:
    """The same through a repository's own function."""
    spec = spec_from_file_location("peer", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    if name == "NFormer":
        seconds, found = _official_nformer(module, NFORMER[size])
    else:
        seconds, found = _official_reranking(module, name, size)
    away = np.abs(found - np.load(kept))
    told = dict(peer=Path(path).parts[-3], seconds=seconds, gigabytes=most_memory())
    return told | dict(difference=[float(np.quantile(away, 0.999)), float(away.max())])


def _official_reranking(module, name: str, size: str):
    queries, gallery = SIZES[size]
    units = torch.from_numpy(directions(crowd(queries + gallery, 768))).float()
    k1, k2, weight = SETTINGS[name]
    if Path(module.__file__).parts[-3] == "fastreid":  # takes distances, and squares them
        started = time.perf_counter()
        away = (2 - 2 * units @ units.T).clamp_(min=0).sqrt_().numpy()
        parts = away[:queries, queries:], away[:queries, :queries], away[queries:, queries:]
        found = module.re_ranking(*parts, k1, k2, weight)
    else:
        started = time.perf_counter()
        found = module.re_ranking(units[:queries], units[queries:], k1, k2, weight)
    seconds = time.perf_counter() - started
    starts = range(0, queries, 256)
    return seconds, np.concatenate([found[s : min(s + 16, queries)] for s in starts])


def _official_nformer(module, count: int):
    """The official network with our weights and landmarks."""
    torch.manual_seed(0)
    options = NFormerOptions(pretrained="none")
    ours = NeighbourTransformer(options, options.width, 751)
    how = dict(N_HEAD=2, RESID_PDROP=0.1, AFN="gelu", N_EMBD=256, N_LAYER=4, TOPK=20, LANDMARK=5)
    theirs = module.NFormer(SimpleNamespace(MODEL=SimpleNamespace(**how)), num_classes=751).eval()
    for block, layer in zip(theirs.h, ours.layers, strict=True):
        block.attn.c_attn.w.data = layer.attention.qkv.weight.data.T.contiguous()
        block.attn.c_proj.w.data = layer.attention.out.weight.data.T.contiguous()
        block.mlp.c_fc.w.data = layer.feed_forward[0].weight.data.T.contiguous()
        block.mlp.c_proj.w.data = layer.feed_forward[2].weight.data.T.contiguous()
    draw = torch.Generator().manual_seed(options.landmark_seed)
    drawn = iter([torch.randperm(count, generator=draw)[:5].tolist() for _ in range(4)])
    module.random = SimpleNamespace(sample=lambda *_: next(drawn))
    vectors = F.normalize(torch.from_numpy(crowd(count, 256)), dim=1)[None]
    return took(lambda: theirs(vectors)[0].numpy())


def took(call):
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def most_memory() -> float:
    """Gigabytes (1e9 bytes) that this process has held at most."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024) / 1e9


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--size", choices=SIZES, default="market")
    asked.add_argument("--peers", type=Path)
    asked.add_argument("--only", choices=NAMES, action="append")
    asked.add_argument("--json", action="store_true")
    asked.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    asked = asked.parse_args()
    if asked.measure:
        print(json.dumps(dict(own=own, peer=peer)[asked.measure[0]](*asked.measure[1:])))
        return
    for row in rows(asked.size, asked.peers, tuple(asked.only or NAMES)):
        print(json.dumps(row) if asked.json else _line(row), flush=True)


def _line(row: dict) -> str:
    said = f"{row['name']}, {row['size']}: {row['seconds']:.3g} s, {row['gigabytes']:.2f} GB; "
    said += f"matrix product {row['matmul']:.3g} s, {row['ratio']:.2f} times it"
    if "whole_seconds" in row:
        said += (
            f"; the whole set again {row['whole_seconds']:.3g} s; {row['rows_computed']:.0f} rows"
        )
    for each in row.get("official", ()):
        said += f"; {each['peer']} {each['seconds']:.3g} s, {each['gigabytes']:.1f} GB, "
        said += f"{each['times']:.1f} times; differs by {each['difference'][1]:.1e} at most"
    return said


if __name__ == "__main__":
    main()
