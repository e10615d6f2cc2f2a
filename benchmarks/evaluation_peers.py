"""Other repositories' evaluations, found below a folder and called as their own tests call them."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

NAMES = ("torchreid", "fast-reid", "TransReID")
MARKS = {
    "torchreid": "torchreid/metrics/rank_cylib/rank_cy.pyx",
    "fast-reid": "fastreid/evaluation/rank_cylib/rank_cy.pyx",
    "TransReID": "utils/metrics.py",  # PHA's is the same
}


def prepare(below: Path, folder: Path) -> dict[str, tuple[str, str]]:
    """Where each can be loaded from, or why it can't: {name: (source, problem)}."""
    found = {}
    for name, mark in MARKS.items():
        places = sorted(
            each for each in below.rglob(mark) if name != "TransReID" or is_metric(each)
        )
        if not places:
            found[name] = "", f"not found: no {mark} below {below}"
        elif places[0].suffix == ".pyx":
            found[name] = built(places[0], folder / name)
        else:
            found[name] = str(places[0]), ""
    return found


def is_metric(file: Path) -> bool:
    words = file.read_text(errors="replace")
    return "def eval_func(" in words and "R1_mAP_eval" in words


def built(source: Path, folder: Path) -> tuple[str, str]:
    """Compile a copy of a Cython file."""
    folder.mkdir()
    shutil.copy(source, folder)
    command = [sys.executable, "-m", "Cython.Build.Cythonize", "-i", source.name]
    flags = f"-O3 -w -I{np.get_include()} {os.environ.get('CFLAGS', '')}"
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=os.environ | dict(CFLAGS=flags)
    )
    made = [*folder.glob("*.so"), *folder.glob("*.pyd")]
    if done.returncode or not made:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return "", f"its Cython can't be compiled here (pip install cython setuptools): {said}"
    return str(made[0]), ""


def load(name: str, source: str) -> Callable[..., float]:
    """(queries, gallery, their identities, their cameras) -> mAP, as the repository has it."""
    if name == "naive":
        return naive
    if name == "TransReID":
        sys.path.insert(0, str(Path(source).parents[1]))  # it imports utils.reranking
        metrics = module("metrics", source)
        distance, rank = metrics.euclidean_distance, metrics.eval_func
    else:
        rank, distance = (
            module("rank_cy", source).evaluate_cy,
            squared if name == "torchreid" else cosine,
        )

    def call(queries, gallery, own, others, own_cameras, cameras) -> float:
        units = (F.normalize(torch.from_numpy(each), dim=1) for each in (queries, gallery))
        found = rank(distance(*units), own, others, own_cameras, cameras, 50)
        return float(np.mean(found[1]))

    return call


def module(name: str, file: str):
    spec = importlib.util.spec_from_file_location(name, file)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def squared(queries: torch.Tensor, gallery: torch.Tensor) -> np.ndarray:
    """Squared Euclidean distances, torchreid's default."""
    square = (queries**2).sum(1)[:, None] + (gallery**2).sum(1)
    return square.addmm_(queries, gallery.T, alpha=-2).numpy()


def cosine(queries: torch.Tensor, gallery: torch.Tensor) -> np.ndarray:
    """1 - cosine, fast-reid's default."""
    return 1 - torch.mm(queries, gallery.T).numpy()


def naive(queries, gallery, own, others, own_cameras, cameras) -> float:
    """What everybody writes: all distances, then each query's gallery sorted."""
    units = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (queries, gallery)]
    matrix = units[0] @ units[1].T
    matrix *= -2
    matrix += 2
    precisions = []
    for row, identity, camera in zip(matrix, own, own_cameras, strict=True):
        order = np.argsort(row)
        order = order[(others[order] != identity) | (cameras[order] != camera)]
        hits = np.flatnonzero(others[order] == identity)
        if len(hits):
            precisions.append(np.mean(np.arange(1, len(hits) + 1) / (hits + 1)))
    return float(np.mean(precisions))
