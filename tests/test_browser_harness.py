"""The browser harness proved on a notebook of its own: it sees what moves, and what goes wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from lab_browser import Lab
from lab_page import LATE, LabPage

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SOURCE = """
import numpy as np, plotly.graph_objects as go, ipywidgets as W
from labkit.explore.livefigure import LiveFigure
x = np.linspace(0, 1, 50, dtype=np.float32)
I, J = (a.ravel() for a in np.mgrid[0:4, 0:5].astype(np.float32))
wave = go.Scatter(x=x, y=np.sin(x), name="wave")
line = LiveFigure(data=[wave], layout={"title": "wave 1", "meta": "wave"})
grid = LiveFigure(data=[go.Heatmap(x=J, y=I, z=I + J)], layout={"title": "grid of sums"})
k = W.IntSlider(value=1, min=1, max=30, description="waves")
other = W.IntSlider(value=5, min=0, max=9, description="unused")
text = W.Textarea(value="1", description="offset")
button = W.Button(description="Fail")
label = W.Label("nothing typed")

def draw(change=None):
    shift = float(text.value)
    with line.batch_update():
        line.data[0].y = np.sin(k.value * x) + shift - 1
        line.layout.title.text = f"wave {k.value}"
    with grid.batch_update():
        grid.data[0].z = (I + J) * k.value
    label.value = f"offset is {shift}"

def fail(_):
    raise RuntimeError("planted")

k.observe(draw, "value")
text.observe(draw, "value")
button.on_click(fail)
W.VBox([W.HBox([k, other]), text, button, label, line, grid])
"""


def _write(path: Path, *cells: str) -> Path:
    book = new_notebook(
        cells=[new_code_cell(cell.strip()) for cell in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(book, path)
    return path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("books")
    data = folder / "data"
    data.mkdir()
    (data / "number.txt").write_text("7")
    books = [_write(folder / "waves.ipynb", SOURCE), _write(folder / "broken.ipynb", "1 / 0")]
    books.append(_write(folder / "where.ipynb", "import os; print('data:', os.environ['LABKIT_DATA'])"))
    with Lab(books, data=data) as lab:
        yield lab


@pytest.fixture(scope="module")
def waves(lab: Lab) -> Iterator[LabPage]:
    with lab.open("waves.ipynb") as page:
        page.run_all()
        yield page


def test_a_figure_is_read_from_the_page(waves: LabPage) -> None:
    trace = waves.figure("wave")["traces"][0]  # waits until it is drawn, which may be after the last cell is done
    assert trace["name"] == "wave" and len(trace["x"]) == len(trace["y"]) == 50
    assert waves.figure(1) == waves.figure("grid of")
    assert waves.figures() == ["wave 1", "grid of sums"]
    assert waves.figure("grid of")["traces"][0]["z"][:3] == [0, 1, 2]


def test_a_key_on_a_slider_redraws_both_figures(waves: LabPage) -> None:
    start = int(waves.slider_value("waves"))
    taken = waves.press("waves", "ArrowRight", moves=5, figures=["wave", "grid"])
    assert len(taken) == 5 and all(0 < ms < 60_000 for ms in taken)
    now = start + 5
    assert waves.slider_value("waves") == now and waves.slider_value("unused") == 5
    shown = waves.figure("wave")
    assert shown["title"] == f"wave {now}" and shown["shown"]
    for x, y in zip(shown["traces"][0]["x"], shown["traces"][0]["y"], strict=True):
        assert math.isclose(y, math.sin(now * x), abs_tol=1e-5)
    assert waves.figure("grid")["traces"][0]["z"][6] == 2 * now
    assert waves.problems() == []


def test_typed_text_reaches_the_kernel(waves: LabPage) -> None:
    before = waves.figure("wave")["traces"][0]["y"][0]
    waves.type_text("offset", "3.5")
    assert math.isclose(waves.figure("wave")["traces"][0]["y"][0], before + 2.5, abs_tol=1e-5)
    assert "offset is 3.5" in waves.outputs()


def test_a_key_that_redraws_nothing_is_told(waves: LabPage) -> None:
    with pytest.raises(AssertionError, match="did not redraw"):
        waves.press("unused", figures=["wave"], seconds=2)
    with pytest.raises(AssertionError, match="no figure 'missing'"):
        waves.figure("missing", seconds=1)


def test_an_error_in_a_callback_is_seen(lab: Lab) -> None:
    with lab.open("waves.ipynb") as page:
        page.run_all()
        page.click("Fail")
        assert any("RuntimeError: planted" in problem for problem in page.problems())


def test_figures_whose_code_comes_late_move_all_the_same(lab: Lab) -> None:
    # Every widget's code runs two and a half seconds after it came; anywidget gives it two.
    late = """const { createObjectURL } = URL;
        const wait = "await new Promise(go => setTimeout(go, 2500));";
        URL.createObjectURL = blob => createObjectURL.call(
            URL, blob.type == "text/javascript" ? new Blob([wait, blob], { type: blob.type }) : blob)"""
    with lab.open("waves.ipynb", first=late) as page:
        page.run_all()
        page.press("waves", "ArrowRight", moves=3, figures=["wave", "grid"])
        assert page.figure("wave")["title"] == "wave 4" and page.figure("grid")["traces"][0]["z"][6] == 8
        assert LATE in page.console and page.problems() == []


def test_an_error_in_a_cell_fails_the_run(lab: Lab) -> None:
    with lab.open("broken.ipynb") as page, pytest.raises(AssertionError, match="ZeroDivisionError"):
        page.run_all()


def test_kernels_read_the_copied_data(lab: Lab) -> None:
    with lab.open("where.ipynb") as page:
        page.run_all()
        assert f"data: {lab.root / 'data'}" in page.outputs()
    assert (lab.root / "data" / "number.txt").read_text() == "7"
