"""Short words in the cells of a figure, drawn as one picture.

plotly makes an element of every word and styles it anew at every redraw: for 128 words 40 ms of a slider's move,
where a picture of them takes two.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from urllib.parse import quote

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from labkit.explore import style

__all__ = ["Lettering"]


class Lettering:
    """Words over the cells of a figure with one pane, whose rows are counted from 1, downwards, and columns from 0."""

    def __init__(self, figure: go.FigureWidget, name: str) -> None:
        margin = style.TEMPLATE.layout.margin
        self.width = figure.layout.width - margin.l - margin.r
        self.height = figure.layout.height - margin.t - margin.b
        figure.add_layout_image(
            name=name, xref="x", yref="y", x=-0.5, y=0.5, xanchor="left", yanchor="top", sizing="stretch", layer="above"
        )
        self.picture = figure.layout.images[-1]

    def write(self, words: Sequence[str], sizes: NDArray[np.floating], columns: int) -> None:
        """Put one word into every cell, row by row; `sizes` are in pixels."""
        rows = len(words) // columns
        across, down = self.width / columns, self.height / rows
        drawn = "".join(
            f'<text x="{(i % columns + 0.5) * across:.1f}" y="{(i // columns + 0.5) * down + 0.36 * size:.1f}" '
            f'font-size="{size:.1f}">{html.escape(word)}</text>'
            for i, (word, size) in enumerate(zip(words, sizes.tolist(), strict=True))
        )
        font = style.TEMPLATE.layout.font
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
            f'font-family="{font.family}" fill="{font.color}" text-anchor="middle">{drawn}</svg>'
        )
        self.picture.update(source=f"data:image/svg+xml,{quote(svg)}", sizex=columns, sizey=rows)
