"""What a puzzle is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from labkit.explore.puzzles.guards import pitch

__all__ = ["MARKS", "SEEDS", "Case", "Mistake", "Puzzle", "cases", "unit"]

Tensors = dict[str, Tensor]
SEEDS = (0, 1, 2)

#: What may set a case apart, and what to look at when only such cases are wrong.
MARKS: Mapping[str, tuple[str, str]] = {
    "ragged": (
        "a size is no multiple of its block",
        "Look at the last block, at its masks, and at what stands in for the missing entries.",
    ),
    "several blocks": (
        "there is more than one block",
        "Look at how a program finds its own block, and at what a loop carries from one to the next.",
    ),
    "several chunks": (
        "there is more than one chunk",
        "Look at what is carried from one chunk to the next.",
    ),
    "several heads": (
        "there is more than one head",
        "Look at the offset of a head in every array.",
    ),
    "state": (
        "the memory is not empty at the start",
        "Look at what is done with the first state.",
    ),
    "strong decay": (
        "some log-decay is -10,000",
        "Look at what is exponentiated, and at the sum of log-decays: exp of a large positive number overflows, and a "
        "float32 sum near -10,000 has lost the digits of every later log-decay. Sum in float64, exponentiate "
        "differences of at most 0.",
    ),
    "equal keys": (
        "all keys are equal, beta is 2 and nothing fades",
        "Powers of A then grow beyond all digits before they cancel: squaring A looks right on random keys and is "
        "worthless here. Go row by row.",
    ),
    "zero rows": ("rows are zero or nearly zero", "Look at what such a row is divided by."),
}


@dataclass(frozen=True)
class Case:
    """One check: sizes by name, what is special, and the seed of its inputs.

    Attributes:
        sizes: whole numbers by the names that grid and kernel use.
        marks: keys of `MARKS` that hold for it.
        seed: of the generator that draws the inputs.
    """

    sizes: Mapping[str, int]
    marks: frozenset[str]
    seed: int

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} = {value}" for name, value in self.sizes.items())
        special = [mark for mark in ("strong decay", "equal keys", "zero rows") if mark in self.marks]
        return f"{sizes}{''.join(f', {mark}' for mark in special)}, seed {self.seed}"


@dataclass(frozen=True)
class Mistake:
    """A typical error and what it computes.

    Attributes:
        told: a sentence that says what to look at.
        function: from inputs and sizes to what a kernel with this error gives, in float64; None where the error
            cannot be made at these sizes.
    """

    told: str
    function: Callable[[Tensors, Mapping[str, int]], Tensors | None]


@dataclass(frozen=True)
class Puzzle:
    """One exercise.

    Attributes:
        name, number, title: as the notebook calls it.
        summary: one to three sentences.
        formula: LaTeX.
        source: paper and equation, or "".
        spec: ``spec(**inputs, **options)`` in PyTorch, written to be read; gives the outputs, in the order of
            `outputs`, or a single one.
        options: names of sizes and scalars that the spec takes beside the inputs.
        outputs: names of the arrays that the kernel writes.
        draw: from case and generator to the inputs; in this order the kernel gets them, as float32.
        grid: from sizes to the grid of the launch.
        scalars: from sizes to what the kernel gets beside the arrays.
        cases: what is checked.
        mistakes: typical errors that are looked for when the result is wrong.
        tolerance: largest relative error, ``|a - b| / |b|``, of every output.
        least: from sizes to the number of elements that must be read; None where all inputs must.
        extra: inputs that help the kernel and that the spec does without.
    """

    name: str
    number: int
    title: str
    summary: str
    formula: str
    spec: Callable[..., Any]
    outputs: tuple[str, ...]
    draw: Callable[[Case, torch.Generator], Tensors]
    grid: Callable[[Mapping[str, int]], tuple[int, ...]]
    scalars: Callable[[Mapping[str, int]], dict[str, Any]]
    cases: Sequence[Case]
    mistakes: Sequence[Mistake] = ()
    options: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    source: str = ""
    tolerance: float = 1e-5
    least: Callable[[Mapping[str, int]], int] | None = None

    def answers(self, inputs: Tensors, sizes: Mapping[str, int]) -> Tensors:
        """The outputs by name, in float64, as the spec gives them.

        Args:
            inputs: by name, of any float dtype; those named in `extra` are help for the kernel and not given to the
                spec.
            sizes: of the case.
        """
        scalars = {**sizes, **self.scalars(sizes)}
        own = {name: t.double() for name, t in inputs.items() if name not in self.extra}
        out = self.spec(**own, **{name: scalars[name] for name in self.options})
        return dict(zip(self.outputs, out if isinstance(out, tuple) else (out,), strict=True))

    def arguments(self) -> list[str]:
        """Names of the kernel's arguments: inputs, outputs, numbers."""
        case = self.cases[0]
        inputs = self.draw(case, torch.Generator().manual_seed(case.seed))
        return [*inputs, *self.outputs, *self.scalars(case.sizes)]

    def code(self) -> str:
        """Source of the spec."""
        return inspect.getsource(self.spec)


def cases(*rows: Mapping[str, int], marks: Callable[[Mapping[str, int]], set[str]]) -> list[Case]:
    """A case for each of the sizes and each of `SEEDS`.

    Args:
        rows: sizes; a row may hold "special", an index into the special marks ("strong decay" 1, "equal keys" 2,
            "zero rows" 3), which is taken out.
        marks: which other marks hold for given sizes.
    """
    special = {0: set(), 1: {"strong decay"}, 2: {"equal keys"}, 3: {"zero rows"}}
    out = []
    for row in rows:
        sizes = {name: value for name, value in row.items() if name not in ("special", "state")}
        own = special[row.get("special", 0)] | ({"state"} if row.get("state") else set())
        out += [Case(sizes, frozenset(marks(sizes) | own), seed) for seed in SEEDS]
    return out


def unit(t: Tensor) -> Tensor:
    """Rows of length 1."""
    return torch.nn.functional.normalize(t, dim=-1)


def pitches(**widths: int) -> dict[str, int]:
    """Row strides by name."""
    return {name: pitch(width) for name, width in widths.items()}
