"""Notebooks 04 to 08 in a real browser, on the lab's own models and rows: figures follow their sliders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab_browser import Lab

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def lab(repo: Path) -> Iterator[Lab]:
    with Lab(repo / "notebooks", data=repo / "data") as lab:
        yield lab


def test_scaling_axes(lab: Lab) -> None:
    with lab.open("04_scaling_axes.ipynb") as page:
        page.run_all()
        page.press("sleep passes N", moves=2, figures=["axes-live"])
        page.press("steps of thought R", moves=2, figures=["axes-live"])
        assert page.slider_value("steps of thought R") == 2 and "N = 3, R = 2" in page.outputs()
        page.press("questions a sleep serves", moves=3, figures=["axes-operations"])
        page.press("hops asked for", moves=1, figures=["axes-search"])
        page.press("the other two knobs are", moves=1, figures=["axes-shapes"])
        page.press("hops of the question", moves=1, figures=["axes-lookups"])
        assert page.figure("axes-reach")["shown"] and page.problems() == []


def test_compounding(lab: Lab) -> None:
    with lab.open("05_compounding.ipynb") as page:
        page.run_all()
        before = page.figure("compound-planner")["traces"][1]["x"]
        page.press("questions a sleep serves", moves=2, figures=["compound-planner"])
        paid = page.figure("compound-planner")["traces"][1]["x"]
        assert len(paid) > len(before)  # with a sleep shared by sixteen
        alone = page.figure("compound-nights")["traces"][-6]["y"]
        page.press("passes a night N", moves=1, figures=["compound-nights"])
        assert page.figure("compound-nights")["traces"][-6]["y"][-1] < alone[-1] - 0.3  # facts alone, two passes
        page.press("law", moves=1, figures=["compound-laws"])
        for name in ("compound-corners", "compound-held-out", "compound-contest", "compound-lessons"):
            assert page.figure(name)["shown"] and page.figure(name)["traces"]
        assert page.problems() == []


def test_when_is_sleep_free(lab: Lab) -> None:
    with lab.open("06_when_is_sleep_free.ipynb") as page:
        page.run_all()
        full = page.figure("idle-day")["traces"][0]["y"][3]
        page.press("load (%)", moves=12, figures=["idle-day", "idle-time"])
        assert page.slider_value("load (%)") == 80 and page.figure("idle-day")["traces"][0]["y"][3] < full
        page.press("questions a window", "ArrowRight", figures=["idle-day"])
        assert page.figure("idle-right")["shown"] and page.problems() == []


def test_kernels(lab: Lab) -> None:
    with lab.open("08_kernels.ipynb") as page:
        page.run_all(seconds=600)
        before = page.marks("kernel-speed")
        assert (len(before["lines"]), len(before["dots"])) == (2, 10)  # with T; and three guesses
        page.press("guess at T = 1,024: times faster", moves=5, figures=["kernel-speed"])
        page.press("what was measured", figures=["kernel-speed"])
        after = page.marks("kernel-speed")
        assert len(after["lines"]) == 6 and len(after["dots"]) > 30
        assert "times as long as the fast chunks, where you guessed 2." in page.outputs() and page.problems() == []
