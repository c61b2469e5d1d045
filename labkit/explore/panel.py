"""A panel: controls, figures that follow them, and under them a sentence that says what one sees.

Every explorer of the lab is a function that returns a `Panel`:

    passes = slider("passes", 1, 1, 8)
    fig = style.figure("mind", ...)
    trace = style.line(fig, ...)

    def show() -> str:                       # runs the model; called now and at every move
        with fig.batch_update():             # one redraw
            trace.y = style.column(...)
        return f"After {passes.value} passes ..."

    return Panel("mind", show, controls=[passes], figures=[fig], source="Live: depo-elastic, seed 0, on your
    graph.")

Where no widget can run (a page on the web, a printout), readers see the picture of the panel's first state
instead: `labkit figures` draws it into notebooks/figures/<name>.svg, and the notebook shows that file.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as W
import plotly.graph_objects as go

__all__ = ["Panel", "choice", "note", "slider"]

_WIDE = {"description_width": "initial"}


def slider(description: str, value: int, low: int, high: int, step: int = 1) -> W.IntSlider:
    """A slider over whole numbers that reports every move."""
    return W.IntSlider(
        value=value,
        min=low,
        max=high,
        step=step,
        description=description,
        style=_WIDE,
        layout=W.Layout(width="420px"),
    )


def choice(description: str, options: Sequence[Any], value: Any) -> W.SelectionSlider:
    """A slider over a list: values, or (text, value) pairs."""
    return W.SelectionSlider(
        options=list(options),
        value=value,
        description=description,
        style=_WIDE,
        layout=W.Layout(width="420px"),
    )


def note(text: str = "") -> W.HTML:
    """A line of text under or beside a figure; set its ``value`` to change it."""
    return W.HTML(text, layout=W.Layout(max_width="1120px"))


class Panel:
    """Controls and figures that belong together; the last expression of a cell shows it.

    Args:
        name: of the picture of its first state, notebooks/figures/<name>.svg.
        show: reads the controls, does the computation, updates the figures, and returns the sentence that
            says what they now show. It is called once at the start and at every change of a control.
        controls: the widgets whose ``value`` `show` reads.
        figures: left to right; a list inside the list is a row.
        source: where the numbers come from: a live model and its data, or a file and the command that wrote
            it.
        extra: further widgets, put between controls and figures.

    An exception in `show` is written under the figures, and raised again.
    """

    def __init__(
        self,
        name: str,
        show: Callable[[], str],
        *,
        controls: Sequence[W.Widget],
        figures: Sequence[go.FigureWidget | Sequence[go.FigureWidget]],
        source: str,
        extra: Sequence[W.Widget] = (),
    ) -> None:
        if not source.strip():
            raise ValueError(f"The panel {name!r} must say where its numbers come from.")
        self.name, self.source, self._show = name, source, show
        rows: list[list[go.FigureWidget]] = [list(row) if isinstance(row, list | tuple) else [row] for row in figures]
        self.controls: dict[str, W.Widget] = {w.description: w for w in controls}
        self.figures: dict[str, go.FigureWidget] = {fig.layout.meta: fig for row in rows for fig in row}
        #: names of the figures, row by row
        self.rows: list[list[str]] = [[fig.layout.meta for fig in row] for row in rows]
        self.sentence = ""
        self._told = note()
        origin = note(f"<small>{html.escape(source)}</small>")
        self.move()  # before the box, which announces the figures to the browser: as they are by then
        self.box = W.VBox([*controls, *extra, *(W.HBox(row) for row in rows), self._told, origin])
        for control in controls:
            control.observe(self.move, "value")

    def move(self, change: Any = None) -> None:
        """Compute and draw again."""
        try:
            self.sentence = self._show()
        except Exception as error:
            self._told.value = f"<b>This went wrong:</b> {html.escape(f'{type(error).__name__}: {error}')}"
            raise
        self._told.value = html.escape(self.sentence)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        shown = dict(self.box._repr_mimebundle_(**kwargs))
        shown["text/plain"] = f"(sliders and figures that cannot be shown here) {self.sentence}"
        return shown
