"""What was kept: a run is the folder checkpoints/<name>/.

    experiment.json        all that was asked, with versions, seed and git revision
    history.jsonl          one line per finished epoch; history-before.jsonl those of a training before
                           this one, of which no state was left
    metrics.json           the last evaluation
    weights.safetensors    the model
    embeddings.npz         the test split as that evaluation saw it
    log.txt                what the training said
    tensorboard/           the history once more, for those who want it
    state/                 what resume and the live page need

Every file but the log is written beside its place and moved there, so a reader never sees half of
one. metrics.json and embeddings.npz know which weights they are of, so nobody shows two evaluations
as one. In reading order:

    run          the folder, written and read
    evaluations  the two files that an evaluation leaves
    states       the two that resume goes on from
    kept         whether what the files say can be what we wrote
    mending      what to do about what is gone or damaged
    listing      the runs that there are
    build        the model that an experiment asks for
    environment  what a run was made with

Where a training stands is in reid_core.run_folder, which needs no torch.
"""

from reid_core.run_folder import runs_folder
from reid_core.runs.build import build
from reid_core.runs.listing import damaged_runs, list_runs, open_run
from reid_core.runs.run import Run, checked

__all__ = ["Run", "build", "checked", "damaged_runs", "list_runs", "open_run", "runs_folder"]
