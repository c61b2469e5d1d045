"""Writing the same pairs again and again: delta-rule sweeps are Kaczmarz's solver of linear equations."""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.explore import style
from labkit.explore.filling import delta_memory, random_pairs
from labkit.explore.panel import Panel, slider

__all__ = ["best_error", "sweep_errors", "sweeps"]


def sweep_errors(keys: Tensor, values: Tensor, count: int) -> list[float]:
    """Squared error of reading all pairs back, over an empty memory's, after 1, 2, ..., `count` sweeps."""
    state, errors = None, []
    for _ in range(count):
        state = delta_memory(keys, values, state)
        errors.append(float((keys @ state - values).square().sum() / values.square().sum()))
    return errors


def best_error(keys: Tensor, values: Tensor) -> float:
    """The least such error any matrix can reach: that of least squares."""
    best = torch.linalg.lstsq(keys.double(), values.double(), driver="gelsd").solution
    return float((keys.double() @ best - values.double()).square().sum() / values.double().square().sum())


def sweeps(size: int = 16, most: int = 32, seed: int = 0) -> Panel:
    """Turn the number of pairs and of sweeps; see the error fall, and where it cannot."""
    keys, values = random_pairs(2 * size, size, seed)
    pairs = slider("pairs", size, 2, 2 * size)
    count = slider("sweeps", 8, 1, most)
    fig = style.figure(
        "sweeps",
        "Reading all pairs back after each sweep",
        x="sweeps over the same pairs (count)",
        y="squared error (relative)",
        x_range=(0, most + 1),
        y_range=(-0.03, 1.1),
        width=760,
    )
    path = style.line(fig, "delta rule, swept", colour=style.ROLES["model"])
    here = style.line(
        fig,
        "where you are",
        colour=style.ROLES["guess"],
        mode="markers",
        marker_size=14,
        marker_symbol="circle-open",
        marker_line_width=3,
    )
    floor = style.line(fig, "least squares: the best any matrix can do", colour=style.GREY, dash="dash", markers=False)

    def show() -> str:
        k, v, n = keys[: pairs.value], values[: pairs.value], count.value
        errors, best = sweep_errors(k, v, n), best_error(k, v)
        with fig.batch_update():
            path.x, path.y = style.column(range(1, n + 1)), style.column(errors)
            here.x, here.y = style.column([n]), style.column(errors[-1:])
            floor.x, floor.y = style.column([0, most + 1]), style.column([best, best])
        return (
            f"{len(k)} pairs, keys of {size} numbers, sweep {n}: error {errors[-1]:.3f}, "
            f"after the first sweep {errors[0]:.3f}, least possible {best:.3f}."
        )

    return Panel(
        "sweeps",
        show,
        controls=[pairs, count],
        figures=[fig],
        source=f"Live: labkit.kernels.gated_delta_rule (decay none, beta 1) on random pairs of seed {seed}.",
    )
