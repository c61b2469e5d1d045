"""What the forms of the gated delta rule do on this computer, found now: the inverse, where time goes, the roofline."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor

from labkit.bench import Roof, delta, profiler
from labkit.explore import style
from labkit.explore.kernel_speed import LOOKS
from labkit.explore.panel import Panel, choice, slider
from labkit.kernels.gated_delta.solve import solve_unit_lower

__all__ = ["by_squaring", "inverse", "roofline", "squaring_errors", "where_time_goes"]

WIDTH = 64
STRENGTHS = np.linspace(0.25, 2, 15)
LEAST = 1e-8  # errors below are drawn here

#: kinds of operations, by their names in PyTorch without "aten::" and the "_" of those in place
KINDS = {
    "matrix products": {"bmm", "mm", "addmm", "baddbmm"},
    "triangular solves": {"linalg_solve_triangular", "triangular_solve"},
    "copies": {"copy", "cat", "clone", "fill", "zero", "constant_pad_nd"},
    "number by number": {
        "mul", "add", "sub", "exp", "div", "neg", "sum", "cumsum", "tril", "masked_fill", "where", "clamp", "flip",
        "addcmul", "abs", "amax", "gt",
    },
}
REST = "Python, views, autograd"


def by_squaring(lower: Tensor) -> Tensor:
    """``(I + lower)^-1`` as ``(I - A)(I + A^2)(I + A^4)...``: exact on paper, worthless where powers of A are large."""
    one = torch.eye(lower.shape[-1], dtype=lower.dtype)
    inverse, power = one - lower, lower @ lower
    for _ in range(int(np.log2(lower.shape[-1])) - 1):
        inverse, power = inverse @ (one + power), power @ power
    return inverse


def squaring_errors(size: int, alike: float, seed: int = 0) -> tuple[list[float], list[float]]:
    """Relative errors in float32 of squaring and of substitution, for each of `STRENGTHS`, beside float64.

    Keys of one chunk of `size` tokens are of unit length, and two of them have a cosine of about `alike`.
    """
    generator = torch.Generator().manual_seed(seed)
    own, one = (torch.randn(n, WIDTH, generator=generator, dtype=torch.float64) for n in (size, 1))
    k = alike**0.5 * one / one.norm() + (1 - alike) ** 0.5 * own / own.norm(dim=-1, keepdim=True)
    k = (k / k.norm(dim=-1, keepdim=True)).float()
    squared: list[float] = []
    solved: list[float] = []
    for beta in STRENGTHS:
        lower = (float(beta) * k @ k.mT).tril(-1)
        one_long = torch.eye(size, dtype=torch.float64)
        right = solve_unit_lower(lower.double(), one_long)
        for errors, found in ((squared, by_squaring(lower)), (solved, solve_unit_lower(lower, one_long.float()))):
            errors.append(float((found.double() - right).norm() / right.norm()))
    return squared, solved


def inverse() -> Panel:
    """Turn how alike the keys are and the chunk's size: the error of two ways to invert, by writing strength."""
    alike = slider("how alike keys are (%)", 0, 0, 100, 10)
    size = choice("chunk size C", (8, 16, 32, 64), 64)
    fig = style.figure(
        "kernel-inverse", "Error of the inverse in float32", x="writing strength β", y="relative error",
        x_range=(0.2, 2.05), y_range=(-8.3, 21), width=760, height=380, yaxis_type="log", yaxis_dtick=4,
        yaxis_exponentformat="power",
    )  # fmt: skip
    squared = style.line(fig, "by squaring", colour=style.ROLES["wrong"])
    solved = style.line(fig, "by substitution", colour=style.ROLES["model"], dash="dash")

    def show() -> str:
        wrong, right = squaring_errors(size.value, alike.value / 100)
        with fig.batch_update():
            for trace, errors in ((squared, wrong), (solved, right)):
                trace.x, trace.y = style.column(STRENGTHS), style.column(np.maximum(errors, LEAST))
        return (
            f"C = {size.value}, keys {alike.value} % alike: at β = 2 squaring is {wrong[-1]:.0e} off, substitution "
            f"{right[-1]:.0e}; at β = 1 {wrong[6]:.0e} and {right[6]:.0e}."
        )

    return Panel(
        "kernel-inverse", show, controls=[alike, size], figures=[fig],
        source="Live: one chunk of random unit keys without decay, in float32, beside float64.",
    )  # fmt: skip


def where_time_goes(length: int = 256) -> Panel:
    """Milliseconds by kind of operation, forward and backward, for three forms, from PyTorch's profiler, now."""
    inputs, weights = delta.typical(1, length, 2, WIDTH)
    racing, _ = delta.candidates(inputs, weights)
    names = ("labkit recurrent", "labkit plain", "labkit")
    runs = {candidate.name: candidate.run for candidate in racing}
    spent = [_by_kind(runs[name]) for name in names]
    fig = style.figure(
        "kernel-time", "Where the time goes", x="forward and backward (ms)", y="form",
        width=860, height=360, barmode="stack", margin_l=130, margin_b=110,
    )  # fmt: skip
    colours = ("blue", "purple", "sky", "orange", "vermillion")
    for kind, colour in zip((*KINDS, REST), colours, strict=True):
        x, y = [own[kind] for own in spent], [LOOKS[name][0] for name in names]
        fig.add_trace(go.Bar(x=x, y=y, name=kind, orientation="h", marker_color=style.PALETTE[colour]))
    shares = [own["matrix products"] / sum(own.values()) for own in spent]
    told = "; ".join(
        f"{LOOKS[name][0]} {sum(own.values()):.0f} ms, {share:.0%} of it matrix products"
        for name, own, share in zip(names, spent, shares, strict=True)
    )
    return Panel(
        "kernel-time", lambda: f"{length} tokens, 2 heads, K = V = {WIDTH}: {told}. The profiler itself slows down "
        "what has many small operations.", controls=[], figures=[fig],
        source="Live: torch.profiler on this computer, one call each after a first one.",
    )  # fmt: skip


def _by_kind(run: Callable[[], object]) -> dict[str, float]:
    """Milliseconds of one call of `run` by kind; what is left of the whole, and in no named operation, is `REST`."""
    run()
    with profiler() as told:
        began = time.perf_counter()
        run()
        whole = 1000 * (time.perf_counter() - began)
    spent = dict.fromkeys(KINDS, 0.0)
    for event in told.key_averages():
        name = event.key.removeprefix("aten::").rstrip("_")
        for kind in (kind for kind, names in KINDS.items() if name in names):
            spent[kind] += event.self_cpu_time_total / 1000
    return {**spent, REST: max(0.0, whole - sum(spent.values()))}


def roofline(roof: Roof, rows: Sequence[dict[str, object]]) -> Panel:
    """What this computer can do, and what each form makes of it: operations a second against operations a byte."""
    fig = style.figure(
        "kernel-roofline", "A roofline of this computer", x="operations for each byte that must be moved",
        y="fast chunks' work (GFLOP/s)", x_range=(-1, 3), y_range=(-1, 3.2),
        width=860, height=420, xaxis_type="log", yaxis_type="log",
        xaxis_dtick=1, yaxis_dtick=1, margin_b=130,
    )  # fmt: skip
    x = np.logspace(-1, 3, 60)
    style.line(
        fig, "roof: copying, then multiplying", x, np.minimum(roof.flops, x * roof.bytes) / 1e9,
        colour=style.ROLES["truth"], markers=False,
    )  # fmt: skip
    shares = []
    for row in rows:
        name, flops, seconds, moved = (row[key] for key in ("candidate", "flops", "seconds", "bytes"))
        if name in LOOKS:
            told, colour = LOOKS[str(name)]
            rate = float(flops) / float(seconds) / 1e9  # type: ignore[arg-type]
            style.line(fig, told, [float(flops) / float(moved)], [rate], colour=style.PALETTE[colour])  # type: ignore[arg-type]
            shares.append(f"{told} {float(row['roofline']):.1%}")  # type: ignore[arg-type]
    told = (
        f"This computer multiplies at {roof.flops / 1e9:.0f} GFLOP/s and copies at {roof.bytes / 1e9:.0f} GB/s. Of "
        f"what that allows for the work of the fast chunks: {', '.join(shares)}."
    )
    return Panel(
        "kernel-roofline", lambda: told, controls=[], figures=[fig],
        source="Live: a matrix product, a copy, and the forms, timed on this computer; operations as PyTorch counts "
        "them for the fast chunks, bytes for reading each input and writing each result once.",
    )  # fmt: skip
