"""The runs that there are."""

from reid_core.errors import BadInput
from reid_core.knobs import unknown
from reid_core.run_folder import runs_folder
from reid_core.runs.run import Run, checked

OF_A_RUN = (
    *("experiment.json", "weights.safetensors", "embeddings.npz"),
    *("history.jsonl", "metrics.json", "state/last.pt"),
)


def list_runs() -> list[Run]:
    """All runs, by name; folders without a readable experiment.json are no runs."""
    return [run for run in _folders() if not _damage(run)]


def damaged_runs() -> dict[str, str]:
    """Of runs whose experiment.json is gone or can't be read, by name: why."""
    return {run.name: why for run in _folders() if (why := _damage(run))}


def open_run(name: str) -> Run:
    """The run of a name. Raises BadInput, with the nearest names, where there is none."""
    run = Run(name, runs_folder() / checked(name))
    if not run.folder.is_dir():
        raise BadInput(unknown("run", name, [each.name for each in list_runs()]))
    run.experiment  # noqa: B018 - damage shows here
    return run


def _folders() -> list[Run]:
    """Those that hold any file by which a run is known, lest one without its record be lost from sight."""
    folder = runs_folder()
    found = sorted(d for d in folder.iterdir() if d.is_dir()) if folder.is_dir() else []
    return [Run(d.name, d) for d in found if any((d / name).is_file() for name in OF_A_RUN)]


def _damage(run: Run) -> str:
    try:
        run.experiment  # noqa: B018
    except BadInput as error:
        return str(error)
    return ""
