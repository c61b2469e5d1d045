"""Triton, made ready to run on this machine: by its interpreter where there is no CUDA GPU.

The interpreter must be chosen before ``@triton.jit`` is applied anywhere, also inside Triton itself. So importing this
module sets ``TRITON_INTERPRET=1`` in the environment where there is no GPU and nothing is set yet, and everything else
of the package takes `triton` and `tl` from here.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import torch

__all__ = ["DEVICE", "INTERPRETED", "InterpreterBuilder", "is_kernel", "tl", "triton"]

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

try:
    import triton
    import triton.language as tl
    from triton.runtime.interpreter import InterpretedFunction, InterpreterBuilder
    from triton.runtime.jit import JITFunction
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "The kernel puzzles need Triton, which has wheels for Linux only; run `pip install -e '.[kernels]'`"
        + (f" (this is {sys.platform})." if sys.platform != "linux" else ".")
    ) from error

#: True where kernels are run by the interpreter: on the CPU, one program after another, and every access is seen.
INTERPRETED: bool = os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on")
#: Where the arrays of a check lie.
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"

if INTERPRETED and isinstance(tl.sum, JITFunction):
    raise ImportError(
        "Triton was imported before labkit.explore.puzzles and will not interpret any more. Restart the kernel and "
        "import labkit.explore.puzzles first, or set TRITON_INTERPRET=1 before you start."
    )


def is_kernel(thing: Any) -> bool:
    """Whether `thing` was made by ``@triton.jit`` for the way kernels run here."""
    return isinstance(thing, InterpretedFunction if INTERPRETED else JITFunction)
