"""The package as it is built, and the promises of the README and the Makefile."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest

import labkit

BIN = Path(sys.executable).parent


def run(*line: str | Path, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in line], capture_output=True, text=True, timeout=300, check=False, **more
    )  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def built(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package built from a copy of the sources and unpacked into a folder of its own."""
    folder = tmp_path_factory.mktemp("built")
    for name in ("labkit", "kernels"):
        shutil.copytree(repo / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repo / name, folder / "source" / name)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder / "site"]
    done = run(*pip, folder / "source")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "site"


def sources(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*.py")}


def test_the_built_package_is_whole(repo: Path, built: Path) -> None:
    assert sources(built / "labkit" / "kernels") == sources(repo / "kernels")
    assert "gated_delta/__init__.py" in sources(built / "labkit" / "kernels")
    assert sources(built / "labkit") - {f"kernels/{name}" for name in sources(repo / "kernels")} == sources(
        repo / "labkit"
    )
    assert (built / "labkit" / "py.typed").exists()
    done = run(
        sys.executable,
        "-c",
        "import labkit, labkit.kernels as k; print(k.__file__); k.gated_delta_rule",
        cwd=built,
        env={**os.environ, "PYTHONPATH": str(built)},
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == built / "labkit" / "kernels" / "__init__.py"


@pytest.mark.slow
def test_the_types_of_the_built_package(repo: Path, built: Path, tmp_path: Path) -> None:
    config = ["--config-file", repo / "pyproject.toml", "--cache-dir", tmp_path / "cache"]
    env = {**os.environ, "MYPYPATH": str(built)}
    done = run(BIN / "mypy", *config, "-p", "labkit", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    # It would see a fault in the kernels, which a look at the editable installation would miss.
    faulty = tmp_path / "faulty"
    (faulty / "labkit" / "kernels").mkdir(parents=True)
    shutil.copy(built / "labkit" / "__init__.py", faulty / "labkit")
    (faulty / "labkit" / "kernels" / "__init__.py").write_text("x: int = 'text'\n")
    env["MYPYPATH"] = str(faulty)
    done = run(BIN / "mypy", *config, "-p", "labkit.kernels", cwd=tmp_path, env=env)
    assert done.returncode != 0 and "Incompatible types" in done.stdout


def test_the_packages_listed_are_those_there_are(repo: Path) -> None:
    listed = tomllib.loads((repo / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {
        ".".join([prefix, *path.parent.relative_to(repo / folder).parts])
        for folder, prefix in (("labkit", "labkit"), ("kernels", "labkit.kernels"))
        for path in (repo / folder).rglob("__init__.py")
    }
    assert set(listed) == there
    assert labkit.__version__ == tomllib.loads((repo / "pyproject.toml").read_text())["project"]["version"]


def test_the_style(repo: Path) -> None:
    done = run(BIN / "ruff", "check", "--no-cache", ".", cwd=repo)
    assert done.returncode == 0, done.stdout
    long = [
        f"{path.relative_to(repo)}: {rows} lines"
        for folder in ("labkit", "kernels", "tests")
        for path in (repo / folder).rglob("*.py")
        if (rows := len(path.read_text().splitlines())) > 400
    ]
    assert long == []


def test_names_are_loaded_when_they_are_used() -> None:
    code = (
        "import sys, labkit; heavy = {'torch', 'plotly', 'ipywidgets'}; assert not heavy & set(sys.modules); "
        "labkit.SleepLM, labkit.load; assert 'torch' in sys.modules; "
        "import labkit.train, labkit.evaluate; print(sorted(heavy & set(sys.modules)))"
    )
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['torch']"


def test_public_names() -> None:
    for name in labkit.__all__:
        assert getattr(labkit, name) is not None
    assert set(labkit.__all__) <= set(dir(labkit))
    with pytest.raises(AttributeError, match="labkit has no 'SleepyLM'; it has"):
        labkit.SleepyLM  # noqa: B018


def test_the_command_answers() -> None:
    done = run(BIN / "labkit", "--help")
    assert done.returncode == 0, done.stderr
    for command in ("train", "evaluate", "list"):
        assert re.search(rf"^\s*{command}\b", done.stdout, flags=re.MULTILINE)


# ---- README, Makefile, continuous integration


def targets(repo: Path) -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (repo / "Makefile").read_text(), flags=re.MULTILINE))


def test_the_readme_names_what_exists(repo: Path) -> None:
    text = (repo / "README.md").read_text()
    commands = re.findall(r"^make ([a-z ]+)|`make ([a-z]+)", text, flags=re.MULTILINE)
    named = {word for pair in commands for words in pair for word in words.split()}
    assert {"lab", "test"} <= named and named <= targets(repo)
    tree = re.search(r"## What is where\n+```\n(.+?)```", text, flags=re.DOTALL)
    assert tree is not None
    folder = ""
    for row in tree.group(1).splitlines():
        path, _, what = row.strip().partition(" ")
        assert what.strip(), f"no line about {path}"
        folder = path if row[0] != " " else folder
        whole = path if row[0] != " " else folder + path
        assert (repo / whole).exists(), f"README names {whole}, which is not there"
    for alt, target in re.findall(r"(!?\[[^\]]*\])\(([^)]+)\)", text):
        assert not alt.startswith("![]"), f"the picture {target} has no alt text"
        assert "://" in target or (repo / target).exists(), f"README links to {target}, which is not there"


def test_the_readmes_example_runs(repo: Path) -> None:
    example = re.search(r"```python\n(.+?)```", (repo / "README.md").read_text(), flags=re.DOTALL)
    assert example is not None
    done = run(sys.executable, "-c", example.group(1), cwd="/")
    assert done.returncode == 0, done.stderr
    told = re.findall(r"N = (\d): (\d\.\d{3}) right", done.stdout)
    assert [int(passes) for passes, _ in told] == [1, 2, 4, 8] and len(done.stdout.splitlines()) == 4
    assert float(told[0][1]) < 0.5 and float(told[2][1]) > 0.9, "the point of it: sleep longer, answer more"


def test_continuous_integration_runs_the_readmes_test_command(repo: Path) -> None:
    script = repo / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    last = script.read_text().splitlines()[-1]
    assert last == "exec make test"
    assert "\nmake test\n" in (repo / "README.md").read_text()


def test_make_help_lists_every_target(repo: Path) -> None:
    done = run("make", "help", cwd=repo)
    assert done.returncode == 0
    assert set(re.findall(r"^make ([a-z]+)", done.stdout, flags=re.MULTILINE)) == targets(repo) - {"need-"}


def test_make_lab_opens_the_first_notebook(repo: Path, tmp_path: Path) -> None:
    done = run("make", "-n", "lab", f"VENV={tmp_path / 'env'}", "LAB_ARGS=--no-browser", cwd=repo)
    assert done.returncode == 0, done.stderr
    assert "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb --no-browser" in done.stdout
    assert ("--allow-root" in done.stdout) == (os.geteuid() == 0)
    assert (repo / "notebooks" / "00_start_here.ipynb").exists()


def test_make_refuses_an_old_python_in_a_sentence(repo: Path, tmp_path: Path) -> None:
    old = tmp_path / "python3.8"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = run("make", "lab", f"VENV={tmp_path / 'env'}", f"PYTHON={old}", cwd=repo)
    assert done.returncode == 2 and "needs Python 3.11 or newer" in done.stdout
    assert not (tmp_path / "env").exists()


def test_make_train_asks_which(repo: Path, tmp_path: Path) -> None:
    done = run("make", "train", f"VENV={tmp_path / 'env'}", cwd=repo)
    assert done.returncode == 2 and "make train RECIPE=name" in done.stdout
    assert not (tmp_path / "env").exists()


# ---- notebooks are kept without outputs


def test_the_hook_strips_outputs(repo: Path, tmp_path: Path) -> None:
    config = (repo / ".pre-commit-config.yaml").read_text()
    entry = re.search(r"entry: \.venv/bin/(nbstripout)$", config, flags=re.MULTILINE)
    assert entry is not None
    cell = nbformat.v4.new_code_cell("1 + 1", execution_count=3)
    cell.outputs = [nbformat.v4.new_output("stream", text="2")]
    book = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {"state": "x" * 100}})
    path = tmp_path / "book.ipynb"
    nbformat.write(book, path)
    done = run(BIN / entry.group(1), path)
    assert done.returncode == 0, done.stderr
    stripped = json.loads(path.read_text())
    assert stripped["cells"][0]["outputs"] == [] and stripped["cells"][0]["execution_count"] is None
    assert "widgets" not in stripped["metadata"] and stripped["cells"][0]["source"] == ["1 + 1"]
