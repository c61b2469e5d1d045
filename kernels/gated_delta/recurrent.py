"""The gated delta rule token by token, written to be read. Every faster form is tested against this one."""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.kernels.gated_delta.inputs import start


def recurrent_gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    *,
    initial_state: Tensor | None = None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """The recurrence of `gated_delta_rule` as written there; arguments and results are the same."""
    out_dtype = v.dtype
    q, k, v, g, beta, state = start(q, k, v, g, beta, initial_state)
    outputs = []
    for t in range(q.shape[1]):
        state = torch.exp(g[:, t, :, None, None]) * state  # forget             [B, H, K, V]
        recalled = torch.einsum("bhkv,bhk->bhv", state, k[:, t])  # look up     [B, H, V]
        error = v[:, t] - recalled  # what the memory got wrong                 [B, H, V]
        state = state + torch.einsum("bh,bhk,bhv->bhkv", beta[:, t], k[:, t], error)  # write
        outputs.append(scale * torch.einsum("bhkv,bhk->bhv", state, q[:, t]))  # read after the write
    o = torch.stack(outputs, dim=1) if outputs else torch.zeros_like(v)
    return o.to(out_dtype), state
