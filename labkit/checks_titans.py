"""What the lab promises about the neural memory's numbers, measured: part of ``labkit check``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise, product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.checks import FormError, Limits, relative_error
from labkit.kernels import neural_memory
from labkit.kernels.titans import recurrent_neural_memory

__all__ = ["LIMITS", "Inputs", "chunk_distances", "draw", "neural_memory_errors", "results"]

LIMITS: Limits = {torch.float64: 1e-10, torch.float32: 1e-5}
"""The largest relative error that is promised, by the dtype of the inputs."""

CHUNKS = (1, 4, 16)
LENGTHS = (1, 3, 4, 5, 15, 16, 17, 33)
LAYERS = (1, 2, 3, 4)

Inputs = tuple[list[Tensor], list[Tensor], list[Tensor]]
"""q, k, v, step, momentum, forget; weights; velocity."""


def draw(
    length: int, layers: int, *, batch: int = 2, heads: int = 2, width: int = 4, filled: bool = True, seed: int = 0
) -> Inputs:
    """Inputs of the neural memory, in float32; unfilled: no past surprise."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def uniform(most: float) -> Tensor:
        return most * torch.rand(batch, length, heads, generator=generator)

    q, k = (F.normalize(normal(batch, length, heads, width), dim=-1) for _ in range(2))
    tokens = [q, k, normal(batch, length, heads, width), uniform(0.1), uniform(1.0), uniform(0.3)]
    sides = [width, *[2 * width] * (layers - 1), width]
    shapes = [(batch, heads, *pair) for pair in pairwise(sides)]
    weights = [normal(*shape) * shape[2] ** -0.5 for shape in shapes]
    return tokens, weights, [filled * 0.1 * normal(*shape) for shape in shapes]


def results(form: Callable[..., Any], inputs: Inputs, dtype: torch.dtype, chunk: int) -> dict[str, Tensor]:
    """What a form returns, and the gradient of a random functional of it for every input."""
    leaves = [[t.detach().to(dtype).requires_grad_() for t in several] for several in inputs]
    tokens, starts, surprises = leaves
    y, (weights, velocity) = form(*tokens, starts, surprises, chunk_size=chunk)
    found = {"y": y}
    found |= {f"{name} {i}": t for name, several in (("weights", weights), ("velocity", velocity))
              for i, t in enumerate(several)}  # fmt: skip
    generator = torch.Generator().manual_seed(5)
    loss = sum((t * torch.randn(t.shape, generator=generator).to(dtype)).sum() for t in found.values())
    names = ["q", "k", "v", "step", "momentum", "forget"]
    names += [f"{name} {i}" for name in ("weights", "velocity") for i in range(len(weights))]
    slopes = torch.autograd.grad(loss, [t for several in leaves for t in several])
    return found | {f"gradient of {name}": t for name, t in zip(names, slopes, strict=True)}


def neural_memory_errors(
    dtypes: Iterable[torch.dtype] = (torch.float64, torch.float32),
    layers: Iterable[int] = LAYERS,
    lengths: Iterable[int] = LENGTHS,
    chunks: Iterable[int] = CHUNKS,
) -> list[FormError]:
    """Compare the fast form with the slow one in float64, each chunk size with its own definition, gradients included.

    The case of a row is the number of layers, as "2 layers".
    """
    dtypes, chunks, rows = tuple(dtypes), tuple(chunks), []
    for depth, length, filled, chunk in product(layers, lengths, (False, True), chunks):
        inputs = draw(length, depth, filled=filled)
        wanted = results(recurrent_neural_memory, inputs, torch.float64, chunk)
        for dtype in dtypes:
            found = results(neural_memory, inputs, dtype, chunk)
            for what, right in wanted.items():
                error = relative_error(found[what], right)
                rows.append(FormError("fast", dtype, f"{depth} layers", length, chunk, filled, what, error))
    return rows


def chunk_distances(chunks: Iterable[int] = (1, 4, 16, 64), length: int = 256, seeds: int = 3) -> Iterator[str]:
    """How far the memory read in chunks lies from the paper's recurrence: a line for 1 and for 2 layers.

    Two heads of width 16, random tokens, steps up to 1 / (4 layers), momentum around .5, forgetting around .01.
    """
    for layers in (1, 2):
        told = []
        for chunk in chunks:
            apart = []
            for seed in range(seeds):
                tokens, weights, velocity = draw(length, layers, width=16, filled=False, seed=seed)
                tokens[3] *= 2.5 / layers
                tokens[4], tokens[5] = 0.25 + tokens[4] / 2, tokens[5] / 15
                tokens[3] *= 1 - tokens[4]
                q, k, v, step, momentum, forget = tokens
                exact, found = (
                    neural_memory(q, k, v, step, momentum, forget, weights, velocity, chunk_size=c)[0]
                    for c in (1, chunk)
                )
                apart.append(relative_error(found, exact))
            told.append(f"{chunk}: {min(apart):.2f} to {max(apart):.2f}")
        yield f"Chunks are another function. Distance of what {layers} layers read, by chunk size: " + ", ".join(told)
