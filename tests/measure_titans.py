"""The neural memory against the public package titans-pytorch, in one run: forward and backward on this CPU.

    pip install -e '.[bench]'
    python tests/measure_titans.py                 # written to data/results/titans-speed.json

Both get the same tokens as queries, keys and values, the same gates and the same two-layer network. In chunks of one
token both compute the recurrence of the paper; that they do is checked first, and nothing is timed if they differ. In
chunks of 64 they do not compute the same (titans-pytorch shares momentum and forgetting within a chunk), so there the
ratio compares what one would use of either.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from labkit.checks import relative_error
from labkit.files import data_dir, write_text
from labkit.kernels import neural_memory
from labkit.machine import machine, versions

WIDTH, EXPANSION, STEP = 64, 2, 0.1
CLOSE = 1e-5
Results = tuple[Tensor, list[Tensor]]


class TwoLayers(nn.Module):
    """The network that both memories are: SiLU between two matrices."""

    def __init__(self, weights: list[Tensor]) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(w.clone()) for w in weights])

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x @ self.weights[0]) @ self.weights[1]


def drawn(batch: int, length: int, seed: int = 0) -> tuple[Tensor, list[Tensor], nn.Linear]:
    """Tokens of unit length ``[B, T, D]``, the network's first weights, and a map from a token to its three gates."""
    torch.manual_seed(seed)
    x = F.normalize(torch.randn(batch, length, WIDTH), dim=-1)
    sides = (WIDTH, EXPANSION * WIDTH, WIDTH)
    weights = [torch.randn(pair) * pair[0] ** -0.5 for pair in itertools.pairwise(sides)]
    gates = nn.Linear(WIDTH, 3)
    with torch.no_grad():
        gates.bias.copy_(torch.tensor([0.0, 0.0, -4.0]))
    return x, weights, gates


def ours(x: Tensor, weights: list[Tensor], gates: nn.Linear, chunk: int) -> Callable[[], Results]:
    """One step of `labkit.kernels.neural_memory`: what was read, and gradients of tokens and first weights."""

    def step() -> Results:
        leaves = [t.detach().clone().requires_grad_() for t in (x, *weights)]
        tokens, first = leaves[0][:, :, None], [w.expand(len(x), 1, -1, -1) for w in leaves[1:]]
        θ, η, α = torch.sigmoid(gates(leaves[0])).split(1, dim=-1)
        zero = [torch.zeros_like(w) for w in first]
        y, _ = neural_memory(tokens, tokens, tokens, STEP * θ, η, α, first, zero, chunk_size=chunk)
        return y[:, :, 0], list(torch.autograd.grad(y.sum(), leaves))

    return step


def theirs(x: Tensor, weights: list[Tensor], gates: nn.Linear, chunk: int) -> Callable[[], Results]:
    """The same of titans-pytorch, set so that in chunks of one it is the paper's recurrence."""
    from titans_pytorch import NeuralMemory

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
        return y, [slopes[0], *(s[0] for s in slopes[1:])]

    return step


def compared(batch: int, length: int, chunk: int, repeats: int) -> dict[str, Any]:
    """Median seconds of both, timed in turn, and the ratio; refused, for chunks of one, unless results agree."""
    x, weights, gates = drawn(batch, length)
    rivals = {"labkit": ours(x, weights, gates, chunk), "titans-pytorch": theirs(x, weights, gates, chunk)}
    results = {name: step() for name, step in rivals.items()}
    (y, slopes), (wanted, wanted_slopes) = results.values()
    apart = max(relative_error(a, b) for a, b in zip([y, *slopes], [wanted, *wanted_slopes], strict=True))
    if chunk == 1 and not apart < CLOSE:
        raise SystemExit(f"Not timed: the two differ by {apart:.1e}, more than {CLOSE:.0e}, where they should be one.")
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in tqdm(range(repeats), desc=f"chunks of {chunk}, {length} tokens"):
        for name, step in rivals.items():
            clock = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - clock)
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    median = {name: round(statistics.median(each), 5) for name, each in seconds.items()}
    return {
        "batch": batch, "tokens": length, "chunk": chunk, "difference": apart, "seconds": median,
        "times faster": round(statistics.median(ratios), 2), "lowest": round(min(ratios), 2),
        "highest": round(max(ratios), 2),
    }  # fmt: skip


def main() -> None:
    """Compare, print and store."""
    parser = argparse.ArgumentParser(description="The neural memory against titans-pytorch, forward and backward.")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=None, help="default: data/results/titans-speed.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = [compared(4, 256, 1, asked.repeats), compared(4, 1024, 64, asked.repeats)]
    for row in rows:
        print(
            f"chunks of {row['chunk']}, {row['tokens']} tokens: {row['times faster']} times faster "
            f"({row['lowest']} to {row['highest']}); results differ by {row['difference']:.1e}"
        )
    found = {
        "command": f"python tests/measure_titans.py --repeats {asked.repeats}",
        "what": f"forward and backward, two layers of width {WIDTH} and {EXPANSION * WIDTH}, float32, one thread",
        "rows": rows,
        "machine": machine(),
        "versions": versions(),
    }
    print(write_text(asked.out or data_dir() / "results" / "titans-speed.json", json.dumps(found, indent=1) + "\n"))


if __name__ == "__main__":
    main()
