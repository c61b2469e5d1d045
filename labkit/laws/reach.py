"""Reach: how deep a model answers, and what sleep and thought do to it together. Definitions are in data/LOG.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

__all__ = ["LEVEL", "REACHES", "ReachFit", "Reached", "fit_reach", "reach", "reach_table"]

Floats = NDArray[np.float64]

LEVEL = 0.9
"""The share of right answers that a depth must have to be reached: 9 in 10."""


class Reached(NamedTuple):
    """A reach in hops or steps, and whether it is the deepest asked, so that it might be deeper."""

    value: float
    censored: bool


def reach(shares: Sequence[float], level: float = LEVEL) -> Reached:
    """The deepest depth answered right in `level` of cases, it and all above it, interpolated to the next one.

    Args:
        shares: share right at depth 1, 2, ...; at depth 0, where the answer stands in the question, it is 1.

    Raises ValueError for no shares, or shares beyond 0 and 1.
    """
    if not len(shares) or not all(0 <= s <= 1 for s in shares):
        raise ValueError("The shares right at depth 1, 2, ... are needed, each from 0 to 1.")
    before = 1.0
    for depth, share in enumerate(shares):
        if share < level:
            return Reached(depth + (before - level) / (before - share), False)
        before = share
    return Reached(float(len(shares)), True)


def reach_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a sweep with ``reach``, ``censored`` and ``error`` (1 - accuracy over all depths) added.

    Share right at depth d is the column ``right_d`` over ``n``.
    """
    depths = depths_of(rows)
    shares = rows[[f"right_{d}" for d in depths]].to_numpy(dtype=np.float64) / rows["n"].to_numpy()[:, None]
    found = [reach(s) for s in shares]
    return rows.assign(
        reach=[f.value for f in found], censored=[f.censored for f in found], error=1 - shares.mean(axis=1)
    )


def accuracy(rows: pd.DataFrame) -> pd.Series:
    """The share of right answers of each row, over all depths."""
    depths = depths_of(rows)
    return rows[[f"right_{d}" for d in depths]].sum(axis=1) / (rows["n"] * len(depths))


def depths_of(rows: pd.DataFrame) -> list[int]:
    """The depths that a sweep asked for, ascending from 1."""
    return sorted(int(name.removeprefix("right_")) for name in rows if str(name).startswith("right_"))


def _sum(stride: Floats, gain: float, thought: Floats) -> Floats:
    return stride + gain * thought


def _product(stride: Floats, gain: float, thought: Floats) -> Floats:
    return stride * (1 + gain * thought)


REACHES = {"sum": _sum, "product": _product}
"""How sleep's stride s(N) and R steps of thought may make a reach: s(N) + g R, or s(N) (1 + g R)."""


@dataclass(frozen=True, eq=False)
class ReachFit:
    """A model of reach: `strides` s(N) by N, `gain` g, and which of `REACHES` it is."""

    kind: str
    strides: dict[int, float]
    gain: float

    def predict(self, rows: pd.DataFrame) -> Floats:
        """Reach of every row; ValueError for an N that was not fitted."""
        if unknown := set(rows["passes"]) - set(self.strides):
            raise ValueError(f"No stride was fitted for N = {min(unknown)}; there are {sorted(self.strides)}.")
        stride = rows["passes"].map(self.strides).to_numpy(dtype=np.float64)
        return REACHES[self.kind](stride, self.gain, rows["thought"].to_numpy(dtype=np.float64))


def fit_reach(rows: pd.DataFrame, kind: str) -> ReachFit:
    """Fit a model of reach to a table with ``passes``, ``thought``, ``reach`` and ``censored``.

    Both kinds have one stride for each N and one gain. A censored cell pulls only where the model lies below it.

    Raises ValueError for an unknown kind.
    """
    if kind not in REACHES:
        raise ValueError(f"There is no model of reach {kind!r}; there are {', '.join(REACHES)}.")
    levels = sorted(int(n) for n in rows["passes"].unique())
    place = rows["passes"].map({n: i for i, n in enumerate(levels)}).to_numpy()
    thought, seen = rows["thought"].to_numpy(dtype=np.float64), rows["reach"].to_numpy(dtype=np.float64)
    censored = rows["censored"].to_numpy(dtype=bool)

    def residuals(numbers: Floats) -> Floats:
        off = REACHES[kind](numbers[:-1][place], numbers[-1], thought) - seen
        return np.where(censored, np.minimum(off, 0.0), off)

    first = np.array([max(0.1, seen[place == i].min()) for i in range(len(levels))] + [0.5])
    found = least_squares(residuals, first, bounds=(0.0, np.inf), loss="soft_l1", f_scale=0.5)
    return ReachFit(kind, dict(zip(levels, map(float, found.x[:-1]), strict=True)), float(found.x[-1]))
