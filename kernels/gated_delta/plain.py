"""The gated delta rule a chunk at a time: matrix products inside a chunk, one state update between chunks.

Shapes below: B batch, H heads, n chunks, C tokens per chunk, K and V widths. ``README.md`` derives every line.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.kernels.gated_delta.inputs import start
from labkit.kernels.gated_delta.solve import solve_unit_lower

# exp(-800) is 0 in float32 and in float64, so a stronger decay forgets no more than this one; bounding it keeps the
# running sum of log-decays small enough that differences of it stay right to 1e-11.
STRONGEST_DECAY = -800.0

# Chunks and texts of up to so many tokens stay within 1e-5 of the float64 recurrence with the solve alone in float64,
# and take a quarter less time in training for it; in longer ones too many roundings would add up.
SHORT_CHUNK, SHORT_TEXT = 64, 256


def chunked_gated_delta_rule(
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
    """The chunk-parallel form of `gated_delta_rule`; arguments and results are the same (2412.06464, section 3.3)."""
    out_dtype = v.dtype
    q, k, v, g, beta, state = start(q, k, v, g, beta, initial_state)
    length = q.shape[1]
    if length == 0:
        return torch.zeros_like(v).to(out_dtype), state
    chunks = -(-length // chunk_size)
    size = -(-length // chunks)  # as even as can be: 65 tokens are 33 and 32, not 64 and 1
    q, k, v, g, beta = (_split(t, size) for t in (q, k, v, g, beta))  # [B, H, n, C, ...]

    # Decay between two tokens of a chunk. The sum runs in float64 because its terms may differ by many orders.
    total = g.clamp(min=STRONGEST_DECAY).double().cumsum(-1)  # [B, H, n, C]
    earlier = torch.ones(size, size, dtype=torch.bool, device=q.device).tril()
    between = total[..., :, None] - total[..., None, :]  # [B, H, n, C, C]
    between = between.masked_fill(~earlier, -torch.inf).exp()  # 0 above the diagonal
    since_start = total.exp().to(q.dtype)[..., None]  # [B, H, n, C, 1]
    until_end = (total[..., -1:] - total).exp().to(q.dtype)[..., None]

    # Each token's error depends on the errors before it: a unit lower triangular system, solved by substitution.
    # It is solved in float64: on equal keys one rounding error of k . k would return at every token. In long chunks
    # and texts what is solved stays so until it is summed, where it cancels while its rounding does not.
    wide = torch.float64 if size > SHORT_CHUNK or length > SHORT_TEXT else q.dtype
    written = beta[..., None] * k
    overlap = (written.double() @ k.double().mT * between).tril(-1)
    right = torch.cat([beta[..., None] * v, written * since_start], dim=-1).double()
    solved = solve_unit_lower(overlap, right).to(wide)
    value, lookup = solved.split([v.shape[-1], k.shape[-1]], dim=-1)

    scores = q @ k.mT * between.to(q.dtype) * scale
    read = q * since_start * scale
    kept = (k * until_end).mT.to(wide)  # [B, H, n, K, C]
    fade = since_start[..., -1:, :]  # [B, H, n, 1, 1]
    outputs = []
    for c in range(q.shape[2]):
        error = value[:, :, c] - lookup[:, :, c] @ state.to(wide)
        outputs.append(read[:, :, c] @ state + scores[:, :, c] @ error.to(q.dtype))
        state = fade[:, :, c] * state + (kept[:, :, c] @ error).to(q.dtype)
    o = torch.stack(outputs, dim=2).flatten(2, 3)[:, :, :length].transpose(1, 2)
    return o.to(out_dtype), state


def _split(t: Tensor, size: int) -> Tensor:
    """``[B, T, H, ...]`` to ``[B, H, n, C, ...]``; the last chunk is filled with zeros, which write nothing."""
    missing = -t.shape[1] % size
    if missing:
        t = F.pad(t, (0, 0) * (t.ndim - 2) + (0, missing))
    return t.transpose(1, 2).unflatten(2, (-1, size))
