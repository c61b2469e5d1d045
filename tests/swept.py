"""Rows of a sweep whose reach is a given function of sleep and thought, and a tiny grid that can be swept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from labkit.intervals import Interval

DEPTHS = range(1, 13)

RECIPE = """description = "tiny"
seeds = [0, 1]
[task]
kind = "depo-thinking"
nodes = 6
hops = 3
queries = 4
trace = "even"
[model]
dim = 16
repeat = 1
[training]
steps = 2
batch_size = 4
passes = [1, 2]
thought = [0, 3]
compile = false
"""
GRID = """description = "tiny"
[[grid]]
recipes = ["tiny"]
passes = [1, 2]
thought = [0, 2]
n = 40
"""


def empty_rooms(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder the lab's data folder, with nothing in its rooms; returns it."""
    for name in ("recipes", "sweeps", "results", "checkpoints"):
        (folder / name).mkdir()
    monkeypatch.setenv("LABKIT_DATA", str(folder))
    return folder


def furnish(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with the recipe "tiny" and the grid "try"."""
    empty_rooms(folder, monkeypatch)
    (folder / "recipes" / "tiny.toml").write_text(RECIPE)
    (folder / "sweeps" / "try.toml").write_text(GRID)
    return folder


def told(table: pd.DataFrame, what: str) -> dict[tuple[str, str], Interval]:
    """One kind of rows of `labkit.laws.summary`, by law and name."""
    part = table[table["what"] == what]
    return {(r["law"], r["name"]): Interval(r["value"], r["low"], r["high"]) for r in part.to_dict("records")}


def rows_of(
    reaches: Callable[[int, int], float],
    seeds: int = 6,
    noise: float = 0.05,
    name: str = "m",
    trace: str = "even",
) -> pd.DataFrame:
    """A sweep whose reach is a given function of N and R, a little different in every seed."""
    generator, found = np.random.default_rng(0), []
    for seed in range(seeds):
        for passes in (1, 2, 4):
            for thought in (0, 1, 2):
                wanted = reaches(passes, thought) + noise * generator.standard_normal()
                beyond = wanted % 1  # how far the line from 1 to the next share gets before it falls below .9
                last = max(0.0, 1 - 0.1 / beyond) if beyond else 0.0
                shares = [1.0 if d <= wanted else last if d - wanted < 1 else 0.0 for d in DEPTHS]
                right = {f"right_{d}": round(1000 * s) for d, s in zip(DEPTHS, shares, strict=True)}
                costs = {"flops_sleep": 100 * passes, "flops_wake": 10 + 5 * thought}
                found.append({"checkpoint": name, "trace": trace, "seed": seed, "passes": passes, "thought": thought,
                              "n": 1000, "carry": "both", "asked": "after", "params": 1000,
                              **right, **costs})  # fmt: skip
    return pd.DataFrame(found)


def told_value(value: float) -> str:
    """A number as the log writes it: .15, 1.26."""
    return f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.2f}"


def signed(interval: Interval) -> str:
    """As the log tells leads: +1.26 [.17, 2.34]."""
    ends = f"[{told_value(interval.low)}, {told_value(interval.high)}]"
    return f"{'+' if interval.value > 0 else ''}{told_value(interval.value)} {ends}"


def told_share(interval: Interval) -> str:
    """As the log tells shares: .56 [.33, .79]."""
    return signed(interval).removeprefix("+")
