"""What two runs were trained by, besides their models."""

from reid_core.experiment import Training
from reid_core.jobs.clones import difference
from reid_core.knobs import knobs_of
from reid_core.runs import open_run

GROUPS = ("Schedule", "Optimiser", "Batch", "Images", "Loss")
OF_TRAINING = {knob.name for knob in knobs_of(Training) if knob.group in GROUPS} | {"drop_path"}


def apart(one: str, two: str) -> str:
    """A sentence on how the trainings of two runs differ, of settings that both have; empty where
    they do not."""
    runs = open_run(one), open_run(two)
    if unknown := [run.name for run in runs if run.imported]:
        return f" How {' and '.join(unknown)} was trained is not known here."
    changes = difference(*(run.experiment for run in runs))
    words = [
        f"{name} {first} and {second}"
        for name, (first, second) in changes.items()
        if name in OF_TRAINING and None not in (first, second)
    ]
    if not words:
        return ""
    return f" Their trainings differ too, which may be why: {', '.join(words)}."
