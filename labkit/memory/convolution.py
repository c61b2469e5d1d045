"""The short causal convolution in front of memories, and of attention where it shall have what memories have."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["convolve"]


def convolve(x: Tensor, tail: Tensor, taps: Tensor) -> tuple[Tensor, Tensor]:
    """Mix each channel of a token with those of the tokens before it.

    Args:
        x: ``[B, T, channels]``.
        tail: the inputs before them, ``[B, conv - 1, channels]``; zeros where nothing came before.
        taps: ``[conv, channels]``, the token itself last.

    Returns:
        ``[B, T, channels]``, and the tail for what comes next.
    """
    inputs = torch.cat([tail.to(x.dtype), x], dim=1)
    mixed = inputs[:, : x.shape[1]] * taps[0]
    for i, tap in enumerate(taps[1:], start=1):
        mixed = mixed + inputs[:, i : i + x.shape[1]] * tap
    return mixed, inputs[:, x.shape[1] :]
