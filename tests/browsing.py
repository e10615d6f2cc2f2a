"""What browser tests share: a server of their own, a visitor, and the words for what he does."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from reid_core.runs import Run

playwright = pytest.importorskip(
    "playwright.sync_api", reason="browser test skipped: playwright is not installed"
)

ROOT = Path(__file__).resolve().parents[1]
TINY = {"identities_per_batch": 4, "images_per_identity": 2, "evaluate_every": 1}
PATIENCE = 150_000  # milliseconds; the first page waits for torch
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

    def rest(self) -> None:
        """End what is still at work: what a failed test leaves would slow all that follow."""
        names = [folder.name for folder in self.runs.iterdir() if folder.name[0] != "."]
        for run in map(self.run, sorted(names, reverse=True)):  # those that wait first
            if run.status().active or run.status().queued:
                run.ask_stop()
        for run in map(self.run, names):
            until = time.monotonic() + 60
            while run.status().active and time.monotonic() < until:
                time.sleep(0.1)
            if run.status().active:
                os.kill(run.status().pid, signal.SIGKILL)

    def close(self) -> None:
        self.rest()
        self.stop()

    def train(self, name: str) -> None:
        """A small finished run, trained by the command line."""
        knobs = [f"{key}={value}" for key, value in (TINY | {"epochs": 1}).items()]
        command = [sys.executable, "-m", "reid_core", "train", "--model", "transreid"]
        command += ["--run", name, "--set", *knobs]
        subprocess.run(command, cwd=ROOT, env=self.environment, check=True, capture_output=True)

    def run(self, name: str) -> Run:
        return Run(name, self.runs / name)


class Traffic:
    """What passes between a page and its server: whether a run of the script is owed or under way."""

    of: dict = {}  # by page

    def __init__(self, page):
        self.owed = self.running = False
        page.on("websocket", self._opened)
        self.of[page] = self

    @property
    def quiet(self) -> bool:
        return not (self.owed or self.running)

    def _opened(self, socket) -> None:
        self.owed = self.running = False
        socket.on("framesent", self._sent)
        socket.on("framereceived", self._received)

    def _sent(self, frame) -> None:
        if isinstance(frame, bytes) and BackMsg.FromString(frame).HasField("rerun_script"):
            self.owed = True

    def _received(self, frame) -> None:
        kind = ForwardMsg.FromString(frame).WhichOneof("type") if isinstance(frame, bytes) else ""
        if kind == "new_session":
            self.owed, self.running = False, True
        elif kind == "script_finished":
            self.running = False


@contextmanager
def visitor(browser, width: int = 1280, scheme: str = "light") -> Iterator:
    """A page in a session of its own; errors in its console and requests elsewhere fail the test."""
    height = 1080 if width > 1500 else 800
    context = browser.new_context(viewport=dict(width=width, height=height), color_scheme=scheme)
    page, wrong = context.new_page(), []
    Traffic(page)
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
    """Wait until the script has run for all that the page has asked, and the page shows it."""
    page.wait_for_timeout(300)  # until the page has sent the click
    begun, looks = time.monotonic(), 0
    while looks < 2:  # a run may call for the next one at its end
        looks = looks + 1 if Traffic.of[page].quiet else 0
        waited = 1000 * (time.monotonic() - begun)
        if looks and waited > PATIENCE / 3:  # a live page on a slow machine hardly rests
            break
        assert waited < PATIENCE, "the script goes on and on"
        page.wait_for_timeout(100)
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()


def opened(page, address: str) -> None:
    page.goto(address)
    page.get_by_test_id("stHeading").first.wait_for()
    settled(page)


def hears_keys(page) -> None:
    """Streamlit listens for a button's key a moment after it has drawn the button."""
    page.wait_for_timeout(1500)


def pressed(page, key: str, until: str) -> None:
    """Press a key, again where a busy machine did not listen yet, until something holds."""
    for _ in range(5):
        page.keyboard.press(key)
        with suppress(playwright.TimeoutError):
            return page.wait_for_function(until, timeout=PATIENCE / 5)
    raise AssertionError(f"{key}: never {until}")


def asked(page, key: str) -> str | None:
    """What the address says for a key."""
    return page.evaluate(f"new URL(location.href).searchParams.get('{key}')")
