"""What the lab promises about the neural memory's numbers, measured: part of ``labkit check``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import pairwise, product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from labkit.checks import CPU, DTYPES, KERNEL_DTYPES, FormError, Limits, poisoned, relative_error, rounding_of
from labkit.kernels import neural_memory
from labkit.kernels.backends import why_no_triton
from labkit.kernels.titans import recurrent_neural_memory

__all__ = [
    "CASES", "LIMITS", "Inputs", "chunk_distances", "draw", "errors_on", "neural_memory_errors", "results",
]  # fmt: skip

LIMITS: Limits = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 1e-2}
"""The largest relative error that is promised, by the dtype of the inputs."""

CHUNKS = (1, 4, 16)
LENGTHS = (0, 1, 3, 4, 5, 15, 16, 17, 65)
LAYERS = (1, 2, 3, 4)

CUDA_LENGTHS = (0, 1, 17, 33)
KERNEL_CHUNKS: Mapping[str, tuple[int, ...]] = {"cuda": (16, 64), "cpu": (16,)}
KERNEL_LENGTHS = {"cuda": (65, 200), "cpu": (1, 20)}  # the Triton form takes one token or more

CASES = {
    "random": "unit keys, steps up to .1, any momentum, forgetting up to .3",
    "equal keys": "one key at every token, nothing forgotten, momentum up to .5",
    "gates at their ends": (
        "each gate of each token 0 or its most: steps of .1, momentum 1, forgetting 1 (.3 in three and four layers: "
        "once all is erased, gradients of a deeper memory are products of next to nothing, which float32 cannot hold)"
    ),
    "all forgotten": "forgetting 1 at every token",
    "nothing written": "steps of 0, so what is left of past surprise moves the memory alone",
}
"""The inputs that the fast forms are compared on."""

Inputs = tuple[list[Tensor], list[Tensor], list[Tensor]]
"""q, k, v, step, momentum, forget; weights; velocity."""


def draw(
    length: int,
    layers: int,
    *,
    case: str = "random",
    batch: int = 2,
    heads: int = 2,
    width: int = 4,
    filled: bool = True,
    seed: int = 0,
) -> Inputs:
    """Inputs of one of `CASES`, in float32; unfilled: no past surprise."""
    if case not in CASES:
        raise ValueError(f"There is no case {case!r}; there are {', '.join(CASES)}.")
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def uniform(most: float) -> Tensor:
        return most * torch.rand(batch, length, heads, generator=generator)

    q, k = (F.normalize(normal(batch, length, heads, width), dim=-1) for _ in range(2))
    tokens = [q, k, normal(batch, length, heads, width), uniform(0.1), uniform(1.0), uniform(0.3)]
    if case == "equal keys":
        tokens[1] = k[:, :1].expand_as(k).clone()
        # a chunk of tokens with one key moves as many times as far from one point; longer steps would overshoot
        tokens[3], tokens[4], tokens[5] = tokens[3] / 4, tokens[4] / 2, torch.zeros_like(tokens[5])
    elif case == "gates at their ends":
        most = 0.1, 1.0, 1.0 if layers <= 2 else 0.3
        tokens[3:] = [m * torch.randint(2, t.shape, generator=generator) for m, t in zip(most, tokens[3:], strict=True)]
    elif case == "all forgotten":
        tokens[5] = torch.ones_like(tokens[5])
    elif case == "nothing written":
        tokens[3] = torch.zeros_like(tokens[3])
    sides = [width, *[2 * width] * (layers - 1), width]
    shapes = [(batch, heads, *pair) for pair in pairwise(sides)]
    weights = [normal(*shape) * shape[2] ** -0.5 for shape in shapes]
    return tokens, weights, [filled * 0.1 * normal(*shape) for shape in shapes]


def results(form: Callable[..., Any], inputs: Inputs, dtype: torch.dtype, chunk: int) -> dict[str, Tensor]:
    """What a form returns, and the gradient of a random functional of it, the same for every row, for every input.

    Inputs are cast to `dtype`, weights and velocity to no less than float32.
    """
    wide = torch.promote_types(dtype, torch.float32)
    leaves = [
        [t.detach().to(kind).requires_grad_() for t in several]
        for several, kind in zip(inputs, (dtype, wide, wide), strict=True)
    ]
    tokens, starts, surprises = leaves
    y, (weights, velocity) = form(*tokens, starts, surprises, chunk_size=chunk)
    found = {"y": y}
    found |= {f"{name} {i}": t for name, several in (("weights", weights), ("velocity", velocity))
              for i, t in enumerate(several)}  # fmt: skip
    generator = torch.Generator().manual_seed(5)
    # numbers that bfloat16 has, so that forms of every dtype are given the same
    outer = [torch.randn(t.shape[1:], generator=generator).bfloat16() for t in found.values()]
    loss = sum((t * w.to(t)).sum() for t, w in zip(found.values(), outer, strict=True))
    flat = [t for several in leaves for t in several]
    loss = loss + sum(0 * t.sum() for t in flat)  # without a token there is nothing to follow
    names = ["q", "k", "v", "step", "momentum", "forget"]
    names += [f"{name} {i}" for name in ("weights", "velocity") for i in range(len(weights))]
    slopes = torch.autograd.grad(loss, flat)
    return found | {f"gradient of {name}": t for name, t in zip(names, slopes, strict=True)}


def errors_on(device: torch.device, *, progress: bool = False) -> list[FormError]:
    """All that ``labkit check`` measures of the neural memory on one device, the Triton form where it runs."""
    name = "Neural memory"
    lengths: tuple[int, ...] = CUDA_LENGTHS if device.type == "cuda" else LENGTHS
    rows = neural_memory_errors(lengths=lengths, device=device, progress=name if progress else "")
    if why_no_triton(device) is None:
        kind = "cuda" if device.type == "cuda" else "cpu"
        rows += neural_memory_errors(
            KERNEL_DTYPES, [1], KERNEL_LENGTHS[kind], KERNEL_CHUNKS[kind], backend="triton", batch=1, device=device,
            progress=f"{name}, Triton" if progress else "",
        )  # fmt: skip
    return rows


def neural_memory_errors(
    dtypes: Iterable[torch.dtype] = DTYPES,
    layers: Iterable[int] = LAYERS,
    lengths: Iterable[int] = LENGTHS,
    chunks: Iterable[int] = CHUNKS,
    cases: Iterable[str] = tuple(CASES),
    *,
    backend: str = "chunked",
    batch: int = 2,
    device: torch.device = CPU,
    progress: str = "",
) -> list[FormError]:
    """Compare a fast form with the slow one in float64, each chunk size with its own definition, gradients included.

    The case of a row is one of `CASES` and the number of layers, as "equal keys, 2 layers".

    Args:
        dtypes: dtypes of the inputs.
        layers, lengths, chunks: layers of the memory, values of T, chunk sizes.
        cases: names out of `CASES`.
        backend: the form: "chunked", or "triton", which takes one layer, one token or more, and chunks of 16, 32, 64.
        batch: rows of the inputs, each of two heads.
        device: where the form is computed; the slow one always on the CPU.
        progress: what a bar is called that appears after two seconds; empty for none.
    """
    dtypes, cases, rows = tuple(dtypes), tuple(cases), list[FormError]()
    form = partial(neural_memory, backend=backend)
    roundings = sorted({rounding_of(dtype) for dtype in dtypes}, key=str)
    settings = list(product(layers, lengths, (False, True), chunks)) if roundings and cases else []
    tokens = sum(length for _, length, _, _ in settings) * len(cases) * len(dtypes)
    with tqdm(total=tokens, desc=progress, unit="token", unit_scale=True, delay=2.0, disable=not progress) as bar:
        for depth, length, filled, chunk in settings:
            drawn = {
                (case, rounding): _rounded(draw(length, depth, case=case, filled=filled, batch=batch), rounding)
                for case, rounding in product(cases, roundings)
            }
            # rows of a batch do not meet, so the slow form is run once for all of them
            stacked = _each(torch.cat, *drawn.values())
            slow = results(recurrent_neural_memory, stacked, torch.float64, chunk)
            wanted = {what: dict(zip(drawn, t.split(batch), strict=True)) for what, t in slow.items()}
            for ((case, rounding), inputs), dtype in product(drawn.items(), dtypes):
                if rounding_of(dtype) != rounding:
                    continue
                with poisoned():
                    found = results(form, _each(lambda one: one[0].to(device), inputs), dtype, chunk)
                name = f"{case}, {depth} layer{'s' if depth > 1 else ''}"
                for what, right in wanted.items():
                    error = relative_error(found[what].cpu(), right[case, rounding])
                    rows.append(FormError(backend, dtype, name, length, chunk, filled, what, error))
                bar.update(length)
    return rows


def _each(change: Callable[..., Tensor], *several: Inputs) -> Inputs:
    """What `change` makes of the tensors that stand at one place in all of these inputs."""
    tokens, weights, velocity = (
        [change(list(alike)) for alike in zip(*lists, strict=True)] for lists in zip(*several, strict=True)
    )
    return tokens, weights, velocity


def _rounded(inputs: Inputs, rounding: torch.dtype) -> Inputs:
    """Tokens and gates as numbers of a shorter format; weights and velocity are kept in float32, whatever comes in."""
    tokens, weights, velocity = inputs
    return [t.to(rounding).float() for t in tokens], weights, velocity


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
