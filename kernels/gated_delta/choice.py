"""Which form of the gated delta rule ``backend="auto"`` takes."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from labkit.kernels.backends import Choice, agree, why_no_triton, why_too_many
from labkit.kernels.gated_delta.chunked import chunked_gated_delta_rule

TRIALS = (15, 64, 70)  # tokens: fewer than a chunk, one chunk, and several, which other kernels or formats compute
WIDEST_TRITON = 256
"""Keys and values that a Triton program can hold: its part of the state lies in registers."""


def choose_backend(q: Tensor, v: Tensor, k: Tensor | None = None) -> Choice:
    """What ``backend="auto"`` takes for queries ``[B, T, H, K]`` and values ``[B, T, H, V]``, and why.

    Keys are given where they have another format than queries.

    On a GPU the Triton kernels, where they fit and have agreed with the chunked form on that GPU; in graphs that are
    being compiled the chunked form, which a compiler can look into. On a CPU chunks, and the recurrence for one token.
    """
    if q.device.type == "cuda" and not torch.compiler.is_compiling():
        k = q if k is None else k
        missing = why_not(q, v, k)
        tried = next(length for length in TRIALS if q.shape[1] <= length or length == TRIALS[-1])
        formats = (q.dtype, k.dtype, v.dtype)
        if missing is None and agrees_on(q.device, formats, q.shape[-1], v.shape[-1], tried):
            return Choice("triton", f"The Triton kernels agree with the chunked form on this {q.device}.")
        missing = missing or "The Triton kernels do not agree with the chunked form here."
    else:
        missing = ""
    if q.shape[1] <= 1:
        why = "A single token has nothing to share with others, so the recurrence is cheapest."
        return Choice("recurrent", f"{why} {missing}".strip())
    return Choice("chunked", f"Several tokens share their work in chunks. {missing}".strip())


def why_not(q: Tensor, v: Tensor, k: Tensor | None = None) -> str | None:
    """None if the Triton form takes these queries, values and keys, else a sentence."""
    if missing := why_no_triton(q.device):
        return missing
    if torch.float64 in (q.dtype, v.dtype, q.dtype if k is None else k.dtype):
        return "The Triton form takes float32 or shorter, not torch.float64."
    if max(q.shape[-1], v.shape[-1]) > WIDEST_TRITON:
        return (
            f"The Triton form takes keys and values of up to {WIDEST_TRITON} channels, not keys of {q.shape[-1]} and "
            f"values of {v.shape[-1]}."
        )
    return why_too_many(q)


def triton_form(length: int) -> Callable[..., tuple[Tensor, Tensor]]:
    """Token by token where the text does not fill the shortest chunk, as awake. Imports Triton only when asked."""
    from labkit.kernels.gated_delta import triton_chunked, triton_recurrent

    if length < triton_chunked.SHORTEST_CHUNK:
        return triton_recurrent.triton_recurrent_gated_delta_rule
    return triton_chunked.triton_gated_delta_rule


@functools.cache
@torch.inference_mode(False)
def agrees_on(
    device: torch.device, formats: tuple[torch.dtype, ...], key_dim: int, value_dim: int, length: int
) -> bool:
    """Whether the Triton form gives what the chunked form gives; tried once per process for each of these.

    `formats` are those of queries, keys and values, `length` one of `TRIALS`.
    """
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 2, length, 2, key_dim, generator=generator)
    v = torch.randn(2, length, 2, value_dim, generator=generator)
    g, beta = torch.rand(2, 2, length, 2, generator=generator)
    drawn = zip((q, k / k.norm(dim=-1, keepdim=True), v), formats, strict=True)
    tokens = [*(t.to(format) for t, format in drawn), -g, 2 * beta]
    state = torch.randn(2, 2, key_dim, value_dim, generator=generator)

    def called(form: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
        return lambda *inputs: form(*inputs[:5], initial_state=inputs[5], scale=0.2, chunk_size=64)

    forms = called(triton_form(length)), called(chunked_gated_delta_rule)
    return agree("the gated delta rule", *forms, [*tokens, state], device)
