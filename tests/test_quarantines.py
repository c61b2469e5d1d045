"""No test is skipped, or allowed to fail, without a reason written down in QUARANTINES.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path

MARKS = {"skip", "skipif", "xfail", "importorskip", "skipTest"}


def skips(source: str, file: str) -> set[str]:
    """``file::function`` of every skip or xfail; ``file`` alone for one that holds for the whole module."""
    found: set[str] = set()

    def walk(node: ast.AST, owner: str) -> None:
        for child in ast.iter_child_nodes(node):
            inside = owner
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inside = f"{file}::{child.name}"
            if isinstance(child, ast.Attribute) and child.attr in MARKS:
                base = ast.unparse(child.value).split(".")[0]
                if base in ("pytest", "mark", "unittest", "self"):
                    found.add(owner)
            walk(child, inside)

    walk(ast.parse(source), file)
    return found


def listed(text: str) -> dict[str, str]:
    """The table's rows: where, and why."""
    return dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", text, flags=re.MULTILINE))


def test_every_skip_has_its_reason(repo: Path) -> None:
    used = set()
    for path in sorted((repo / "tests").rglob("*.py")):
        used |= skips(path.read_text(), path.relative_to(repo / "tests").as_posix())
    rows = listed((repo / "tests" / "QUARANTINES.md").read_text())
    assert used - set(rows) == set(), "skipped without a row in tests/QUARANTINES.md"
    assert set(rows) - used == set(), "rows of tests/QUARANTINES.md for which there is no skip"
    assert all(len(why) > 20 for why in rows.values())


def test_planted_skips_are_found() -> None:
    source = """
import pytest
np = pytest.importorskip("numpy")
@pytest.mark.skipif(True, reason="")
def test_a(): ...
class TestB:
    def test_c(self):
        if 1:
            pytest.skip("never")
@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.xfail)])
def test_d(x): ...
def test_e(x): x.skip(); self_like.xfail
"""
    assert skips(source, "f.py") == {"f.py", "f.py::test_a", "f.py::test_c", "f.py::test_d"}
