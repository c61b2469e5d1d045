"""The kernel puzzles: solutions pass, typical wrong answers are named, stubs say that nothing was written."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import nbformat
import notebook_runner as strict
import pytest
import torch

pytest.importorskip("triton", reason="Triton has wheels for Linux only")
from kernel_puzzles import solutions
from kernel_puzzles.wrong import WRONG, Wrong, solution, wrong_kernel

from labkit.explore import puzzles
from labkit.explore.puzzles import checking, chunk_faults, core, guards, tl, triton
from labkit.explore.puzzles.interpreter import InterpreterBuilder

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "assignments" / "kernels" / "kernel_puzzles.ipynb"
NAMES = puzzles.names()
interpreted = puzzles.INTERPRETED


def code_cells() -> list[str]:
    return [cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]


def as_kernel(source: str, name: str, folder: Path) -> Any:
    """A kernel out of a notebook's cell, from a file, where Triton finds its source."""
    (folder / "cell.py").write_text(f"from labkit.explore.puzzles import tl, triton\n\n\n{source}\n")
    space: dict[str, Any] = {"__name__": "cell"}
    exec(compile((folder / "cell.py").read_text(), folder / "cell.py", "exec"), space)
    return space[name]


# ------------------------------------------------------------------ answers


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_passes_and_is_scored(name: str) -> None:
    began = time.monotonic()
    result = puzzles.check(solution(name), name)
    assert result.passed and result.failure is None, result.message
    assert time.monotonic() - began < 30  # seconds, on a busy machine; a check shall take less than a minute
    if interpreted:
        assert result.score is not None and "Reads 1." in result.message and "writes 1.0 times" in result.message
        assert result.score.stores == result.score.least_stores
        assert result.score.least_loads <= result.score.loads <= 2 * result.score.least_loads
        assert result.score.bytes_loaded == 4 * result.score.loads
    else:
        assert result.score is None and "not available" in result.message


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong.puzzle}: {wrong.told[:40]}")
def test_a_wrong_answer_is_told(wrong: Wrong, tmp_path: Path) -> None:
    result = puzzles.check(wrong_kernel(wrong, tmp_path), wrong.puzzle)
    assert not result.passed and result.score is None
    assert wrong.told in result.message, result.message


def test_every_puzzle_has_two_wrong_answers_that_are_told_apart() -> None:
    for name in NAMES:
        assert len({wrong.told for wrong in WRONG if wrong.puzzle == name}) >= 2, name


@pytest.mark.parametrize("name", NAMES)
def test_the_stub_says_that_nothing_was_written(name: str, tmp_path: Path) -> None:
    (stub,) = [source for source in code_cells() if f"def {name}_kernel(" in source]
    result = puzzles.check(as_kernel(stub, f"{name}_kernel", tmp_path), name)
    assert not result.passed and "Nothing was written" in result.message
    assert repr(result) == result.message


def test_what_cannot_be_launched_is_refused() -> None:
    def plain(x, y, n, BLOCK):  # type: ignore[no-untyped-def]
        pass

    assert "put @triton.jit above the function" in puzzles.check(plain, "copy").message
    told = puzzles.check(solutions.copy_kernel, "normalise").message
    assert "lacks rows, columns, x_row, BR, BC and has n, BLOCK, which nobody gives it" in told
    with pytest.raises(KeyError, match="There is no puzzle 'copies'; there are copy, scale"):
        puzzles.check(solutions.copy_kernel, "copies")


def test_a_read_from_outside_is_found_without_the_interpreter_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "INTERPRETED", False)  # nothing is counted then, as on a GPU
    wrong = Wrong("normalise", "tl.load(x + at, mask=inside, other=0.0)", "tl.load(x + at)", "")
    assert "It reads outside of an input: the result is NaN" in puzzles.check(
        wrong_kernel(wrong, tmp_path), "normalise"
    ).message
    result = puzzles.check(solution("normalise"), "normalise")
    assert result.passed and result.score is None and "Score: not available" in result.message


# ------------------------------------------------------------------ what the puzzles are made of


@pytest.mark.parametrize("name", NAMES)
def test_the_cases_are_ragged_and_have_three_seeds(name: str) -> None:
    puzzle = puzzles.get(name)
    sizes = {str(dict(case.sizes)) for case in puzzle.cases}
    assert len(sizes) >= 4 and {case.seed for case in puzzle.cases} >= {0, 1, 2}
    ragged = ["ragged" in case.marks for case in puzzle.cases]
    assert any(ragged) and not all(ragged) and puzzle.tolerance <= 1e-4


@pytest.mark.parametrize("name", [name for name in NAMES if puzzles.get(name).mistakes])
def test_mistakes_are_no_answers_and_no_two_are_alike(name: str) -> None:
    puzzle, found = puzzles.get(name), []
    for mistake in puzzle.mistakes:
        told = []
        for case in puzzle.cases[:: len(core.SEEDS)]:
            inputs = {k: t.double() for k, t in puzzle.draw(case, torch.Generator().manual_seed(case.seed)).items()}
            would = mistake.function(inputs, {**case.sizes, **puzzle.scalars(case.sizes)})
            right = puzzle.answers(inputs, case.sizes)
            if would is not None and "equal keys" not in case.marks:
                assert list(would) == list(right) and all(would[k].shape == right[k].shape for k in right)
                told.append((str(case), torch.cat([(would[k] - right[k]).flatten() for k in right])))
        assert any(float(off.norm()) > 1e-2 for _, off in told), mistake.told
        found.append((mistake.told, dict(told)))
    for i, (one, offs) in enumerate(found):
        for other, more in found[:i]:
            shared = offs.keys() & more.keys()
            assert any(not torch.allclose(offs[case], more[case], atol=1e-3) for case in shared), (one, other)


@pytest.mark.parametrize("name", ["chunked", "backward"])
def test_with_no_fault_the_chunks_give_the_spec(name: str) -> None:
    puzzle, rule = puzzles.get(name), chunk_faults.forward if name == "chunked" else chunk_faults.backward
    for case in puzzle.cases[:: len(core.SEEDS)]:
        if "strong decay" in case.marks:  # of which gradients may all be zero
            continue
        inputs = {k: t.double() for k, t in puzzle.draw(case, torch.Generator().manual_seed(case.seed)).items()}
        found = rule(inputs, puzzle.scalars(case.sizes)["scale"], case.sizes["C"], "")
        for own, right in zip(found, puzzle.answers(inputs, case.sizes).values(), strict=True):
            assert float((own - right).norm() / right.norm()) < 1e-6  # what the forward pass kept is float32


def test_specs_are_the_kernels_of_the_lab() -> None:
    from labkit.kernels import gated_delta_rule, neural_memory

    def heads(t: torch.Tensor) -> torch.Tensor:  # [N, T, ...] to [1, T, N, ...]
        return t.transpose(0, 1)[None]

    for name, case in (("delta", puzzles.get("delta").cases[9]), ("titans", puzzles.get("titans").cases[12])):
        puzzle = puzzles.get(name)
        inputs = {k: t.double() for k, t in puzzle.draw(case, torch.Generator().manual_seed(1)).items()}
        own = puzzle.answers(inputs, case.sizes)
        states = [inputs.pop(key)[None] for key in list(inputs) if key.startswith("start")]
        tokens = [heads(t) for t in inputs.values()]
        if name == "delta":
            o, end = gated_delta_rule(*tokens, initial_state=states[0], backend="recurrent")
            assert torch.allclose(heads(own["o"]), o) and torch.allclose(own["end"][None], end)
        else:
            y, ((w,), (s,)) = neural_memory(*tokens, [states[0]], [states[1]], chunk_size=case.sizes["C"])
            assert torch.allclose(heads(own["y"]), y) and torch.allclose(own["end_w"][None], w)
            assert torch.allclose(own["end_s"][None], s)


@pytest.mark.parametrize("name", NAMES)
def test_the_picture_and_the_spec_can_be_shown(name: str) -> None:
    drawn = puzzles.picture(name)
    root = xml.etree.ElementTree.fromstring(drawn.svg)
    assert root.get("role") == "img" and root.get("aria-label") == drawn.alt and len(drawn.alt) > 60
    assert drawn.alt in repr(drawn) and "<svg" in drawn._repr_mimebundle_()["text/html"]
    shown = puzzles.spec(name)
    assert shown.source == inspect.getsource(puzzles.get(name).spec).rstrip()
    assert shown._repr_mimebundle_()["text/markdown"].startswith("```python\ndef ")
    assert len(shown.source.splitlines()) <= 20


# ------------------------------------------------------------------ guards and counts


def test_guards_lie_between_the_rows_and_around() -> None:
    array = guards.Guarded.make((2, 3, 5), torch.arange(30.0).view(2, 3, 5))
    assert array.view.stride() == (3 * guards.pitch(5), guards.pitch(5), 1)
    assert torch.equal(array.raw[array.inside], torch.arange(30.0)) and int(array.inside.sum()) == 30
    assert array.raw[~array.inside].isnan().all()
    assert not array.unwritten().any() and guards.Guarded.make((4,)).unwritten().all()


def test_lanes_are_counted_and_the_patch_is_undone() -> None:
    before = {name: getattr(InterpreterBuilder, name) for name in dir(InterpreterBuilder) if "create_" in name}
    x, y = guards.Guarded.make((37,), torch.randn(37)), guards.Guarded.make((37,))
    seen = 37 if interpreted else 0  # what a compiled kernel touches cannot be seen
    with puzzles.counted({"x": x, "y": y}) as traffic:
        solutions.copy_kernel[(3,)](x.view, y.view, 37, BLOCK=16)
    assert (traffic.loads, traffic.bytes_loaded) == (traffic.stores, traffic.bytes_stored) == (seen, 4 * seen)
    assert traffic.read_outside == {} and traffic.written_outside == {}
    with pytest.raises(RuntimeError, match="planted"), puzzles.counted({"x": x}):
        assert InterpreterBuilder.create_masked_load is not before["create_masked_load"]
        raise RuntimeError("planted")
    assert all(getattr(InterpreterBuilder, name) is own for name, own in before.items())
    solutions.copy_kernel[(3,)](x.view, y.view, 37, BLOCK=16)
    assert traffic.loads == seen and torch.equal(x.view, y.view)


@triton.jit
def unread_kernel(x, y, n, BLOCK: tl.constexpr, MASKED: tl.constexpr):
    i = tl.arange(0, BLOCK)
    values = tl.load(x + i, mask=i < n)
    if MASKED:
        values = tl.where(i < n, values, 0.0)
    tl.store(y, tl.sum(values, 0))


@pytest.mark.skipif(not interpreted, reason="what a compiled kernel finds there is not ours to choose")
def test_what_a_masked_load_does_not_read_is_undefined_until_it_is_masked() -> None:
    x, y = guards.Guarded.make((37,), torch.ones(37)), guards.Guarded.make((1,))
    for masked, unread, total in ((False, float("nan"), None), (False, 0.0, 37.0), (True, float("nan"), 37.0)):
        with puzzles.counted({"x": x, "y": y}, unread) as traffic:
            unread_kernel[(1,)](x.view, y.view, 37, BLOCK=64, MASKED=masked)
        assert traffic.undefined == {"x": 27} and traffic.loads == 37
        assert bool(y.view.isnan()) if total is None else float(y.view) == total


# ------------------------------------------------------------------ the notebook and the import


def test_the_notebook_has_the_form_of_the_others() -> None:
    book = nbformat.read(NOTEBOOK, as_version=4)
    faults = [*strict._stripped(book), *strict._beginning(book), *strict._grammar(book)]
    # No Binder link, as Binder has no Triton; no sliders. Names of assignments are no numbers.
    assert faults == ["its first cell does not give a Binder link", "it has no heading Interactive demo"]
    text = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    cells = code_cells()
    for name in NAMES:
        puzzle = puzzles.get(name)
        title = f"### Exercise {puzzle.number}: {puzzle.title}\n\n{puzzle.summary}\n\n$$\n{puzzle.formula}\n$$"
        assert title in text
        at = cells.index(f'picture("{name}")')
        assert cells[at + 1] == f'spec("{name}")' and cells[at + 3] == f'check({name}_kernel, "{name}")'
    assert all(len(source.split("\n")) <= 9 for source in cells)


def test_no_solution_stands_in_the_notebook() -> None:
    shown = json.loads(NOTEBOOK.read_text())
    text = "\n".join("".join(cell["source"]) for cell in shown["cells"])
    for name in NAMES:
        body = inspect.getsource(solution(name).fn).split("):", 1)[1]
        lines = [line.strip() for line in body.splitlines() if len(line.strip()) > 12 and "fmt: skip" not in line]
        assert lines and not [line for line in lines if line in text]


@pytest.mark.notebook
@pytest.mark.slow
def test_the_notebook_runs_with_its_stubs_unfilled(tmp_path: Path) -> None:
    strict.run(NOTEBOOK)


def test_without_triton_or_with_triton_first_a_sentence_says_what_to_do() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    for first, told in (
        ("import sys; sys.modules['triton'] = None", r"pip install -e '\.\[kernels\]'"),
        ("import triton.language", "^$" if torch.cuda.is_available() else "Triton was imported before labkit.explore"),
        ("import os", "^$"),
    ):
        line = [sys.executable, "-c", f"{first}\nfrom labkit.explore.puzzles import interpreter"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=120, env=environment, check=False)
        assert re.search(told, done.stderr), done.stderr
