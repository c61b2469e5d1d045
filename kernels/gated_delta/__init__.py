"""The gated delta rule: a fast-weight matrix that forgets, looks up, and writes what it got wrong."""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.kernels.gated_delta.choice import choose_backend, triton_form, why_not
from labkit.kernels.gated_delta.chunked import chunked_gated_delta_rule
from labkit.kernels.gated_delta.inputs import check_inputs
from labkit.kernels.gated_delta.recurrent import recurrent_gated_delta_rule

__all__ = ["choose_backend", "chunked_gated_delta_rule", "gated_delta_rule", "recurrent_gated_delta_rule"]

BACKENDS = ("auto", "recurrent", "chunked", "triton")


def gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    *,
    initial_state: Tensor | None = None,
    scale: float | None = None,
    chunk_size: int = 64,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Write and read a decaying associative memory, one token after another.

    Per token, with ``S`` of shape ``[K, V]``: ``S = exp(g) S``; ``e = v - S^T k``; ``S = S + beta k e^T``;
    ``o = scale * S^T q``. This is equation 10 of Gated DeltaNet (arXiv 2412.06464), transposed so that a state is
    ``[K, V]``: the decay comes first, and the error is measured on the decayed state.

    Every form has first derivatives; second ones only the recurrence has, and the others refuse create_graph=True. In
    chunks and in Triton's form a NaN or an infinity spoils outputs from the start of its chunk on, in the recurrence
    from its token on; other rows and heads are never touched.

    Args:
        q, k: queries and keys ``[B, T, H, K]``; the caller normalises them.
        v: values ``[B, T, H, V]``.
        g: log-decay ``[B, T, H]``, at most 0.
        beta: writing strength ``[B, T, H]``, in [0, 2]; 1 replaces the stored value, 2 reflects it.
        initial_state: ``[B, H, K, V]``, or None for an empty memory.
        scale: factor on the read-out; None takes ``K ** -0.5``.
        chunk_size: the most tokens per chunk; it changes speed and rounding, not the function. The chunked form takes
            16 to 32 in float32 and 16 to 128 in float64, whatever is asked.
        backend: "recurrent" is the reference, "chunked" the fast form in PyTorch, "triton" the kernels for GPUs
            (float32 or shorter, widths up to 256, B times H up to 65,535); "auto" picks one, and `choose_backend` says
            which and why.

    Returns:
        ``o`` of shape ``[B, T, H, V]`` in v's dtype, and the state after the last token, float64 if the inputs are
        float64 and float32 otherwise. ``T = 0`` returns an empty output and the initial state.

    Raises:
        TypeError, ValueError: a sentence naming the argument, what was expected and what came.
        NotImplementedError: from a backward pass under create_graph=True, but for "recurrent".
    """
    check_inputs(q, k, v, g, beta, initial_state, scale, chunk_size)
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is not known; take one of {', '.join(BACKENDS)}.")
    if backend == "auto":
        backend = choose_backend(q, v, k).backend
    elif backend == "triton" and (reason := why_not(q, v, k)):
        raise ValueError(f'{reason} Take backend="chunked".')
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    with torch.autocast(q.device.type, enabled=False):  # a memory adds up many small errors; it keeps full precision
        if backend == "recurrent":
            return recurrent_gated_delta_rule(q, k, v, g, beta, initial_state=initial_state, scale=scale)
        form = chunked_gated_delta_rule if backend == "chunked" else triton_form(q.shape[1])
        return form(q, k, v, g, beta, initial_state=initial_state, scale=scale, chunk_size=int(chunk_size))
