"""Solutions of the kernel puzzles. The tests run them; the notebook does not show them."""

from __future__ import annotations

from labkit.explore.puzzles import tl, triton


@triton.jit
def rows_of(base, rows, columns, height, width, stride):
    """A tile of a matrix ``[height, width]``, with zeros beyond it."""
    inside = (rows < height)[:, None] & (columns < width)[None, :]
    return tl.load(base + rows[:, None] * stride + columns[None, :], mask=inside, other=0.0)


@triton.jit
def put_rows(base, rows, columns, height, width, stride, values):
    """Write such a tile."""
    inside = (rows < height)[:, None] & (columns < width)[None, :]
    tl.store(base + rows[:, None] * stride + columns[None, :], values, mask=inside)


@triton.jit
def between(total, C: tl.constexpr):
    """Decay from token j to token i >= j, 0 above the diagonal."""
    i = tl.arange(0, C)
    lower = i[:, None] >= i[None, :]
    apart = tl.where(lower, total[:, None] - total[None, :], 0.0)
    return tl.where(lower, tl.exp(apart), 0.0).to(tl.float32)


@triton.jit
def invert(overlap, C: tl.constexpr):
    """(I + A)^-1, row by row."""
    i = tl.arange(0, C)
    solved = tl.where(i[:, None] == i[None, :], 1.0, 0.0)
    for row in range(1, C):
        own = tl.sum(tl.where((i == row)[:, None], overlap, 0.0), 0)
        new = tl.sum(own[:, None] * solved, 0)
        solved = tl.where((i == row)[:, None], solved - new[None, :], solved)
    return solved


@triton.jit
def copy_kernel(x, y, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + i, mask=i < n)
    tl.store(y + i, values, mask=i < n)


@triton.jit
def scale_kernel(x, g, y, rows, columns, x_row, BR: tl.constexpr, BC: tl.constexpr):
    i = tl.program_id(0) * BR + tl.arange(0, BR)
    j = tl.program_id(1) * BC + tl.arange(0, BC)
    inside = (i < rows)[:, None] & (j < columns)[None, :]
    at = i[:, None] * x_row + j[None, :]
    values = tl.load(x + at, mask=inside)
    decay = tl.exp(tl.load(g + i, mask=i < rows, other=0.0))
    tl.store(y + at, values * decay[:, None], mask=inside)


@triton.jit
def normalise_kernel(x, y, rows, columns, x_row, BR: tl.constexpr, BC: tl.constexpr):
    i, j = tl.program_id(0) * BR + tl.arange(0, BR), tl.arange(0, BC)
    inside = (i < rows)[:, None] & (j < columns)[None, :]
    at = i[:, None] * x_row + j[None, :]
    values = tl.load(x + at, mask=inside, other=0.0)
    norm = tl.sqrt(tl.sum(values * values, 1))
    tl.store(y + at, values / tl.maximum(norm, 1e-6)[:, None], mask=inside)


@triton.jit
def product_kernel(
    a, b, c, M, N, K, a_row, b_row, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr
):  # fmt: skip
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    j = tl.program_id(1) * BN + tl.arange(0, BN)
    total = tl.zeros([BM, BN], dtype=tl.float32)
    for first in range(0, K, BK):
        inner = first + tl.arange(0, BK)
        left = rows_of(a, i, inner, M, K, a_row)
        right = rows_of(b, inner, j, K, N, b_row)
        total += tl.dot(left, right, input_precision="ieee")
    put_rows(c, i, j, M, N, b_row, total)


@triton.jit
def delta_kernel(
    q, k, v, g, beta, start, o, end, T, K, V, k_row, v_row, t_row, scale, BK: tl.constexpr, BV: tl.constexpr
):  # fmt: skip
    n, i, j = tl.program_id(0), tl.arange(0, BK), tl.program_id(1) * BV + tl.arange(0, BV)
    state = rows_of(start + n * K * v_row, i, j, K, V, v_row)
    for t in range(T):
        token = n * T + t
        key = tl.load(k + token * k_row + i, mask=i < K, other=0.0)
        asked = tl.load(q + token * k_row + i, mask=i < K, other=0.0)
        value = tl.load(v + token * v_row + j, mask=j < V, other=0.0)
        state = state * tl.exp(tl.load(g + n * t_row + t))
        error = value - tl.sum(state * key[:, None], 0)
        strength = tl.load(beta + n * t_row + t)
        state = state + (strength * key)[:, None] * error[None, :]
        told = scale * tl.sum(state * asked[:, None], 0)
        tl.store(o + token * v_row + j, told, mask=j < V)
    put_rows(end + n * K * v_row, i, j, K, V, v_row, state)


@triton.jit
def decay_kernel(g, decay, T, t_row, c_row, C: tl.constexpr):
    n, i = tl.program_id(0), tl.arange(0, C)
    rows = tl.program_id(1) * C + i
    own = tl.load(g + n * t_row + rows, mask=rows < T, other=0.0)
    total = tl.cumsum(own.to(tl.float64), 0)
    lower = i[:, None] >= i[None, :]
    apart = tl.where(lower, total[:, None] - total[None, :], 0.0)
    left = tl.where(lower, tl.exp(apart), 0.0)
    tl.store(decay + (n * T + rows)[:, None] * c_row + i[None, :], left.to(tl.float32), mask=(rows < T)[:, None])


@triton.jit
def inverse_kernel(a, x, n, row, BLOCK: tl.constexpr):
    i, first = tl.arange(0, BLOCK), tl.program_id(0) * n * row
    solved = tl.where(i[:, None] == i[None, :], 1.0, 0.0)
    for r in range(1, n):
        own = tl.load(a + first + r * row + i, mask=i < r, other=0.0)
        new = tl.sum(own[:, None] * solved, 0)
        solved = tl.where((i == r)[:, None], solved - new[None, :], solved)
    put_rows(x + first, i, i, n, n, row, solved)
