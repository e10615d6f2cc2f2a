"""What browser tests share: a server of their own, a visitor, and the words for what he does."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reid_core.runs import Run

playwright = pytest.importorskip(
    "playwright.sync_api", reason="browser test skipped: playwright is not installed"
)

ROOT = Path(__file__).resolve().parents[1]
TINY = {"identities_per_batch": 4, "images_per_identity": 2, "evaluate_every": 1}
PATIENCE = 90_000  # milliseconds; the first page waits for torch
# Streamlit looks for its server below the page's own address first, and is answered 404.
PROBES = re.compile(r"/\w+/_stcore/(health|host-config)$")


class Lab:
    """A server with data and runs of its own."""

    def __init__(self, folder: Path):
        self.data, self.runs, self.log = folder / "data", folder / "runs", folder / "server.log"
        self.runs.mkdir()
        own = dict(REID_DATA=str(self.data), REID_RUNS=str(self.runs), REID_PEDESTRIANS="12")
        self.environment = os.environ | own
        with socket.socket() as free:
            free.bind(("localhost", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        return f"http://localhost:{self.port}/"

    def start(self) -> None:
        # From another folder than the root: the settings must be found all the same.
        command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app" / "main.py")]
        command += ["--server.headless=true", f"--server.port={self.port}"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.runs, env=self.environment, stdout=log, stderr=log
            )
        for _ in range(300):
            try:
                urllib.request.urlopen(self.address + "_stcore/health", timeout=2)
                return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(self.log.read_text())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)

    def train(self, name: str) -> None:
        """A small finished run, trained by the command line."""
        knobs = [f"{key}={value}" for key, value in (TINY | {"epochs": 1}).items()]
        command = [sys.executable, "-m", "reid_core", "train", "--model", "transreid"]
        command += ["--run", name, "--set", *knobs]
        subprocess.run(command, cwd=ROOT, env=self.environment, check=True, capture_output=True)

    def run(self, name: str) -> Run:
        return Run(name, self.runs / name)


@contextmanager
def visitor(browser, width: int = 1280, scheme: str = "light") -> Iterator:
    """A page in a session of its own; errors in its console and requests elsewhere fail the test."""
    height = 1080 if width > 1500 else 800
    context = browser.new_context(viewport=dict(width=width, height=height), color_scheme=scheme)
    page, wrong = context.new_page(), []
    page.set_default_timeout(PATIENCE)

    def listen(message) -> None:
        url = message.location.get("url", "")
        if message.type == "error" and not PROBES.search(url):
            wrong.append(f"{message.text} {url}")

    def watch(request) -> None:
        if not re.match(r"(http|ws)://localhost[:/]|data:|blob:", request.url):
            wrong.append(f"request to {request.url}")

    page.on("console", listen)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", watch)
    yield page
    assert not page.get_by_test_id("stException").count()
    context.close()
    assert not wrong


def settled(page) -> None:
    """Wait until the script has run."""
    page.wait_for_timeout(400)  # until the click has reached the server
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()


def opened(page, address: str) -> None:
    page.goto(address)
    page.get_by_test_id("stHeading").first.wait_for()
    settled(page)


def hears_keys(page) -> None:
    """Streamlit listens for a button's key a moment after it has drawn the button."""
    page.wait_for_timeout(1500)


def asked(page, key: str) -> str | None:
    """What the address says for a key."""
    return page.evaluate(f"new URL(location.href).searchParams.get('{key}')")
