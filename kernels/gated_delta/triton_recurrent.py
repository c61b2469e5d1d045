"""The gated delta rule token by token, as one Triton kernel: what a model does awake, a token or a few at a time."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from labkit.kernels.gated_delta.triton_chunked import begun, triton_gated_delta_rule
from labkit.kernels.gradients import first_only
from labkit.kernels.tiles import block_of, put, tile


@triton.jit
def steps_kernel(
    q, k, v, g, beta, start, o, end, scale, length, heads,
    K: tl.constexpr, V: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """The recurrence for BV columns of one state, which stay in registers: ``S = exp(g) S + beta k (v - S^T k)^T``."""
    n = tl.program_id(1).to(tl.int64)
    deep, wide = tl.arange(0, BK), tl.program_id(0) * BV + tl.arange(0, BV)
    state = tile(start + n * K * V, deep, wide, V, K, V)  # [BK, BV]
    token = (n // heads) * length * heads + n % heads  # of [B, T, H]
    for _ in range(length):
        key = tl.load(k + token * K + deep, mask=deep < K, other=0.0).to(tl.float32)  # [BK]
        asked = tl.load(q + token * K + deep, mask=deep < K, other=0.0).to(tl.float32)  # [BK]
        value = tl.load(v + token * V + wide, mask=wide < V, other=0.0).to(tl.float32)  # [BV]
        state *= tl.exp(tl.load(g + token).to(tl.float32))
        error = value - tl.sum(state * key[:, None], 0)  # [BV]
        state += tl.load(beta + token).to(tl.float32) * key[:, None] * error[None, :]
        told = scale * tl.sum(state * asked[:, None], 0)  # [BV]
        tl.store(o + token * V + wide, told.to(o.dtype.element_ty), mask=wide < V)
        token += heads
    put(end + n * K * V, deep, wide, V, K, V, state)


def constants_of(key_dim: int, value_dim: int) -> dict[str, int]:
    """What the kernel is compiled for."""
    return {"K": key_dim, "V": value_dim, "BK": block_of(key_dim), "BV": min(block_of(value_dim), 32)}


class _Steps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, g, beta, start, scale, chunk_size):
        (batch, length, heads, key_dim), value_dim = q.shape, v.shape[-1]
        o, end = torch.empty_like(v), torch.empty_like(start)
        constants = constants_of(key_dim, value_dim)
        steps_kernel[triton.cdiv(value_dim, constants["BV"]), batch * heads](
            q, k, v, g, beta, start, o, end, scale, length, heads, **constants
        )
        ctx.save_for_backward(q, k, v, g, beta, start)
        ctx.scale, ctx.chunk_size = scale, chunk_size
        return o, end

    @staticmethod
    @first_only("The Triton form of the gated delta rule", 'backend="recurrent"')
    def backward(ctx, grad_o, grad_end):
        """The gradient of the same function in chunks: states between tokens are not kept, so they are made again."""
        inputs = [t.detach().requires_grad_() for t in ctx.saved_tensors]
        *tokens, start = inputs
        with torch.enable_grad():
            results = triton_gated_delta_rule(*tokens, initial_state=start, scale=ctx.scale, chunk_size=ctx.chunk_size)
        return *torch.autograd.grad(results, inputs, (grad_o, grad_end)), None, None


def triton_recurrent_gated_delta_rule(
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
    """`gated_delta_rule` token by token, from inputs of float32 or shorter and widths of up to 256.

    `chunk_size` is that of its backward pass, which goes by chunks.
    """
    state = begun(q, v, initial_state)
    if q.shape[1] == 0:
        return torch.zeros_like(v), state
    return _Steps.apply(*(t.contiguous() for t in (q, k, v, g, beta)), state, scale, chunk_size)
