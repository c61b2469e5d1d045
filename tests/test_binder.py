"""Binder's image, as far as it can be proved without building it: its recipe, and its packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

IN_BINDERS_IMAGE = {"jupyterlab"}
MEMORY = 2 * 2**30  # bytes; what Binder grants


def requirements(repo: Path) -> list[Requirement]:
    rows = (repo / "binder" / "requirements.txt").read_text().splitlines()
    return [Requirement(row) for row in rows if row and row[0] not in "#-"]


def dockerfile(folder: Path) -> subprocess.CompletedProcess[str]:
    """What repo2docker makes of a folder without building it: the Dockerfile, among its messages."""
    line = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", str(folder)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)


def test_the_dockerfile_holds_our_recipe(repo: Path) -> None:
    done = dockerfile(repo)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-3000:]
    assert "environment for python=3.11\n" in text, "Python 3.11 was not taken from binder/runtime.txt"
    for step in ('install --no-cache-dir -r "binder/requirements.txt"', "RUN ./binder/postBuild"):
        assert step in text, f"no step `{step}`"


def test_a_bad_recipe_is_refused(repo: Path, tmp_path: Path) -> None:
    shutil.copytree(repo / "binder", tmp_path / "binder")
    (tmp_path / "binder" / "runtime.txt").write_text("python-3.99\n")
    assert dockerfile(tmp_path).returncode != 0


def test_the_requirements_are_those_of_the_package(repo: Path) -> None:
    project = tomllib.loads((repo / "pyproject.toml").read_text())["project"]
    package = {r.name: r.specifier for r in map(Requirement, project["dependencies"])}
    binder = {r.name: r.specifier for r in requirements(repo)}
    pin = str(binder.pop("torch")).removeprefix("==")
    assert pin.endswith("+cpu") and Version(pin).public in package.pop("torch")
    assert binder == {name: spec for name, spec in package.items() if name not in IN_BINDERS_IMAGE}
    assert (repo / "binder" / "requirements.txt").read_text().startswith("--extra-index-url ")
    assert os.access(repo / "binder" / "postBuild", os.X_OK)


NOTEBOOK_IN_LITTLE_MEMORY = """
import json, resource, sys
import papermill
papermill.execute_notebook(sys.argv[1], None, kernel_name="python3", cwd=sys.argv[2], progress_bar=False)
import labkit, torch
scale = 1 if sys.platform == "darwin" else 1024
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * scale
print(json.dumps({"kernel": peak, "torch": torch.__version__, "labkit": labkit.__file__}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "darwin", reason="PyTorch publishes no +cpu build for macOS")
def test_the_requirements_install_and_run(repo: Path, tmp_path: Path) -> None:
    """In a clean environment: the requirements, then postBuild, then the first notebook in little memory."""
    copy = tmp_path / "repo"
    shutil.copytree(repo, copy, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__"))
    home = tmp_path / "env"
    venv.create(home, with_pip=True)
    scripts = home / ("Scripts" if os.name == "nt" else "bin")
    env = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    env.pop("PYTHONPATH", None)

    def run(*line: str, seconds: int = 600) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            line, cwd=copy, env=env, capture_output=True, text=True, timeout=seconds, check=False
        )

    # A machine that has the CPU build at hand needs no index of PyTorch's; others ask it, as Binder does.
    rows = (copy / "binder" / "requirements.txt").read_text().splitlines(keepends=True)
    (tmp_path / "at-hand.txt").write_text("".join(row for row in rows if not row.startswith("-")))
    pip = [str(scripts / "python"), "-m", "pip", "install", "-q", "--no-compile"]
    image = ["ipykernel"]  # like JupyterLab, it is in Binder's image
    done = run(*pip, *image, "-r", str(tmp_path / "at-hand.txt"))
    if "No matching distribution found for torch" in done.stderr:
        done = run(*pip, *image, "-r", "binder/requirements.txt")
    assert done.returncode == 0, done.stderr[-3000:]
    done = run("bash", "binder/postBuild")
    assert done.returncode == 0, done.stderr[-3000:]
    packages = {row["name"].lower() for row in json.loads(run(*pip[:3], "list", "--format=json").stdout)}
    assert "labkit" in packages
    assert not [name for name in packages if name.startswith("nvidia") or name == "triton"]

    first = copy / "notebooks" / "00_start_here.ipynb"
    done = run(
        str(scripts / "python"), "-c", NOTEBOOK_IN_LITTLE_MEMORY, str(first), str(first.parent), seconds=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["torch"].endswith("+cpu") and Path(told["labkit"]).is_relative_to(copy)
    assert told["kernel"] < MEMORY / 2, "server and page need room beside the kernel"
