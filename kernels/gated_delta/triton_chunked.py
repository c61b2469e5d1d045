"""The gated delta rule in chunks, as Triton kernels: forward and backward.

Every kernel does some lines of ``chunked.py``, with the same names; ``README.md`` derives them. Shapes in comments: C
tokens of a chunk, K and V widths, BK and BV blocks of them. Programs are numbered by chunk and by ``n``, a head of one
row of the batch. HOW is how products of float32 are taken, WIDE the format of what must not be rounded on the way.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from labkit.kernels.tiles import block_of, put, tile

SHORTEST_CHUNK, WIDEST_CHUNK = 16, 64  # a product of tiles takes 16 rows or more


@triton.jit
def _decays(g, rows, length, heads, C: tl.constexpr):
    """Log-decay since the chunk began, summed up to and including each token, ``[C]``."""
    own = tl.load(g + rows.to(tl.int64) * heads, mask=rows < length, other=0.0).to(tl.float64)
    return tl.cumsum(tl.where(own < -800.0, -800.0, own), 0)  # a maximum would drop a NaN on a GPU


@triton.jit
def _between(total, C: tl.constexpr):
    """Decay from token j to token i >= j, 0 above the diagonal, ``[C, C]``."""
    i = tl.arange(0, C)
    earlier = i[:, None] >= i[None, :]
    apart = tl.where(earlier, total[:, None] - total[None, :], 0.0)
    return tl.where(earlier, tl.exp(apart), 0.0)


@triton.jit
def prepare_kernel(
    k, v, g, beta, inverse, lookup, value, length, heads,
    K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    WIDE: tl.constexpr, HOW: tl.constexpr,
):  # fmt: skip
    """T = (I + A)^-1 with A the strictly lower ``beta k k^T decay``; then W = T (beta decay k) and U = T (beta v)."""
    c, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    chunks = tl.num_programs(0)
    b, h = n // heads, n % heads
    here = b * length * heads + h
    i = tl.arange(0, C)
    rows = c * C + i
    total = _decays(g + here, rows, length, heads, C)
    strength = tl.load(beta + here + rows.to(tl.int64) * heads, mask=rows < length, other=0.0).to(WIDE)
    overlap = tl.zeros([C, C], dtype=WIDE)
    for first in range(0, K, BK):
        columns = first + tl.arange(0, BK)
        keys = tile(k + here * K, rows, columns, K, length, heads * K).to(WIDE)  # [C, BK]
        overlap += tl.dot(keys, tl.trans(keys), input_precision=HOW, out_dtype=WIDE)
    overlap = overlap * _between(total, C).to(WIDE) * strength[:, None]
    overlap = tl.where(i[:, None] > i[None, :], overlap, 0.0)
    # Row by row: each error is what was to be written, less what the errors before it wrote. Squaring the matrix
    # instead looks right on random keys and is worthless on equal ones.
    solved = tl.where(i[:, None] == i[None, :], 1.0, 0.0).to(WIDE)
    for row in range(1, C):
        own = tl.sum(tl.where((i == row)[:, None], overlap, 0.0), 0)  # [C]
        new = tl.sum(own[:, None] * solved, 0)  # [C]
        solved = tl.where((i == row)[:, None], solved - new[None, :], solved)
    chunk = n * chunks + c
    tl.store(inverse + chunk * C * C + i[:, None] * C + i[None, :], solved)
    for first in range(0, K, BK):
        columns = first + tl.arange(0, BK)
        keys = tile(k + here * K, rows, columns, K, length, heads * K).to(WIDE)
        right = keys * (strength * tl.exp(total).to(WIDE))[:, None]
        part = tl.dot(solved, right, input_precision=HOW, out_dtype=WIDE)  # [C, BK]
        put(lookup + chunk * C * K, i, columns, K, C, K, part)
    for first in range(0, V, BV):
        columns = first + tl.arange(0, BV)
        right = tile(v + here * V, rows, columns, V, length, heads * V).to(WIDE) * strength[:, None]
        part = tl.dot(solved, right, input_precision=HOW, out_dtype=WIDE)  # [C, BV]
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
        total = _decays(g + here, rows, length, heads, C)
        last = tl.sum(tl.where(i == C - 1, total, 0.0), 0)
        put(states + chunk * K * V, deep, wide, V, K, V, state)
        w = tile(lookup + chunk * C * K, i, deep, K, C, K).to(WIDE)  # [C, BK]
        u = tile(value + chunk * C * V, i, wide, V, C, V).to(WIDE)  # [C, BV]
        error = u - tl.dot(w, state, input_precision=HOW, out_dtype=WIDE)
        put(value + chunk * C * V, i, wide, V, C, V, error)
        keys = tile(k + here * K, rows, deep, K, length, heads * K).to(WIDE)  # [C, BK]
        kept = keys * tl.exp(last - total).to(WIDE)[:, None]
        state = state * tl.exp(last).to(WIDE) + tl.dot(tl.trans(kept), error, input_precision=HOW, out_dtype=WIDE)
    put(end + n * K * V, deep, wide, V, K, V, state)


@triton.jit
def output_kernel(
    q, k, g, errors, states, o, scale, length, heads,
    K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, HOW: tl.constexpr,
):  # fmt: skip
    """o = scale (decay q S + (q k^T decay) E), every chunk by itself."""
    c, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    b, h = n // heads, n % heads
    here = b * length * heads + h
    i, wide = tl.arange(0, C), tl.program_id(2) * BV + tl.arange(0, BV)
    rows = c * C + i
    chunk = n * tl.num_programs(0) + c
    total = _decays(g + here, rows, length, heads, C)
    scores = tl.zeros([C, C], dtype=tl.float32)
    read = tl.zeros([C, BV], dtype=tl.float32)
    for first in range(0, K, BK):
        columns = first + tl.arange(0, BK)
        asked = tile(q + here * K, rows, columns, K, length, heads * K)  # [C, BK]
        keys = tile(k + here * K, rows, columns, K, length, heads * K)  # [C, BK]
        state = tile(states + chunk * K * V, columns, wide, V, K, V)  # [BK, BV]
        scores += tl.dot(asked, tl.trans(keys), input_precision=HOW)
        read += tl.dot(asked, state, input_precision=HOW)
    scores = scores * _between(total, C).to(tl.float32)
    error = tile(errors + chunk * C * V, i, wide, V, C, V)  # [C, BV]
    out = read * tl.exp(total).to(tl.float32)[:, None] + tl.dot(scores, error, input_precision=HOW)
    put(o + here * V, rows, wide, V, length, heads * V, out * scale)


@triton.jit
def reverse_scan_kernel(
    q, k, g, lookup, grad_o, grad_end, grad_states, grad_errors, grad_start, scale, length, heads, chunks,
    K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, HOW: tl.constexpr,
):  # fmt: skip
    """dE = scores^T do + (decayed k) dS; then dS = decay dS + (decay q)^T do - W^T dE, the last chunk first."""
    n = tl.program_id(1).to(tl.int64)
    b, h = n // heads, n % heads
    here = b * length * heads + h
    i, deep, wide = tl.arange(0, C), tl.arange(0, BK), tl.program_id(0) * BV + tl.arange(0, BV)
    grad = tile(grad_end + n * K * V, deep, wide, V, K, V)  # [BK, BV]
    for back in range(chunks):
        c = chunks - 1 - back
        chunk = n * chunks + c
        rows = c * C + i
        total = _decays(g + here, rows, length, heads, C)
        last = tl.sum(tl.where(i == C - 1, total, 0.0), 0)
        put(grad_states + chunk * K * V, deep, wide, V, K, V, grad)
        asked = tile(q + here * K, rows, deep, K, length, heads * K)  # [C, BK]
        keys = tile(k + here * K, rows, deep, K, length, heads * K)  # [C, BK]
        told = tile(grad_o + here * V, rows, wide, V, length, heads * V) * scale  # [C, BV]
        scores = tl.dot(asked, tl.trans(keys), input_precision=HOW) * _between(total, C).to(tl.float32)
        kept = keys * tl.exp(last - total).to(tl.float32)[:, None]
        error = tl.dot(tl.trans(scores), told, input_precision=HOW) + tl.dot(kept, grad, input_precision=HOW)
        put(grad_errors + chunk * C * V, i, wide, V, C, V, error)
        w = tile(lookup + chunk * C * K, i, deep, K, C, K)  # [C, BK]
        read = asked * tl.exp(total).to(tl.float32)[:, None]
        grad = grad * tl.exp(last).to(tl.float32) + tl.dot(tl.trans(read), told, input_precision=HOW)
        grad -= tl.dot(tl.trans(w), error, input_precision=HOW)
    put(grad_start + n * K * V, deep, wide, V, K, V, grad)


@triton.jit
def gradient_kernel(
    q, k, v, g, beta, inverse, errors, states, grad_o, grad_states, grad_errors,
    grad_q, grad_k, grad_v, grad_g, grad_beta, scale, length, heads,
    K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    WIDE: tl.constexpr, HOW: tl.constexpr,
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
    total = _decays(g + here, rows, length, heads, C)
    last = tl.sum(tl.where(i == C - 1, total, 0.0), 0)
    rise = tl.exp(total).to(tl.float32)
    fall = tl.exp(last - total).to(tl.float32)
    strength = tl.load(beta + here + rows.to(tl.int64) * heads, mask=rows < length, other=0.0).to(tl.float32)
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
        told = tile(grad_o + here * V, rows, wide, V, length, heads * V) * scale  # [C, BV]
        error = tile(errors + chunk * C * V, i, wide, V, C, V)  # [C, BV]
        wrong = tile(grad_errors + chunk * C * V, i, wide, V, C, V)  # [C, BV]
        before = tile(states + chunk * K * V, columns, wide, V, K, V)  # [BK, BV]
        after = tile(grad_states + chunk * K * V, columns, wide, V, K, V)  # [BK, BV]
        pulled = tl.dot(tl.trans(solved), wrong.to(WIDE), input_precision=HOW, out_dtype=WIDE).to(tl.float32)  # T^T dE
        written += tl.dot(pulled, tl.trans(error), input_precision=HOW)
        scored += tl.dot(told, tl.trans(error), input_precision=HOW)
        through += tl.dot(pulled, tl.trans(before), input_precision=HOW)
        asked_of += tl.dot(told, tl.trans(before), input_precision=HOW)
        kept_for += tl.dot(error, tl.trans(after), input_precision=HOW)
        faded += tl.sum(before * after)
        if block == 0:
            values = tile(v + here * V, rows, wide, V, length, heads * V)  # [C, BV]
            strong += tl.sum(pulled * values, 1)
            put(grad_v + here * V, rows, wide, V, length, heads * V, pulled * strength[:, None])

    decay = _between(total, C).to(tl.float32)
    lower = i[:, None] > i[None, :]
    written = tl.where(lower, -written * decay, 0.0)  # of k k^T beta
    scored = scored * decay  # of q k^T
    asked = tile(q + here * K, rows, columns, K, length, heads * K)  # [C, BK]
    keys = tile(k + here * K, rows, columns, K, length, heads * K)  # [C, BK]
    overlap = tl.dot(keys, tl.trans(keys), input_precision=HOW)  # this block's part of k k^T
    scores = tl.dot(asked, tl.trans(keys), input_precision=HOW)  # and of q k^T
    by_key = written * strength[:, None]
    grad = tl.dot(by_key, keys, input_precision=HOW) + tl.dot(tl.trans(by_key), keys, input_precision=HOW)
    grad += tl.dot(tl.trans(scored), asked, input_precision=HOW)
    grad += fall[:, None] * kept_for - (strength * rise)[:, None] * through
    put(grad_k + here * K, rows, columns, K, length, heads * K, grad)
    grad = tl.dot(scored, keys, input_precision=HOW) + rise[:, None] * asked_of
    put(grad_q + here * K, rows, columns, K, length, heads * K, grad)

    looked = rise * tl.sum(keys * through, 1)
    strong += tl.sum(written * overlap, 1) - looked
    kept = fall * tl.sum(keys * kept_for, 1)
    moved = by_key * overlap + scored * scores
    gate = tl.sum(moved, 1) - tl.sum(moved, 0) - strength * looked + rise * tl.sum(asked * asked_of, 1) - kept
    gate += tl.where(i == C - 1, tl.sum(kept) + tl.exp(last).to(tl.float32) * faded, 0.0)
    gate = tl.sum(gate) - tl.cumsum(gate, 0) + gate  # each log-decay is in all sums from its own on
    clamped = tl.load(g + here + rows.to(tl.int64) * heads, mask=rows < length, other=0.0) < -800.0
    gate = tl.where(clamped, 0.0, gate)
    part = (block * tl.num_programs(1) + n) * chunks * C + c * C + i
    tl.store(grad_g + part, gate)
    tl.store(grad_beta + part, strong)


class _Chunks(torch.autograd.Function):
    """The kernels in order; the backward pass keeps the states between chunks and makes the rest again."""

    @staticmethod
    def forward(ctx, q, k, v, g, beta, start, scale, size):
        (batch, length, heads, key_dim), value_dim = q.shape, v.shape[-1]
        chunks, rows = -(-length // size), batch * heads
        exact = q.dtype == torch.float32
        inverse = q.new_empty(rows, chunks, size, size, dtype=torch.float64 if exact else torch.float32)
        lookup, errors, states = (
            q.new_empty(rows, chunks, *shape, dtype=torch.float32)
            for shape in ((size, key_dim), (size, value_dim), (key_dim, value_dim))
        )
        end, o = torch.empty_like(start), torch.empty_like(v)
        form = _form(key_dim, value_dim, size, exact)
        bk, bv = form.pop("BK"), form.pop("BV")
        wide = {"WIDE": tl.float64 if exact else tl.float32}
        prepare_kernel[chunks, rows](
            k, v, g, beta, inverse, lookup, errors, length, heads, **form, **wide, BK=min(bk, 32), BV=min(bv, 32)
        )  # fmt: skip
        scan_kernel[triton.cdiv(value_dim, min(bv, 32)), rows](
            k, g, lookup, errors, start, states, end, length, heads, chunks, **form, **wide, BK=bk, BV=min(bv, 32)
        )  # fmt: skip
        output_kernel[chunks, rows, triton.cdiv(value_dim, min(bv, 64))](
            q, k, g, errors, states, o, scale, length, heads, **form, BK=min(bk, 32), BV=min(bv, 64)
        )  # fmt: skip
        ctx.save_for_backward(q, k, v, g, beta, inverse, lookup, errors, states)
        ctx.scale, ctx.size = scale, size
        return o, end

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_o, grad_end):
        q, k, v, g, beta, inverse, lookup, errors, states = ctx.saved_tensors
        (batch, length, heads, key_dim), value_dim = q.shape, v.shape[-1]
        rows, chunks = states.shape[:2]
        exact = q.dtype == torch.float32
        grad_o, grad_end = grad_o.contiguous(), grad_end.contiguous()
        grad_states, grad_errors, grad_start = (torch.empty_like(t) for t in (states, errors, grad_end))
        form = _form(key_dim, value_dim, ctx.size, exact)
        bk, bv = form.pop("BK"), min(form.pop("BV"), 32)
        reverse_scan_kernel[triton.cdiv(value_dim, bv), rows](
            q, k, g, lookup, grad_o, grad_end, grad_states, grad_errors, grad_start, ctx.scale, length, heads, chunks,
            **form, BK=bk, BV=bv,
        )  # fmt: skip
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        blocks = triton.cdiv(key_dim, min(bk, 32))
        gates = q.new_empty(2, blocks, rows, chunks * ctx.size, dtype=torch.float32)
        gradient_kernel[chunks, rows, blocks](
            q, k, v, g, beta, inverse, errors, states, grad_o, grad_states, grad_errors, grad_q, grad_k, grad_v,
            gates[0], gates[1], ctx.scale, length, heads, **form, BK=min(bk, 32), BV=bv,
            WIDE=tl.float64 if exact else tl.float32,
        )  # fmt: skip
        grad_g, grad_beta = gates.sum(1)[..., :length].unflatten(1, (batch, heads)).transpose(2, 3)
        return grad_q, grad_k, grad_v, grad_g.to(g.dtype), grad_beta.to(beta.dtype), grad_start, None, None


def _form(key_dim: int, value_dim: int, size: int, exact: bool) -> dict[str, Any]:
    """What a kernel is compiled for. Float32 keeps its digits; what came in bfloat16 has fewer than tensor cores."""
    blocks = {"BK": block_of(key_dim), "BV": block_of(value_dim)}
    return {"K": key_dim, "V": value_dim, "C": size, "HOW": "ieee" if exact else "tf32", **blocks}


def triton_gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    *,
    initial_state: Tensor | None = None,
    scale: float,
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """`gated_delta_rule` by these kernels, from inputs of float32 or shorter and widths of up to 256; state in float32.

    Chunks are 16, 32 or 64 tokens long, at most 32 in float32 and for wide keys; `chunk_size` is the most.
    """
    batch, length, heads, key_dim = q.shape
    state = q.new_zeros(batch, heads, key_dim, v.shape[-1], dtype=torch.float32)
    state = state if initial_state is None else initial_state.float().contiguous()
    if length == 0:
        return torch.zeros_like(v), state
    most = WIDEST_CHUNK // 2 if q.dtype == torch.float32 or key_dim > 128 else WIDEST_CHUNK
    size = min(max(SHORTEST_CHUNK, triton.next_power_of_2(chunk_size + 1) // 2), most)
    q, k, v, g, beta = (t.contiguous() for t in (q, k, v, g, beta))
    return _Chunks.apply(q, k, v, g, beta, state, scale, size)
