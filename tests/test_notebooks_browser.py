"""Notebooks 00 and 01 in a real browser: every figure is drawn, follows its slider, and nothing goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from small_grid import small_grid

from labkit.explore import filling, kaczmarz

from lab_browser import Lab

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def lab(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    data = tmp_path_factory.mktemp("data")
    small_grid(data)
    with Lab(repo / "notebooks", data=data) as lab:
        yield lab


def test_start_here(lab: Lab) -> None:
    with lab.open("00_start_here.ipynb") as page:
        page.run_all()
        page.press("move me", moves=2, figures=["selfcheck"])
        assert page.figure("selfcheck")["traces"][0]["y"] == [25]
        assert "Sliders work here. Python's answer to move 2: 5 squared is 25." in page.outputs()
        assert "It made no mistake so far; you guessed 16." in page.outputs()
        page.press("pairs written", moves=7, figures=["memory", "read-back", "given-back"])
        keys, values = filling.random_pairs(48, 16)
        state = filling.delta_memory(keys[:11], values[:11])
        assert np.allclose(page.figure("memory")["traces"][0]["z"], state.flatten(), atol=1e-5)
        assert len(page.figure("read-back")["traces"][0]["y"]) == 11
        assert "pairs without a mistake, then not; you guessed 16." in page.outputs()
        assert page.problems() == []


def test_capacity_versus_compute(lab: Lab) -> None:
    with lab.open("01_capacity_versus_compute.ipynb") as page:
        page.run_all()
        page.press("state size, on MQAR (points)", moves=5, figures=["guess"])
        assert np.isclose(page.figure("guess")["traces"][0]["x"][0], 0.3)
        page.press("sweeps", moves=2, figures=["sweeps"])
        keys, values = filling.random_pairs(32, 16)
        path = page.figure("sweeps")["traces"][0]["y"]
        assert np.allclose(path, kaczmarz.sweep_errors(keys[:16], values[:16], 10), atol=1e-5)
        before = page.figure("depo")["traces"][2]["y"]
        page.press("passes N", moves=3, figures=["mqar", "depo"])
        assert page.slider_value("passes N") == 4 and len(page.figure("depo")["traces"][2]["y"]) == len(before)
        page.press("state size K", "ArrowRight", figures=["mqar", "depo"])
        assert "K = 8" in page.outputs()
        for name in ("passes-at-each-size", "effects"):
            assert page.figure(name)["shown"] and page.figure(name)["traces"]
        kind = "name => window.__lab.find(name)._fullLayout.xaxis.type"
        assert page.page.evaluate(kind, "passes-at-each-size") == "category", "its points are named, not counted"
        assert page.problems() == []
