"""How long from a key press on notebook 02's slider to the redrawn figures: measured in a real JupyterLab.

    python tests/measure_slider.py                 # 30 moves, written to data/results/slider-latency.json

Notebook 02 runs in JupyterLab in headless Chromium. The slider "sleep passes N, graph" is moved by arrow keys, up to
its end and down again. A move is over when both figures of the explorer stand redrawn on the screen. Between the two
the kernel sleeps N passes anew, on all arrows, and asks all questions; that it did so at every move is counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np

from labkit.files import data_dir, write_text
from labkit.machine import machine, versions

import chromium
from lab_browser import Lab
from lab_page import LabPage

REPO = Path(__file__).resolve().parent.parent
NOTEBOOK = REPO / "notebooks" / "02_sleep.ipynb"
SLIDER = "sleep passes N, graph"
FIGURES = ("mind-graph", "measures-graph")
MOST = 16  # where the slider ends


@contextlib.contextmanager
def notebook_02(data: Path) -> Iterator[Lab]:
    """A JupyterLab on a copy of notebook 02 that asks fewer graphs (FAST), and on a copy of `data`."""
    book = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = (cell for cell in book.cells if "parameters" in cell.metadata.get("tags", ()))
    parameters.source = "FAST = True"
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(book, Path(folder) / NOTEBOOK.name)
        shutil.copytree(NOTEBOOK.parent / "figures", Path(folder) / "figures")
        with Lab(Path(folder), data=data) as lab:
            yield lab


def runs(page: LabPage) -> int:
    """How often the explorer has slept on the graph that stands there: each sleep leaves a dot among the costs."""
    traces = page.figure(FIGURES[1])["traces"]
    return len(next(trace for trace in traces if trace.get("name") == "the sleep")["x"])


def measure(page: LabPage, moves: int) -> list[dict[str, float]]:
    """Move the slider, which stands at 0, up and down again; N and milliseconds for each move.

    AssertionError if the model did not run at every move.
    """
    before, taken = runs(page), []
    for start in range(0, moves, MOST):
        key = "ArrowRight" if start // MOST % 2 == 0 else "ArrowLeft"
        for _ in range(min(MOST, moves - start)):
            milliseconds = page.press(SLIDER, key, figures=FIGURES)
            taken.append({"passes": page.slider_value(SLIDER), "ms": round(milliseconds[0], 1)})
    assert runs(page) == before + moves, "the model was not run at every move"
    return taken


def summary(taken: list[dict[str, float]]) -> dict[str, float]:
    """Median, 95th percentile and largest of the milliseconds."""
    ms = [move["ms"] for move in taken]
    return {
        "median_ms": round(float(np.median(ms)), 1),
        "p95_ms": round(float(np.percentile(ms, 95)), 1),
        "max_ms": max(ms),
    }


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description="Milliseconds from key press to redraw, notebook 02's slider.")
    parser.add_argument("--moves", type=int, default=30)
    parser.add_argument("--out", type=Path, default=None, help="default: data/results/slider-latency.json")
    asked = parser.parse_args()
    if asked.moves < 1:
        parser.error("--moves must be at least 1.")
    if chromium.find() is None:
        parser.error(f"no Chromium here; {chromium.command()}")
    where = machine()
    with notebook_02(data_dir()) as lab, lab.open(NOTEBOOK.name) as page:
        page.run_all(seconds=600)
        taken = measure(page, asked.moves)
        problems = page.problems()
    assert problems == [], problems
    found: dict[str, Any] = {
        "command": f"python tests/measure_slider.py --moves {asked.moves}",
        "what": "ms from a key press on notebook 02's slider to both figures redrawn, the model run each time",
        "moves": len(taken),
        **summary(taken),
        "machine": where,
        "versions": versions(),
        "each": taken,
    }
    path = write_text(asked.out or data_dir() / "results" / "slider-latency.json", json.dumps(found, indent=1) + "\n")
    print(f"{len(taken)} moves: median {found['median_ms']} ms, 95th percentile {found['p95_ms']} ms; {path}")


if __name__ == "__main__":
    main()
