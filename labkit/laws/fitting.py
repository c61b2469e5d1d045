"""Robust fits of the named laws, with intervals over training seeds and the instances inside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import stdtrit
from scipy.stats import qmc

from labkit.intervals import LEVEL, Interval
from labkit.laws.forms import LAWS, LINEAR, Law, axes_of

__all__ = ["Fit", "fit", "jackknife"]

Floats = NDArray[np.float64]

ROBUST = 0.1
"""Residuals above this, in arcs (`_arc`), count by their size and not by its square: a fifth of the way from 0 to 1/2.

A cell that did not train, or a first hop that came late, is such a residual.
"""

STARTS, TRIED = 200, 6  # first guesses drawn, and how many of the best are gone on with
BELOW = -0.5
"""The least floor E in the fits that its interval is made of; one that ends here has nothing to hold it."""
LOGS = (float(np.log(1e-6)), float(np.log(20.0)))
"""The range of numbers on a logarithmic scale."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A law with its numbers.

    Attributes:
        law: which one.
        params: the numbers by name, in the units of the table.
        intervals: 95% intervals of the numbers: a jackknife over seeds, Student's t. With one seed they are missing,
            and so is that of a floor E of which the rows tell nothing.
        loss: mean of the robust squared residuals.
        seeds: seeds behind it.
    """

    law: Law
    params: dict[str, float]
    intervals: dict[str, Interval]
    loss: float
    seeds: tuple[str, ...]

    def predict(self, rows: pd.DataFrame) -> Floats:
        """The law's error for each row of a table with the law's axes."""
        return self.law.predict(self.params, axes_of(self.law, rows))


def fit(rows: pd.DataFrame, law: str = "additive") -> Fit:
    """Fit one of `LAWS` to a table.

    Least squares on arcs of the errors, in which a share is equally uncertain wherever it lies, with a soft L1 loss
    from `ROBUST` on (scipy's `least_squares`); from the best of many first guesses. Every row counts
    alike: the spread over seeds is larger than that over instances.

    Args:
        rows: a row for each cell and seed, with the columns ``params``, ``passes`` (1 or more), ``thought`` (0 or
            more), as far as the law has them, ``error`` (1 - accuracy) and ``seed``.
        law: a name.

    Raises ValueError, in a sentence, for an unknown law, missing columns, values out of range, or fewer cells than
    the law has numbers.
    """
    form = checked(rows, law)
    seeds = tuple(sorted(rows["seed"].astype(str).unique()))
    unit = _unit(form, rows)
    found = _fitted(form, rows, unit)
    params = _in_units(form, found.x, unit)

    def without(kept: pd.DataFrame) -> Floats:
        return np.array(_stretched(_in_units(form, _fitted(form, kept, unit, found.x).x, unit)))

    intervals: dict[str, Interval] = {}
    if len(seeds) > 1:
        ends = [_values(form, end) for end in jackknife(rows, without, np.array(_stretched(params)))]
        intervals = {n: Interval(x, float(ends[0][n]), float(ends[1][n])) for n, x in params.items() if n != "E"}
        if (floor := _floor(form, rows, unit, found.x)) is not None:
            intervals["E"] = floor
    return Fit(form, params, intervals, float(2 * found.cost / len(rows)), seeds)


def _floor(form: Law, rows: pd.DataFrame, unit: float, start: Floats) -> Interval | None:
    """The floor's interval, from fits in which it may lie below zero; None where one of them ends at `BELOW`.

    Held at zero, it might not move whichever seed is left out, and would have no width.
    """
    at, found = list(form.spans).index("E"), []

    def freely(kept: pd.DataFrame) -> Floats:
        found.append(float(_fitted(form, kept, unit, start, BELOW).x[at]))
        return np.array(found[-1:])

    (low,), (high,) = jackknife(rows, freely, freely(rows))
    if min(found) < BELOW + 1e-3:
        return None
    value = float(start[at])
    return Interval(value, max(0.0, min(value, float(low))), max(value, float(high)))


def jackknife(
    rows: pd.DataFrame, measure: Callable[[pd.DataFrame], Floats], centre: Floats
) -> tuple[Floats, Floats]:
    """Ends of 95% intervals of ``measure(rows)``, by leaving out one seed at a time.

    With G seeds the variance is (G - 1) / G times the sum of squares of what leaving each out moves, and Student's t
    has G - 1 degrees of freedom (the cluster jackknife, CV3 in MacKinnon, Nielsen and Webb 2023). Whatever instances
    add to a seed's rows is in it, since a seed's instances go with it.

    Args:
        rows: a table with a column ``seed`` of two seeds or more.
        measure: what is wanted, as an array, from a table with fewer seeds.
        centre: what it is with all of them.
    """
    names = rows["seed"].astype(str)
    seeds = sorted(names.unique())
    moved = np.stack([measure(rows[names != seed]) - centre for seed in seeds])
    count = len(seeds)
    half = stdtrit(count - 1, 0.5 + LEVEL / 2) * np.sqrt((count - 1) / count * (moved**2).sum(axis=0))
    return centre - half, centre + half


def checked(rows: pd.DataFrame, law: str) -> Law:
    """The law of this name, if the table can be fitted by it; see `fit`."""
    if law not in LAWS:
        raise ValueError(f"There is no law {law!r}; there are {', '.join(LAWS)}.")
    form = LAWS[law]
    needed = (*form.axes, "error", "seed")
    if missing := [name for name in needed if name not in rows]:
        raise ValueError(f"The law {law} needs the columns {', '.join(needed)}; the table lacks {', '.join(missing)}.")
    least = {"params": 1e-300, "passes": 1, "thought": 0, "error": 0}
    for name in (*form.axes, "error"):
        values = rows[name].to_numpy(dtype=np.float64)
        if not np.isfinite(values).all() or (values < least[name]).any() or (name == "error" and (values > 1).any()):
            ends = "from 0 to 1" if name == "error" else f"of at least {least[name]:g}"
            raise ValueError(f"The column {name} must hold numbers {ends} only.")
    cells = len(rows[list(form.axes)].drop_duplicates())
    if cells < len(form.spans):
        raise ValueError(f"The law {law} has {len(form.spans)} numbers, and the table only {cells} different cells.")
    return form


def _arc(share: Floats) -> Floats:
    """Shares to angles, 0 to pi: one instance spreads by 1 wherever the share lies. Goes straight on beyond 0 and 1."""
    inside = np.clip(share, 0.0, 1.0)
    return 2 * np.arcsin(np.sqrt(inside)) + 2 * (share - inside)


def _fitted(form: Law, rows: pd.DataFrame, unit: float, start: Floats | None = None, least: float = 0.0) -> Any:
    """scipy's result for numbers on their own scales, with params measured in a unit and a floor of `least` or more."""
    axes = axes_of(form, rows)
    if "params" in axes:
        axes["params"] = axes["params"] / unit
    wanted = _arc(rows["error"].to_numpy(dtype=np.float64))
    linear = np.array([name in LINEAR for name in form.spans])
    low, high = np.array([LINEAR.get(name, LOGS) for name in form.spans]).T
    low[list(form.spans).index("E")] = least

    def residuals(scaled: Floats) -> Floats:
        return _arc(form.predict(_values(form, scaled), axes)) - wanted

    def run(first: Floats, most: int | None) -> Any:
        first = np.clip(first, low + 1e-9, high - 1e-9)
        return least_squares(residuals, first, bounds=(low, high), loss="soft_l1", f_scale=ROBUST, max_nfev=most)

    if start is not None:
        return run(start, None)
    drawn = qmc.LatinHypercube(len(form.spans), rng=0).random(STARTS)
    ends = np.array(list(form.spans.values()))
    ends = np.where(linear[:, None], ends, np.log(np.where(linear[:, None], 1.0, ends)))
    firsts = sorted(ends[:, 0] + drawn * np.ptp(ends, axis=1), key=lambda first: float((residuals(first) ** 2).sum()))
    best = min((run(first, 40) for first in firsts[:TRIED]), key=lambda found: found.cost)
    return run(best.x, None)


def _values(form: Law, scaled: Sequence[float] | Floats) -> dict[str, float]:
    """Numbers by name, from their own scales."""
    pairs = zip(form.spans, scaled, strict=True)
    with np.errstate(over="ignore"):  # the end of an interval may be beyond all numbers
        return {name: float(x if name in LINEAR else np.exp(x)) for name, x in pairs}


def _unit(form: Law, rows: pd.DataFrame) -> float:
    """The geometric mean of params; 1 for a law without them."""
    return float(np.exp(np.log(rows["params"]).mean())) if "params" in form.axes else 1.0


def _in_units(form: Law, scaled: Floats, unit: float) -> dict[str, float]:
    """Numbers by name in the units of the table."""
    values = _values(form, scaled)
    for name, power in form.unit.items():
        values[name] *= unit ** (values[power] if isinstance(power, str) else power)
    return values


def _stretched(values: Mapping[str, float]) -> list[float]:
    """The other way round than `_values`."""
    return [value if name in LINEAR else float(np.log(value)) for name, value in values.items()]

