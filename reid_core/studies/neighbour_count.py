"""NFormer's number of neighbours k against mAP, and whom the weight then falls on.

The run's own transformer refines the set with other k than it was trained with; nothing is trained
anew.
"""

import time
from dataclasses import dataclass, replace

import numpy as np

from reid_core.analysis import neighbours as near
from reid_core.knobs import knob
from reid_core.runs import Run
from reid_core.studies import Arrays, Progress
from reid_core.studies.draws import own_seed

PAPER = 20  # neighbours in Wang et al. 2022, and in the official configuration
PAIRS = 2**23  # images times neighbours: keeps the study below about 2 GB


@dataclass(frozen=True)
class Options:
    most: int = knob(0, "The largest k; 0 is all images.", "Neighbours", least=0)


def compute(run: Run, options: Options, progress: Progress) -> Arrays:
    """n numbers of neighbours, Q queries. Raises BadInput.

    neighbours (n,); precision (n, Q); mutual (n,) of them on average, the image itself counted; right
    (n,) the share of the weight that falls on other images of the same person, itself (n,) on the
    image itself, others (n,) on other people, means over images, layers and heads; seconds (n,) of the
    pass. Single numbers: own, images, before (mAP of the encoder), cut (whether k ended below the
    number of images to save memory).
    """
    found, asked = run.embeddings(), run.experiment.options
    precision_before = near.judged(near.alone(found))[0]
    model, count = run.model(), len(found.vectors)
    fits = max(1, min(count, PAIRS // count))
    most = min(options.most or count, fits)
    numbers = near.ladder(most, min(asked.neighbours, count), PAPER)
    columns = {name: [] for name in ("precision", "mutual", "right", "itself", "others", "seconds")}
    for done, number in enumerate(numbers):
        progress(done, len(numbers))
        started = time.perf_counter()
        seen = near.attend(model, found.encoded, seed=own_seed(run), neighbours=number)
        columns["seconds"].append(time.perf_counter() - started)
        columns["precision"].append(near.judged(replace(found, vectors=seen.refined))[0])
        columns["mutual"].append(seen.mutual.sum(axis=1).mean())
        for name, share in near.falls_on(seen, found.identities).items():
            columns[name].append(share)
    progress(len(numbers), len(numbers))
    return {name: np.array(values) for name, values in columns.items()} | dict(
        neighbours=np.array(numbers),
        own=np.array(min(asked.neighbours, count)),
        images=np.array(count),
        before=np.array(np.nanmean(precision_before)),
        cut=np.array(fits < count),
    )
