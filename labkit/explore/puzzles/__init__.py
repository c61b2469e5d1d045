"""Kernel puzzles: write Triton kernels, from a masked copy to a chunk of a learning memory, and have them checked.

    from labkit.explore.puzzles import check, tl, triton

    @triton.jit
    def copy_kernel(x, y, n, BLOCK: tl.constexpr):
        ...

    check(copy_kernel, "copy")

Kernels run on a GPU if there is one. Where there is no CUDA GPU, importing this package sets ``TRITON_INTERPRET=1`` in
the environment (unless it is set), so that Triton's interpreter runs them on the CPU; take `triton` and `tl` from here,
or import this package before them. Without Triton (it has wheels for Linux only) the import raises
ModuleNotFoundError, and says what to install. ``@triton.autotune`` does not work with the interpreter.
"""

from __future__ import annotations

from labkit.explore.puzzles.checking import Failure, Result, Score, check
from labkit.explore.puzzles.core import Case, Mistake, Puzzle
from labkit.explore.puzzles.counting import counted
from labkit.explore.puzzles.drawing import Picture, picture
from labkit.explore.puzzles.interpreter import DEVICE, INTERPRETED, tl, triton
from labkit.explore.puzzles.registry import PUZZLES, get, names
from labkit.explore.puzzles.showing import Code, spec

__all__ = [
    "Case",
    "Code",
    "DEVICE",
    "Failure",
    "INTERPRETED",
    "Mistake",
    "PUZZLES",
    "Picture",
    "Puzzle",
    "Result",
    "Score",
    "check",
    "counted",
    "get",
    "names",
    "picture",
    "spec",
    "tl",
    "triton",
]
