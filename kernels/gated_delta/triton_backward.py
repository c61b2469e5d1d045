"""The gated delta rule in chunks on a GPU, backward: three kernels. Names and shapes are those of `triton_forward`."""

from __future__ import annotations

import triton
import triton.language as tl

from labkit.kernels.gated_delta.triton_forward import between, decays
from labkit.kernels.tiles import product, put, tile


@triton.jit
def told_kernel(
    q, k, g, grad_o, grad_errors, scale, length, heads,
    K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    HOW: tl.constexpr, AS_IS: tl.constexpr,
):  # fmt: skip
    """The part of dE that a chunk's own outputs give, ``scores^T do``, every chunk by itself."""
    c, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    b, h = n // heads, n % heads
    here = b * length * heads + h
    i = tl.arange(0, C)
    rows = c * C + i
    scores = tl.zeros([C, C], dtype=tl.float32)
    for first in range(0, K, BK):
        columns = first + tl.arange(0, BK)
        asked = tile(q + here * K, rows, columns, K, length, heads * K)  # [C, BK]
        keys = tile(k + here * K, rows, columns, K, length, heads * K)  # [C, BK]
        scores += product(asked, tl.trans(keys), AS_IS)
    scores = scores * between(decays(g + here, rows, length, heads, C), C).to(tl.float32)
    for first in range(0, V, BV):
        wide = first + tl.arange(0, BV)
        told = tile(grad_o + here * V, rows, wide, V, length, heads * V) * scale  # [C, BV]
        part = product(tl.trans(scores), told, HOW)  # [C, BV]
        put(grad_errors + (n * tl.num_programs(0) + c) * C * V, i, wide, V, C, V, part)


@triton.jit
def reverse_scan_kernel(
    q, k, g, lookup, grad_o, grad_end, grad_states, grad_errors, grad_start, scale, length, heads, chunks,
    K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, HOW: tl.constexpr,
):  # fmt: skip
    """dE += (decayed k) dS; then dS = decay dS + (decay q)^T do - W^T dE, the last chunk first."""
    n = tl.program_id(1).to(tl.int64)
    b, h = n // heads, n % heads
    here = b * length * heads + h
    i, deep, wide = tl.arange(0, C), tl.arange(0, BK), tl.program_id(0) * BV + tl.arange(0, BV)
    grad = tile(grad_end + n * K * V, deep, wide, V, K, V)  # [BK, BV]
    for back in range(chunks):
        c = chunks - 1 - back
        chunk = n * chunks + c
        rows = c * C + i
        total = decays(g + here, rows, length, heads, C)
        last = tl.sum(tl.where(i == C - 1, total, 0.0), 0)
        put(grad_states + chunk * K * V, deep, wide, V, K, V, grad)
        asked = tile(q + here * K, rows, deep, K, length, heads * K)  # [C, BK]
        keys = tile(k + here * K, rows, deep, K, length, heads * K)  # [C, BK]
        told = tile(grad_o + here * V, rows, wide, V, length, heads * V) * scale  # [C, BV]
        kept = keys * tl.exp(last - total).to(tl.float32)[:, None]
        error = tile(grad_errors + chunk * C * V, i, wide, V, C, V) + product(kept, grad, HOW)  # [C, BV]
        put(grad_errors + chunk * C * V, i, wide, V, C, V, error)
        w = tile(lookup + chunk * C * K, i, deep, K, C, K)  # [C, BK]
        read = asked * tl.exp(total).to(tl.float32)[:, None]
        grad = grad * tl.exp(last).to(tl.float32) + product(tl.trans(read), told, HOW)
        grad -= product(tl.trans(w), error, HOW)
    put(grad_start + n * K * V, deep, wide, V, K, V, grad)


@triton.jit
def gradient_kernel(
    q, k, v, g, beta, inverse, errors, states, grad_o, grad_states, grad_errors,
    grad_q, grad_k, grad_v, grad_g, grad_beta, scale, length, heads,
    K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    WIDE: tl.constexpr, EXACT: tl.constexpr, HOW: tl.constexpr, AS_IS: tl.constexpr,
):  # fmt: skip
    """Gradients of every input of one chunk, for BK channels of queries and keys; of gates the part of these channels.

    The part of the C by C matrices, which no channel owns, is given by the programs of the first channels.
    """
    c, n, block = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    chunks = tl.num_programs(0)
    b, h = n // heads, n % heads
    here = b * length * heads + h
    chunk = n * chunks + c
    i = tl.arange(0, C)
    rows = c * C + i
    columns = block * BK + tl.arange(0, BK)
    total = decays(g + here, rows, length, heads, C)
    last = tl.sum(tl.where(i == C - 1, total, 0.0), 0)
    rise = tl.exp(total).to(tl.float32)
    fall = tl.exp(last - total).to(tl.float32)
    given = tl.load(beta + here + rows.to(tl.int64) * heads, mask=rows < length, other=0.0)  # [C]
    strength = given.to(tl.float32)
    solved = tl.load(inverse + chunk * C * C + i[:, None] * C + i[None, :])  # [C, C]

    written = tl.zeros([C, C], dtype=tl.float32)  # F E^T
    scored = tl.zeros([C, C], dtype=tl.float32)  # do E^T
    through = tl.zeros([C, BK], dtype=tl.float32)  # F S^T
    asked_of = tl.zeros([C, BK], dtype=tl.float32)  # do S^T
    kept_for = tl.zeros([C, BK], dtype=tl.float32)  # E dS^T
    strong = tl.zeros([C], dtype=tl.float32)
    faded = 0.0
    for first in range(0, V, BV):
        wide = first + tl.arange(0, BV)
        told = tile(grad_o + here * V, rows, wide, V, length, heads * V)  # [C, BV]
        error = tile(errors + chunk * C * V, i, wide, V, C, V)  # [C, BV]
        wrong = tile(grad_errors + chunk * C * V, i, wide, V, C, V)  # [C, BV]
        before = tile(states + chunk * K * V, columns, wide, V, K, V)  # [BK, BV]
        after = tile(grad_states + chunk * K * V, columns, wide, V, K, V)  # [BK, BV]
        pulled = product(tl.trans(solved), wrong.to(WIDE), EXACT).to(tl.float32)  # T^T dE
        written += product(pulled, tl.trans(error), HOW)
        scored += product(told, tl.trans(error), HOW)
        through += product(pulled, tl.trans(before), HOW)
        # As tf32, although both are short: as bfloat16, beside the first product, Triton 3.7 made garbage of it on an
        # H100, for narrow values.
        asked_of += product(told, tl.trans(before), HOW)
        kept_for += product(error, tl.trans(after), HOW)
        faded += tl.sum(before * after)
        if block == 0:
            values = tile(v + here * V, rows, wide, V, length, heads * V)  # [C, BV]
            strong += tl.sum(pulled * values, 1)
            put(grad_v + here * V, rows, wide, V, length, heads * V, pulled * strength[:, None])

    decay = between(total, C).to(tl.float32)
    lower = i[:, None] > i[None, :]
    written = tl.where(lower, -written * decay, 0.0)  # of k k^T beta
    scored = scale * scored * decay  # of q k^T
    asked_of = scale * asked_of
    asked = tile(q + here * K, rows, columns, K, length, heads * K)  # [C, BK]
    keys = tile(k + here * K, rows, columns, K, length, heads * K)  # [C, BK]
    overlap = product(keys, tl.trans(keys), AS_IS)  # this block's part of k k^T
    scores = product(asked, tl.trans(keys), AS_IS)  # and of q k^T
    by_key = written * strength[:, None]
    grad = product(by_key, keys, HOW) + product(tl.trans(by_key), keys, HOW)
    grad += product(tl.trans(scored), asked, HOW)
    grad += fall[:, None] * kept_for - (strength * rise)[:, None] * through
    put(grad_k + here * K, rows, columns, K, length, heads * K, grad)
    grad = product(scored, keys, HOW) + rise[:, None] * asked_of
    put(grad_q + here * K, rows, columns, K, length, heads * K, grad)

    looked = rise * tl.sum(keys * through, 1)
    strong += tl.sum(written * overlap, 1) - looked
    kept = fall * tl.sum(keys * kept_for, 1)
    moved = by_key * overlap + scored * scores
    gate = tl.sum(moved, 1) - tl.sum(moved, 0) - strength * looked + rise * tl.sum(asked * asked_of, 1) - kept
    gate += tl.where(i == C - 1, tl.sum(kept) + tl.exp(last).to(tl.float32) * faded, 0.0)
    gate = tl.sum(gate) - tl.cumsum(gate, 0) + gate  # each log-decay is in all sums from its own on
    own = tl.load(g + here + rows.to(tl.int64) * heads, mask=rows < length, other=0.0)  # [C]
    gate = tl.where(own < -800.0, 0.0, gate)
    part = (block * tl.num_programs(1) + n) * chunks * C + c * C + i
    tl.store(grad_g + part, gate)
    tl.store(grad_beta + part, strong)
