"""Notebooks, strictly: what papermill and widgets let pass in silence is a fault here.

`form` reads a notebook without running it. `run` runs it through papermill, in its own time budget, moves
every slider, and raises `Faulty` for an unknown parameter (papermill only logs it), for an exception in a
callback (which widgets turn into an output or a log line), and for a slider that changes nothing.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

KERNEL = "python3"
LONGEST_CELL = 7
GRAMMAR = ("Objectives", "Section", "Exercise", "Interactive demo", "Think", "Summary", "Next")
FIRST_CELL = {
    "a title": r"^# \S",
    "the question": r"^\*\*The question\.\*\* \S",
    "what one will be able to do": r"^\*\*You will be able to\*\* \S",
    "the minutes": r"^\*\*Time:\*\* \d+ minutes",
    "a Binder link": r"\(https://mybinder\.org\b",
}
PICTURE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<path>figures/[^)]+)\)")
MIME = "application/vnd.labkit.moves+json"

# Runs in the notebook's kernel after its last cell. Exceptions of a slider's callback end it; those of a button's
# are shown by ipywidgets as an output, which `run` looks for.
MOVE_EVERYTHING = f"""
import gc
import json
import sys
import ipywidgets as W
from ipywidgets.widgets.widget import _instances
from IPython.display import display

def positions(widget):
    if hasattr(widget, "options"):
        return [value for _, value in widget._options_full][:12]
    if isinstance(widget, (W.Checkbox, W.ToggleButton)):
        return [True, False]
    return [widget.min, widget.max]

def seen(panel):
    figures = [json.dumps(fig.to_dict(), default=lambda a: a.tolist()) for fig in panel.figures.values()]
    return panel.sentence, figures

movable = (W.widget_int._BoundedInt, W.widget_float._BoundedFloat, W.widget_selection._Selection, W.Checkbox,
           W.ToggleButton)
module = sys.modules.get("labkit.explore.panel")
panels = [thing for thing in gc.get_objects() if module and isinstance(thing, module.Panel)]
owner = {{id(control): panel for panel in panels for control in panel.controls.values()}}
told = {{"panels": [], "still": [], "moved": 0}}
for p in panels:
    sliders = [name for name, control in p.controls.items() if isinstance(control, movable)]
    told["panels"].append([p.name, sliders, p.sentence, p.source])
for widget in list(_instances.values()):
    if isinstance(widget, W.Button):
        widget.click()
        told["moved"] += 1
    if not isinstance(widget, movable) or widget.disabled:
        continue
    start, panel = widget.value, owner.get(id(widget))
    looks = {{str(seen(panel))}} if panel else set()
    for value in [*positions(widget), start]:
        widget.value = value
        if panel:
            looks.add(str(seen(panel)))
    told["moved"] += 1
    if panel and len(looks) < 2 and len(set(map(str, positions(widget)))) > 1:
        told["still"].append(f"{{panel.name}}: {{widget.description}}")
display({{{MIME!r}: told, "text/plain": "moved"}}, raw=True)
"""


class Faulty(AssertionError):
    """A notebook does what a reader should never meet; the message says what and where."""


def form(path: Path) -> list[str]:
    """What is wrong with a notebook as it lies in the repository: one sentence for each fault."""
    book = nbformat.read(path, as_version=4)
    faults = [*_metadata(path, book), *_stripped(book), *_beginning(book), *_grammar(book)]
    for number, cell in enumerate(book.cells):
        lines = [line for line in cell.source.split("\n") if line.strip()]
        if cell.cell_type == "code" and len(lines) > LONGEST_CELL:
            faults.append(f"cell {number} has {len(lines)} lines of code; more than {LONGEST_CELL} belong in labkit")
        if cell.cell_type == "code" and re.search(r"\b(interact|interactive_output|Output)\s*\(", cell.source):
            faults.append(f"cell {number} uses a widget that swallows exceptions; use labkit.explore's panels")
        if cell.cell_type == "code" and not lines:
            faults.append(f"cell {number} is empty")
        for picture in PICTURE.finditer(cell.source):
            if not picture["alt"].strip():
                faults.append(f"cell {number} shows {picture['path']} without words for one who cannot see it")
            if not (path.parent / picture["path"]).is_file():
                faults.append(f"cell {number} shows {picture['path']}, which is not there; `labkit figures` draws it")
    return faults


def pictures(path: Path) -> dict[str, str]:
    """The still pictures in a notebook's texts: name of the file, and the words beside it."""
    book = nbformat.read(path, as_version=4)
    found = [m for cell in book.cells if cell.cell_type == "markdown" for m in PICTURE.finditer(cell.source)]
    return {Path(m["path"]).stem: m["alt"] for m in found}


def run(path: Path, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run a notebook, then move every slider and press every button in it.

    Returns what the kernel told: `panels` ([name, controls, sentence, source] each) and `moved`, a count.
    Raises `Faulty`.
    """
    book = nbformat.read(path, as_version=4)
    seconds = book.metadata.get("labkit", {}).get("seconds")
    if not isinstance(seconds, int):
        raise Faulty(f"{path.name} declares no time budget (metadata.labkit.seconds)")
    if sum("parameters" in cell.metadata.get("tags", ()) for cell in book.cells) != 1:
        raise Faulty(f"{path.name} must have one cell tagged parameters")
    known = papermill.inspect_notebook(str(path))
    for name in parameters or {}:
        if name not in known:
            raise Faulty(f"{path.name} has no parameter {name!r}; it has {', '.join(known) or 'none'}")
    book.cells.append(new_code_cell(MOVE_EVERYTHING))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        probed = Path(folder) / path.name
        nbformat.write(book, probed)
        try:
            done = papermill.execute_notebook(
                str(probed),
                None,
                parameters=parameters or {},
                kernel_name=KERNEL,
                cwd=str(path.parent),
                progress_bar=False,
                execution_timeout=seconds,
                start_timeout=120,
                log_output=False,
            )
        except papermill.PapermillExecutionError as error:
            raise Faulty(f"{path.name} raised {error.ename}: {error.evalue}") from error
        except CellTimeoutError as error:
            raise Faulty(f"{path.name} needs more than its {seconds} s") from error
    took = time.monotonic() - began
    faults = _silent_errors(done)
    if took > seconds:
        faults.append(f"it took {took:.0f} s, and its budget is {seconds} s")
    told = next(out.data[MIME] for out in done.cells[-1].outputs if MIME in out.get("data", {}))
    faults += [f"a slider that changes nothing: {name}" for name in told["still"]]
    if faults:
        raise Faulty(f"{path.name}: " + "; ".join(faults))
    return told


def _silent_errors(done: NotebookNode) -> list[str]:
    """Errors that ended no cell: shown as outputs, logged, or kept in an Output widget."""
    found = []
    for cell in done.cells:
        for out in cell.get("outputs", ()):
            if out.output_type == "error":
                found.append(f"a callback raised {out.ename}: {out.evalue}")
            if out.output_type == "stream" and "Traceback (most recent call last)" in out.text:
                found.append(f"a callback raised {out.text.strip().splitlines()[-1]}")
    widgets = json.dumps(done.metadata.get("widgets", {}))
    found += [f"an Output widget holds {name}" for name in re.findall(r'"ename": "(\w+)"', widgets)]
    return found


def _metadata(path: Path, book: NotebookNode) -> list[str]:
    faults = []
    if not re.fullmatch(r"\d\d_[a-z0-9_]+\.ipynb", path.name):
        faults.append("its name is not NN_slug.ipynb")
    if book.metadata.get("kernelspec", {}).get("name") != KERNEL:
        faults.append(f"its kernel is not called {KERNEL}, so it starts on the author's machine only")
    seconds = book.metadata.get("labkit", {}).get("seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 < seconds <= 600:
        faults.append("it declares no time budget from 1 to 600 s (metadata.labkit.seconds)")
    return faults


def _stripped(book: NotebookNode) -> list[str]:
    faults = ["it holds the state of widgets; strip it"] if "widgets" in book.metadata else []
    for number, cell in enumerate(book.cells):
        if cell.get("outputs") or cell.get("execution_count") is not None:
            faults.append(f"cell {number} has outputs; strip them with `make strip`")
    return faults


def _beginning(book: NotebookNode) -> list[str]:
    first, second = book.cells[:2]
    faults = []
    if first.cell_type != "markdown":
        faults.append("its first cell is no text")
    faults += [
        f"its first cell does not give {what}"
        for what, pattern in FIRST_CELL.items()
        if not re.search(pattern, first.source, flags=re.MULTILINE)
    ]
    rows = [row for row in second.source.split("\n") if row.strip()]
    calls = [row for row in rows if not row.startswith(("import ", "from "))]
    if second.cell_type != "code" or len(calls) != 1 or not re.fullmatch(r"[\w.]*setup\(seed=\d+\)", calls[0]):
        faults.append("its second cell is not one call, labkit.explore.setup(seed=...)")
    tagged = [cell for cell in book.cells if "parameters" in cell.metadata.get("tags", ())]
    if len(tagged) != 1 or not re.search(r"^FAST = False\b", tagged[0].source, flags=re.MULTILINE):
        faults.append("it has not one cell tagged parameters with FAST = False")
    return faults


def _grammar(book: NotebookNode) -> list[str]:
    """The headings, each at least once, Objectives first and Summary and Next last."""
    texts = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    headings = re.findall(r"^##+ (.+)$", texts, flags=re.MULTILINE)
    faults = [f"it has no heading {name}" for name in GRAMMAR if not any(h.startswith(name) for h in headings)]
    if headings and not (headings[0] == "Objectives" and headings[-2:] == ["Summary", "Next"]):
        faults.append("its headings do not begin with Objectives and end with Summary and Next")
    return faults
