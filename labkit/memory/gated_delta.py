"""Gated DeltaNet as a layer (arXiv 2412.06464): projections, a short convolution, gates, and the delta rule."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.kernels import gated_delta_rule
from labkit.memory.convolution import convolve

CHUNK = 16  # tokens; on CPUs training is no faster with 32


class GatedDelta(nn.Module):
    """A memory of ``heads`` fast-weight matrices, each ``[key_dim, value_dim]``, that every token writes and reads.

    ``q, k, v = SiLU(conv(x W))``, q and k of unit length; ``beta = 2 sigmoid(x w_b)``;
    ``g = -exp(A) softplus(x w_a + b_a)`` with ``b_a`` starting at -4, so that an untrained memory forgets slowly;
    the read-out is normalised per head, gated by ``SiLU(x W_g)`` and projected back.

    Args:
        dim: width of the input.
        heads, key_dim, value_dim: shape of the memory; it holds ``heads * key_dim * value_dim`` numbers.
        conv: tokens seen by the depthwise causal convolution; 1 sees the token alone.
        conv_gates: beta and g see these tokens as well, as the gates of `labkit.memory.NeuralMemory` do; else each
            token is written and forgotten by what it is itself.
    """

    def __init__(
        self, dim: int, heads: int, key_dim: int, value_dim: int, conv: int = 3, *, conv_gates: bool = False
    ) -> None:
        super().__init__()
        self.heads, self.key_dim, self.value_dim, self.conv_gates = heads, key_dim, value_dim, conv_gates
        self.query = nn.Linear(dim, heads * key_dim, bias=False)
        self.key = nn.Linear(dim, heads * key_dim, bias=False)
        self.value = nn.Linear(dim, heads * value_dim, bias=False)
        self.gate = nn.Linear(dim, heads * value_dim, bias=False)
        self.out = nn.Linear(heads * value_dim, dim, bias=False)
        self.gates = nn.Linear(dim, 2 * heads)  # log-decay, then writing strength
        self.log_rate = nn.Parameter(torch.zeros(heads))
        self.norm = nn.RMSNorm(value_dim, eps=1e-6)
        mixed = heads * (2 * key_dim + value_dim)
        self.taps = nn.Parameter(torch.zeros(conv, mixed + 2 * heads * conv_gates))
        with torch.no_grad():
            self.gates.bias[:heads] = -4.0
            self.gates.bias[heads:] = 0.0
            self.taps[:, :mixed].uniform_(-0.5, 0.5)
            self.taps[-1, :mixed] += 1.0  # the token itself comes first; its neighbours are learned
            self.taps[:, mixed:] = conv**-0.5  # gates begin with all tokens they see alike

    def init_state(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """An empty memory ``[B, H, K, V]`` and an empty convolution tail ``[B, conv - 1, channels]``."""
        fast = self.taps.new_zeros(batch_size, self.heads, self.key_dim, self.value_dim)
        tail = self.taps.new_zeros(batch_size, self.taps.shape[0] - 1, self.taps.shape[1])
        return fast, tail

    def forward(self, x: Tensor, fast: Tensor, tail: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``x [B, T, dim]``, the memory and the last inputs of the convolution; returns ``y`` and the new two."""
        weights = [self.query.weight, self.key.weight, self.value.weight]
        weight = torch.cat([*weights, self.gates.weight] if self.conv_gates else weights)
        mixed, tail = convolve(F.linear(x, weight), tail, self.taps)
        keys = self.heads * self.key_dim
        mixed, gates = mixed.tensor_split([2 * keys + self.heads * self.value_dim], dim=-1)
        gates = gates + self.gates.bias if self.conv_gates else self.gates(x)
        q, k, v = F.silu(mixed).split([keys, keys, self.heads * self.value_dim], dim=-1)
        q = F.normalize(q.unflatten(-1, (self.heads, -1)), dim=-1, eps=1e-6)
        k = F.normalize(k.unflatten(-1, (self.heads, -1)), dim=-1, eps=1e-6)
        v = v.unflatten(-1, (self.heads, -1))
        decay, strength = gates.chunk(2, dim=-1)
        g = -self.log_rate.exp() * F.softplus(decay)
        beta = 2 * torch.sigmoid(strength)
        o, fast = gated_delta_rule(q, k, v, g, beta, initial_state=fast, chunk_size=CHUNK)
        o = self.norm(o) * F.silu(self.gate(x)).unflatten(-1, (self.heads, -1))
        return self.out(o.flatten(-2)), fast, tail
