"""Small data and a small trained run, made once for the whole suite."""

import os
import shutil
from pathlib import Path

import pytest

os.environ.setdefault("REID_PEDESTRIANS", "12")
if "PYTEST_XDIST_WORKER" in os.environ:  # the other one has the other core
    os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY = {
    "epochs": 1,
    "identities_per_batch": 4,
    "images_per_identity": 2,
    "size": "64x32",
    "depth": 2,
    "width": 32,
    "heads": 2,
    "stride": 8,
    "pad": 2,
    "evaluate_every": 1,
    "warmup_epochs": 0,
    "device": "cpu",
    "precision": "fp32",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Among workers: a file's tests share what it makes, and browsers don't run beside one another."""
    from xdist.scheduler import LoadFileScheduling

    class OneBrowser(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "browser" if Path(file).name.startswith("test_browser") else file

    return OneBrowser(config, log)


@pytest.fixture(scope="session", autouse=True)
def _elsewhere(tmp_path_factory):
    """A test with no folder of its own must not draw its few people where the app would find them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_DATA", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session")
def _made(tmp_path_factory) -> tuple[Path, Path]:
    """Twelve pedestrians and a run trained on them for one epoch."""
    from reid_core import train
    from reid_core.data.pedestrians import render
    from reid_core.experiment import Experiment

    base = tmp_path_factory.mktemp("made")
    data = base / "data" / "pedestrians"
    data.parent.mkdir()
    render(data, identities=12, cameras=3, size=(64, 32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_RUNS", str(base / "runs"))
        patch.setenv("REID_DATA", str(base / "data"))
        experiment = Experiment.create(
            model="transreid", recipe="demo", settings=TINY, dataset="pedestrians"
        )
        run = train.create(experiment, "tiny")
        train.train(run)
    return base / "data", base / "runs"


@pytest.fixture(scope="session")
def tiny_data(_made) -> Path:
    """The folder of a small pedestrians data set: only ever read."""
    return _made[0] / "pedestrians"


@pytest.fixture
def runs(tmp_path, tiny_data, monkeypatch) -> Path:
    """An empty runs folder of this test's own, with the small data set as the default one."""
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("REID_RUNS", str(folder))
    monkeypatch.setenv("REID_DATA", str(tiny_data.parent))
    return folder


@pytest.fixture
def tiny_run(_made, runs) -> str:
    """The name of a finished run, in a runs folder of this test's own."""
    shutil.copytree(_made[1] / "tiny", runs / "tiny")
    return "tiny"


@pytest.fixture(autouse=True)
def _trainings_end(request):
    """A test that fails leaves nothing at work beside those that follow."""
    yield
    if "lab" in request.fixturenames:
        request.getfixturevalue("lab").rest()


@pytest.fixture(scope="session")
def browser():
    """The system's Chromium, else Playwright's own; without either these tests are skipped."""
    from playwright import sync_api as playwright

    with playwright.sync_playwright() as started:
        try:
            path = shutil.which("chromium") or shutil.which("chromium-browser")
            found = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"browser test skipped: no Chromium ({str(error).splitlines()[0]})")
        yield found
        found.close()


def pytest_terminal_summary(terminalreporter):
    """The reason why browser tests were skipped, where nobody overlooks it."""
    reasons = _skipped_browser_tests(terminalreporter)
    for reason in sorted(set(reasons)):
        terminalreporter.write_line(f"{reasons.count(reason)} browser tests skipped: {reason}")


def pytest_sessionfinish(session):
    """On CI a browser test that could not run is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("REID_REQUIRE_BROWSER") and _skipped_browser_tests(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _skipped_browser_tests(reporter) -> list[str]:
    skipped = [r for r in reporter.stats.get("skipped", []) if "browser" in r.keywords]
    return [str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped]
