"""A memory fills up: pairs written one by one into a fast-weight matrix, and read back."""

from __future__ import annotations

import plotly.graph_objects as go
import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.explore import style
from labkit.explore.panel import Panel, slider
from labkit.kernels import gated_delta_rule

__all__ = ["delta_memory", "fills_up", "random_pairs", "recalled", "recalled_so_far", "summed_memory"]

#: How the two memories are drawn: the role that gives the colour, and the symbol.
RULES = {"delta rule": ("model", "circle"), "plain sum": ("rival", "x")}


def random_pairs(count: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Keys and values ``[count, size]``: random directions of length 1."""
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, count, size, generator=generator)
    return F.normalize(keys, dim=-1), F.normalize(values, dim=-1)


def delta_memory(keys: Tensor, values: Tensor, state: Tensor | None = None) -> Tensor:
    """The matrix ``[K, V]`` after the gated delta rule has written every pair once, in order (no decay, beta
    1).

    Args:
        keys, values: ``[n, K]`` and ``[n, V]``.
        state: what the memory holds before, ``[K, V]``; None for nothing.
    """
    k, v = keys[None, :, None], values[None, :, None]
    gate = torch.ones(1, len(keys), 1, dtype=keys.dtype)
    before = None if state is None else state[None, None]
    return gated_delta_rule(k, k, v, 0 * gate, gate, initial_state=before)[1][0, 0]


def summed_memory(keys: Tensor, values: Tensor) -> Tensor:
    """The matrix ``[K, V]`` of a memory that only adds: the sum of all ``k v^T``, as in linear attention."""
    return keys.T @ values


def recalled(state: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """For each pair whether its key reads out something nearer to its own value than to any other, ``[n]``
    bool.
    """
    read = keys @ state
    return torch.cdist(read, values).argmin(dim=-1) == torch.arange(len(keys))


def recalled_so_far(keys: Tensor, values: Tensor) -> list[int]:
    """After each written pair, how many of the pairs so far the delta rule gives back (see `recalled`)."""
    state, counts = None, []
    for n in range(1, len(keys) + 1):
        state = delta_memory(keys[n - 1 : n], values[n - 1 : n], state)
        counts.append(int(recalled(state, keys[:n], values[:n]).sum()))
    return counts


def fills_up(size: int = 16, most: int = 48, start: int = 4, seed: int = 0) -> Panel:
    """Write 1 to `most` pairs into a memory of `size` times `size` numbers; see what it still gives back.

    Args:
        size: of keys and values.
        start: where the slider stands at first; before the first mistake, which the reader is to guess.
        seed: of the random pairs.
    """
    keys, values = random_pairs(most, size, seed)
    guess = slider("my guess: pairs it keeps without a mistake", size, 0, most)
    written = slider("pairs written", start, 1, most)
    guess.layout.width = "560px"
    memory, read, count = _figures(size, most)
    cells = style.heat(memory, delta_memory(keys[:1], values[:1]), low=-1, high=1, scale="RdBu", bar="weight")
    marks = {
        name: style.line(read, name, colour=style.ROLES[role], mode="markers", marker_symbol=symbol)
        for name, (role, symbol) in RULES.items()
    }
    whole = style.line(count, "all", [0, most], [0, most], colour=style.ROLES["ceiling"], dash="dot", markers=False)
    kept = style.line(count, "delta rule", colour=style.ROLES["model"], markers=False)
    guessed = style.line(count, "your guess", colour=style.ROLES["guess"], dash="dash", markers=False)
    whole.hoverinfo = "skip"

    def show() -> str:
        n = written.value
        k, v = keys[:n], values[:n]
        states = {"delta rule": delta_memory(k, v), "plain sum": summed_memory(k, v)}
        counts = recalled_so_far(k, v)
        with memory.batch_update():
            cells.z = style.column(states["delta rule"])
        with read.batch_update():
            for name, state in states.items():
                errors = (k @ state - v).norm(dim=-1)
                marks[name].x, marks[name].y = style.column(range(1, n + 1)), style.column(errors)
        with count.batch_update():
            kept.x, kept.y = style.column(range(1, n + 1)), style.column(counts)
            guessed.x, guessed.y = style.column([guess.value] * 2), style.column([0, most])
        by_sum = int(recalled(states["plain sum"], k, v).sum())
        first = next((i for i, c in enumerate(counts) if c <= i), None)
        told = "It made no mistake so far" if first is None else f"It kept {first} pairs without a mistake, then not"
        return (
            f"{n} pairs are written. A plain sum gives back {by_sum} of them, the delta rule {counts[-1]}. "
            f"{told}; you guessed {guess.value}."
        )

    return Panel(
        "memory-fills-up",
        show,
        controls=[guess, written],
        figures=[[memory, read, count]],
        source=f"Live: labkit.kernels.gated_delta_rule (no decay, beta 1) on random pairs of seed {seed}. A pair "
        "counts as given back if what its key reads out is nearer to its own value than to any other.",
    )


def _figures(size: int, most: int) -> tuple[go.FigureWidget, go.FigureWidget, go.FigureWidget]:
    memory = style.figure(
        "memory",
        f"The memory: {size} × {size} numbers",
        x="value channel",
        y="key channel",
        width=370,
    )
    read = style.figure(
        "read-back",
        "Reading every pair back",
        x="place of the pair, oldest first",
        y="length of the error",
        x_range=(0, most + 1),
        y_range=(-0.05, 2.5),
        width=380,
    )
    count = style.figure(
        "given-back",
        "How many come back",
        x="pairs written",
        y="pairs given back",
        x_range=(0, most + 1),
        y_range=(0, most + 1),
        width=370,
    )
    return memory, read, count
