"""Several panes in one figure: one message to the browser and one redraw for a move, however many panes follow it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from labkit.explore import style
from labkit.explore.livefigure import LiveFigure

__all__ = ["axes", "panes", "stack"]


def panes(
    name: str,
    titles: Sequence[str],
    *,
    width: int = 950,
    height: int = 360,
    gap: float = 0.07,
    **layout: Any,
) -> go.FigureWidget:
    """An empty figure of ``len(titles)`` panes side by side, in the lab's style.

    Args:
        name: what tests and `labkit figures` call it (``layout.meta``).
        titles: one for each pane, in a few words.
        gap: between panes, as a share of the figure.
        layout: anything else for plotly's layout.
    """
    fig = LiveFigure()
    fig.set_subplots(1, len(titles), subplot_titles=list(titles), horizontal_spacing=gap)
    fig.update_layout(template=style.TEMPLATE, meta=name, width=width, height=height, **layout)
    fig.update_annotations(font_size=14)
    fig.update_xaxes(ticklabeloverflow="allow")  # else every redraw measures every label, which takes long
    fig.update_yaxes(ticklabeloverflow="allow")
    return fig


def axes(
    fig: go.Figure,
    pane: tuple[int, int],
    *,
    x: str,
    y: str,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    x_names: Sequence[str] | None = None,
    **y_axis: Any,
) -> None:
    """Name the axes of one pane (row, column, from 1) and fix their ends, so that only data moves."""
    row, col = pane
    named = {} if x_names is None else {"tickvals": list(range(len(x_names))), "ticktext": list(x_names)}
    fig.update_xaxes(title_text=x, range=x_range, tickangle=0, row=row, col=col, **named)
    fig.update_yaxes(title_text=y, range=y_range, row=row, col=col, **y_axis)


def stack(fig: go.Figure, pane: tuple[int, int], trace: Any) -> Any:
    """Add a trace to a pane; returns it as the figure holds it."""
    fig.add_trace(trace, row=pane[0], col=pane[1])
    return fig.data[-1]
