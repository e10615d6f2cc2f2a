"""What a run was made with."""

import platform
import shutil
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from reid_core.data import ROOT

PACKAGES = ("torch", "torchvision", "timm", "lightning-fabric", "numpy", "pillow", "safetensors")


def environment() -> dict[str, Any]:
    """Versions, git revision and time, so that a number can be traced."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    git = (
        subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
        )
        if shutil.which("git")
        else None
    )
    revision = git.stdout.strip() if git and git.returncode == 0 else None
    return dict(versions=versions, git=revision, created=time.strftime("%Y-%m-%dT%H:%M:%S%z"))
