"""Run a kernel on every case of a puzzle, and say what is wrong."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labkit.explore.puzzles.core import Case, Puzzle
from labkit.explore.puzzles.counting import Traffic, WildAccess, counted
from labkit.explore.puzzles.diagnosing import Failure, Run, at_entry, diagnosis, distance, listed
from labkit.explore.puzzles.guards import Guarded
from labkit.explore.puzzles.interpreter import DEVICE, INTERPRETED, is_kernel
from labkit.explore.puzzles.registry import get

__all__ = ["Failure", "Result", "Score", "check"]

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Score:
    """Global memory traffic of all cases together, beside the least: every input read once, every output written once.

    Attributes:
        loads, stores: elements that were read and written, with a true mask.
        bytes_loaded, bytes_stored: the same in bytes.
        least_loads, least_stores: elements of all inputs and outputs.
    """

    loads: int
    stores: int
    bytes_loaded: int
    bytes_stored: int
    least_loads: int
    least_stores: int

    def __str__(self) -> str:
        return (
            f"Reads {self.loads / self.least_loads:.1f} times what is needed, writes "
            f"{self.stores / self.least_stores:.1f} times. "
            f"(Loads {self.loads:,} elements, {self.bytes_loaded:,} bytes; "
            f"stores {self.stores:,} elements, {self.bytes_stored:,} bytes; all cases together.)"
        )


@dataclass(frozen=True)
class Result:
    """What `check` found; shown as text where it is the last expression of a cell.

    Attributes:
        name: of the puzzle.
        passed: whether all cases are right.
        message: what was found, and the likely mistake if one could be told.
        failure: the first wrong case; None when all are right or nothing could be run.
        score: traffic; None when something is wrong, or where kernels are not interpreted.
        seen: number of cases that were run.
    """

    name: str
    passed: bool
    message: str
    failure: Failure | None
    score: Score | None
    seen: int

    def __repr__(self) -> str:
        return self.message


class _Wrong(Exception):
    """A fault that needs no comparison; carries the sentence and the array concerned."""

    def __init__(self, told: str, output: str = "") -> None:
        super().__init__(told)
        self.told, self.output = told, output


def check(kernel: Any, name: str) -> Result:
    """Try a kernel on every case of a puzzle.

    Args:
        kernel: a function under ``@triton.jit``, with the arguments of the puzzle, by name.
        name: of the puzzle, such as "copy"; `names` lists them.

    Nothing the kernel does raises: what went wrong stands in the result's message. Raises KeyError for an unknown name.
    """
    puzzle = get(name)
    title = f"Puzzle {puzzle.number} ({puzzle.title})"
    refusal = _refusal(kernel, puzzle)
    if refusal:
        return Result(name, False, f"{title}: not run. {refusal}", None, None, 0)
    runs: list[Run] = []
    besides = ""
    for case in puzzle.cases:
        try:
            runs.append(_run(kernel, puzzle, case))
        except _Wrong as fault:
            if not any(run.wrong(puzzle.tolerance) for run in runs):  # the first fault is the one to tell
                message = f"{title}: wrong, at {case}.\n{fault.told}"
                return Result(name, False, message, Failure(case, fault.output, None), None, len(runs) + 1)
            besides = f"Besides, at {case}: {fault.told}"
            break
    wrong = [run for run in runs if run.wrong(puzzle.tolerance)]
    if wrong:
        failure, told = diagnosis(puzzle, runs, wrong, besides)
        message = f"{title}: wrong, at {failure.case} ({len(wrong)} of {len(runs)} cases run are wrong).\n{told}"
        return Result(name, False, message, failure, None, len(runs))
    score = _score(puzzle, runs)
    counted_as = str(score) if score else "Score: not available, as this kernel was compiled and not interpreted."
    return Result(name, True, f"{title}: right in all {len(runs)} cases.\n{counted_as}", None, score, len(runs))


def _refusal(kernel: Any, puzzle: Puzzle) -> str:
    """Why a kernel cannot be launched at all; empty if it can."""
    if not is_kernel(kernel):
        how = " after labkit.explore.puzzles was imported" if INTERPRETED else ""
        return f"This is no kernel: put @triton.jit above the function{how}."
    wanted, given = puzzle.arguments(), list(kernel.arg_names)
    lacking = [name for name in wanted if name not in given]
    surplus = [name for name in given if name not in wanted]
    if lacking or surplus:
        parts = ([f"lacks {', '.join(lacking)}"] if lacking else []) + (
            [f"has {', '.join(surplus)}, which nobody gives it"] if surplus else []
        )
        return f"The kernel {' and '.join(parts)}; its arguments are {', '.join(wanted)}."
    return ""


def _run(kernel: Any, puzzle: Puzzle, case: Case) -> Run:
    """Launch once. Raises `_Wrong` for what needs no comparison."""
    inputs = puzzle.draw(case, torch.Generator().manual_seed(case.seed))
    wanted = puzzle.answers(inputs, case.sizes)
    given = {name: Guarded.make(tuple(t.shape), t) for name, t in inputs.items()}
    made = {name: Guarded.make(tuple(t.shape)) for name, t in wanted.items()}
    before = {name: array.bits.clone() for name, array in (given | made).items()}
    traffic = _launch(kernel, puzzle, case, given | made)
    _written_outside(case, given, made, before, traffic)
    for name, array in given.items():
        if not torch.equal(array.bits, before[name]):
            raise _Wrong(f"The kernel wrote into its input {name}; write into {listed(puzzle.outputs)} only.", name)
    if traffic and traffic.read_outside:
        name, number = next(iter(traffic.read_outside.items()))
        raise _Wrong(
            f"It reads outside of {name} ({number} entries that are not part of it). {_whose(case, 'load')}",
            name,
        )
    _written_at_all(made)
    found = {name: array.view.detach().cpu().double() for name, array in made.items()}
    if not traffic and any(not t.isfinite().all() for t in found.values()):
        _affected_from_outside(kernel, puzzle, case, inputs, made)
    errors = {name: distance(found[name], wanted[name]) for name in wanted}
    run = Run(case, inputs, wanted, found, traffic, errors)
    if traffic and traffic.undefined and run.wrong(puzzle.tolerance):
        _affected_by_the_unread(kernel, puzzle, run, traffic)
    return run


def _launch(
    kernel: Any, puzzle: Puzzle, case: Case, arrays: Mapping[str, Guarded], unread: float = float("nan")
) -> Traffic | None:
    """Run it on arrays; what it touched, where that can be seen. `unread` is handed on as in `counted`."""
    views = {name: array.view for name, array in arrays.items()}
    try:
        # The interpreter's own warnings name no line of the kernel; what is infinite or NaN is found afterwards.
        with np.errstate(all="ignore"), counted(arrays, unread) if INTERPRETED else nullcontext() as traffic:
            kernel[puzzle.grid(case.sizes)](**views, **puzzle.scalars(case.sizes))
        if DEVICE == "cuda":
            torch.cuda.synchronize()
    except Exception as error:  # whatever a student's code raises is told, not raised
        raise _Wrong(_told(error, kernel)) from error
    return traffic


def _told(error: BaseException, kernel: Any) -> str:
    """What was raised, and in which line of the kernel."""
    root, where = error, ""
    chain: list[BaseException] = [error]
    while root.__cause__ is not None:
        root = root.__cause__
        chain.append(root)
    code = kernel.fn.__code__
    for link in chain:
        for frame, line in traceback.walk_tb(link.__traceback__):
            if frame.f_code.co_filename == code.co_filename and frame.f_code.co_name == code.co_name:
                where = f" (in line {line - code.co_firstlineno + 1} of the kernel)"
    if isinstance(root, WildAccess):
        return f"{root}{where}. Look at how the pointers are made: row times row stride, plus column."
    return f"It raised {type(root).__name__}: {root}{where}."


def _whose(case: Case, access: str) -> str:
    """Mask or offsets? Where every block is full, a mask has nothing to hold back."""
    if "ragged" in case.marks:
        return f"Look at the mask of the {access}, in every dimension that may be ragged."
    return f"All blocks are full here, so look at the offsets of the {access}: row times row stride, plus column."


def _written_outside(
    case: Case, given: Mapping[str, Guarded], made: Mapping[str, Guarded], before: Tensors, traffic: Traffic | None
) -> None:
    for name, array in {**made, **given}.items():
        beside = int((array.bits != before[name])[~array.inside].sum())
        beside = max(beside, traffic.written_outside.get(name, 0) if traffic else 0)
        if beside:
            raise _Wrong(
                f"It wrote outside of {name} ({beside} entries that are not part of it). {_whose(case, 'store')}",
                name,
            )


def _written_at_all(made: Mapping[str, Guarded]) -> None:
    missing = {name: array.unwritten() for name, array in made.items()}
    if all(bool(where.all()) for where in missing.values()):
        are = "is" if len(missing) == 1 else "are"
        raise _Wrong(f"Nothing was written: {listed(missing)} {are} as before the launch.", next(iter(missing)))
    for name, where in missing.items():
        if where.any():
            at = tuple(where.nonzero()[0].tolist())
            raise _Wrong(
                f"{int(where.sum())} of {where.numel()} entries of {name} were never written, the first at "
                f"{at_entry(at)}. Look at which program writes which part (tl.program_id in the offsets), and whether "
                "a loop or a mask ends too early.",
                name,
            )


def _affected_from_outside(
    kernel: Any, puzzle: Puzzle, case: Case, inputs: Tensors, made: Mapping[str, Guarded]
) -> None:
    """Without the interpreter reads cannot be seen; but with zeros around the inputs NaNs that came from there go."""
    given = {name: Guarded.make(tuple(t.shape), t, around=0.0) for name, t in inputs.items()}
    again = {name: Guarded.make(tuple(array.view.shape)) for name, array in made.items()}
    _launch(kernel, puzzle, case, given | again)
    if all(bool(array.view.isfinite().all()) for array in again.values()):
        raise _Wrong(
            "It reads outside of an input: the result is NaN with NaNs around the inputs, and finite with zeros around "
            "them. Look at the masks of the loads."
        )


def _affected_by_the_unread(kernel: Any, puzzle: Puzzle, run: Run, traffic: Traffic) -> None:
    """Raise where the result depends on what a masked load without ``other=`` did not read."""
    given = {name: Guarded.make(tuple(t.shape), t) for name, t in run.inputs.items()}
    again = {name: Guarded.make(tuple(t.shape)) for name, t in run.wanted.items()}
    _launch(kernel, puzzle, run.case, given | again, unread=0.0)
    for name, array in again.items():
        if not torch.allclose(array.view.double(), run.found[name], rtol=0.0, atol=0.0, equal_nan=True):
            raise _Wrong(
                "A masked load without other= leaves what it did not read undefined, and that reaches the result "
                f"(loads of {listed(traffic.undefined)}). Say other=0.0, or mask the values before they are used.",
                name,
            )


def _score(puzzle: Puzzle, runs: list[Run]) -> Score | None:
    seen = [run.traffic for run in runs if run.traffic]
    if len(seen) < len(runs):
        return None
    return Score(
        sum(t.loads for t in seen),
        sum(t.stores for t in seen),
        sum(t.bytes_loaded for t in seen),
        sum(t.bytes_stored for t in seen),
        sum(puzzle.least(r.case.sizes) if puzzle.least else sum(t.numel() for t in r.inputs.values()) for r in runs),
        sum(t.numel() for run in runs for t in run.wanted.values()),
    )
