"""The gated delta rule in chunks on a GPU, forward: three kernels, each some lines of ``chunked.py`` with its names.

``README.md`` derives them. Shapes in comments: C tokens of a chunk, K and V widths, BK and BV blocks of them. Programs
are numbered by chunk and by ``n``, a head of one row of the batch. WIDE, EXACT, HOW and AS_IS say in what format
products are taken (`labkit.kernels.gated_delta.triton_chunked.Form`).
"""

from __future__ import annotations

import triton
import triton.language as tl

from labkit.kernels.tiles import product, put, tile


@triton.jit
def decays(g, rows, length, heads, C: tl.constexpr):
    """Log-decay since the chunk began, summed up to and including each token, ``[C]``."""
    own = tl.load(g + rows.to(tl.int64) * heads, mask=rows < length, other=0.0).to(tl.float64)  # [C]
    return tl.cumsum(tl.where(own < -800.0, -800.0, own), 0)  # a maximum would drop a NaN on a GPU


@triton.jit
def between(total, C: tl.constexpr):
    """Decay from token j to token i >= j, 0 above the diagonal, ``[C, C]``."""
    i = tl.arange(0, C)
    earlier = i[:, None] >= i[None, :]
    apart = tl.where(earlier, total[:, None] - total[None, :], 0.0)
    return tl.where(earlier, tl.exp(apart), 0.0)


@triton.jit
def _unit_inverse(lower, C: tl.constexpr, EXACT: tl.constexpr, WIDE: tl.constexpr):
    """(I + lower)^-1 for a strictly lower ``[C, C]``: blocks of 16 rows by themselves, then one block after another.

    Squaring the matrix instead looks right on random keys and is worthless on equal ones.
    """
    i = tl.arange(0, C)
    together = (i // 16)[:, None] == (i // 16)[None, :]
    within = tl.where(together, lower, 0.0)
    blocks = tl.where(i[:, None] == i[None, :], 1.0, 0.0).to(WIDE)
    for row in range(1, 16):  # this row of all blocks at once: no two of them share a column
        here = (i % 16 == row)[:, None]
        own = tl.sum(tl.where(here, within, 0.0), 0)  # [C]
        new = tl.sum(own[:, None] * blocks, 0)  # [C]
        blocks = tl.where(here & together, blocks - new[None, :], blocks)
    solved = blocks
    if C > 16:
        # Each error is what was to be written, less what the errors before it wrote: a block of rows a time.
        before = product(blocks, lower - within, EXACT)
        for _ in range(C // 16 - 1):
            solved = blocks - product(before, solved, EXACT)
    return solved


@triton.jit
def prepare_kernel(
    k, v, g, beta, inverse, lookup, value, length, heads,
    K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    WIDE: tl.constexpr, EXACT: tl.constexpr, AS_IS: tl.constexpr,
):  # fmt: skip
    """T = (I + A)^-1 with A the strictly lower ``beta k k^T decay``; then W = T (beta decay k) and U = T (beta v)."""
    c, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    chunks = tl.num_programs(0)
    b, h = n // heads, n % heads
    here = b * length * heads + h
    i = tl.arange(0, C)
    rows = c * C + i
    total = decays(g + here, rows, length, heads, C)
    strength = tl.load(beta + here + rows.to(tl.int64) * heads, mask=rows < length, other=0.0).to(WIDE)  # [C]
    overlap = tl.zeros([C, C], dtype=WIDE)
    for first in range(0, K, BK):
        columns = first + tl.arange(0, BK)
        keys = tile(k + here * K, rows, columns, K, length, heads * K).to(WIDE)  # [C, BK]
        overlap += product(keys, tl.trans(keys), AS_IS)
    overlap = overlap * between(total, C).to(WIDE) * strength[:, None]
    overlap = tl.where(i[:, None] > i[None, :], overlap, 0.0)
    solved = _unit_inverse(overlap, C, EXACT, WIDE)
    chunk = n * chunks + c
    tl.store(inverse + chunk * C * C + i[:, None] * C + i[None, :], solved)
    for first in range(0, K, BK):
        columns = first + tl.arange(0, BK)
        keys = tile(k + here * K, rows, columns, K, length, heads * K).to(WIDE)  # [C, BK]
        right = keys * (strength * tl.exp(total).to(WIDE))[:, None]
        part = product(solved, right, EXACT)  # [C, BK]
        put(lookup + chunk * C * K, i, columns, K, C, K, part)
    for first in range(0, V, BV):
        columns = first + tl.arange(0, BV)
        values = tile(v + here * V, rows, columns, V, length, heads * V).to(WIDE)  # [C, BV]
        right = values * strength[:, None]
        part = product(solved, right, EXACT)  # [C, BV]
        put(value + chunk * C * V, i, columns, V, C, V, part)


@triton.jit
def scan_kernel(
    k, g, lookup, value, start, states, end, length, heads, chunks,
    K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    WIDE: tl.constexpr, HOW: tl.constexpr,
):  # fmt: skip
    """E = U - W S, then S = decay S + (decayed k)^T E, chunk after chunk; E replaces U, and every S is kept."""
    n = tl.program_id(1).to(tl.int64)
    b, h = n // heads, n % heads
    here = b * length * heads + h
    i, deep, wide = tl.arange(0, C), tl.arange(0, BK), tl.program_id(0) * BV + tl.arange(0, BV)
    state = tile(start + n * K * V, deep, wide, V, K, V).to(WIDE)  # [BK, BV], BK >= K
    for c in range(chunks):
        chunk = n * chunks + c
        rows = c * C + i
        total = decays(g + here, rows, length, heads, C)
        last = tl.sum(tl.where(i == C - 1, total, 0.0), 0)
        put(states + chunk * K * V, deep, wide, V, K, V, state)
        w = tile(lookup + chunk * C * K, i, deep, K, C, K).to(WIDE)  # [C, BK]
        u = tile(value + chunk * C * V, i, wide, V, C, V).to(WIDE)  # [C, BV]
        error = u - product(w, state, HOW)
        put(value + chunk * C * V, i, wide, V, C, V, error)
        keys = tile(k + here * K, rows, deep, K, length, heads * K).to(WIDE)  # [C, BK]
        kept = keys * tl.exp(last - total).to(WIDE)[:, None]
        state = state * tl.exp(last).to(WIDE) + product(tl.trans(kept), error, HOW)
    put(end + n * K * V, deep, wide, V, K, V, state)


@triton.jit
def output_kernel(
    q, k, g, errors, states, o, scale, length, heads,
    K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    HOW: tl.constexpr, AS_IS: tl.constexpr,
):  # fmt: skip
    """o = scale (decay q S + (q k^T decay) E), every chunk by itself."""
    c, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    b, h = n // heads, n % heads
    here = b * length * heads + h
    i, wide = tl.arange(0, C), tl.program_id(2) * BV + tl.arange(0, BV)
    rows = c * C + i
    chunk = n * tl.num_programs(0) + c
    total = decays(g + here, rows, length, heads, C)
    scores = tl.zeros([C, C], dtype=tl.float32)
    read = tl.zeros([C, BV], dtype=tl.float32)
    for first in range(0, K, BK):
        columns = first + tl.arange(0, BK)
        asked = tile(q + here * K, rows, columns, K, length, heads * K)  # [C, BK]
        keys = tile(k + here * K, rows, columns, K, length, heads * K)  # [C, BK]
        state = tile(states + chunk * K * V, columns, wide, V, K, V)  # [BK, BV]
        scores += product(asked, tl.trans(keys), AS_IS)
        read += product(asked, state, AS_IS)
    scores = scores * between(total, C).to(tl.float32)
    error = tile(errors + chunk * C * V, i, wide, V, C, V)  # [C, BV]
    out = read * tl.exp(total).to(tl.float32)[:, None] + product(scores, error, HOW)
    put(o + here * V, rows, wide, V, length, heads * V, out * scale)
