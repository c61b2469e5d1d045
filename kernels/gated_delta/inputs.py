"""What both forms of the gated delta rule expect of their arguments, and how they start."""

from __future__ import annotations

import math
import numbers

import torch
from torch import Tensor

from labkit.kernels.tensors import check_tensors


def check_inputs(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    initial_state: Tensor | None,
    scale: float | None,
    chunk_size: int,
) -> None:
    """Refuse wrong types, dtypes, shapes and devices with a sentence that names the argument.

    Values are not looked at: a NaN in one row of the batch must stay in that row, and a scan over every input would
    cost as much as a small chunk.
    """
    named: dict[str, Tensor] = {"q": q, "k": k, "v": v, "g": g, "beta": beta}
    if initial_state is not None:
        named["initial_state"] = initial_state
    check_tensors(named)
    for name, tensor in {"q": q, "k": k, "v": v}.items():
        if tensor.ndim != 4:
            raise ValueError(f"{name} must have shape [B, T, H, D], but its shape is {list(tensor.shape)}.")
    batch, length, heads, width = q.shape
    if width == 0:
        raise ValueError("q and k must be at least 1 wide, but their last axis is empty.")
    expected = {
        "k": (batch, length, heads, width),
        "v": (batch, length, heads, v.shape[-1]),
        "g": (batch, length, heads),
        "beta": (batch, length, heads),
        "initial_state": (batch, heads, width, v.shape[-1]),
    }
    for name, shape in expected.items():
        if name in named and tuple(named[name].shape) != shape:
            raise ValueError(
                f"{name} must have shape {list(shape)} to go with q of shape {list(q.shape)} and v of shape "
                f"{list(v.shape)}, but its shape is {list(named[name].shape)}."
            )
    number = isinstance(scale, numbers.Real) and not isinstance(scale, bool)
    if scale is not None and not (number and math.isfinite(scale)):
        raise ValueError(f"scale must be a finite number, or None for K ** -0.5, but it is {scale!r}.")
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, numbers.Integral) or not 1 <= chunk_size <= 128:
        raise ValueError(f"chunk_size must be a whole number from 1 to 128, but it is {chunk_size!r}.")


def start(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, initial_state: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Cast everything to the dtype the state is kept in, and give the state the work begins from."""
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    q, k, v, g, beta = (t.to(dtype) for t in (q, k, v, g, beta))
    if initial_state is None:
        batch, _, heads, width = k.shape
        initial_state = k.new_zeros(batch, heads, width, v.shape[-1])
    return q, k, v, g, beta, initial_state.to(dtype)
