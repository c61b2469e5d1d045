"""The neural memory of Titans: a small network that learns at test time, by surprise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from labkit.kernels.titans.choice import choose_backend, why_not
from labkit.kernels.titans.chunked import Carried, Tokens, answers, chunked_neural_memory
from labkit.kernels.titans.inputs import WIDEST_CHUNK, check_inputs, check_reading, checked_bounds, state_dtype
from labkit.kernels.titans.recurrent import recurrent_neural_memory

__all__ = [
    "WIDEST_CHUNK", "Carried", "choose_backend", "continue_memory", "neural_memory", "read_memory",
    "recurrent_neural_memory",
]  # fmt: skip

BACKENDS = ("auto", "chunked", "triton")


def neural_memory(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    step: Tensor,
    momentum: Tensor,
    forget: Tensor,
    weights: Sequence[Tensor],
    velocity: Sequence[Tensor],
    *,
    chunk_size: int = 1,
    limit: float | None = None,
    clip: float | None = None,
    backend: str = "auto",
) -> tuple[Tensor, tuple[list[Tensor], list[Tensor]]]:
    """Write every token into a small network by gradient descent, and read it (Titans, arXiv 2501.00663).

    Per token: ``G`` is the gradient of ``sum_d (M(k) - v)^2``; ``velocity = momentum * velocity - step * G``;
    ``M = (1 - forget) M + velocity``; ``y = M(q)``, read after the write (equations 10 and 12 to 14). The network
    is ``x @ W`` layer by layer with SiLU between the layers.

    With ``chunk_size`` above 1 the gradients of a chunk are all taken at the weights before its first token (equations
    16 and 18). That is *another function*, and a faster one: within a chunk tokens do not see what others wrote.

    A NaN or an infinity spoils outputs from the start of its chunk on, never those of other rows and heads. Second
    derivatives have all forms but Triton's, which refuses create_graph=True.

    Args:
        q, k, v: queries, keys, values ``[B, T, H, D]``; the caller normalises keys.
        step: θ ``[B, T, H]``, how far the surprise of a token moves the memory.
        momentum: η ``[B, T, H]``, in [0, 1], what is left of earlier surprise.
        forget: α ``[B, T, H]``, in [0, 1]; 1 erases everything before the token is written.
        weights: the network, for each layer ``[B, H, in, out]``; the first begins and the last ends with D channels.
        velocity: past surprise, shaped as `weights`.
        chunk_size: tokens whose gradients are taken together.
        limit: None is the paper's rule. A number is the lab's own addition: before each chunk every layer of weights
            and of velocity whose Frobenius norm is above ``limit * sqrt(out)`` is scaled back to that, so that a
            memory that overshoots does not run away.
        clip: None is the paper's rule. A number, again the lab's own: a token whose gradient, over all layers, is
            longer than this is written with a step as much shorter.
        backend: "chunked" is PyTorch's form, "triton" the kernels for GPUs, of a linear memory under the paper's rule
            (one layer, no limit, no clip) in chunks of 16, 32 or, up to 128 channels, 64; "auto" picks one, and
            `choose_backend` says which and why.

    Returns:
        ``y [B, T, H, D]`` in v's dtype, and weights and velocity after the last token, in float64 if the inputs are
        float64 and float32 otherwise. Every token is written, whatever T is; a next call begins a new chunk
        (`continue_memory` goes on with the open one).

    Raises:
        TypeError, ValueError: a sentence naming the argument, what was expected and what came.
        NotImplementedError: from a backward pass of "triton" under create_graph=True.
    """
    check_inputs(q, k, v, step, momentum, forget, {"weights": weights, "velocity": velocity}, chunk_size)
    limit, clip = checked_bounds(limit, clip)
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is not known; take one of {', '.join(BACKENDS)}.")
    if backend == "auto":
        backend = choose_backend(q, weights, chunk_size, limit, clip).backend
    elif backend == "triton" and (reason := why_not(q, weights, chunk_size, limit, clip)):
        raise ValueError(f'{reason} Take backend="chunked".')
    if backend == "triton":
        from labkit.kernels.titans.triton_linear import triton_linear_memory

        w, s = weights[0], velocity[0]
        with torch.autocast(q.device.type, enabled=False):
            y, w, s = triton_linear_memory(q, k, v, step, momentum, forget, w, s, chunk_size=int(chunk_size))
        return y, ([w], [s])
    carried = Carried.begin(weights, velocity)
    y, carried, _ = continue_memory(
        q, k, v, step, momentum, forget, carried, chunk_size=chunk_size, limit=limit, clip=clip
    )
    return y, (carried.weights, carried.velocity)


def continue_memory(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    step: Tensor,
    momentum: Tensor,
    forget: Tensor,
    carried: Carried,
    *,
    chunk_size: int = 1,
    limit: float | None = None,
    clip: float | None = None,
) -> tuple[Tensor, Carried, Tensor]:
    """`neural_memory`, going on with the chunk that is open: however a text is split, the same is computed.

    Args:
        carried: what the call before returned, or `Carried.begin` of weights and velocity.

    Returns:
        ``y [B, T, H, D]``, what is carried on, and the surprise of every token ``[B, T, H]``: the norm of its gradient.

    Raises:
        TypeError, ValueError: as `neural_memory`, and for an open chunk that holds `chunk_size` tokens or more.
    """
    lists = {name: getattr(carried, name) for name in ("weights", "velocity", "anchor")}
    check_inputs(q, k, v, step, momentum, forget, lists, chunk_size)
    if not 0 <= carried.position < chunk_size:
        raise ValueError(
            f"The open chunk holds {carried.position} tokens, which do not fit chunk_size={chunk_size}; go on with the "
            "chunk size it was begun with."
        )
    limit, clip = checked_bounds(limit, clip)
    dtype = state_dtype(q)
    with torch.autocast(q.device.type, enabled=False):  # a memory adds up many small errors; it keeps full precision
        tokens = Tokens(*(t.to(dtype).transpose(1, 2) for t in (q, k, v, step, momentum, forget)))
        weights, velocity, anchor = ([t.to(dtype) for t in several] for several in lists.values())
        kept = Carried(weights, velocity, anchor, carried.position)
        y, carried, surprise = chunked_neural_memory(tokens, kept, int(chunk_size), limit, clip)
    return y.transpose(1, 2).to(v.dtype), carried, surprise.transpose(1, 2)


def read_memory(weights: Sequence[Tensor], q: Tensor) -> Tensor:
    """What the network `weights` answers to all of ``q [B, T, H, D]``; nothing is written.

    Raises:
        TypeError, ValueError: a sentence naming the argument, what was expected and what came.
    """
    check_reading(q, weights)
    dtype = state_dtype(q)
    with torch.autocast(q.device.type, enabled=False):
        return answers([w.to(dtype) for w in weights], q.to(dtype).transpose(1, 2)).transpose(1, 2).to(q.dtype)
