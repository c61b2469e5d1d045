"""Every notebook has the lab's form and runs strictly; planted faults show that neither check sleeps."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import notebook_runner as strict
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from labkit.explore.gallery import PICTURES

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("[0-9]*.ipynb"))
IDS = [path.stem for path in NOTEBOOKS]


def test_the_notebooks_are_found() -> None:
    assert {"00_start_here", "01_capacity_versus_compute"} <= set(IDS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_form(path: Path) -> None:
    assert strict.form(path) == []


@pytest.mark.notebook
@pytest.mark.slow
@pytest.mark.parametrize("fast", [False, True], ids=["whole", "fast"])
@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_runs_strictly(path: Path, fast: bool) -> None:
    told = strict.run(path, {"FAST": True} if fast else None)
    assert told["panels"] and told["moved"] >= sum(len(controls) for _, controls, _, _ in told["panels"])
    shown = strict.pictures(path)
    for name, controls, sentence, source in told["panels"]:
        assert sentence.strip() and source.strip(), f"nothing is said under {name}"
        assert name in shown or not controls, f"{name} has sliders, and no still picture in the text"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_pictures_have_the_words_of_the_gallery(path: Path) -> None:
    told = {name: alt for name, alt in strict.pictures(path).items() if name != "binder"}
    assert told and told == {name: PICTURES[name].alt for name in told}


def test_the_map_and_the_readme_tell_the_same_minutes(repo: Path) -> None:
    told = {}
    for path in NOTEBOOKS:
        first = nbformat.read(path, as_version=4).cells[0].source
        told[path.stem] = re.search(r"^\*\*Time:\*\* (\d+) minutes", first, flags=re.MULTILINE)[1]
    start = "\n".join(cell.source for cell in nbformat.read(NOTEBOOKS[0], as_version=4).cells)
    for text in (start, (repo / "README.md").read_text(encoding="utf-8")):
        rows = dict(re.findall(r"^\| `(\d\d_\w+)` \|.*\| (\d+) \|$", text, flags=re.MULTILINE))
        assert rows == told


# ------------------------------------------------------------------ notebooks with planted faults

FIRST = (
    "# Title\n\n[Binder](https://mybinder.org)\n\n**The question.** Why?\n\n**You will be able to** see.\n\n"
    "**Time:** 1 minutes."
)
HEADINGS = "## Objectives\n## Section 1\n### Exercise\n### Interactive demo\n### Think\n## Summary\n## Next\n\nMore."
PANEL = "import ipywidgets as W\ns = W.IntSlider(value=1, max=9, description='n')\n{callback}\ns"
GOOD = "def moved(change):\n    print(change['new'])\ns.observe(moved, 'value')"


def write(folder: Path, *code: str, seconds: Any = 60, tags: tuple[str, ...] = ("parameters",)) -> Path:
    """A notebook that is well formed apart from what is planted in it."""
    parameters = new_code_cell("FAST = False", metadata={"tags": list(tags)})
    setup = new_code_cell("from labkit.explore import setup\nsetup(seed=0)")
    cells = [new_markdown_cell(FIRST), setup, parameters, new_markdown_cell(HEADINGS)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "labkit": {"seconds": seconds}}
    book = new_notebook(cells=cells + [new_code_cell(source) for source in code], metadata=metadata)
    path = folder / "99_planted.ipynb"
    nbformat.write(book, path)
    return path


def without_setup(path: Path) -> Path:
    """The same without its second cell: a kernel that need not load torch starts sooner."""
    return change(path, lambda book: book["cells"].pop(1))


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    book = json.loads(path.read_text())
    edit(book)
    path.write_text(json.dumps(book))
    return path


def test_a_sound_notebook_passes(tmp_path: Path) -> None:
    path = write(tmp_path, PANEL.format(callback=GOOD))
    assert strict.form(path) == []
    assert strict.run(without_setup(path), {"FAST": True})["moved"] == 1


FORM = {
    "outputs": (lambda b: b["cells"][2].update(execution_count=3), "cell 2 has outputs"),
    "widgets": (lambda b: b["metadata"].update(widgets={}), "state of widgets"),
    "kernel": (lambda b: b["metadata"]["kernelspec"].update(name="my-venv"), "not called python3"),
    "no kernel": (lambda b: b["metadata"].pop("kernelspec"), "not called python3"),
    "budget": (lambda b: b["metadata"].pop("labkit"), "declares no time budget"),
    "tag": (lambda b: b["cells"][2]["metadata"].clear(), "not one cell tagged parameters"),
    "fast": (lambda b: b["cells"][2].update(source="QUICK = False"), "with FAST = False"),
    "title": (lambda b: b["cells"][0].update(source="Title"), "does not give a title"),
    "setup": (lambda b: b["cells"][1].update(source="x = 1"), "not one call"),
    "two calls": (lambda b: b["cells"][1].update(source="setup(seed=0)\nsetup(seed=1)"), "not one call"),
    "heading": (lambda b: b["cells"][3].update(source="## Objectives\n## Summary\n## Next"), "no heading Think"),
    "order": (
        lambda b: b["cells"][3].update(source=HEADINGS.replace("## Next", "") + "\n## Next\n## After"),
        "do not begin with Objectives and end",
    ),
    "long cell": (lambda b: b["cells"][2].update(source="FAST = False\n" + "x = 1\n" * 7), "8 lines of code"),
    "swallows": (lambda b: b["cells"][2].update(source="FAST = False\ninteract(f)"), "swallows exceptions"),
    "no picture": (lambda b: b["cells"][3].update(source=HEADINGS + "\n![a](figures/x.svg)"), "not there"),
    "no alt": (lambda b: b["cells"][3].update(source=HEADINGS + "\n![ ](figures/x.svg)"), "without words"),
}


@pytest.mark.parametrize("fault", FORM)
def test_a_planted_fault_of_form_is_found(tmp_path: Path, fault: str) -> None:
    edit, sentence = FORM[fault]
    found = strict.form(change(write(tmp_path), edit))
    assert any(sentence in one for one in found), found


def test_an_unknown_parameter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(strict.Faulty, match="no parameter 'FASTER'; it has FAST"):
        strict.run(write(tmp_path), {"FASTER": True})


def test_a_missing_tag_is_refused(tmp_path: Path) -> None:
    with pytest.raises(strict.Faulty, match="one cell tagged parameters"):
        strict.run(write(tmp_path, tags=()), {})


RUNS = {
    "cell": ("1 / 0", "ZeroDivisionError"),
    "slider": (
        PANEL.format(callback="def moved(change):\n    raise KeyError('planted')\ns.observe(moved, 'value')"),
        "KeyError: 'planted'",
    ),
    "slider's end": (PANEL.format(callback="s.observe(lambda change: 1 / (change['new'] - 9), 'value')"), "Zero"),
    "button": (
        "import ipywidgets as W\nb = W.Button()\nb.on_click(lambda _: 1 / 0)\nb",
        "ZeroDivisionError",
    ),
    "output widget": (
        "import ipywidgets as W\no = W.Output()\nwith o:\n    1 / 0\no",
        r"Output widget holds ZeroDivisionError|callback raised ZeroDivisionError",
    ),
}


@pytest.mark.notebook
@pytest.mark.parametrize("fault", RUNS)
def test_a_planted_exception_is_found(tmp_path: Path, fault: str) -> None:
    source, sentence = RUNS[fault]
    with pytest.raises(strict.Faulty, match=sentence):
        strict.run(without_setup(write(tmp_path, source)), {})


@pytest.mark.notebook
def test_a_budget_is_kept(tmp_path: Path) -> None:
    with pytest.raises(strict.Faulty, match=r"budget is 4 s|more than its 4 s"):
        strict.run(without_setup(write(tmp_path, "import time\ntime.sleep(5)", seconds=4)), {})


@pytest.mark.notebook
def test_a_slider_that_changes_nothing_is_found(tmp_path: Path) -> None:
    source = (
        "from labkit.explore import panel, style\ns = panel.slider('n', 1, 1, 9)\n"
        "fig = style.figure('f', 'F', x='x', y='y')\n"
        "panel.Panel('dead', lambda: 'always', controls=[s], figures=[fig], source='none')"
    )
    with pytest.raises(strict.Faulty, match="a slider that changes nothing: dead: n"):
        strict.run(write(tmp_path, source), {})
