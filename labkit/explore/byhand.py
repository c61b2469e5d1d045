"""Sleep built by hand: a permutation matrix as fast weights, and two ways of reading the same edges once more."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.explore import style
from labkit.explore.filling import delta_memory
from labkit.explore.panel import Panel, choice, slider
from labkit.explore.panes import axes, panes, stack

__all__ = ["RULES", "asleep", "by_hand", "distance", "one_pass"]

RULES = ("compose with itself", "take one more step")
"""What a pass does to the place an edge has led to so far: asks the memory of now, or the edges as they were read."""


def one_pass(edges: Tensor, memory: Tensor | None = None, rule: str = RULES[0]) -> Tensor:
    """Read every edge once more; returns the memory after it.

    Nodes are one-hot keys and values, so the memory is a matrix in which row a holds a 1 where a leads.

    Args:
        edges: ``[m, 2]``, each "a leads to b".
        memory: ``[n, n]`` before the pass, n more than the largest node; None before the first, which writes the
            edges as they are.
        rule: one of `RULES`. "compose with itself": where memory says a leads now, it looks up from there in the same
            memory, and writes what it found for a. "take one more step": it looks up in the edges instead.
    """
    if rule not in RULES:
        raise ValueError(f"rule must be one of {RULES}, but it is {rule!r}.")
    n = int(edges.max()) + 1 if memory is None else len(memory)
    keys, values = F.one_hot(edges[:, 0], n).float(), F.one_hot(edges[:, 1], n).float()
    if memory is None:
        return delta_memory(keys, values, torch.zeros(n, n))
    known = memory if rule == RULES[0] else delta_memory(keys, values, torch.zeros(n, n))
    return delta_memory(keys, keys @ memory @ known, memory)


def asleep(edges: Tensor, passes: int, rule: str = RULES[0]) -> Tensor:
    """The memory ``[n, n]`` after so many passes; zeros after none."""
    n = int(edges.max()) + 1
    memory = None
    for _ in range(passes):
        memory = one_pass(edges, memory, rule)
    return torch.zeros(n, n) if memory is None else memory


def distance(edges: Tensor, memory: Tensor) -> int:
    """How many edges on the memory sends every node of the cycle; 0 if there is no such number."""
    once = walked = one_pass(edges)
    for hops in range(1, len(edges) + 1):
        if torch.equal(walked, memory):
            return hops
        walked = walked @ once
    return 0


def by_hand(edges: Tensor, most: int = 4) -> Panel:
    """Turn the passes of a sleep that nobody trained; see the matrix, and where it sends every node.

    Args:
        edges: ``[m, 2]`` of one cycle.
        most: the largest number of passes on the slider.
    """
    n, m = int(edges.max()) + 1, len(edges)
    passes, rule = slider("passes by hand", 1, 0, most), choice("each pass", RULES, RULES[0])
    fig = panes("by-hand", ["The fast weights", "Where they send every node of the cycle"], height=400, gap=0.12)
    side = style.column(range(n))
    cells = stack(
        fig, (1, 1),
        go.Heatmap(
            x=np.tile(side, n), y=np.repeat(side, n), zmin=0, zmax=1, colorscale="Greys", showscale=False,
            xgap=1, ygap=1, name="fast weights",
        ),
    )  # fmt: skip
    ring = _ring(edges)
    around = style.column([x for x, _ in ring.values()]), style.column([y for _, y in ring.values()])
    edge = {"color": style.GREY, "dash": "dot", "width": 1}
    closed = [np.append(a, a[:1]) for a in around]
    stack(fig, (1, 2), go.Scatter(x=closed[0], y=closed[1], mode="lines", line=edge, name="the edges as read"))
    arrows = stack(
        fig, (1, 2),
        go.Scatter(mode="lines+markers", line={"color": style.ROLES["model"], "width": 2}, name="the memory",
                   marker={"symbol": "arrow", "size": 12, "angleref": "previous"}),
    )  # fmt: skip
    names = [str(node) for node in ring]
    stack(
        fig, (1, 2),
        go.Scatter(x=1.15 * around[0], y=1.15 * around[1], text=names, mode="text", showlegend=False, hoverinfo="skip"),
    )  # fmt: skip
    axes(
        fig, (1, 1), x="leads to", y="from node", x_range=(-0.5, n - 0.5), y_range=(n - 0.5, -0.5),
        x_names=[str(i) for i in range(n)], dtick=1,
    )  # fmt: skip
    axes(fig, (1, 2), x="", y="", x_range=(-1.9, 1.9), y_range=(-1.3, 1.3), visible=False)
    fig.update_xaxes(visible=False, row=1, col=2)

    def show() -> str:
        memory = asleep(edges, passes.value, rule.value)
        targets = memory.argmax(dim=1).tolist() if memory.any() else []
        xs, ys = [], []
        for a in ring if targets else ():
            (x0, y0), (x1, y1) = ring[a], ring[targets[a]]
            # the arrow stops short of the node it points to
            xs += [x0, 0.94 * x1 + 0.06 * x0, np.nan]
            ys += [y0, 0.94 * y1 + 0.06 * y0, np.nan]
        with fig.batch_update():
            cells.z = style.column(memory)
            arrows.x, arrows.y = style.column(xs), style.column(ys)
        reached = distance(edges, memory)
        if not reached:
            return "No pass yet: the memory is empty."
        times = "1 pass" if passes.value == 1 else f"{passes.value} passes"
        return f"Each pass: {rule.value}. After {times} the memory sends every node {reached} of {m} edges on."

    return Panel(
        "by-hand", show, controls=[rule, passes], figures=[fig],
        source="Computed at every move by labkit.kernels.gated_delta_rule with one-hot keys; nothing is trained here.",
    )  # fmt: skip


def _ring(edges: Tensor) -> dict[int, tuple[float, float]]:
    """A place on the circle for every node, in the order of the cycle, clockwise from the top."""
    following = dict(edges.tolist())
    node, order = int(edges[0, 0]), []
    for _ in following:
        order.append(node)
        node = following[node]
    angle = np.linspace(0, 2 * np.pi, len(order), endpoint=False)
    return {node: (float(np.sin(a)), float(np.cos(a))) for node, a in zip(order, angle, strict=True)}
