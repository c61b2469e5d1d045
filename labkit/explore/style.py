"""How every figure of the lab looks, and how fast it moves.

Colours are those of Okabe and Ito, which people with any kind of colour vision can tell apart. Every figure
has a fixed size, fixed margins and named axes with their units, and no transition, so that a move of a slider
changes the data and nothing else. Text is Unicode with <sub> and <i>: JupyterLab renders no LaTeX in plotly
figures.

The browser gets numbers fast only as 1-D float32 columns (2-D arrays travel as text): `column` and `heat`
take care.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from torch import Tensor

from labkit.explore.livefigure import LiveFigure
from labkit.intervals import Interval

__all__ = [
    "CYCLE",
    "GREY",
    "PALETTE",
    "ROLES",
    "SHARES",
    "TEMPLATE",
    "band",
    "band_outline",
    "column",
    "error_bars",
    "figure",
    "heat",
    "line",
    "log_axis",
    "tint",
]

Numbers = Sequence[float] | NDArray[Any] | Tensor

#: Okabe and Ito's colours (Color Universal Design, 2008).
PALETTE: Mapping[str, str] = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
}
#: The order in which lines of one figure take them. Yellow is for areas only: too pale for a line on white.
CYCLE = tuple(PALETTE[name] for name in ("blue", "vermillion", "green", "purple", "orange", "sky", "black"))
GREY = "#767676"
#: Things that keep one colour throughout the lab.
ROLES: Mapping[str, str] = {
    "model": PALETTE["blue"],
    "truth": PALETTE["black"],
    "guess": PALETTE["purple"],
    "rival": PALETTE["orange"],
    "ceiling": PALETTE["green"],
    "wrong": PALETTE["vermillion"],
    "floor": GREY,
}
#: Colour scale of shares, from 0 to 1: light to dark, and readable in grey.
SHARES = "Cividis_r"

_AXIS = {
    "showline": True,
    "linecolor": "#444444",
    "gridcolor": "#e6e6e6",
    "zeroline": False,
    "ticks": "outside",
    "fixedrange": True,
    "automargin": False,
    "title": {"standoff": 8},
}

TEMPLATE = go.layout.Template(
    layout={
        "colorway": list(CYCLE),
        "font": {"family": "DejaVu Sans, Verdana, Arial, sans-serif", "size": 13, "color": "#222222"},
        "title": {
            "x": 0.0,
            "xref": "paper",
            "xanchor": "left",
            "y": 0.97,
            "yanchor": "top",
            "font": {"size": 15},
        },
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "margin": {"l": 64, "r": 20, "t": 44, "b": 54},
        "legend": {"orientation": "h", "x": 0, "y": -0.22, "yanchor": "top", "font": {"size": 12}},
        "transition": {"duration": 0},
        "hovermode": "closest",
        "uirevision": "keep",
    }
)


def figure(
    name: str,
    title: str,
    *,
    x: str,
    y: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    width: int = 560,
    height: int = 360,
    **layout: Any,
) -> go.FigureWidget:
    """An empty figure in the lab's style, ready for traces.

    Args:
        name: what tests and `labkit figures` call it (``layout.meta``), such as "mind".
        title: what it shows, in a few words.
        x, y: titles of the axes; a quantity with a unit names it: "sleep (ms)", "right answers (share)".
        x_range, y_range: fixed ends of the axes. Give them wherever a slider moves the data: an axis that
            jumps hides what changed.
        width, height: pixels.
        layout: anything else for plotly's layout.

    Raises ValueError for a name, title or axis without text.
    """
    for what, text in (("name", name), ("title", title), ("x axis", x), ("y axis", y)):
        if not text.strip():
            raise ValueError(f"A figure needs a {what}; for an axis without a unit say what is counted.")
    for text in (title, x, y):
        if "$" in text:
            raise ValueError(f"{text!r} holds LaTeX, which JupyterLab does not render in figures; use <sub>, <i>.")
    fig = LiveFigure()
    fig.update_layout(template=TEMPLATE, meta=name, title_text=title, width=width, height=height, **layout)
    fig.update_xaxes(title_text=x, range=x_range)
    fig.update_yaxes(title_text=y, range=y_range)
    return fig


def column(values: Numbers) -> NDArray[np.float32]:
    """Numbers as plotly takes them fastest: one dimension, float32; tensors are detached."""
    if isinstance(values, Tensor):
        values = values.detach().float().cpu().numpy()
    return np.ascontiguousarray(np.asarray(values, dtype=np.float32).ravel())


def tint(colour: str, alpha: float) -> str:
    """A colour ``#rrggbb`` of the palette with an opacity from 0 to 1."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


def line(
    fig: go.Figure,
    name: str,
    x: Numbers = (),
    y: Numbers = (),
    *,
    colour: str,
    dash: str = "solid",
    markers: bool = True,
    **trace: Any,
) -> Any:
    """Add a line to a figure; returns its trace, whose x and y a slider may set to new `column`s."""
    style = {"line": {"color": colour, "dash": dash, "width": 2}, "marker": {"color": colour, "size": 7}}
    mode = "lines+markers" if markers else "lines"
    fig.add_trace(go.Scatter(x=column(x), y=column(y), name=name, **{"mode": mode, **style, **trace}))
    return fig.data[-1]


def band_outline(x: Numbers, low: Numbers, high: Numbers) -> dict[str, NDArray[np.float32]]:
    """The x and y of the closed outline between `low` and `high`, to update a trace that `band` made."""
    there, down, up = column(x), column(low), column(high)
    return {"x": np.concatenate([there, there[::-1]]), "y": np.concatenate([up, down[::-1]])}


def band(fig: go.Figure, name: str, x: Numbers = (), low: Numbers = (), high: Numbers = (), *, colour: str) -> Any:
    """Add a shaded area for a 95% interval; returns its trace. Update it with
    ``trace.update(band_outline(...))``.

    It stays out of the legend: the sentence under the figure says what the shade means.
    """
    fig.add_trace(
        go.Scatter(
            **band_outline(x, low, high),
            name=name,
            fill="toself",
            fillcolor=tint(colour, 0.18),
            line={"width": 0, "simplify": False},  # else plotly moves the outline by some pixels
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
        )
    )
    return fig.data[-1]


def log_axis(axis: Any, ticks: Sequence[float]) -> None:
    """Make an axis (``fig.layout.xaxis``) logarithmic, with whole numbers at these places and no bare 2s and 5s."""
    axis.update(type="log", tickvals=list(ticks), ticktext=[f"{tick:g}" for tick in ticks])


def error_bars(intervals: Sequence[Interval]) -> dict[str, Any]:
    """Error bars from value to low and high, as plotly's ``error_x`` and ``error_y`` want them."""
    up, down = [i.high - i.value for i in intervals], [i.value - i.low for i in intervals]
    return {"type": "data", "symmetric": False, "thickness": 2, "array": up, "arrayminus": down}


def heat(
    fig: go.Figure,
    z: Tensor | NDArray[Any],
    *,
    low: float,
    high: float,
    scale: str = SHARES,
    bar: str = "",
    **trace: Any,
) -> Any:
    """Add a matrix as coloured cells; returns its trace. Update it with ``trace.z = column(new)``.

    Args:
        z: ``[rows, columns]``; row i is drawn at i, column j at j.
        low, high: what the ends of the colour scale stand for; fixed, so that a colour keeps its meaning.
        bar: title of the colour bar; without one there is no bar.
    """
    rows, columns = z.shape
    across, down = np.meshgrid(np.arange(columns), np.arange(rows))
    shown = {"showscale": bool(bar), "colorbar": {"title": {"text": bar, "side": "right"}, "thickness": 12}}
    fig.add_trace(
        go.Heatmap(
            x=column(across),
            y=column(down),
            z=column(z),
            zmin=low,
            zmax=high,
            colorscale=scale,
            xgap=1,
            ygap=1,
            **{**shown, **trace},
        )
    )
    return fig.data[-1]
