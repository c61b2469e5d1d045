"""Imports run one way: kernels ← memory ← models ← train, evaluate, ... ← explore ← notebooks.

All modules are read, not run, so an import inside a function counts like any other.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import labkit

# What each room may import from the package, itself included.
BELOW_WORK = {"kernels", "memory", "models", "tasks"}
WORK = {"work", *BELOW_WORK}
ALLOWED = {
    "kernels": {"kernels"},
    "memory": {"kernels", "memory"},
    "models": {"kernels", "memory", "models"},
    "tasks": {"tasks"},
    "store": {"store"},
    "work": {"store", *WORK},  # train, evaluate, checkpoints, recipes, session ...: modules beside the rooms
    "explore": {"explore", "store", *WORK},
    "cli": {"cli", "explore", "store", *WORK},
    "notebooks": {"explore", "store", *WORK},
    "labkit": set(),  # labkit/__init__.py loads names when they are asked for and imports nothing itself
}
# Packages that only the named rooms may import. (Only notebooks and explore draw; kernels are written in Triton, and
# explore holds puzzles about them.)
RESERVED = {
    "triton": {"kernels", "explore"},
    "ipywidgets": {"explore"},
    "anywidget": {"explore"},
    "plotly": {"explore"},
    "tqdm.auto": {"explore"},  # loads ipywidgets wherever a notebook's kernel runs
    "tqdm.notebook": {"explore"},
}
# Rooms that stand on these packages (and the standard library) alone.
STANDS_ON = {"tasks": {"numpy", "torch"}, "store": {"numpy"}, "kernels": {"numpy", "torch", "triton"}}


def room(module: str) -> str:
    """The room a module of the package belongs to."""
    parts = module.split(".")
    if len(parts) == 1:
        return "labkit"
    return parts[1] if parts[1] in ALLOWED and parts[1] != "labkit" else "work"


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Every module of the package, by its imported name: ``kernels/`` at the root is ``labkit.kernels``."""
    for folder, prefix in (("labkit", "labkit"), ("kernels", "labkit.kernels")):
        for path in sorted((root / folder).rglob("*.py")):
            inner = path.relative_to(root / folder).with_suffix("").parts
            parts = [prefix, *inner]
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imported(source: str, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything that `source`, being `module`, imports."""
    tree = ast.parse(source)
    for_types_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                kept = parts[: len(parts) - node.level + is_package]
                base = ".".join([*kept, base] if base else kept)
            for alias in node.names:
                if module == "labkit" and id(node) in for_types_only:
                    continue  # names of lazily loaded things, told to the type checker
                yield node.lineno, home(base, alias.name)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
            "import_module",
            "__import__",
        ):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield node.lineno, first.value


def home(base: str, name: str) -> str:
    """``from labkit import load`` comes from labkit.checkpoints, whatever way it takes."""
    if base == "labkit":
        return labkit._HOME.get(name, f"labkit.{name}")
    return base


def faults(root: Path) -> list[str]:
    """One sentence for each import that runs the wrong way."""
    out = []
    for module, path in modules(root):
        found = imported(path.read_text(), module, path.name == "__init__.py")
        out += [f"{path.relative_to(root)}:{line}: {why}" for line, why in judge(room(module), found)]
    for path in sorted((root / "notebooks").rglob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        for number, source in enumerate(code):
            plain = "\n".join(
                "pass" if row.lstrip().startswith(("%", "!")) else row for row in source.split("\n")
            )
            for _, why in judge("notebooks", imported(plain, "notebook", False)):
                out.append(f"{path.relative_to(root)}, code cell {number}: {why}")
    return out


def judge(where: str, found: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    for line, name in found:
        top = name.split(".")[0]
        reserved = next((key for key in RESERVED if f"{name}.".startswith(f"{key}.")), None)
        if top == "labkit":
            target = room(name)
            if name == "labkit":
                if where not in ("cli", "explore", "notebooks"):
                    yield line, f"{where} imports labkit as a whole, which hides what it uses"
            elif name != "labkit.__version__" and target not in ALLOWED[where]:
                yield line, f"{where} imports {name}, which is not below it"
        elif top == "kernels":
            yield line, "the kernels are imported as labkit.kernels"
        elif reserved and where not in RESERVED[reserved]:
            yield line, f"{where} imports {reserved}, which belongs to {', '.join(sorted(RESERVED[reserved]))}"
        elif where in STANDS_ON and top not in STANDS_ON[where] and top not in sys.stdlib_module_names:
            yield line, f"{where} imports {name}; it stands on {', '.join(sorted(STANDS_ON[where]))} alone"


def test_imports_run_one_way(repo: Path) -> None:
    assert len(list(modules(repo))) > 10, "the modules were not found"
    assert faults(repo) == []


PLANTED = {
    "labkit/models/bad.py": ("def f():\n    from labkit.train import train\n", "models imports labkit.train"),
    "labkit/models/lazy.py": ("from labkit import load\n", "models imports labkit.checkpoints"),
    "labkit/models/whole.py": ("import labkit\n", "models imports labkit as a whole"),
    "labkit/memory/up.py": ("from ..models import SleepLM\n", "memory imports labkit.models"),
    "labkit/tasks/scipy.py": ("import scipy.stats\n", "tasks imports scipy.stats"),
    "labkit/tasks/__init__.py": ("from .. import models\n", "tasks imports labkit.models"),
    "labkit/train.py": ("import plotly.graph_objects as go\n", "work imports plotly"),
    "labkit/evaluate.py": ("from labkit.explore import setup\n", "work imports labkit.explore"),
    "labkit/bars.py": ("from tqdm.auto import tqdm\n", "work imports tqdm.auto"),
    "labkit/models/fast.py": (
        'import importlib\nimportlib.import_module("triton")\n',
        "models imports triton",
    ),
    "labkit/store.py": ("import torch\n", "store imports torch"),
    "labkit/__init__.py": ("import labkit.models\n", "labkit imports labkit.models"),
    "kernels/gated/up.py": ("from ...memory import x\n", "kernels imports labkit.memory"),
    "kernels/bare.py": ("import kernels.gated\n", "the kernels are imported as labkit.kernels"),
}


@pytest.mark.parametrize("path", PLANTED)
def test_a_planted_import_is_found(tmp_path: Path, path: str) -> None:
    source, sentence = PLANTED[path]
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)
    found = faults(tmp_path)
    assert len(found) == 1 and found[0].startswith(path) and sentence in found[0]


def test_a_planted_import_in_a_notebook_is_found(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    cell = {"cell_type": "code", "source": ["%matplotlib inline\n", "import ipywidgets as W"]}
    (tmp_path / "notebooks" / "x.ipynb").write_text(json.dumps({"cells": [cell]}))
    assert faults(tmp_path) == [
        "notebooks/x.ipynb, code cell 0: notebooks imports ipywidgets, which belongs to explore"
    ]


def test_what_may_be_imported_is_let_through(tmp_path: Path) -> None:
    good = {
        "labkit/train.py": "import torch\nfrom labkit.models import SleepLM\nfrom . import tasks\n",
        "labkit/explore/draw.py": "import plotly\nfrom labkit import load\nfrom ..evaluate import evaluate\n",
        "labkit/tasks/depo.py": "import math\nimport numpy as np\nimport torch\nfrom .base import Task\n",
        "kernels/gated/triton_forward.py": "import triton\nfrom labkit.kernels.gated import recurrent\n",
    }
    for path, source in good.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(source)
    assert faults(tmp_path) == []
