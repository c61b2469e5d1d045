"""Which form of the gated delta rule ``backend="auto"`` takes."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from labkit.kernels.backends import Choice, agree, why_no_triton
from labkit.kernels.gated_delta.chunked import chunked_gated_delta_rule

WIDEST_TRITON = 256
"""Keys and values that a Triton program can hold: its part of the state lies in registers."""


def choose_backend(q: Tensor, v: Tensor) -> Choice:
    """What ``backend="auto"`` takes for queries ``[B, T, H, K]`` and values ``[B, T, H, V]``, and why.

    On a GPU the Triton kernels, where they fit and have agreed with the chunked form on that GPU; in graphs that are
    being compiled the chunked form, which a compiler can look into. On a CPU chunks, and the recurrence for one token.
    """
    if q.device.type == "cuda" and not torch.compiler.is_compiling():
        missing = why_not(q, v)
        dtype = q.dtype if v.dtype == torch.float32 else v.dtype
        if missing is None and agrees_on(q.device, dtype, q.shape[-1], v.shape[-1]):
            return Choice("triton", f"The Triton kernels agree with the chunked form on this {q.device}.")
        missing = missing or "The Triton kernels do not agree with the chunked form here."
    else:
        missing = ""
    if q.shape[1] <= 1:
        why = "A single token has nothing to share with others, so the recurrence is cheapest."
        return Choice("recurrent", f"{why} {missing}".strip())
    return Choice("chunked", f"Several tokens share their work in chunks. {missing}".strip())


def why_not(q: Tensor, v: Tensor) -> str | None:
    """None if the Triton form takes these queries and values, else a sentence."""
    missing = why_no_triton(q.device)
    if missing is None and (q.dtype == torch.float64 or max(q.shape[-1], v.shape[-1]) > WIDEST_TRITON):
        return (
            f"The Triton form takes float32 or shorter and widths of up to {WIDEST_TRITON}, not {q.dtype} and widths "
            f"of {q.shape[-1]} and {v.shape[-1]}."
        )
    return missing


@functools.cache
@torch.inference_mode(False)
def agrees_on(device: torch.device, dtype: torch.dtype, key_dim: int, value_dim: int) -> bool:
    """Whether the Triton kernels give what the chunked form gives, in this format and size; tried once per process."""
    from labkit.kernels.gated_delta.triton_chunked import triton_gated_delta_rule

    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 2, 70, 2, key_dim, generator=generator)
    v = torch.randn(2, 70, 2, value_dim, generator=generator)
    g, beta = torch.rand(2, 2, 70, 2, generator=generator)
    tokens = q, k / k.norm(dim=-1, keepdim=True), v, -g, 2 * beta
    state = torch.randn(2, 2, key_dim, value_dim, generator=generator)

    def called(form: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
        return lambda *inputs: form(*inputs[:5], initial_state=inputs[5], scale=0.2, chunk_size=64)

    forms = called(triton_gated_delta_rule), called(chunked_gated_delta_rule)
    return agree("the gated delta rule", *forms, tokens, [state], device, dtype)
