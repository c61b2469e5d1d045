"""Stored rows for figures: what `labkit evaluate` wrote into data/results, never numbers typed in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labkit import results
from labkit.files import data_dir
from labkit.recipes import Recipe, load_recipe

__all__ = ["Curve", "Stored", "behind", "command", "named", "rivals", "seeds_of", "stored"]


@dataclass(frozen=True, eq=False)
class Curve:
    """Shares of right answers by depth at one N, with the ends of their 95% intervals; all ``[depths]``."""

    passes: int
    depth: NDArray[np.int64]
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stored:
    """The rows of one checkpoint, over all its seeds where there are several.

    Attributes:
        name: the checkpoint; file: ``data/results/<name>.csv``.
        rows: one for every N and depth (see `labkit.results.table`).
        each: the rows of each seed by itself.
        recipe: what it was trained by, or None where there is no such recipe.
    """

    name: str
    file: str
    rows: pd.DataFrame
    each: dict[int, pd.DataFrame]
    recipe: Recipe | None

    @property
    def seeds(self) -> int:
        """How many seeds stand behind the rows."""
        return len(self.each)

    @property
    def passes(self) -> list[int]:
        """The N that were tried, ascending."""
        return sorted(int(n) for n in self.rows["passes"].unique())

    @property
    def elastic(self) -> bool:
        """Whether it was trained with several N, so that a slider may turn it."""
        return self.recipe is not None and len(set(self.recipe.training.passes_range)) == 2

    def nearest(self, passes: int) -> int:
        """The largest N stored that is at most `passes` (else the smallest)."""
        below = [n for n in self.passes if n <= passes]
        return below[-1] if below else self.passes[0]

    def at(self, passes: int) -> Curve:
        """By depth at the `nearest` N; one trained at a single N is read at that one whatever `passes` says."""
        if self.recipe is not None and not self.elastic:
            passes = self.recipe.training.passes_range[1]
        return self._curves[self.nearest(passes)]

    @cached_property
    def _curves(self) -> dict[int, Curve]:
        curves = {}
        for n, rows in self.rows.sort_values("depth").groupby("passes"):
            depth, share, low, high = (rows[key].to_numpy() for key in ("depth", "accuracy", "low", "high"))
            curves[int(n)] = Curve(int(n), depth, share, low, high)
        return curves


def stored(name: str) -> Stored | None:
    """The rows of a checkpoint, or None while nobody has evaluated it."""
    path = data_dir() / "results" / f"{name}.csv"
    if not path.is_file():
        return None
    rows = results.read(path)
    each = {int(seed): part for seed, part in rows.groupby("seed") if seed != results.POOLED}
    rows = rows[rows["seed"] == results.POOLED] if len(each) > 1 else next(iter(each.values()))
    return Stored(name, named(path), rows, each, _recipe(name))


def rivals(names: tuple[str, ...]) -> list[Stored]:
    """Those of `names` that have rows, in the same order."""
    return [found for found in map(stored, names) if found is not None]


def behind(one: Stored) -> str:
    """How many seeds and instances stand behind the rows, in words."""
    return f"{seeds_of(one)}, {int(one.rows['n'].iloc[0]):,} instances"


def seeds_of(one: Stored) -> str:
    """How many seeds stand behind the rows, in words."""
    return f"{one.seeds} seed{'s' * (one.seeds > 1)}"


def command(one: Stored) -> str:
    """What makes these rows."""
    n = int(next(iter(one.each.values()))["n"].iloc[0])  # of one seed
    return f"labkit evaluate {one.name} --passes {' '.join(map(str, one.passes))} --n {n} --all-seeds"


def named(path: Path) -> str:
    """How a file is written under a figure: from data/ on."""
    return f"data/{path.relative_to(data_dir()).as_posix()}"


def _recipe(name: str) -> Recipe | None:
    return load_recipe(name) if (data_dir() / "recipes" / f"{name}.toml").is_file() else None
