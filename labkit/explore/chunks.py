"""What a chunk costs and what it buys: how far its answers are from those of the recurrence, and the time it saves."""

from __future__ import annotations

import time

import numpy as np
import plotly.graph_objects as go
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from labkit.explore import style
from labkit.explore.panel import Panel, choice, slider
from labkit.explore.panes import axes, panes, stack
from labkit.explore.surprise import first_weights
from labkit.kernels import neural_memory

__all__ = ["SIZES", "compare", "sizes"]

SIZES = (1, 2, 4, 8, 16, 32, 64)
LENGTH, WIDTH = 128, 16


def compare(layers: int, step: float, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each of `SIZES` the relative distance of all answers to those of chunk size 1, and milliseconds, found now.

    128 random tokens, some keys alike, η = .5, α = .001; the same for every size.
    """
    generator = torch.Generator().manual_seed(seed)
    pool = F.normalize(torch.randn(24, WIDTH, generator=generator), dim=-1)
    k, q = (pool[torch.randint(24, (1, LENGTH, 1), generator=generator)] for _ in range(2))
    v = torch.randn(1, LENGTH, 1, WIDTH, generator=generator) / WIDTH**0.5
    θ, η, α = (torch.full((1, LENGTH, 1), rate) for rate in (step, 0.5, 0.001))
    weights = first_weights(layers, WIDTH)
    still = [torch.zeros_like(w) for w in weights]
    answers, spent = [], []
    for size in SIZES:
        clock = time.perf_counter()
        answers.append(neural_memory(q, k, v, θ, η, α, weights, still, chunk_size=size)[0])
        spent.append(1e3 * (time.perf_counter() - clock))
    apart = [float((y - answers[0]).norm() / answers[0].norm()) for y in answers]
    return np.array(apart), np.array(spent)


def sizes() -> Panel:
    """Turn layers and step; see for every chunk size how far its answers are from the recurrence's, and its time."""
    layers = slider("layers of this memory", 2, 1, 4)
    step = choice("θ of every token", (0.003, 0.01, 0.03, 0.1), 0.03)
    fig = panes("chunk-size", ["Another function", "A faster one"], height=340, gap=0.1)
    dots = {"mode": "lines+markers", "showlegend": False}
    apart = stack(fig, (1, 1), go.Scatter(x=[0], y=[0], line_color=style.ROLES["model"], name="distance", **dots))
    spent = stack(fig, (1, 2), go.Scatter(x=[0], y=[0], line_color=style.ROLES["rival"], name="time", **dots))
    places = style.column(np.arange(len(SIZES)))
    ends = (-0.4, len(SIZES) - 0.6)
    names = [str(size) for size in SIZES]
    axes(
        fig, (1, 1), x="chunk size (tokens)", y="distance to chunk size 1 (relative)",
        x_range=ends, y_range=(-0.03, 1.2), x_names=names,
    )  # fmt: skip
    axes(
        fig, (1, 2), x="chunk size (tokens)", y="128 tokens take (ms)",
        x_range=ends, y_range=(-1, 2.5), x_names=names, type="log", dtick=1,
    )  # fmt: skip

    def show() -> str:
        far, milliseconds = compare(layers.value, step.value)
        with fig.batch_update():
            apart.x, apart.y = places, style.column(np.minimum(np.nan_to_num(far, nan=9.0, posinf=9.0), 9.0))
            spent.x, spent.y = places, style.column(milliseconds)
        last = f"{far[-1]:.2f}" if np.isfinite(far[-1]) else "without bound"
        return (
            f"{layers.value} layer(s), θ = {step.value:g}: the answers of chunk size 16 are {far[SIZES.index(16)]:.2f} "
            f"away from those of chunk size 1, relative to their length, and of 64 {last}; 128 tokens took "
            f"{milliseconds[0]:.0f} ms at 1 and {milliseconds[-1]:.1f} ms at 64."
        )

    return Panel(
        "chunk-size", show, controls=[layers, step], figures=[fig],
        source="Live: labkit.kernels.neural_memory on 128 random tokens, timed once at this move on this computer.",
    )  # fmt: skip
