"""The house keeps its rules: imports go one way, the core knows no screen, ruff is content."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from reid_core.errors import OPTIONAL

ROOT = Path(__file__).resolve().parents[1]


def imports(path: Path) -> set[str]:
    """The modules a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


# Who may not import whom: pages -> app -> reid_core, and inside it train -> evaluate, runs, data,
# losses -> models -> probe.
FORBIDDEN = {
    "reid_core": ("app", "pages", "streamlit", "plotly", "altair"),
    "app": ("pages", "torch"),
    "pages": ("torch",),
    "reid_core/models": (
        "reid_core.train",
        "reid_core.evaluate",
        "reid_core.runs",
        "reid_core.data",
        "reid_core.losses",
        "reid_core.experiment",
    ),
    "reid_core/data": ("reid_core.train", "reid_core.runs", "reid_core.models"),
}
# What everybody else leaves to one file: all that a page writes into its address goes there at once.
ALONE = {"query_params": ("app/address.py",), "st.stop()": ("app/address.py",)}
LATE = ("umap", "ptwt", "pywt", "submitit", "onnx", "onnx_ir", "onnxscript", "onnxruntime")


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_go_one_way(folder):
    for path in files(folder):
        for module in imports(path):
            for banned in FORBIDDEN[folder]:
                assert module != banned and not module.startswith(banned + "."), (path, module)


@pytest.mark.parametrize("words", ALONE)
def test_the_address_is_written_in_one_place(words):
    for path in files("app") + files("pages"):
        text = (
            path.read_text("utf-8").replace("query_params=", "").replace('bind="query-params"', "")
        )
        assert words not in text or str(path.relative_to(ROOT)) in ALONE[words], path


def test_heavy_packages_are_imported_where_they_are_used():
    for path in files("reid_core"):
        for node in ast.parse(path.read_text("utf-8")).body:
            names = [a.name for a in getattr(node, "names", [])] + [
                getattr(node, "module", "") or ""
            ]
            assert not [n for n in names if n.split(".")[0] in LATE], path


def test_what_the_core_imports_is_asked_for():
    """All that a machine needs is in pyproject.toml; of what only some ask for, a lack is told."""
    modules = {"pillow": "PIL", "opencv-python-headless": "cv2", "PyWavelets": "pywt"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [re.split(r"[<>=]", each)[0] for each in project["dependencies"]]
    asked = {modules.get(each, each.replace("-", "_")) for each in named}
    used = {name.split(".")[0] for path in files("reid_core") for name in imports(path)}
    used -= {*sys.stdlib_module_names, "reid_core", ""}
    assert used - asked == {*OPTIONAL} - {"onnx"}  # which the others ask for
    assert {*project["optional-dependencies"]["all"]} == {*OPTIONAL.values()}


def test_the_renderer_needs_no_torch():
    """Its worker processes would pay seconds and memory for it."""
    code = "import sys, reid_core.data.pedestrians; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("command", [["format", "--check"], ["check"]])
def test_ruff(command):
    ruff = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ruff.returncode == 0, ruff.stdout + ruff.stderr


def test_tracked_files_stay_small():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    sizes = [
        (ROOT / name).stat().st_size
        for name in listed.stdout.split("\0")
        if (ROOT / name).is_file()
    ]
    assert sum(sizes) < 45 * 2**20
