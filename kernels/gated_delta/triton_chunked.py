"""The gated delta rule in chunks, as Triton kernels: which kernel runs with what, forward and backward."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import knobs

from labkit.kernels.gated_delta.triton_backward import gradient_kernel, reverse_scan_kernel, told_kernel
from labkit.kernels.gated_delta.triton_forward import output_kernel, prepare_kernel, scan_kernel
from labkit.kernels.gradients import first_only
from labkit.kernels.tiles import block_of

SHORTEST_CHUNK, WIDEST_CHUNK = 16, 64  # a product of tiles takes 16 rows or more


class Form(NamedTuple):
    """How numbers of one format are computed with.

    Attributes:
        wide: the format of what must not be rounded on the way: the inverse, and the state along the scan.
        exact, how, as_is: how products are taken (see `labkit.kernels.tiles.product`): those with the inverse, whose
            terms nearly cancel where keys are alike; of what was worked out in float32; and of what came or was kept in
            its own format.
        kept: the format of the states between chunks and of their gradients, which nothing later builds on.
        inverse: the format in which the inverse is kept.
    """

    wide: Any
    exact: str
    how: str
    as_is: str
    kept: torch.dtype
    inverse: torch.dtype = torch.float32


def form_of(*tensors: Tensor, chunks: int = 2) -> Form:
    """Float32 keeps its digits, and what comes in bfloat16 has few. One chunk has no states to keep short."""
    kinds = {t.dtype for t in tensors}
    if kinds == {torch.bfloat16} and chunks > 1:
        # the interpreter has no products of bfloat16, so there they are those of float32
        as_is = "ieee" if knobs.runtime.interpret else "bf16"
        return Form(tl.float32, "tf32x3", "tf32", as_is, torch.bfloat16)
    if kinds & {torch.bfloat16, torch.float16}:
        return Form(tl.float32, "tf32x3", "tf32", "tf32", torch.float32)
    return Form(tl.float64, "ieee", "ieee", "ieee", torch.float32, torch.float64)


# Blocks of K and of V, warps, stages: in float32, and in shorter formats, where an H100 was fastest with them.
LAUNCH = {
    "prepare_kernel": ((32, 32, 4, 2), (64, 64, 2, 3)),
    "scan_kernel": ((256, 32, 4, 2), (256, 32, 4, 2)),
    "output_kernel": ((32, 64, 4, 2), (64, 128, 4, 3)),
    "told_kernel": ((32, 32, 4, 2), (128, 128, 2, 2)),
    "reverse_scan_kernel": ((256, 32, 4, 2), (256, 32, 4, 1)),
    "gradient_kernel": ((32, 32, 4, 2), (128, 32, 8, 2)),
}


def constants_of(kernel: Any, key_dim: int, value_dim: int, size: int, form: Form) -> dict[str, Any]:
    """What a kernel is compiled for."""
    in_float32, in_short = LAUNCH[kernel.__name__]
    deep, wide, warps, stages = in_float32 if form.wide == tl.float64 else in_short
    known = {"K": key_dim, "V": value_dim, "C": size, "WIDE": form.wide}
    known |= {"EXACT": form.exact, "HOW": form.how, "AS_IS": form.as_is}
    known |= {"BK": min(deep, block_of(key_dim)), "BV": min(wide, block_of(value_dim))}
    taken = {name: known[name] for name in kernel.arg_names if name in known}
    return {**taken, "num_warps": warps, "num_stages": stages}


def chunk_of(most: int, key_dim: int, form: Form) -> int:
    """Tokens of a chunk, where `most` are asked for: a power of two, and no more than registers hold."""
    widest = WIDEST_CHUNK // 2 if form.wide == tl.float64 or key_dim > 128 else WIDEST_CHUNK
    return min(max(SHORTEST_CHUNK, triton.next_power_of_2(most + 1) // 2), widest)


class _Chunks(torch.autograd.Function):
    """The kernels in order; the backward pass keeps the states between chunks and makes the rest again."""

    @staticmethod
    def forward(ctx, q, k, v, g, beta, start, scale, size):
        (batch, length, heads, key_dim), value_dim = q.shape, v.shape[-1]
        chunks, rows = -(-length // size), batch * heads
        form = form_of(q, k, v, chunks=chunks)
        inverse = q.new_empty(rows, chunks, size, size, dtype=form.inverse)
        lookup, errors = (q.new_empty(rows, chunks, size, dim, dtype=torch.float32) for dim in (key_dim, value_dim))
        states = q.new_empty(rows, chunks, key_dim, value_dim, dtype=form.kept)
        end, o = torch.empty_like(start), torch.empty_like(v)
        kernels = prepare_kernel, scan_kernel, output_kernel
        prepare, scan, output = (constants_of(kernel, key_dim, value_dim, size, form) for kernel in kernels)
        prepare_kernel[chunks, rows](k, v, g, beta, inverse, lookup, errors, length, heads, **prepare)
        scan_kernel[triton.cdiv(value_dim, scan["BV"]), rows](
            k, g, lookup, errors, start, states, end, length, heads, chunks, **scan
        )
        output_kernel[chunks, rows, triton.cdiv(value_dim, output["BV"])](
            q, k, g, errors, states, o, scale, length, heads, **output
        )
        ctx.save_for_backward(q, k, v, g, beta, inverse, lookup, errors, states)
        ctx.scale, ctx.size = scale, size
        return o, end

    @staticmethod
    @first_only("The Triton form of the gated delta rule", 'backend="recurrent"')
    def backward(ctx, grad_o, grad_end):
        q, k, v, g, beta, inverse, lookup, errors, states = ctx.saved_tensors
        (batch, length, heads, key_dim), value_dim = q.shape, v.shape[-1]
        rows, chunks = states.shape[:2]
        grad_o, grad_end = grad_o.contiguous(), grad_end.contiguous()
        grad_states, grad_errors, grad_start = (torch.empty_like(t) for t in (states, errors, grad_end))
        form = form_of(q, k, v, chunks=chunks)
        kernels = told_kernel, reverse_scan_kernel, gradient_kernel
        told, reverse, gradient = (constants_of(kernel, key_dim, value_dim, ctx.size, form) for kernel in kernels)
        told_kernel[chunks, rows](q, k, g, grad_o, grad_errors, ctx.scale, length, heads, **told)
        reverse_scan_kernel[triton.cdiv(value_dim, reverse["BV"]), rows](
            q, k, g, lookup, grad_o, grad_end, grad_states, grad_errors, grad_start, ctx.scale, length, heads, chunks,
            **reverse,
        )  # fmt: skip
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        blocks = triton.cdiv(key_dim, gradient["BK"])
        gates = q.new_empty(2, blocks, rows, chunks * ctx.size, dtype=torch.float32)
        gradient_kernel[chunks, rows, blocks](
            q, k, v, g, beta, inverse, errors, states, grad_o, grad_states, grad_errors, grad_q, grad_k, grad_v,
            gates[0], gates[1], ctx.scale, length, heads, **gradient,
        )  # fmt: skip
        grad_g, grad_beta = gates.sum(1)[..., :length].unflatten(1, (batch, heads)).transpose(2, 3)
        return grad_q, grad_k, grad_v, grad_g.to(g.dtype), grad_beta.to(beta.dtype), grad_start, None, None


def begun(q: Tensor, v: Tensor, initial_state: Tensor | None) -> Tensor:
    """The state that kernels begin from, in float32 and in one piece; zeros for None."""
    if initial_state is not None:
        return initial_state.float().contiguous()
    batch, _, heads, key_dim = q.shape
    return q.new_zeros(batch, heads, key_dim, v.shape[-1], dtype=torch.float32)


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

    Chunks are 16, 32 or 64 tokens long, at most 32 in float32 and for wide keys: the longest of these that is no longer
    than `chunk_size`, or 16.
    """
    state = begun(q, v, initial_state)
    if q.shape[1] == 0:
        return torch.zeros_like(v), state
    size = chunk_of(chunk_size, q.shape[-1], form_of(q, k, v))
    # Gates are few, and in float32: Triton 3.7 cannot compile a product in float64 of what was read from bfloat16.
    q, k, v, g, beta = (t.contiguous() for t in (q, k, v, g.float(), beta.float()))
    return _Chunks.apply(q, k, v, g, beta, state, scale, size)
