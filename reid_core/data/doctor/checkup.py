"""The dataset doctor in a process of its own, which a page can follow and end."""

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Thread
from typing import Any

from reid_core.data import ROOT
from reid_core.priority import give_way


class Checkup:
    """One `check` of a folder: how far it is (done of total images) and, at its end, what it found.

    report is what `check --json` prints, None until it is there; problem is why there is none.
    """

    def __init__(self, root: Path | str, name: str | None = None):
        command = [sys.executable, "-m", "reid_core", "check", str(root), "--json"]
        command += ["--progress", "lines"] + (["--dataset", name] if name else [])
        self.report: dict[str, Any] | None = None
        self.problem, self.done, self.total, self.cancelled = "", 0, 0, False
        self._began, self._first = time.monotonic(), 0
        # Not a pipe: the report is longer than one holds. Closed by _follow.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdout=self._said, stderr=subprocess.PIPE, text=True
        )
        give_way(self._process)
        self._thread = Thread(target=self._follow, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    @property
    def seconds_left(self) -> float | None:
        """By the speed so far; None before there is any."""
        new = self.done - self._first
        if new <= 0:
            return None
        return (time.monotonic() - self._began) * (self.total - self.done) / new

    def wait(self) -> None:
        """Until it has ended."""
        self._thread.join()

    def cancel(self) -> None:
        """End it; there will be no report."""
        self.cancelled = True
        self._process.terminate()

    def _follow(self) -> None:
        last = ""
        for line in self._process.stderr:
            if found := re.fullmatch(r"(\d+)/(\d+)", line.strip()):
                done, total = int(found[1]), int(found[2])
                if total != self.total or done < self.done:  # the next part of the work
                    self._began, self._first = time.monotonic(), done
                self.done, self.total = done, total
            else:
                last = line.strip() or last
        code = self._process.wait()
        with self._said as said:
            said.seek(0)
            text = said.read()
        try:
            self.report = json.loads(text)
        except ValueError:
            self.problem = last or f"the check ended with {code} and said nothing"
