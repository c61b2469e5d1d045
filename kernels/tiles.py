"""Tiles of a matrix, read and written by Triton kernels: plain pointers, int64 offsets, zeros outside."""

from __future__ import annotations

import triton
import triton.language as tl
from triton import knobs

IMITATED = tl.constexpr(knobs.runtime.interpret)  # the interpreter multiplies float32, whatever precision is asked


@triton.jit
def tile(base, rows, columns, width, length, stride):
    """``[rows, columns]`` of a matrix ``[length, width]`` whose rows lie `stride` apart, as float32."""
    inside = (rows < length)[:, None] & (columns < width)[None, :]
    at = base + rows.to(tl.int64)[:, None] * stride + columns[None, :]
    return tl.load(at, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def put(base, rows, columns, width, length, stride, values):
    """Write such a tile, in the matrix's own format."""
    inside = (rows < length)[:, None] & (columns < width)[None, :]
    at = base + rows.to(tl.int64)[:, None] * stride + columns[None, :]
    tl.store(at, values.to(base.dtype.element_ty), mask=inside)


@triton.jit
def _cut(x):
    """Float32 with the first 10 bits of its mantissa: what tensor cores may read of it as tf32."""
    return (x.to(tl.int32, bitcast=True) & -0x2000).to(tl.float32, bitcast=True)


@triton.jit
def product(a, b, HOW: tl.constexpr):
    """The matrix product of two tiles, summed in float64 or float32; of float32, by way of what HOW names.

    "bf16" takes both as the bfloat16 that they are; else it is Triton's ``input_precision``. Where the interpreter
    runs, "tf32" is cut short by hand, so that tests see what it costs.
    """
    if a.dtype == tl.float64:
        c = tl.dot(a, b, out_dtype=tl.float64)
    elif HOW == "bf16":
        c = tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16))
    elif HOW == "tf32" and IMITATED:
        c = tl.dot(_cut(a), _cut(b))
    else:
        c = tl.dot(a, b, input_precision=HOW)
    return c


def block_of(width: int) -> int:
    """The power of two that holds `width`, and at least the 16 that a product of tiles needs."""
    return max(16, triton.next_power_of_2(width))
