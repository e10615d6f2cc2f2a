"""NFormer's number of landmarks: what it does to the affinity, to the features, to mAP and to time.

Landmark agent attention replaces the affinity of two images by a sum over l random images. With more
of them that sum comes closer to its own value with all images, which is not the full affinity.
"""

import time
from dataclasses import dataclass, replace

import numpy as np

from reid_core.analysis import neighbours as near
from reid_core.evaluate import evaluate
from reid_core.knobs import knob
from reid_core.runs import Run
from reid_core.studies import Arrays, Progress
from reid_core.studies.draws import own_seed

PAPER = 5  # landmarks in Wang et al. 2022, and in the official configuration


@dataclass(frozen=True)
class Options:
    draws: int = knob(5, "Draws of each number of landmarks.", "Draws", least=2, most=100)
    rows: int = knob(
        200, "Images whose rows of the affinity are compared, drawn at random.", "Draws", least=2
    )


def compute(run: Run, options: Options, progress: Progress) -> Arrays:
    """n numbers of landmarks, L layers. Raises BadInput.

    landmarks (n,), the last one all images. On the queries and keys of the run's own pass, mean over
    `rows` images and all heads: correlation, overlap (L, n, draws) of the landmark affinity's rows
    with the full one's; own_difference (L, n, draws) from its own value with all landmarks, relative,
    both taken as a mean over landmarks, and growth (L, n, draws), the length of the sum relative to
    that with all of them. Of whole passes: refined_difference (n, draws) from the features with all
    landmarks, relative; mAP and seconds (n, draws); effective (L, n, draws) neighbours that count.
    Single numbers: own, k, images, mutual (their mean), before (mAP of the encoder).
    """
    found, asked = run.embeddings(), run.experiment.options
    before = evaluate(near.alone(found)).mAP
    model, count, first = run.model(), len(found.vectors), own_seed(run)
    own = near.attend(model, found.encoded, projections=True, seed=first)
    rows = np.random.default_rng(0).choice(count, min(options.rows, count), replace=False)
    truth = [
        Truth(each, rows, min(asked.neighbours, count), np.arange(count))
        for each in own.projections
    ]
    everyone = near.attend(model, found.encoded, seed=first, landmarks=count).refined
    numbers = near.ladder(count, min(asked.landmarks, count), PAPER)
    measured, done = [], 0
    for number in numbers:
        for draw in range(options.draws):
            progress(done, len(numbers) * options.draws)
            started = time.perf_counter()
            seen = near.attend(model, found.encoded, seed=first + draw, landmarks=number)
            spent = time.perf_counter() - started
            of_layers = [t.against(drawn) for t, drawn in zip(truth, seen.landmarks, strict=True)]
            mutual = near.effective_neighbours(seen.weights).mean(axis=(1, 2))  # (L,)
            score = evaluate(replace(found, vectors=seen.refined)).mAP
            away = near.difference(seen.refined, everyone)
            measured.append((np.array(of_layers).T, mutual, away, score, spent))
            done += 1
    progress(done, done)
    shape = len(numbers), options.draws
    layers = np.array([np.concatenate([m[0], m[1][None]]) for m in measured])  # (n * d, 5, L)
    layers = layers.reshape(*shape, 5, -1).transpose(2, 3, 0, 1)  # (5, L, n, draws)
    whole = np.array([m[2:] for m in measured]).reshape(*shape, 3).transpose(2, 0, 1)
    names = "correlation", "overlap", "own_difference", "growth", "effective"
    return (
        dict(zip(names, layers, strict=True))
        | dict(zip(("refined_difference", "mAP", "seconds"), whole, strict=True))
        | dict(landmarks=np.array(numbers), own=np.array(min(asked.landmarks, count)))
        | dict(k=np.array(min(asked.neighbours, count)), images=np.array(count))
        | dict(mutual=np.array(own.mutual.sum(axis=1).mean()), before=np.array(before))
    )


class Truth:
    """What a layer's landmark affinity is compared with: the full one, and its own with all images."""

    def __init__(self, projections, rows: np.ndarray, k: int, everyone: np.ndarray):
        self.projections, self.rows, self.k = projections, rows, k
        self.full = near.full_affinity(projections, rows)  # (H, R, N)
        self.own = near.landmark_affinity(projections, everyone, rows) / len(everyone)

    def against(self, drawn: np.ndarray) -> tuple[float, float, float, float]:
        """Rank correlation and top-k overlap with the full one; difference from its own value with
        all landmarks, both as means over landmarks; length of the sum relative to all of them."""
        affinity = near.landmark_affinity(self.projections, drawn, self.rows)
        whole = np.linalg.norm(self.own) * self.full.shape[-1]
        return (
            float(np.nanmean(near.rank_correlation(affinity, self.full))),
            float(near.top_overlap(affinity, self.full, self.k).mean()),
            near.difference(affinity / len(drawn), self.own),
            float(np.linalg.norm(affinity) / max(whole, 1e-30)),
        )
