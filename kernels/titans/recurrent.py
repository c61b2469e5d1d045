"""The neural memory token by token, written to be read. Every faster form is tested against this one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = list[Tensor]


def read(weights: Weights, x: Tensor) -> Tensor:
    """What the memory answers to ``x [B, H, D]``: layers ``x @ W`` with SiLU between them, none after the last."""
    for number, weight in enumerate(weights):
        x = torch.einsum("bhi,bhio->bho", F.silu(x) if number else x, weight)
    return x


def recurrent_neural_memory(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    step: Tensor,
    momentum: Tensor,
    forget: Tensor,
    weights: Weights,
    velocity: Weights,
    *,
    chunk_size: int = 1,
    clip: float | None = None,
) -> tuple[Tensor, tuple[Weights, Weights]]:
    """`neural_memory` as the paper writes it (Titans, equations 10, 12 to 14; with chunks 16 and 18).

    Arguments and results are the same; nothing is checked or cast.
    """
    outputs, anchor = [], weights
    for t in range(q.shape[1]):
        key, value = k[:, t], v[:, t]
        θ, η, α = (gate[:, t, :, None, None] for gate in (step, momentum, forget))
        anchor = weights if t % chunk_size == 0 else anchor  # the weights before the chunk

        def loss(weights: Weights, key: Tensor = key, value: Tensor = value) -> Tensor:
            return (read(weights, key) - value).square().sum()  # equation 12; rows and heads do not meet

        surprise = torch.func.grad(loss)(anchor)
        if clip is not None:  # the lab's own: too long a gradient takes a step as much shorter
            squares = torch.stack([g.square().sum((-2, -1)) for g in surprise]).sum(0)
            θ = θ * (clip / squares.clamp(min=clip**2).sqrt())[..., None, None]
        velocity = [η * s - θ * g for s, g in zip(velocity, surprise, strict=True)]  # equations 10 and 14
        weights = [(1 - α) * w + s for w, s in zip(weights, velocity, strict=True)]  # equation 13
        outputs.append(read(weights, q[:, t]))  # read after the write
    y = torch.stack(outputs, dim=1) if outputs else torch.zeros_like(v)
    return y, (weights, velocity)
