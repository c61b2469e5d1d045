"""What can be said of wrong results: where they differ, the likely mistake, and what sets the wrong cases apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from labkit.explore.puzzles.core import MARKS, Case, Puzzle
from labkit.explore.puzzles.counting import Traffic

__all__ = ["Failure", "Run", "at_entry", "diagnosis", "distance", "listed"]

Tensors = dict[str, Tensor]
ALIKE = 1e-3  # a wrong result is what a mistake gives if no output is further from it, relatively


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


@dataclass
class Run:
    """One case: what went in, what should have come out, what came, how far apart."""

    case: Case
    inputs: Tensors
    wanted: Tensors
    found: Tensors
    traffic: Traffic | None
    errors: dict[str, float]

    def wrong(self, tolerance: float) -> bool:
        return any(not error <= tolerance for error in self.errors.values())


def distance(found: Tensor, wanted: Tensor) -> float:
    """``|a - b| / |b|``; absolute where all of b is zero; infinite where a or b holds no numbers."""
    if not (found.isfinite().all() and wanted.isfinite().all()):
        return float("inf")
    size = float(wanted.norm())
    return float((found - wanted).norm()) / (size if size > 0 else 1.0)


def diagnosis(puzzle: Puzzle, runs: list[Run], wrong: list[Run], besides: str) -> tuple[Failure, str]:
    """The first wrong case, and what can be said of it; `besides` tells of a later one that could not be compared."""
    first = wrong[0]
    bad = [name for name, error in first.errors.items() if not error <= puzzle.tolerance]
    good = [name for name in first.errors if name not in bad]
    name = bad[0]
    parts = [_where(first, name, puzzle.tolerance)]
    if len(bad) > 1 or good:
        parts.append(f"Wrong: {listed(bad)}." + (f" Right: {listed(good)}." if good else ""))
    likely = _mistake(puzzle, wrong)
    if likely:
        parts.append(f"Likely: {likely}")
    else:
        apart = [] if besides else _set_apart(puzzle, runs)  # not all cases are known then
        parts += apart or ["Which mistake this is cannot be told from the numbers."]
    parts += [besides] if besides else []
    return Failure(first.case, name, first.errors[name]), "\n".join(parts)


def _where(run: Run, name: str, tolerance: float) -> str:
    """By how much an output is off, and its first wrong entry."""
    found, wanted, error = run.found[name], run.wanted[name], run.errors[name]
    if error == float("inf"):
        at = tuple((~found.isfinite()).nonzero()[0].tolist())
        count = int((~found.isfinite()).sum())
        return (
            f"{count} of {found.numel()} entries of {name} are no numbers, the first at {at_entry(at)} "
            f"({float(found[at])} instead of {float(wanted[at]):.4g}). "
            "Overflow, 0 / 0 and roots of negative numbers do that."
        )
    typical = max(float(wanted.norm()) / wanted.numel() ** 0.5, 1e-30)
    off = (found - wanted).abs() > max(tolerance, 1e-6) * typical
    at = tuple((off if off.any() else found != wanted).nonzero()[0].tolist())
    return (
        f"{name} has a relative error of {error:.2g} (at most {tolerance:g} is allowed); "
        f"it first differs at {at_entry(at)}: {float(found[at]):.6g} instead of {float(wanted[at]):.6g}."
    )


def _mistake(puzzle: Puzzle, wrong: list[Run]) -> str:
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


def _gap(puzzle: Puzzle, function: Any, run: Run) -> float | None:
    """How far a result is from what a mistake gives; None where the mistake cannot be made."""
    sizes = {**run.case.sizes, **puzzle.scalars(run.case.sizes)}
    would = function({name: t.double() for name, t in run.inputs.items()}, sizes)
    if would is None:
        return None
    return max(distance(run.found[name], t) for name, t in would.items())


def _set_apart(puzzle: Puzzle, runs: list[Run]) -> list[str]:
    """What only the wrong cases have in common: the marks that fewest cases bear among those all wrong ones bear.

    A mark that most of the right cases bear too, or that only one size is without, says nothing of the mistake.
    """
    wrong = [run for run in runs if run.wrong(puzzle.tolerance)]
    right = [run for run in runs if not run.wrong(puzzle.tolerance)]
    bearers = {}
    for mark in MARKS:
        without = [run for run in right if mark not in run.case.marks]
        sizes = {str(run.case.sizes) for run in without}
        if all(mark in run.case.marks for run in wrong) and len(sizes) > 1 and 2 * len(without) >= len(right):
            bearers[mark] = len(runs) - len(without)
    told = []
    for mark, number in bearers.items():
        if number == min(bearers.values()):
            condition, advice = MARKS[mark]
            many = f"{len(wrong)} of {number}" if len(wrong) < number else f"all {number}"
            told.append(f"Only cases in which {condition} are wrong ({many}). {advice}")
    return told


def at_entry(index: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, index))}]"


def listed(names: Any) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
