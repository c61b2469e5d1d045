"""The neural memory against the public package titans-pytorch, on the same tokens.

Both get the same tokens as queries, keys and values, the same gates and the same two-layer network. In chunks of one
token both compute the recurrence of the paper. In longer chunks they do not compute the same (titans-pytorch shares
momentum and forgetting within a chunk): there the ratio compares what one would use of either.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.bench.racing import Candidate, Roof, beside_roof, race
from labkit.budget import flops_of
from labkit.kernels import neural_memory
from labkit.kernels.titans import recurrent_neural_memory

WIDTH, EXPANSION, STEP = 64, 2, 0.1
LIMIT = 1e-5
Drawn = tuple[Tensor, list[Tensor], nn.Linear]
Results = list[Tensor]


class TwoLayers(nn.Module):
    """The network that both memories are: SiLU between two matrices."""

    def __init__(self, weights: list[Tensor]) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(w.clone()) for w in weights])

    def forward(self, x: Tensor) -> Tensor:
        """What the network answers to ``x [..., D]``."""
        return F.silu(x @ self.weights[0]) @ self.weights[1]


def drawn(batch: int, length: int, seed: int = 0) -> Drawn:
    """Tokens of unit length ``[B, T, D]``, the network's first weights, and a map from a token to its three gates."""
    generator = torch.Generator().manual_seed(seed)
    x = F.normalize(torch.randn(batch, length, WIDTH, generator=generator), dim=-1)
    sides = (WIDTH, EXPANSION * WIDTH, WIDTH)
    weights = [torch.randn(pair, generator=generator) * pair[0] ** -0.5 for pair in itertools.pairwise(sides)]
    gates = nn.Linear(WIDTH, 3)
    with torch.no_grad():
        gates.weight.copy_(0.1 * torch.randn(3, WIDTH, generator=generator))
        gates.bias.copy_(torch.tensor([0.0, 0.0, -4.0]))
    return x, weights, gates


def ours(
    data: Drawn, chunk: int, form: Callable[..., Any] = neural_memory, dtype: torch.dtype = torch.float32
) -> Callable[[], Results]:
    """One step of a form of the memory: what was read, and gradients of tokens and first weights."""
    x, weights, gates = data
    weight, bias = (p.detach().to(dtype) for p in (gates.weight, gates.bias))

    def step() -> Results:
        leaves = [t.detach().to(dtype).requires_grad_() for t in (x.clone(), *(w.clone() for w in weights))]
        tokens, first = leaves[0][:, :, None], [w.expand(len(x), 1, -1, -1) for w in leaves[1:]]
        θ, η, α = torch.sigmoid(F.linear(leaves[0], weight, bias)).split(1, dim=-1)
        zero = [torch.zeros_like(w) for w in first]
        y, _ = form(tokens, tokens, tokens, STEP * θ, η, α, first, zero, chunk_size=chunk)
        return [y[:, :, 0].detach(), *torch.autograd.grad(y.sum(), leaves)]

    return step


def theirs(data: Drawn, chunk: int) -> Callable[[], Results]:
    """The same of titans-pytorch, set so that in chunks of one it is the paper's recurrence."""
    from titans_pytorch import NeuralMemory

    x, weights, gates = data
    memory = NeuralMemory(
        dim=WIDTH, chunk_size=chunk, batch_size=chunk, model=TwoLayers(weights), pre_rmsnorm=False,
        store_memory_loss_fn=lambda pred, target: (pred - target).pow(2).sum(dim=-1),
        default_step_transform_max_lr=STEP, mem_model_norm_add_residual=False,
    )  # fmt: skip
    with torch.no_grad():
        for name in ("to_queries", "to_keys", "to_values"):
            getattr(memory, name).weight.copy_(torch.eye(WIDTH))
        for i, name in enumerate(("to_adaptive_step", "to_momentum", "to_decay_factor")):
            linear = getattr(memory, name)[0]
            linear.weight.copy_(gates.weight[i : i + 1])
            linear.bias.copy_(gates.bias[i : i + 1])

    def step() -> Results:
        tokens = x.detach().clone().requires_grad_()
        y, _ = memory(tokens)
        slopes = torch.autograd.grad(y.sum(), [tokens, *memory.memory_model_parameters])
        return [y.detach(), slopes[0], *(s[0] for s in slopes[1:])]

    return step


def measure(
    length: int, chunk: int, *, batch: int = 4, repeats: int, threads: int, roof: Roof, quiet: bool = False
) -> tuple[list[dict[str, Any]], list[str]]:
    """Race both at one length and chunk size, forward and backward: rows as of `race`; and what was not timed.

    ``roofline`` is the time that `roof` allows for the operations of our form, and for reading tokens and first weights
    and writing every result once, over the time taken.
    """
    data = drawn(batch, length)
    wanted = ours(data, chunk, recurrent_neural_memory, torch.float64)()
    racing, missing = [Candidate("labkit", ours(data, chunk))], []
    other = "" if chunk == 1 else "titans-pytorch shares momentum and forgetting within a chunk"
    try:
        racing.append(Candidate("titans-pytorch", theirs(data, chunk), own=False, other=other))
    except ImportError as why:
        missing.append(f"titans-pytorch is not timed: {why}. pip install -e '.[bench]' installs it.")
    rows, refused = race(
        racing, wanted, limit=LIMIT, repeats=repeats, threads=threads, title=f"{length} tokens", quiet=quiet
    )
    step = racing[0].run
    rows = beside_roof(rows, roof, flops_of(step), sum(t.nbytes for t in (data[0], *data[1], *step())))
    sizes = {"length": length, "chunk": chunk, "batch": batch, "width": WIDTH, "gradients": True, "dtype": "float32"}
    return [{**sizes, **row} for row in rows], missing + refused
