"""Run a kernel on every case of a puzzle, and say what is wrong, as far as the numbers tell."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labkit.explore.puzzles.core import MARKS, Case, Puzzle
from labkit.explore.puzzles.counting import Traffic, WildAccess, counted
from labkit.explore.puzzles.guards import Guarded
from labkit.explore.puzzles.interpreter import DEVICE, INTERPRETED, is_kernel
from labkit.explore.puzzles.registry import get

__all__ = ["Failure", "Result", "Score", "check"]

Tensors = dict[str, Tensor]
ALIKE = 1e-3  # a wrong result is what a mistake gives if no output is further from it, relatively


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
class Failure:
    """The first case that went wrong.

    Attributes:
        case: its sizes, its specials and its seed.
        output: name of the array concerned, or "" where none is.
        error: relative error of that output, infinite where it holds no numbers; None where it was not compared.
    """

    case: Case
    output: str
    error: float | None


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


@dataclass
class _Run:
    """One case: what went in, what should have come out, what came, how far apart."""

    case: Case
    inputs: Tensors
    wanted: Tensors
    found: Tensors
    traffic: Traffic | None
    errors: dict[str, float]

    def wrong(self, tolerance: float) -> bool:
        return any(not error <= tolerance for error in self.errors.values())


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
    runs: list[_Run] = []
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
        failure, told = _diagnosis(puzzle, runs, wrong, besides)
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


def _run(kernel: Any, puzzle: Puzzle, case: Case) -> _Run:
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
            raise _Wrong(f"The kernel wrote into its input {name}; write into {_listed(puzzle.outputs)} only.", name)
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
    errors = {name: _distance(found[name], wanted[name]) for name in wanted}
    return _Run(case, inputs, wanted, found, traffic, errors)


def _launch(kernel: Any, puzzle: Puzzle, case: Case, arrays: Mapping[str, Guarded]) -> Traffic | None:
    """Run it on arrays; what it touched, where that can be seen."""
    views = {name: array.view for name, array in arrays.items()}
    try:
        # The interpreter's own warnings name no line of the kernel; what is infinite or NaN is found afterwards.
        with np.errstate(all="ignore"), counted(arrays) if INTERPRETED else nullcontext() as traffic:
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
        raise _Wrong(f"Nothing was written: {_listed(missing)} {are} as before the launch.", next(iter(missing)))
    for name, where in missing.items():
        if where.any():
            at = tuple(where.nonzero()[0].tolist())
            raise _Wrong(
                f"{int(where.sum())} of {where.numel()} entries of {name} were never written, the first at {_at(at)}. "
                "Look at which program writes which part (tl.program_id in the offsets), and whether a loop or a mask "
                "ends too early.",
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


def _distance(found: Tensor, wanted: Tensor) -> float:
    """``|a - b| / |b|``; absolute where all of b is zero; infinite where a or b holds no numbers."""
    if not (found.isfinite().all() and wanted.isfinite().all()):
        return float("inf")
    size = float(wanted.norm())
    return float((found - wanted).norm()) / (size if size > 0 else 1.0)


def _diagnosis(puzzle: Puzzle, runs: list[_Run], wrong: list[_Run], besides: str) -> tuple[Failure, str]:
    """The first wrong case, and what can be said of it; `besides` tells of a later one that could not be compared."""
    first = wrong[0]
    bad = [name for name, error in first.errors.items() if not error <= puzzle.tolerance]
    good = [name for name in first.errors if name not in bad]
    name = bad[0]
    parts = [_where(first, name, puzzle.tolerance)]
    if len(bad) > 1 or good:
        parts.append(f"Wrong: {_listed(bad)}." + (f" Right: {_listed(good)}." if good else ""))
    likely = _mistake(puzzle, wrong)
    if likely:
        parts.append(f"Likely: {likely}")
    else:
        apart = [] if besides else _set_apart(runs, wrong)  # not all cases are known then
        parts += apart or ["Which mistake this is cannot be told from the numbers."]
    parts += [besides] if besides else []
    return Failure(first.case, name, first.errors[name]), "\n".join(parts)


def _where(run: _Run, name: str, tolerance: float) -> str:
    """By how much an output is off, and its first wrong entry."""
    found, wanted, error = run.found[name], run.wanted[name], run.errors[name]
    if error == float("inf"):
        at = tuple((~found.isfinite()).nonzero()[0].tolist())
        count = int((~found.isfinite()).sum())
        return (
            f"{count} of {found.numel()} entries of {name} are no numbers, the first at {_at(at)} "
            f"({float(found[at])} instead of {float(wanted[at]):.4g}). "
            "Overflow, 0 / 0 and roots of negative numbers do that."
        )
    typical = max(float(wanted.norm()) / wanted.numel() ** 0.5, 1e-30)
    off = (found - wanted).abs() > max(tolerance, 1e-6) * typical
    at = tuple((off if off.any() else found != wanted).nonzero()[0].tolist())
    return (
        f"{name} has a relative error of {error:.2g} (at most {tolerance:g} is allowed); "
        f"it first differs at {_at(at)}: {float(found[at]):.6g} instead of {float(wanted[at]):.6g}."
    )


def _mistake(puzzle: Puzzle, wrong: list[_Run]) -> str:
    """The sentence of the one typical mistake that explains every wrong case; of ordinary cases, if there are any."""
    ordinary = [run for run in wrong if not run.case.marks & {"strong decay", "equal keys", "zero rows"}]
    of_each_size = {str(run.case.sizes): run for run in reversed(ordinary or wrong)}  # one seed says enough
    told = []
    for mistake in puzzle.mistakes:
        gaps = [_gap(puzzle, mistake.function, run) for run in of_each_size.values()]
        known = [gap for gap in gaps if gap is not None]
        if known and max(known) <= ALIKE:
            told.append((max(known), mistake.told))
    return min(told)[1] if told else ""


def _gap(puzzle: Puzzle, function: Any, run: _Run) -> float | None:
    """How far a result is from what a mistake gives; None where the mistake cannot be made."""
    sizes = {**run.case.sizes, **puzzle.scalars(run.case.sizes)}
    would = function({name: t.double() for name, t in run.inputs.items()}, sizes)
    if would is None:
        return None
    return max(_distance(run.found[name], t) for name, t in would.items())


def _set_apart(runs: list[_Run], wrong: list[_Run]) -> list[str]:
    """What only the wrong cases have in common: the marks that fewest cases bear among those all wrong ones bear."""
    shared = set.intersection(*(set(run.case.marks) for run in wrong))
    bearers = {mark: sum(mark in run.case.marks for run in runs) for mark in MARKS if mark in shared}
    fewest = min(bearers.values(), default=len(runs))
    if fewest == len(runs):
        return []
    told = []
    for mark, number in bearers.items():
        if number == fewest:
            condition, advice = MARKS[mark]
            many = f"{len(wrong)} of {number}" if len(wrong) < number else f"all {number}"
            told.append(f"Only cases in which {condition} are wrong ({many}). {advice}")
    return told


def _score(puzzle: Puzzle, runs: list[_Run]) -> Score | None:
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


def _at(index: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, index))}]"


def _listed(names: Any) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
