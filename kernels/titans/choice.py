"""Which form of the neural memory ``backend="auto"`` takes."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from labkit.kernels.backends import Choice, agree, why_no_triton, why_too_many
from labkit.kernels.titans.chunked import Carried, Tokens, chunked_neural_memory

TRITON_CHUNKS = (16, 32, 64)
WIDEST_TRITON, WIDEST_IN_LONG = 256, 128
"""Channels that the kernels take, and those in chunks of 64: the tiles of wider ones exceed a GPU's shared memory."""


def choose_backend(
    q: Tensor, weights: Sequence[Tensor], chunk_size: int, limit: float | None = None, clip: float | None = None
) -> Choice:
    """What ``backend="auto"`` takes for queries ``[B, T, H, D]`` and a network, and why.

    The Triton kernels on a GPU, where they have this function and have agreed with the chunked form on that GPU; else,
    and in graphs that are being compiled, the chunked form.
    """
    if q.device.type == "cuda" and not torch.compiler.is_compiling():
        missing = why_not(q, weights, chunk_size, limit, clip)
        if missing is None and agrees_on(q.device, q.dtype, q.shape[-1], chunk_size):
            return Choice("triton", f"The Triton kernels agree with the chunked form on this {q.device}.")
        return Choice("chunked", missing or "The Triton kernels do not agree with the chunked form here.")
    return Choice("chunked", "PyTorch's own operations are the fast form here.")


def why_not(
    q: Tensor, weights: Sequence[Tensor], chunk_size: int, limit: float | None, clip: float | None
) -> str | None:
    """None if the Triton form has this function of these queries, else a sentence."""
    if len(weights) != 1 or limit is not None or clip is not None or chunk_size not in TRITON_CHUNKS:
        return (
            "The Triton form is of a linear memory under the paper's rule (one layer, no limit, no clip) in chunks of "
            f"{', '.join(map(str, TRITON_CHUNKS))}; asked were {len(weights)} layers, limit={limit}, clip={clip} and "
            f"chunks of {chunk_size}."
        )
    if q.dtype == torch.float64 or q.shape[-1] > WIDEST_TRITON or q.shape[1] == 0:
        return (
            f"The Triton form takes float32 or shorter, widths of up to {WIDEST_TRITON} and at least one token, not "
            f"{q.dtype} of shape {list(q.shape)}."
        )
    if chunk_size == max(TRITON_CHUNKS) and q.shape[-1] > WIDEST_IN_LONG:
        return (
            f"The Triton form takes chunks of {chunk_size} up to a width of {WIDEST_IN_LONG}, not {q.shape[-1]}, which "
            f"would not fit a GPU's shared memory; in shorter chunks it takes widths of up to {WIDEST_TRITON}."
        )
    if missing := why_too_many(q):
        return missing
    return why_no_triton(q.device)


@functools.cache
@torch.inference_mode(False)
def agrees_on(device: torch.device, dtype: torch.dtype, width: int, chunk_size: int) -> bool:
    """Whether the Triton kernels give what the chunked form gives; tried once per process for each of these."""
    from labkit.kernels.titans.triton_linear import triton_linear_memory

    generator = torch.Generator().manual_seed(0)
    length = 2 * chunk_size + 5
    q, k, v = torch.randn(3, 2, length, 2, width, generator=generator)
    step, momentum, forget = torch.rand(3, 2, length, 2, generator=generator)
    states = 0.2 * torch.randn(2, 2, 2, width, width, generator=generator)
    tokens = q, k / k.norm(dim=-1, keepdim=True), v, 3.2 / chunk_size * step, momentum, 0.1 * forget

    def kernels(*inputs: Tensor) -> tuple[Tensor, ...]:
        return triton_linear_memory(*inputs, chunk_size=chunk_size)

    def chunks(*inputs: Tensor) -> tuple[Tensor, ...]:
        tokens = Tokens(*(t.transpose(1, 2) for t in inputs[:6]))
        carried = Carried.begin([inputs[6]], [inputs[7]])
        y, carried, _ = chunked_neural_memory(tokens, carried, chunk_size, None, None)
        return y.transpose(1, 2), carried.weights[0], carried.velocity[0]

    return agree("the linear memory", kernels, chunks, [*(t.to(dtype) for t in tokens), *states], device)
