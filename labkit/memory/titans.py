"""The neural memory of Titans as a layer (arXiv 2501.00663): a small network that learns while it is used."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.kernels.titans import WIDEST_CHUNK, Carried, continue_memory, read_memory
from labkit.kernels.titans.inputs import checked_bounds
from labkit.memory.association import associate
from labkit.memory.convolution import convolve

__all__ = ["MemoryState", "NeuralMemory"]

MOST_LAYERS = 4
GAIN = 1.7  # makes up for what SiLU takes from small inputs, so that deep memories do not begin near zero

# Of the step's sigmoid, beyond 0 and 1. A plain sigmoid is never 0, and over thousands of tokens that do not matter
# small writes add up: a memory trained on 1,024 tokens loses at 16,384 what it knew (data/LOG.md).
STRETCH = 0.1


@dataclass(frozen=True, eq=False)
class MemoryState:
    """What one neural memory knows at one moment; a value, which `NeuralMemory` never changes.

    Attributes:
        weights: the network M, for each layer ``[B, H, in, out]``.
        velocity: past surprise S, shaped as `weights`.
        anchor: M before the first token of the chunk that is open; gradients are taken there.
        tail: the last inputs of the convolution, ``[B, conv - 1, channels]``.
        position: tokens of the open chunk that were written, from 0 to ``chunk_size - 1``.
    """

    weights: tuple[Tensor, ...]
    velocity: tuple[Tensor, ...]
    anchor: tuple[Tensor, ...]
    tail: Tensor
    position: int

    def map(self, function: Callable[[Tensor], Tensor]) -> MemoryState:
        """The state with `function` applied to every tensor (`torch.Tensor.detach`, say)."""
        weights, velocity, anchor = (tuple(map(function, ts)) for ts in (self.weights, self.velocity, self.anchor))
        return MemoryState(weights, velocity, anchor, function(self.tail), self.position)


class NeuralMemory(nn.Module):
    """A memory that every token writes by one step of gradient descent, and reads.

    ``q, k, v = SiLU(conv(x W))``, q and k of unit length per head. One number per token and head: momentum
    ``η = sigmoid(conv(x w_η) + b_η)``, forgetting ``α = sigmoid(conv(x w_α) + b_α)``, step
    ``θ = (1 - η) max_step clip(1.2 sigmoid(conv(x w_θ) + b_θ) - .1, 0, 1)``: a sigmoid stretched beyond its ends and
    cut off there (arXiv 1712.01312, equation 10), so that a token can be left unwritten altogether (see `harden`). M by
    `labkit.kernels.neural_memory`; what is read is normalised per head, gated by ``SiLU(x W_g)`` and projected back. M
    begins at learned weights, S at zero. Untrained, M answers zero (its last layer is zero), and
    `labkit.memory.associate` says what keys begin with.

    Args:
        dim: width of the input; a head has ``dim // heads`` channels.
        heads: memories side by side.
        layers: of each memory, 1 (a linear map) to 4.
        expansion: width between the layers, over the width of a head.
        chunk_size: tokens whose gradients are taken at the same weights; 1 is the paper's recurrence, and any other
            number another function.
        momentum, forgetting: False fixes η or α at 0 (ablations of the paper's table 5).
        conv: tokens seen by the depthwise causal convolution; 1 sees the token alone.
        max_step: the largest step; None takes ``1 / (max(chunk_size, 8) * layers)``, since every layer moves the
            answer, and tokens of a chunk that look alike all push the same way.
        limit: on the norm of M and S before each chunk (see `labkit.kernels.neural_memory`); None is the paper's rule.
        clip: on the norm of a token's gradient, over the square root of a head's width; None is the paper's rule.
            A trained memory of four layers diverged within a chunk without it; of two layers most stay below
            (data/LOG.md).

    Raises:
        ValueError: a sentence, for a size out of range.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 1,
        layers: int = 2,
        expansion: int = 2,
        chunk_size: int = 1,
        momentum: bool = True,
        forgetting: bool = True,
        conv: int = 4,
        max_step: float | None = None,
        limit: float | None = 2.0,
        clip: float | None = 10.0,
    ) -> None:
        super().__init__()
        sizes = {"dim": dim, "heads": heads, "layers": layers, "expansion": expansion, "conv": conv}
        sizes["chunk_size"] = chunk_size
        for name, value in sizes.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, but it is {value!r}.")
        if layers > MOST_LAYERS:
            raise ValueError(f"layers must be 1 to {MOST_LAYERS}, but it is {layers}; the paper goes no deeper either.")
        if dim % heads:
            raise ValueError(f"dim={dim} must be a multiple of heads={heads}, so that every head is as wide.")
        if chunk_size > WIDEST_CHUNK:
            raise ValueError(f"chunk_size must be 1 to {WIDEST_CHUNK}, but it is {chunk_size}.")
        limit, clip = checked_bounds(limit, clip)
        if max_step is not None and (isinstance(max_step, bool) or not 0 < max_step < math.inf):
            raise ValueError(f"max_step must be a finite number above 0, or None, but it is {max_step!r}.")
        pushes = max(chunk_size, 8) * layers  # that may add up before anything answers them
        max_step = 1 / pushes if max_step is None else max_step
        self.heads, self.chunk_size = heads, chunk_size
        self.momentum, self.forgetting, self.max_step, self.limit = momentum, forgetting, max_step, limit
        self.query, self.key, self.value, self.gate, self.out = (nn.Linear(dim, dim, bias=False) for _ in range(5))
        self.gates = nn.Linear(dim, 3 * heads)  # step, momentum, forgetting
        self.norm = nn.RMSNorm(dim // heads, eps=1e-6)
        self.taps = nn.Parameter(torch.zeros(conv, 3 * dim + 3 * heads))  # of queries, keys, values, gates
        self.stretch: Tensor
        self.register_buffer("stretch", torch.tensor(STRETCH), persistent=False)
        width = dim // heads
        self.clip = None if clip is None else clip * math.sqrt(width)
        sides = [width, *[expansion * width] * (layers - 1), width]
        self.initial = nn.ParameterList(
            torch.randn(heads, rows, columns) * (GAIN if i else 1.0) * rows**-0.5 * (i < layers - 1)
            for i, (rows, columns) in enumerate(itertools.pairwise(sides))
        )
        with torch.no_grad():
            # untrained: η = .5, and steps of .11 max_step. What is written slowly must be forgotten slowly: else all
            # layers of a deep memory decay to zero together, where every gradient is zero and stays so.
            for i, bias in enumerate((-1.0, 0.0, -7.0 - math.log(pushes))):
                self.gates.bias[i * heads : (i + 1) * heads] = bias
            self.taps[:, : 3 * dim].uniform_(-0.5, 0.5)
            self.taps[-1, : 3 * dim] += 1.0  # the token itself comes first; its neighbours are learned
            # Gates begin with all tokens they see alike. What begins with the token itself learns of each token apart
            # whether it is worth writing, and never writes those that nobody can read yet (data/LOG.md).
            self.taps[:, 3 * dim :] = conv**-0.5
        associate(self.query, self.key, self.taps)

    def init_state(self, batch_size: int) -> MemoryState:
        """M at its learned first weights, S at zero, for each of `batch_size` sequences."""
        weights = tuple(w.expand(batch_size, -1, -1, -1).clone() for w in self.initial)
        velocity = tuple(torch.zeros_like(w) for w in weights)
        tail = self.taps.new_zeros(batch_size, self.taps.shape[0] - 1, self.taps.shape[1])
        return MemoryState(weights, velocity, weights, tail, 0)

    def forward(
        self, x: Tensor, state: MemoryState | None = None, *, return_surprise: bool = False
    ) -> tuple[Tensor, MemoryState] | tuple[Tensor, MemoryState, Tensor]:
        """Write and read ``x [B, T, dim]``, going on from `state` (None: from nothing).

        Returns:
            ``y [B, T, dim]``, y of a token being read after it was written; the state after the last token; and with
            `return_surprise` the surprise of every token ``[B, T, H]``, the norm of its gradient over all of M.
            However a text is split over calls, the same is computed.
        """
        state = self.init_state(x.shape[0]) if state is None else state
        q, k, v, gates, tail = self._project(x, state.tail)
        step, momentum, forget = self._rates(gates)
        carried = Carried(list(state.weights), list(state.velocity), list(state.anchor), state.position)
        y, carried, surprise = continue_memory(
            q, k, v, step, momentum, forget, carried, chunk_size=self.chunk_size, limit=self.limit, clip=self.clip
        )
        after = MemoryState(
            tuple(carried.weights), tuple(carried.velocity), tuple(carried.anchor), tail, carried.position
        )
        y = self._finish(y, x)
        return (y, after, surprise) if return_surprise else (y, after)

    def harden(self, share: float) -> None:
        """Stretch the step's sigmoid by this share of what a memory in use has: 0 is a plain sigmoid, 1 the whole.

        Training begins at 0. What a memory never writes it cannot learn to write, so a value that is cut off before it
        is known stays unknown (data/LOG.md).
        """
        self.stretch.fill_(STRETCH * share)

    def rates(self, x: Tensor, state: MemoryState | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Step θ, momentum η and forgetting α ``[B, T, H]`` of tokens ``x [B, T, dim]`` that follow `state`."""
        state = self.init_state(x.shape[0]) if state is None else state
        return self._rates(self._project(x, state.tail)[3])

    def recall(self, x: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
        """What a memory with these `weights` answers to ``x [B, T, dim]``, without writing: ``M*(SiLU(x W_Q))``.

        The convolution is left out: what is asked here need not be what the memory was last written with.
        """
        q = F.normalize(F.silu(self._heads(self.query(x))), dim=-1, eps=1e-6)
        return self._finish(read_memory(weights, q), x)

    def _project(self, x: Tensor, tail: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys and values ``[B, T, H, D]``, gates ``[B, T, 3 H]`` before their sigmoids, and the new tail."""
        weight = torch.cat([self.query.weight, self.key.weight, self.value.weight, self.gates.weight])
        mixed, tail = convolve(F.linear(x, weight), tail, self.taps)
        *qkv, gates = mixed.split([*[x.shape[-1]] * 3, self.gates.out_features], dim=-1)
        q, k, v = (self._heads(F.silu(t)) for t in qkv)
        q, k = (F.normalize(t, dim=-1, eps=1e-6) for t in (q, k))
        return q, k, v, gates + self.gates.bias, tail

    def _rates(self, gates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        step, momentum, forget = gates.chunk(3, dim=-1)
        momentum = torch.sigmoid(momentum) if self.momentum else torch.zeros_like(momentum)
        share = ((1 + 2 * self.stretch) * torch.sigmoid(step) - self.stretch).clamp(0.0, 1.0)
        step = (1 - momentum) * self.max_step * share  # a token moves M by as much whatever η is
        return step, momentum, torch.sigmoid(forget) if self.forgetting else torch.zeros_like(forget)

    def _finish(self, y: Tensor, x: Tensor) -> Tensor:
        """Normalise what was read, gate it by the input, project it back."""
        return self.out((self.norm(y) * F.silu(self._heads(self.gate(x)))).flatten(-2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))
