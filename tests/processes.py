"""A process of a group that takes one training step of each model it is given, and keeps what came
of it: for test_distributed.py, which starts groups of one and of two.

    python tests/processes.py FOLDER CASE... (with the place in the environment)
"""

import sys
from pathlib import Path

import torch
from test_models import SMALL

from reid_core import train
from reid_core.distributed import Place, given_place, leave, rank
from reid_core.experiment import Experiment, knobs
from reid_core.runs import Run
from reid_core.train import loop as loops
from reid_core.train.loop import Loop, build
from reid_core.train.processes import awaited
from reid_core.train.unheard import Seen, Unheard

PLAIN = dict(flip=0.0, pad=0, translate=0.0, erase=0.0, dropout=0.0, drop_path=0.0)


def asked(case: str) -> Experiment:
    """A case of SMALL, perhaps with a word behind a bar: "nformer|second" is its second stage, with
    "nformer|second whole" in batches of one sequence, which can't be divided,
    "transreid|drawn" has its augmentation, "rga|double" computes in float64 (in float32 the last bit
    of a number near zero decides whether ReLU lets its gradient through)."""
    model, _, word = case.partition("|")
    settings = SMALL[model] | dict(
        pretrained="none",
        size="64x32",
        epochs=1,
        identities_per_batch=4,
        images_per_identity=2,
        sync_batchnorm="all",
        device="cpu",
        precision="fp32",
        passes=1,
        sequence=12,
        images_per_sequence=16,
        sie="camera",
    )
    settings |= {} if word == "drawn" else PLAIN
    settings |= dict(sequences_per_batch=1) if "whole" in word else {}
    settings |= dict(erase=0.5, flip=0.5, pad=4, translate=0.5) if word == "drawn" else {}
    name = model.split()[0]
    known = {knob.name for knob in knobs(name)}
    settings = {key: value for key, value in settings.items() if key in known}
    return Experiment.create(model=name, recipe="demo", settings=settings)


def step(run: Run, word: str, place: Place) -> dict:
    """The terms of one step's loss, every gradient, BatchNorm's statistics and this process's images."""
    if word == "double":  # before DDP looks at the weights
        loops.build = lambda *given, **more: build(*given, **more).double()
    loop = Loop(run, Unheard(run), place)
    loops.build = build
    second = word.startswith("second")
    if second:
        loop.standing.epoch = loop.experiment.epochs
    loop._begin_stage()
    feed = loop.stage.feed
    feed.begin(loop.standing.epoch, lambda: None)
    if second:  # the features of one process, to the last bit: who is whose neighbour hangs on them
        drawn = torch.Generator().manual_seed(0)
        feed.vectors = torch.randn(feed.vectors.shape, generator=drawn)
    made, batch = [], feed.batch

    def kept(*given):
        made.append(batch(*given))
        if word == "double":
            made[-1].image = made[-1].image.double()
        return made[-1]

    feed.batch = kept
    loop._step(0, feed.plan(loop.standing.epoch))
    gradients = {n: p.grad.clone() for n, p in loop.bare.named_parameters() if p.grad is not None}
    return dict(
        terms={name: term.detach() for name, term in loop.standing.sums.items()},
        gradients=gradients,
        buffers=dict(loop.bare.named_buffers()),
        image=made[0].image if made[0].vectors is None else made[0].vectors,
    )


def main(folder: Path, cases: list[str]) -> None:
    place = given_place() or Place()
    torch.set_num_threads(1)
    for case in cases:
        name = case.replace(" ", "-").replace("|", ".")
        run = train.create(asked(case), name) if rank() == place.rank == 0 else awaited(name)
        seen = Seen(run.name, run.folder) if place.rank else run
        torch.save(step(seen, case.partition("|")[2], place), folder / f"{name}.{place.rank}")
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
