"""The layers between memories: causal attention over a cache that is passed in, and a gated feed-forward layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.memory import convolve


def rotate(x: Tensor, first: int) -> Tensor:
    """Rotary positions (RoPE, arXiv 2104.09864) for ``x [B, T, H, D]`` whose first token stands at `first`.

    Pairs are channels ``i`` and ``i + D/2``; only differences of positions matter to attention. Angles are worked out
    in float32 at least: in bfloat16 positions beyond 256 would fall together.
    """
    half = x.shape[-1] // 2
    wide = torch.promote_types(x.dtype, torch.float32)
    speed = 10_000.0 ** (-torch.arange(half, device=x.device, dtype=wide) / half)
    angle = torch.arange(first, first + x.shape[1], device=x.device, dtype=wide)[:, None, None] * speed  # [T, 1, D/2]
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.split(half, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class Attention(nn.Module):
    """Causal softmax attention whose keys and values of earlier tokens come in and go out.

    Args:
        dim, heads: width and number of heads.
        reach: how many positions a token sees, itself included; None sees all that the cache holds.
        conv: tokens that a depthwise causal convolution mixes into each query, key and value, as before a memory; 1
            is attention as it is usually written.
    """

    def __init__(self, dim: int, heads: int, reach: int | None = None, conv: int = 1) -> None:
        super().__init__()
        self.heads, self.reach = heads, reach
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.taps: nn.Parameter | None = None
        if conv > 1:
            taps = torch.empty(conv, 3 * dim).uniform_(-0.5, 0.5)
            taps[-1] += 1.0  # the token itself comes first; its neighbours are learned
            self.taps = nn.Parameter(taps)

    def init_state(self, batch_size: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, ...]]:
        """An empty cache, keys and values ``[B, 0, H, D]``, and the empty tail of a convolution, if there is one."""
        empty = self.query.weight.new_zeros(batch_size, 0, self.heads, self.query.out_features // self.heads)
        if self.taps is None:
            return (empty, empty), ()
        return (empty, empty), (self.taps.new_zeros(batch_size, self.taps.shape[0] - 1, self.taps.shape[1]),)

    def forward(
        self, x: Tensor, cache: tuple[Tensor, Tensor], tails: tuple[Tensor, ...] = ()
    ) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[Tensor, ...]]:
        """``x [B, T, dim]``, the cache of P earlier tokens and the convolution's last inputs; ``y`` and both anew."""
        weight = torch.cat([self.query.weight, self.key.weight, self.value.weight])
        mixed = F.linear(x, weight)
        if self.taps is not None:
            mixed, tail = convolve(mixed, tails[0], self.taps)
            tails = (tail,)
        q, k, v = mixed.unflatten(-1, (3 * self.heads, -1)).chunk(3, dim=2)
        past = cache[0].shape[1]
        if past:
            k, v = torch.cat([cache[0], k], dim=1), torch.cat([cache[1], v], dim=1)
        mask = None
        if past or self.reach is not None:
            here = torch.arange(past, past + x.shape[1], device=x.device)[:, None]
            there = torch.arange(past + x.shape[1], device=x.device)[None, :]
            mask = there <= here
            if self.reach is not None:
                mask &= there > here - self.reach
        y = F.scaled_dot_product_attention(
            rotate(q, past).transpose(1, 2),
            rotate(k, 0).transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=mask,
            is_causal=mask is None,
        )
        return self.out(y.transpose(1, 2).flatten(-2)), (k, v), tails


class SwiGLU(nn.Module):
    """Gated feed-forward layer ``W_down (SiLU(W_gate x) * W_up x)`` (arXiv 2002.05202)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, hidden, bias=False)
        self.up = nn.Linear(dim, hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, dim]`` to ``[B, T, dim]``."""
        gate, up = F.linear(x, torch.cat([self.gate.weight, self.up.weight])).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)
