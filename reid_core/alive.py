"""Whether a process that was written down is still that one, whatever has happened to the clock since."""

import hashlib
from pathlib import Path

import psutil


def birth(pid: int) -> float:
    """A number that tells a process from all that ever have its pid.

    On Linux made of the boot and of the ticks from it to the start: psutil's time of creation moves
    when the clock is set. Raises psutil.Error, ValueError or OverflowError for a pid of none.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
        ticks = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19]  # field 22
    except OSError:
        return psutil.Process(pid).create_time()
    return float(int.from_bytes(hashlib.sha256(boot + ticks).digest()[:6]))  # as JSON keeps exactly


def alive(pid: int, born: float) -> bool:
    """Whether the process of which `birth` once said this is there."""
    try:
        process = psutil.Process(pid)
        # A time elsewhere than on Linux, and in what was written down before there was better.
        same = birth(pid) == born or abs(process.create_time() - born) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError, TypeError, OverflowError):  # none can have such a number
        return False
