"""LMM, MAC, MAG and MAL drawn as data flow: what is read from the memory, what is written into it, what comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import plotly.graph_objects as go

from labkit.explore import style
from labkit.explore.panel import Panel, choice

__all__ = ["ARCHITECTURES", "Flow", "dataflow"]

Box = tuple[str, float, float]  # what it does, and where it stands: across, up


@dataclass(frozen=True)
class Flow:
    """One architecture.

    Attributes:
        title: its name in full.
        boxes: by a short name, the steps of one segment.
        arrows: (from, to, what flows, "read" or "write" where it goes through the memory's state).
        sentence: what to see.
    """

    title: str
    boxes: dict[str, Box]
    arrows: tuple[tuple[str, str, str, str], ...]
    sentence: str


_IN: Box = ("segment x", 0.0, 0.0)
_STATE: Box = ("memory M", 2.0, 1.5)

ARCHITECTURES: dict[str, Flow] = {
    "LMM": Flow(
        "Long-term memory alone",
        {"x": _IN, "M": _STATE, "read": ("read M(q)", 2.0, 0.0), "o": ("output", 4.0, 0.0)},
        (
            ("x", "M", "write k, v", "write"),
            ("x", "read", "q", ""),
            ("M", "read", "after the write", "read"),
            ("read", "o", "", ""),
        ),
        "Every token is written, then read. There is no attention at all.",
    ),
    "MAC": Flow(
        "Memory as context",
        {
            "x": _IN, "M": _STATE, "h": ("retrieve h = M(q)", 1.0, 0.75), "att": ("attend", 2.0, 0.0),
            "p": ("persistent p", 1.0, -0.75), "gate": ("gate", 3.5, 0.0), "o": ("output", 4.6, 0.0),
        },
        (
            ("x", "h", "q", ""),
            ("M", "h", "before", "read"),
            ("h", "att", "h", ""),
            ("x", "att", "x", ""),
            ("p", "att", "", ""),
            ("att", "M", "write y", "write"),
            ("att", "gate", "y", ""),
            ("M", "gate", "M(y)", "read"),
            ("gate", "o", "", ""),
        ),
        "The memory is asked before attention and written after it, with what attention made of the segment. Writing x "
        "instead, before attention, is the common mistake.",
    ),
    "MAG": Flow(
        "Memory as gate",
        {
            "x": _IN, "M": _STATE, "read": ("read M(q)", 2.8, 0.9), "att": ("attend, sliding", 2.0, -0.5),
            "p": ("persistent p", 0.4, -0.9), "gate": ("gate", 3.9, 0.0), "o": ("output", 4.8, 0.0),
        },
        (
            ("x", "M", "write k, v", "write"),
            ("M", "read", "", "read"),
            ("x", "att", "x", ""),
            ("p", "att", "", ""),
            ("read", "gate", "M(x)", ""),
            ("att", "gate", "y", ""),
            ("gate", "o", "", ""),
        ),
        "Two branches side by side: attention over the newest tokens, and the memory of all of them. They meet in the "
        "gate.",
    ),
    "MAL": Flow(
        "Memory as layer",
        {
            "x": _IN, "M": _STATE, "read": ("read M(q)", 2.0, 0.0), "att": ("attend, sliding", 3.4, 0.0),
            "p": ("persistent p", 2.2, -0.75), "o": ("output", 4.7, 0.0),
        },
        (
            ("x", "M", "write k, v", "write"),
            ("x", "read", "q", ""),
            ("M", "read", "after the write", "read"),
            ("read", "att", "", ""),
            ("p", "att", "", ""),
            ("att", "o", "", ""),
        ),
        "The memory first, attention over what it gave second: attention sees the text only through the memory.",
    ),
}

_WORDS = {"": "within the segment", "read": "read from the memory", "write": "written into the memory"}
_COLOURS = {"": style.PALETTE["black"], "read": style.PALETTE["blue"], "write": style.PALETTE["vermillion"]}


def dataflow() -> Panel:
    """Choose an architecture, and see what flows where while it takes in one segment."""
    which = choice("architecture", list(ARCHITECTURES), "MAC")
    fig = style.figure(
        "dataflow", "One segment", x="from input to output", y="state above, tokens below",
        x_range=(-0.7, 5.3), y_range=(-1.2, 2.1), width=820, height=400,
    )  # fmt: skip
    fig.update_xaxes(showticklabels=False, showgrid=False, ticks="")
    fig.update_yaxes(showticklabels=False, showgrid=False, ticks="")
    for kind, words in _WORDS.items():  # the legend
        fig.add_trace(go.Scatter(x=[None], y=[None], mode="lines", name=words, line={"color": _COLOURS[kind]}))

    def show() -> str:
        flow = ARCHITECTURES[which.value]
        with fig.batch_update():
            fig.layout.title.text = f"{which.value}: {flow.title}"
            fig.layout.annotations = [*_arrows(flow), *_boxes(flow)]
        return f"{which.value}, {flow.title.lower()}. {flow.sentence}"

    return Panel(
        "dataflow", show, controls=[which], figures=[fig],
        source="Drawn after labkit/models/titans.py, line by line in labkit/models/titans.md.",
    )  # fmt: skip


def _boxes(flow: Flow) -> list[dict[str, object]]:
    return [
        {
            "x": x, "y": y, "text": f"<b>{words}</b>" if name == "M" else words, "showarrow": False, "borderpad": 6,
            "bgcolor": "#fff3d6" if name == "M" else "white", "bordercolor": "#444444", "font": {"size": 13},
        }
        for name, (words, x, y) in flow.boxes.items()
    ]  # fmt: skip


def _arrows(flow: Flow) -> list[dict[str, object]]:
    """Arrows under the boxes, each with what flows beside its middle."""
    drawn: list[dict[str, object]] = []
    for start, end, words, kind in flow.arrows:
        (_, x0, y0), (_, x1, y1) = flow.boxes[start], flow.boxes[end]
        drawn.append(
            {
                "x": x1, "y": y1, "ax": x0, "ay": y0, "axref": "x", "ayref": "y", "text": "", "showarrow": True,
                "arrowhead": 2, "arrowwidth": 2, "arrowcolor": _COLOURS[kind],
                "standoff": _clear(flow.boxes[end], x1 - x0, y1 - y0) + 3,
                "startstandoff": _clear(flow.boxes[start], x1 - x0, y1 - y0),
            }
        )  # fmt: skip
        if words:
            drawn.append(
                {
                    "x": 0.5 * (x0 + x1), "y": 0.5 * (y0 + y1), "text": words, "showarrow": False, "bgcolor": "white",
                    "opacity": 0.9, "font": {"size": 11, "color": _COLOURS[kind]},
                }
            )  # fmt: skip
    return drawn


def _clear(box: Box, across: float, up: float) -> float:
    """Pixels from the middle of a box to its edge, in the direction of an arrow; a letter is some 8 wide."""
    x, y = abs(across) * 123, abs(up) * 78  # pixels of one unit in a figure of this size
    length = math.hypot(x, y)
    edges = [half * length / way for half, way in ((4 * len(box[0]) + 8, x), (15.0, y)) if way]
    return min(edges)
