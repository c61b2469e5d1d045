"""Still pictures of the lab's figures, for where no slider runs: README, a page on the web, a printout.

`labkit figures` makes each panel in its first state, lets the same plotly.js that draws it in the notebook
draw it in Chromium, and writes notebooks/figures/<name>.svg, with the positions of the sliders above and the
sentence below. So a picture is never drawn by hand, and comes from the same model or file as the panel.
Chromium is driven by playwright (`pip install -e '.[dev]'`).
"""

from __future__ import annotations

import html
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as W
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from labkit.explore import browser
from labkit.explore.panel import Panel
from labkit.files import write_text

__all__ = ["compose", "drawing_tools", "folder", "write_pictures"]

LINE, MARGIN = 20, 12  # pixels
DRAW = """async figure => {
  const place = document.createElement('div');
  document.body.append(place);
  await Plotly.newPlot(place, figure.data, figure.layout, {staticPlot: true});
  const {width, height} = place._fullLayout;
  const url = await Plotly.toImage(place, {format: 'svg', width, height});
  Plotly.purge(place);
  return {svg: decodeURIComponent(url.slice(url.indexOf(',') + 1)), width, height};
}
       """


def folder() -> Path:
    """Where the notebooks' pictures lie: notebooks/figures of the repository."""
    return Path(__file__).resolve().parents[2] / "notebooks" / "figures"


def drawing_tools() -> tuple[Callable[[], Any], str]:
    """Playwright's entry and the browser's path.

    Raises FileNotFoundError without a browser, ModuleNotFoundError without playwright, both in a sentence.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        raise ModuleNotFoundError("Pictures need playwright; run `pip install -e '.[dev]'`.") from None
    if (program := browser.find()) is None:
        raise FileNotFoundError(
            "Pictures are drawn by Chromium, and none was found; install it, or set CHROMIUM to its path."
        )
    return sync_playwright, program


def write_pictures(panels: Iterable[Panel], to: str | Path | None = None) -> list[Path]:
    """Draw panels as they stand, each into ``<to>/<name>.svg``; returns the files.

    Args:
        to: a folder; notebooks/figures by default.

    Raises FileNotFoundError without a browser, ModuleNotFoundError without playwright, both in a sentence.
    """
    play_with, program = drawing_tools()
    place, written = Path(to) if to is not None else folder(), []
    with play_with() as play:
        chromium = play.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page()
        page.set_content("<html><body></body></html>")
        page.add_script_tag(content=get_plotlyjs())
        for panel in panels:
            drawn = [page.evaluate(DRAW, _plain(fig)) for fig in panel.figures.values()]
            written.append(write_text(place / f"{panel.name}.svg", compose(panel, drawn)))
        chromium.close()
    return written


def compose(panel: Panel, drawn: Sequence[dict[str, Any]]) -> str:
    """One SVG of a panel: where its sliders stand, its figures in their rows, its sentence and its source.

    Args:
        drawn: for each figure, in order, its svg, width and height.
    """
    by_name = dict(zip(panel.figures, drawn, strict=True))
    rows = [[by_name[name] for name in row] for row in panel.rows]
    width = max(sum(d["width"] for d in row) for row in rows) + 2 * MARGIN
    parts: list[str] = []
    top = MARGIN
    for words in _wrapped("   ".join(_position(c) for c in panel.controls.values()), width, pixels=8.8):
        parts.append(_text(words, top, bold=True))
        top += LINE
    for i, row in enumerate(rows):
        left = MARGIN
        for j, one in enumerate(row):
            parts.append(_inner(one, left, top, f"f{i}{j}"))
            left += one["width"]
        top += max(d["height"] for d in row)
    for text, bold in ((panel.sentence, False), (panel.source, False)):
        for words in _wrapped(text, width):
            parts.append(_text(words, top, bold=bold))
            top += LINE
        top += LINE // 3
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" viewBox="0 0 {width} {top}" '
        f'role="img">\n<title>{html.escape(panel.sentence)}</title>\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _plain(fig: go.Figure) -> Any:
    """A figure as JSON, its traces named by their place, so that drawing it twice gives the same file."""
    figure = json.loads(fig.to_json())
    for i, trace in enumerate(figure["data"]):
        trace["uid"] = f"trace{i}"
    return figure


def _inner(one: dict[str, Any], left: int, top: int, name: str) -> str:
    """plotly's own svg, set into another at a place; the random name in its ids gives way to ours."""
    found = re.search(r'id="defs-(\w+)"', one["svg"])
    svg = one["svg"].replace(found[1], name) if found else one["svg"]
    return re.sub(r"<svg ", f'<svg x="{left}" y="{top}" ', svg, count=1)


def _position(control: W.Widget) -> str:
    shown = control.value
    for option in getattr(control, "options", ()):  # values, or (text, value) pairs
        if isinstance(option, tuple) and option[1] == control.value:
            shown = option[0]
    return f"{control.description}: {shown}"


def _wrapped(text: str, width: int, pixels: float = 7.4) -> list[str]:
    """Lines of a width in pixels, a letter being about so wide; bold ones are wider."""
    return textwrap.wrap(text, max(20, int(width / pixels)))


def _text(words: str, top: int, *, bold: bool) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{MARGIN}" y="{top + 14}" font-family="DejaVu Sans, Verdana, Arial, sans-serif" '
        f'font-size="13" fill="#222222"{weight} xml:space="preserve">{html.escape(words)}</text>'
    )
