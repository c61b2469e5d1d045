"""A linear neural memory in chunks, as Triton kernels: forward and backward of what touches keys and values.

The gates of a chunk come to a few small matrices of scalars, which PyTorch makes and differentiates
(``triton_linear_memory``): ``reach [C, C]`` is what token i has moved in M by token t over its gradient, ``kept`` and
``pushed [C]`` what is left at token t of the weights and what came of the velocity before the chunk, ``late [C]`` and
``since`` the same for the velocity at its end. With them, for a linear memory and all gradients at the chunk's start,

    E = 2 (K W - V),    y = kept (Q W) + pushed (Q S) - (reach * Q K^T) E,
    W' = kept_C W + pushed_C S - (reach_C K)^T E,    S' = since S - (late K)^T E.

Columns of W, S, E and V go with no other column, so programs share them out. Shapes in comments: C tokens of a chunk, D
channels, BD and BV blocks of them; ``n`` numbers the heads of all rows.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from labkit.kernels.gradients import first_only
from labkit.kernels.tiles import block_of, put, tile
from labkit.kernels.titans.chunked import spread

HOW = "tf32x3"  # products of float32 in three of the tensor cores' shorter ones, right to the last digit but one


@triton.jit
def forward_kernel(
    q, k, v, reach, kept, pushed, late, since, start_w, start_s, y, errors, weights, velocity, end_w, end_s,
    length, heads, chunks, D: tl.constexpr, C: tl.constexpr, BD: tl.constexpr, BV: tl.constexpr, HOW: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(1).to(tl.int64)
    b, h = n // heads, n % heads
    here = (b * length * heads + h) * D
    i, deep, wide = tl.arange(0, C), tl.arange(0, BD), tl.program_id(0) * BV + tl.arange(0, BV)
    w = tile(start_w + n * D * D, deep, wide, D, D, D)  # [BD, BV]
    s = tile(start_s + n * D * D, deep, wide, D, D, D)  # [BD, BV]
    for c in range(chunks):
        chunk = n * chunks + c
        rows = c * C + i
        put(weights + chunk * D * D, deep, wide, D, D, D, w)
        put(velocity + chunk * D * D, deep, wide, D, D, D, s)
        asked = tile(q + here, rows, deep, D, length, heads * D)  # [C, BD]
        keys = tile(k + here, rows, deep, D, length, heads * D)  # [C, BD]
        values = tile(v + here, rows, wide, D, length, heads * D)  # [C, BV]
        moved = tl.load(reach + chunk * C * C + i[:, None] * C + i[None, :])  # [C, C]
        stays, comes = tl.load(kept + chunk * C + i), tl.load(pushed + chunk * C + i)  # [C]
        error = 2 * (tl.dot(keys, w, input_precision=HOW) - values)
        put(errors + chunk * C * D, i, wide, D, C, D, error)
        scores = moved * tl.dot(asked, tl.trans(keys), input_precision=HOW)
        told = stays[:, None] * tl.dot(asked, w, input_precision=HOW)
        told += comes[:, None] * tl.dot(asked, s, input_precision=HOW)
        told -= tl.dot(scores, error, input_precision=HOW)
        put(y + here, rows, wide, D, length, heads * D, told)
        last = i == C - 1
        keep, push = tl.sum(tl.where(last, stays, 0.0)), tl.sum(tl.where(last, comes, 0.0))
        by_end = tl.sum(tl.where(last[:, None], moved, 0.0), 0)  # [C]
        delayed = tl.load(late + chunk * C + i)  # [C]
        w = keep * w + push * s - tl.dot(tl.trans(by_end[:, None] * keys), error, input_precision=HOW)
        s = tl.load(since + chunk) * s - tl.dot(tl.trans(delayed[:, None] * keys), error, input_precision=HOW)
    put(end_w + n * D * D, deep, wide, D, D, D, w)
    put(end_s + n * D * D, deep, wide, D, D, D, s)


@triton.jit
def reverse_kernel(
    q, k, reach, kept, pushed, late, since, grad_y, grad_end_w, grad_end_s, grad_errors, grad_w, grad_s,
    grad_start_w, grad_start_s, length, heads, chunks,
    D: tl.constexpr, C: tl.constexpr, BD: tl.constexpr, BV: tl.constexpr, HOW: tl.constexpr,
):  # fmt: skip
    """The chain from the last chunk to the first: gradients of E in every chunk, and of W and S after it."""
    n = tl.program_id(1).to(tl.int64)
    b, h = n // heads, n % heads
    here = (b * length * heads + h) * D
    i, deep, wide = tl.arange(0, C), tl.arange(0, BD), tl.program_id(0) * BV + tl.arange(0, BV)
    dw = tile(grad_end_w + n * D * D, deep, wide, D, D, D)  # [BD, BV]
    ds = tile(grad_end_s + n * D * D, deep, wide, D, D, D)  # [BD, BV]
    for back in range(chunks):
        c = chunks - 1 - back
        chunk = n * chunks + c
        rows = c * C + i
        put(grad_w + chunk * D * D, deep, wide, D, D, D, dw)
        put(grad_s + chunk * D * D, deep, wide, D, D, D, ds)
        asked = tile(q + here, rows, deep, D, length, heads * D)  # [C, BD]
        keys = tile(k + here, rows, deep, D, length, heads * D)  # [C, BD]
        told = tile(grad_y + here, rows, wide, D, length, heads * D)  # [C, BV]
        moved = tl.load(reach + chunk * C * C + i[:, None] * C + i[None, :])  # [C, C]
        stays, comes = tl.load(kept + chunk * C + i), tl.load(pushed + chunk * C + i)  # [C]
        delayed = tl.load(late + chunk * C + i)  # [C]
        last = i == C - 1
        keep, push = tl.sum(tl.where(last, stays, 0.0)), tl.sum(tl.where(last, comes, 0.0))
        by_end = tl.sum(tl.where(last[:, None], moved, 0.0), 0)  # [C]
        scores = moved * tl.dot(asked, tl.trans(keys), input_precision=HOW)
        error = tl.dot(tl.trans(scores), told, input_precision=HOW)
        error += tl.dot(by_end[:, None] * keys, dw, input_precision=HOW)
        error = -error - tl.dot(delayed[:, None] * keys, ds, input_precision=HOW)
        put(grad_errors + chunk * C * D, i, wide, D, C, D, error)
        new = keep * dw + tl.dot(tl.trans(stays[:, None] * asked), told, input_precision=HOW)
        new += 2 * tl.dot(tl.trans(keys), error, input_precision=HOW)
        ds = push * dw + tl.load(since + chunk) * ds
        ds += tl.dot(tl.trans(comes[:, None] * asked), told, input_precision=HOW)
        dw = new
    put(grad_start_w + n * D * D, deep, wide, D, D, D, dw)
    put(grad_start_s + n * D * D, deep, wide, D, D, D, ds)


@triton.jit
def gradient_kernel(
    q, k, reach, kept, pushed, late, errors, weights, velocity, grad_y, grad_errors, grad_w, grad_s,
    grad_q, grad_k, grad_v, grad_reach, grad_kept, grad_pushed, grad_late, grad_since, length, heads,
    D: tl.constexpr, C: tl.constexpr, BD: tl.constexpr, BV: tl.constexpr, HOW: tl.constexpr,
):  # fmt: skip
    """Gradients of one chunk for BD channels of queries and keys; of its scalars the part of these channels."""
    c, n, block = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    chunks = tl.num_programs(0)
    b, h = n // heads, n % heads
    here = (b * length * heads + h) * D
    chunk = n * chunks + c
    i = tl.arange(0, C)
    rows, columns = c * C + i, block * BD + tl.arange(0, BD)
    asked = tile(q + here, rows, columns, D, length, heads * D)  # [C, BD]
    keys = tile(k + here, rows, columns, D, length, heads * D)  # [C, BD]
    moved = tl.load(reach + chunk * C * C + i[:, None] * C + i[None, :])  # [C, C]
    stays, comes = tl.load(kept + chunk * C + i), tl.load(pushed + chunk * C + i)  # [C]
    delayed = tl.load(late + chunk * C + i)  # [C]
    last = i == C - 1
    by_end = tl.sum(tl.where(last[:, None], moved, 0.0), 0)  # [C]

    scored = tl.zeros([C, C], dtype=tl.float32)  # -dy E^T
    from_w = tl.zeros([C, BD], dtype=tl.float32)  # dy W^T
    from_s = tl.zeros([C, BD], dtype=tl.float32)  # dy S^T
    erred = tl.zeros([C, BD], dtype=tl.float32)  # dE W^T
    into_w = tl.zeros([C, BD], dtype=tl.float32)  # -E dW'^T
    into_s = tl.zeros([C, BD], dtype=tl.float32)  # -E dS'^T
    kept_w, pushed_s, since_s = 0.0, 0.0, 0.0
    for first in range(0, D, BV):
        wide = first + tl.arange(0, BV)
        told = tile(grad_y + here, rows, wide, D, length, heads * D)  # [C, BV]
        error = tile(errors + chunk * C * D, i, wide, D, C, D)  # [C, BV]
        wrong = tile(grad_errors + chunk * C * D, i, wide, D, C, D)  # [C, BV]
        w = tile(weights + chunk * D * D, columns, wide, D, D, D)  # [BD, BV]
        s = tile(velocity + chunk * D * D, columns, wide, D, D, D)  # [BD, BV]
        dw = tile(grad_w + chunk * D * D, columns, wide, D, D, D)  # [BD, BV]
        ds = tile(grad_s + chunk * D * D, columns, wide, D, D, D)  # [BD, BV]
        scored -= tl.dot(told, tl.trans(error), input_precision=HOW)
        from_w += tl.dot(told, tl.trans(w), input_precision=HOW)
        from_s += tl.dot(told, tl.trans(s), input_precision=HOW)
        erred += tl.dot(wrong, tl.trans(w), input_precision=HOW)
        into_w -= tl.dot(error, tl.trans(dw), input_precision=HOW)
        into_s -= tl.dot(error, tl.trans(ds), input_precision=HOW)
        kept_w += tl.sum(w * dw)
        pushed_s += tl.sum(s * dw)
        since_s += tl.sum(s * ds)
        if block == 0:
            put(grad_v + here, rows, wide, D, length, heads * D, -2 * wrong)
    overlap = tl.dot(asked, tl.trans(keys), input_precision=HOW)  # this block's part of q k^T
    by_score = scored * moved
    grad = tl.dot(by_score, keys, input_precision=HOW) + stays[:, None] * from_w + comes[:, None] * from_s
    put(grad_q + here, rows, columns, D, length, heads * D, grad)
    grad = tl.dot(tl.trans(by_score), asked, input_precision=HOW) + 2 * erred
    grad += by_end[:, None] * into_w + delayed[:, None] * into_s
    put(grad_k + here, rows, columns, D, length, heads * D, grad)
    part = (block * tl.num_programs(1) + n) * chunks + c
    reached = scored * overlap + tl.where(last[:, None], tl.sum(keys * into_w, 1)[None, :], 0.0)
    tl.store(grad_reach + part * C * C + i[:, None] * C + i[None, :], reached)
    tl.store(grad_kept + part * C + i, tl.sum(asked * from_w, 1) + tl.where(last, kept_w, 0.0))
    tl.store(grad_pushed + part * C + i, tl.sum(asked * from_s, 1) + tl.where(last, pushed_s, 0.0))
    tl.store(grad_late + part * C + i, tl.sum(keys * into_s, 1))
    tl.store(grad_since + part, since_s)


def constants_of(kernel: Any, width: int, size: int) -> dict[str, Any]:
    """What a kernel is compiled for. Those of the chains through the chunks hold all channels of their columns."""
    deep = block_of(width)
    cut = min(deep, 32)
    return {"D": width, "C": size, "BD": cut if kernel is gradient_kernel else deep, "BV": cut, "HOW": HOW}


class _Chunks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, reach, kept, pushed, late, since, start_w, start_s):
        _batch, length, heads, width = q.shape
        rows, chunks, size = reach.shape[:3]
        new = {"device": q.device, "dtype": torch.float32}
        y, errors = torch.empty_like(v), torch.empty(rows, chunks, size, width, **new)
        weights = torch.empty(rows, chunks, width, width, **new)
        velocity, end_w, end_s = torch.empty_like(weights), torch.empty_like(start_w), torch.empty_like(start_s)
        constants = constants_of(forward_kernel, width, size)
        scalars = (reach, kept, pushed, late, since)
        forward_kernel[triton.cdiv(width, constants["BV"]), rows](
            q, k, v, *scalars, start_w, start_s, y, errors, weights, velocity, end_w, end_s, length, heads, chunks,
            **constants,
        )  # fmt: skip
        ctx.save_for_backward(q, k, *scalars, errors, weights, velocity)
        return y, end_w, end_s

    @staticmethod
    @first_only("The Triton form of the neural memory", 'backend="chunked"')
    def backward(ctx, grad_y, grad_end_w, grad_end_s):
        q, k, reach, kept, pushed, late, since, errors, weights, velocity = ctx.saved_tensors
        _batch, length, heads, width = q.shape
        rows, chunks, size = reach.shape[:3]
        grad_y, grad_end_w, grad_end_s = (t.contiguous() for t in (grad_y, grad_end_w, grad_end_s))
        grad_errors, grad_w, grad_s = (torch.empty_like(t) for t in (errors, weights, velocity))
        starts = torch.empty_like(grad_end_w), torch.empty_like(grad_end_s)
        reverse, gradient = (constants_of(kernel, width, size) for kernel in (reverse_kernel, gradient_kernel))
        reverse_kernel[triton.cdiv(width, reverse["BV"]), rows](
            q, k, reach, kept, pushed, late, since, grad_y, grad_end_w, grad_end_s, grad_errors, grad_w, grad_s,
            *starts, length, heads, chunks, **reverse,
        )  # fmt: skip
        blocks = triton.cdiv(width, gradient["BD"])
        tokens = [torch.empty_like(q) for _ in range(3)]
        parts = [torch.empty(blocks, *t.shape, device=q.device) for t in (reach, kept, pushed, late, since)]
        gradient_kernel[chunks, rows, blocks](
            q, k, reach, kept, pushed, late, errors, weights, velocity, grad_y, grad_errors, grad_w, grad_s,
            *tokens, *parts, length, heads, **gradient,
        )  # fmt: skip
        return *tokens, *(part.sum(0) for part in parts), *starts


def triton_linear_memory(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    step: Tensor,
    momentum: Tensor,
    forget: Tensor,
    weights: Tensor,
    velocity: Tensor,
    *,
    chunk_size: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """One linear layer of `neural_memory`, a new chunk first: y, and weights and velocity after the last token.

    Args:
        q, k, v: ``[B, T, H, D]`` of float32 or shorter, T at least 1; step, momentum, forget ``[B, T, H]``.
        weights, velocity: ``[B, H, D, D]``.
        chunk_size: 16, 32 or 64.
    """
    _batch, length, _heads, _width = q.shape
    q, k, v = (t.contiguous() for t in (q, k, v))
    missing = -length % chunk_size

    def chunked(gate: Tensor) -> Tensor:  # [B, T, H] to [B H, n, C]
        # in float64: PyTorch may have been told to take products of float32 in TF32
        return F.pad(gate.double().transpose(1, 2), (0, missing)).flatten(0, 1).unflatten(-1, (-1, chunk_size))

    step, momentum, forget = chunked(step), chunked(momentum), chunked(forget)
    reach, pushed, kept, passed_on, since = spread(torch.stack([momentum, 1 - forget]))  # of [B H, n, C]
    reach = reach * step[..., None, :]
    # After the last token nothing happens any more: what fills its chunk stands where that token stands.
    chunks = step.shape[1]
    at = torch.arange(chunks * chunk_size, device=q.device).clamp(max=length - 1).view(chunks, chunk_size)
    at = (at - chunk_size * torch.arange(chunks, device=q.device)[:, None])[None]
    reach = torch.take_along_dim(reach, at[..., None], dim=2)
    kept, pushed, since = (torch.take_along_dim(t, at, dim=2) for t in (kept, pushed, since))
    late = torch.take_along_dim(passed_on, at[:, :, -1:, None], dim=2)[:, :, 0] * step
    scalars = [t.float().contiguous() for t in (reach, kept, pushed, late, since[..., -1])]
    return _Chunks.apply(q, k, v, *scalars, weights.float().contiguous(), velocity.float().contiguous())
