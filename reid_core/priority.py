"""Long work gives way to whatever somebody waits for."""

from contextlib import suppress
from pathlib import Path
from subprocess import Popen

import psutil

NICE = 10  # of 0 to 19


def give_way(process: Popen, leads: bool = False) -> None:
    """Let a process that has just been started leave the processor to others first: to a page that
    somebody looks at above all. leads: it leads a session of its own."""
    low = psutil.BELOW_NORMAL_PRIORITY_CLASS if psutil.WINDOWS else NICE
    with suppress(psutil.Error):  # it has ended already, or its starter must not
        psutil.Process(process.pid).nice(low)
    if leads:
        # Linux shares the processor between sessions before it looks at processes: of two that lead
        # sessions of their own, the number above says nothing.
        with suppress(OSError):  # elsewhere, or without such a rule
            Path(f"/proc/{process.pid}/autogroup").write_text(str(NICE))
